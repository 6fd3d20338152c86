//! `/v1/models`, health and metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
use crate::blocking::blocking;
use crate::body::{Json, UrlPath};
use crate::dialects::x_anylabeling;
use crate::error::{Problem, Result};
use crate::models::ModelInfo;
use crate::project::Change;

/// How long the end of a model that is unloaded is waited for.
const UNLOADED: Duration = Duration::from_secs(5);

/// A model to load.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadRequest {
    /// `lite`, one that `samara models download` has fetched, or one that was fine-tuned here.
    #[schema(example = "lite")]
    name: String,
    /// Whether it answers from now on where a request names none.
    #[serde(default)]
    #[schema(default = false)]
    default: bool,
}

/// The models.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// Those that are loaded, then those that can be.
    models: Vec<ModelInfo>,
    /// Always true: the answer is one to X-AnyLabeling as well.
    success: bool,
    /// The loaded models as X-AnyLabeling lists them.
    #[schema(value_type = Object)]
    data: Value,
}

/// Whether the server is well.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `UP` while it answers, `DOWN` once it was asked to end.
    #[schema(example = "UP")]
    status: &'static str,
    /// For Label Studio.
    model_class: &'static str,
    /// Version of the server.
    version: &'static str,
    /// The models that are loaded.
    models: Vec<String>,
    /// Bytes of embeddings on disk.
    embeddings_disk: u64,
}

/// Lists the models.
#[utoipa::path(get, path = "/v1/models", operation_id = "list_models", tag = "models", responses((status = 200, body = ModelList)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Answer<ModelList> {
    Answer(ModelList {
        models: app.models.list(),
        success: true,
        data: x_anylabeling::models(&app),
    })
}

/// Loads a model.
///
/// Answers when it is there; one that is loaded stays as it is.
#[utoipa::path(
    post, path = "/v1/models", operation_id = "load_model", tag = "models",
    request_body(content = LoadRequest, example = json!({"name": "lite"})),
    responses(
        (status = 200, body = ModelInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn load(
    State(app): State<Arc<App>>,
    Json(request): Json<LoadRequest>,
) -> Result<Answer<ModelInfo>> {
    let model = app.models.load(&request.name).await?;
    if request.default {
        app.models.set_default(&model);
        if let Ok(open) = app.project() {
            open.tell(Change::Pictures);
        }
    }
    Ok(Answer(app.models.info(&model)))
}

/// Says what is known of a loaded model.
#[utoipa::path(
    get, path = "/v1/models/{name}", operation_id = "get_model", tag = "models", params(("name" = String, Path, description = "Name of the model")),
    responses(
        (status = 200, body = ModelInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    UrlPath(name): UrlPath<String>,
) -> Result<Answer<ModelInfo>> {
    let model = app.models.get(Some(&name))?;
    Ok(Answer(app.models.info(&model)))
}

/// Unloads a model and frees its memory.
///
/// What waits for it is still answered. Embeddings on disk stay for the next time.
#[utoipa::path(
    delete, path = "/v1/models/{name}", operation_id = "unload_model", tag = "models",
    params(("name" = String, Path, description = "Name of the model")),
    responses(
        (status = 204),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn unload(
    State(app): State<Arc<App>>,
    UrlPath(name): UrlPath<String>,
) -> Result<StatusCode> {
    let model = app.models.unload(&name)?;
    app.embeddings.forget_model(&model);
    // Its memory is free when this is answered, unless it is at work for long: whoever loads another has room for it.
    let ended = blocking(move || model.owner.join());
    let _ = tokio::time::timeout(UNLOADED, ended).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Says whether the server is well. Needs no token.
#[utoipa::path(get, path = "/health", operation_id = "health", tag = "health", responses((status = 200, body = Health), (status = 503, body = Health)))]
pub(crate) async fn health(State(app): State<Arc<App>>) -> (StatusCode, Answer<Health>) {
    let ends = app.ending.is_cancelled();
    let health = Health {
        status: if ends { "DOWN" } else { "UP" },
        model_class: "Samara",
        version: env!("CARGO_PKG_VERSION"),
        models: app
            .models
            .all()
            .iter()
            .map(|model| model.name.clone())
            .collect(),
        embeddings_disk: app.embeddings.disk_bytes(),
    };
    let status = if ends {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    (status, Answer(health))
}

/// Counts and times, in the text format of Prometheus.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "health",
    responses((status = 200, body = String, content_type = "application/openmetrics-text"))
)]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<Response> {
    let text = app.metrics.text().map_err(Problem::internal)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
