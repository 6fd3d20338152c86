//! `/v1/everything` and `/v1/jobs`

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::stream::unfold;
use samara::{MaskGeneratorOptions, OutputMode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::body::{Json, UrlPath};
use crate::error::{Problem, Result};
use crate::events::{EventAnswer, event, stream};
use crate::images::ImageRef;
use crate::jobs::{EverythingAnswer, JobInfo, Progress};
use crate::masks::{MaskFormat, MaskStyle, Tolerance};
use crate::openapi::EverythingOptions;

/// An image of which all masks are wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EverythingRequest {
    image: ImageRef,
    /// The model; left out: the default one.
    model: Option<String>,
    /// Those of the official mask generator, under their names, such as `points_per_side`.
    #[serde(default)]
    #[schema(value_type = Option<EverythingOptions>)]
    options: MaskGeneratorOptions,
    /// In which form masks are answered.
    #[serde(default)]
    #[schema(default = "rle")]
    masks: MaskFormat,
    /// Polygons: how far a line may leave the mask's outline, in pixels; 0 follows every pixel.
    #[serde(default)]
    #[schema(value_type = f64, default = 0.0, minimum = 0.0)]
    tolerance: Tolerance,
}

/// All jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobList {
    /// The oldest first.
    jobs: Vec<JobInfo>,
}

/// Segments everything in an image, without a prompt.
///
/// Answers at once with a job.
#[utoipa::path(
    post, path = "/v1/everything", operation_id = "segment_everything", tag = "everything",
    request_body(content = EverythingRequest, example = json!({
        "image": {"id": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"},
        "options": {"points_per_side": 16}
    })),
    responses(
        (status = 202, body = JobInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn everything(
    State(app): State<Arc<App>>,
    Json(request): Json<EverythingRequest>,
) -> Result<(StatusCode, Answer<JobInfo>)> {
    let model = app.models.get(request.model.as_deref())?;
    if request.options.output_mode != OutputMode::default() {
        let detail = "the field masks says in which form masks are answered";
        return Err(Problem::field("options.output_mode", detail));
    }
    let options = request.options.with_output_mode(OutputMode::CocoRle);
    let image = app.images.find(request.image).await?;
    let job = app.jobs.everything(
        &model,
        &app.embeddings,
        &app.images,
        &image.info,
        options,
        MaskStyle::new(request.masks, request.tolerance),
    )?;
    Ok((StatusCode::ACCEPTED, Answer(job.info())))
}

/// Lists the jobs.
#[utoipa::path(get, path = "/v1/jobs", operation_id = "list_jobs", tag = "everything", responses((status = 200, body = JobList)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Answer<JobList> {
    Answer(JobList {
        jobs: app.jobs.list(),
    })
}

/// Says how far a job is.
#[utoipa::path(
    get, path = "/v1/jobs/{id}", operation_id = "get_job", tag = "everything", params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, body = JobInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<String>,
) -> Result<Answer<JobInfo>> {
    Ok(Answer(app.jobs.get(&id)?.info()))
}

/// The result of a job that is done.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/result", operation_id = "get_job_result", tag = "everything",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, body = EverythingAnswer),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn result(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<String>,
) -> Result<Answer<Arc<EverythingAnswer>>> {
    let result = app.jobs.get(&id)?.result();
    // It is the job that has failed, as when its model was unloaded, and not this request.
    let failed = |problem: Problem| {
        if problem.status().is_server_error() {
            Problem::conflict(format!("the job failed: {}", problem.line()))
        } else {
            problem
        }
    };
    result.map(Answer).map_err(failed)
}

/// Follows a job.
///
/// Server-sent events: `progress` while it waits and runs, then one of `done`, `failed` and `cancelled`, each with
/// the job (`JobInfo`) as data.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/events", operation_id = "follow_job", tag = "everything",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, body = EventAnswer, content_type = "text/event-stream"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<String>,
) -> Result<Response> {
    let job = app.jobs.get(&id)?;
    let progress = Some(job.progress.subscribe());
    Ok(stream(unfold(
        (job, progress),
        |(job, progress)| async move {
            let mut progress = progress?;
            let now = progress.borrow_and_update().clone();
            let kind = match &now {
                Progress::Queued | Progress::Running(_) => "progress",
                Progress::Done(_) => "done",
                Progress::Failed(_) => "failed",
                Progress::Cancelled => "cancelled",
            };
            let told = event(kind, &job.info_of(&now));
            // The next event is that of the next change; there is none after the end.
            let goes_on = !now.is_end() && progress.changed().await.is_ok();
            Some((told, (job, goes_on.then_some(progress))))
        },
    )))
}

/// Stops a job, and forgets it and its result.
#[utoipa::path(
    delete, path = "/v1/jobs/{id}", operation_id = "delete_job", tag = "everything", params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 204),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<String>,
) -> Result<StatusCode> {
    app.jobs.remove(&id)?;
    Ok(StatusCode::NO_CONTENT)
}
