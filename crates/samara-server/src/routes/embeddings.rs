//! `/v1/embeddings`: embeddings ahead of the first click.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::body::{Json, UrlPath, UrlQuery};
use crate::bounded::Bounded;
use crate::embeddings::EmbeddingState;
use crate::error::{Problem, Result};
use crate::images::{ImageId, ImageRef};
use crate::models::LoadedModel;

/// Most images of one request.
const MOST: usize = 1000;

/// Images whose embeddings are wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmbeddingsRequest {
    /// At most 1000, the most urgent first.
    #[schema(value_type = Vec<ImageRef>, min_items = 1, max_items = 1000)]
    images: Bounded<ImageRef, MOST>,
    /// The model; left out: the default one.
    model: Option<String>,
}

/// How far an embedding is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingInfo {
    /// The image; null if there is none such.
    #[schema(value_type = Option<String>)]
    image: Option<ImageId>,
    model: String,
    state: EmbeddingState,
    /// Why it failed; null otherwise.
    error: Option<Problem>,
}

/// How far embeddings are, in the order of the request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingsAnswer {
    embeddings: Vec<EmbeddingInfo>,
}

/// Which model, and how long to wait.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EmbeddingQuery {
    /// The model; left out: the default one.
    model: Option<String>,
    /// Seconds to wait for the end of the work, at most 60; left out: answers at once.
    #[param(minimum = 0, maximum = 60)]
    wait: Option<u64>,
}

fn info(app: &App, image: &ImageId, model: &LoadedModel) -> EmbeddingInfo {
    let (state, error) = app.embeddings.state(image, model);
    EmbeddingInfo {
        image: Some(image.clone()),
        model: model.name.clone(),
        state,
        error,
    }
}

/// Asks for embeddings ahead.
///
/// Answers at once, with how far each is. They are computed while nobody waits for anything else. A prompt on an
/// image needs no request before it; it waits for the embedding.
#[utoipa::path(
    post, path = "/v1/embeddings", operation_id = "request_embeddings", tag = "embeddings",
    request_body(content = EmbeddingsRequest, example = json!({"images": [{"id": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"}]})),
    responses(
        (status = 202, body = EmbeddingsAnswer),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn ask(
    State(app): State<Arc<App>>,
    Json(request): Json<EmbeddingsRequest>,
) -> Result<(StatusCode, Answer<EmbeddingsAnswer>)> {
    if request.images.0.is_empty() {
        let detail = format!("0 images: 1 to {MOST} of them");
        return Err(Problem::field("images", detail));
    }
    let model = app.models.get(request.model.as_deref())?;
    let mut embeddings = Vec::with_capacity(request.images.0.len());
    for (index, image) in request.images.0.into_iter().enumerate() {
        let asked = match app.images.identify(image).await {
            Ok(id) => app.embeddings.ask_ahead(&model, &id).map(|()| id),
            Err(problem) => Err(problem),
        };
        match asked {
            Ok(id) => embeddings.push(info(&app, &id, &model)),
            // A queue that is full is no state of one image: what was taken stays taken.
            Err(problem) if problem.status() == StatusCode::TOO_MANY_REQUESTS => {
                return Err(problem.about(format!("images[{index}]")));
            }
            Err(problem) => embeddings.push(EmbeddingInfo {
                image: None,
                model: model.name.clone(),
                state: EmbeddingState::Failed,
                error: Some(problem),
            }),
        }
    }
    Ok((
        StatusCode::ACCEPTED,
        Answer(EmbeddingsAnswer { embeddings }),
    ))
}

/// Says how far an embedding is.
#[utoipa::path(
    get, path = "/v1/embeddings/{image}", operation_id = "get_embedding", tag = "embeddings",
    params(("image" = String, Path, description = "Id of the image", pattern = "^[0-9a-f]{64}$"), EmbeddingQuery),
    responses(
        (status = 200, body = EmbeddingInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    UrlPath(image): UrlPath<String>,
    UrlQuery(query): UrlQuery<EmbeddingQuery>,
) -> Result<Answer<EmbeddingInfo>> {
    let image = image.parse()?;
    let model = app.models.get(query.model.as_deref())?;
    if let Some(seconds) = query.wait {
        if seconds > 60 {
            return Err(Problem::field(
                "wait",
                format!("{seconds}: at most 60 seconds"),
            ));
        }
        let ended = app.embeddings.wait(&image, &model);
        let _ = tokio::time::timeout(Duration::from_secs(seconds), ended).await;
    }
    Ok(Answer(info(&app, &image, &model)))
}

/// Forgets an embedding, and stops the work on it.
#[utoipa::path(
    delete, path = "/v1/embeddings/{image}", operation_id = "delete_embedding", tag = "embeddings",
    params(("image" = String, Path, description = "Id of the image", pattern = "^[0-9a-f]{64}$"), EmbeddingQuery),
    responses(
        (status = 204),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    UrlPath(image): UrlPath<String>,
    UrlQuery(query): UrlQuery<EmbeddingQuery>,
) -> Result<StatusCode> {
    let image: ImageId = image.parse()?;
    let model = app.models.get(query.model.as_deref())?;
    if app.embeddings.remove(&image, &model) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found(format!("there is no embedding of image {image}")).about("image"))
    }
}
