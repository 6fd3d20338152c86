//! `/v1/project/training`: a fine-tune of the model on the masks of the project.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::body::Json;
use crate::error::{Problem, Result};
use crate::routes::formats::is_name;
use crate::training::{Request, TrainingInfo};

/// Steps, at most.
const MOST_STEPS: u64 = 10_000;

/// How the model is fine-tuned.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainingRequest {
    /// Name of a new folder beside that of the pictures, and of the model; left out: that of the pictures with
    /// `-tuned` behind it. The name of a fine-tune that was stopped goes on with it, on the masks that it has.
    #[schema(example = "photos-tuned")]
    name: Option<String>,
    /// Steps in which the heads learn.
    #[schema(minimum = 1, maximum = 10_000, default = 200)]
    steps: Option<u64>,
    /// Only pictures that are checked.
    #[serde(default)]
    #[schema(default = false)]
    checked_only: bool,
}

/// Fine-tunes the default model on the masks of the project.
///
/// Its heads learn, and its encoder stays as it is. Answers at once: the work has a thread of its own, while the model
/// answers as before. It needs 8 masks; of 5 pictures or more a fifth is for validation. The folder has the data set,
/// the recipe and the run, which `samara train recipe.toml` takes as well.
#[utoipa::path(
    post, path = "/v1/project/training", operation_id = "start_training", tag = "project",
    request_body(content = TrainingRequest),
    responses(
        (status = 202, body = TrainingInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn start(
    State(app): State<Arc<App>>,
    Json(request): Json<TrainingRequest>,
) -> Result<(StatusCode, Answer<TrainingInfo>)> {
    let TrainingRequest {
        name,
        steps,
        checked_only,
    } = request;
    let is_good = |name: &&String| {
        is_name(name) && !name.starts_with('.') && !name.contains(char::is_control)
    };
    if let Some(name) = name.as_ref().filter(|name| !is_good(name)) {
        let detail = format!("{name:?}: the name of one folder is expected");
        return Err(Problem::field("name", detail));
    }
    if let Some(steps) = steps.filter(|steps| !(1..=MOST_STEPS).contains(steps)) {
        let detail = format!("{steps}: 1 to {MOST_STEPS} are expected");
        return Err(Problem::field("steps", detail));
    }
    let request = Request {
        name,
        steps,
        checked_only,
    };
    let open = app.project()?;
    let started = app.training.start(request, open, &app.models).await?;
    Ok((StatusCode::ACCEPTED, Answer(started)))
}

/// Says how far the fine-tune is.
#[utoipa::path(
    get, path = "/v1/project/training", operation_id = "get_training", tag = "project",
    responses(
        (status = 200, body = TrainingInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(State(app): State<Arc<App>>) -> Result<Answer<TrainingInfo>> {
    app.project()?;
    Ok(Answer(app.training.info()))
}

/// Stops the fine-tune.
///
/// It stops after the picture that is computed, and keeps what was learnt until then: starting the same name goes on.
#[utoipa::path(
    delete, path = "/v1/project/training", operation_id = "stop_training", tag = "project",
    responses(
        (status = 202, body = TrainingInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn stop(
    State(app): State<Arc<App>>,
) -> Result<(StatusCode, Answer<TrainingInfo>)> {
    app.project()?;
    Ok((StatusCode::ACCEPTED, Answer(app.training.stop()?)))
}
