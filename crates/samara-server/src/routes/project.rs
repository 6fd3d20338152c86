//! `/v1/project`: the project that is open, its classes, and what changes in it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Extension, Json as Answer};
use futures_util::StreamExt as _;
use futures_util::stream::unfold;
use samara_project::{Class, ClassId, ExportFormat, Project, ProjectError, Scanned};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use utoipa::ToSchema;

use crate::access::Client;
use crate::app::App;
use crate::body::{Json, UrlPath};
use crate::error::{Problem, Result};
use crate::events::{EventAnswer, event, stream};
use crate::project::Change;

/// The project that is open.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProjectInfo {
    /// The last name of its folder.
    #[schema(example = "photos")]
    name: String,
    /// Its folder on the server.
    #[schema(example = "/data/photos")]
    folder: String,
    /// As whom the client's changes are recorded: the name of its token, or `me` where none is needed.
    author: String,
    /// The model that answers where a request names none.
    #[schema(example = "lite")]
    model: String,
    classes: Vec<Class>,
    /// In which it is exported.
    formats: Vec<FormatInfo>,
}

/// A format of annotations.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FormatInfo {
    /// As a request names it.
    name: &'static str,
    /// For people.
    title: &'static str,
    /// What is written, in one line.
    description: &'static str,
    /// Whether it can have the splits `train` and `val`.
    splits: bool,
}

impl From<ExportFormat> for FormatInfo {
    fn from(format: ExportFormat) -> Self {
        Self {
            name: format.name(),
            title: format.title(),
            description: format.description(),
            splits: format.has_splits(),
        }
    }
}

/// What a class is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClassRequest {
    /// Of which there is one in the project.
    #[schema(example = "cell")]
    name: String,
    /// The colour in which its objects are shown.
    #[schema(example = "#e4572e", pattern = "^#[0-9a-fA-F]{6}$")]
    colour: String,
}

/// As whom the changes of a client are recorded.
pub(crate) fn author(app: &App, client: Client) -> String {
    if app.config.tokens.is_empty() {
        "me".into()
    } else {
        client.0
    }
}

/// Says what is known of the project that is open.
#[utoipa::path(
    get, path = "/v1/project", operation_id = "get_project", tag = "project",
    responses(
        (status = 200, body = ProjectInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
) -> Result<Answer<ProjectInfo>> {
    let open = app.project()?;
    let folder = open.folder();
    Ok(Answer(ProjectInfo {
        name: folder
            .file_name()
            .unwrap_or(folder.as_os_str())
            .to_string_lossy()
            .into_owned(),
        folder: folder.display().to_string(),
        author: author(&app, client),
        model: app.models.default_name(),
        classes: open.ask(Project::classes).await?,
        formats: ExportFormat::ALL.map(FormatInfo::from).into(),
    }))
}

/// Looks which pictures are in the folder now.
#[utoipa::path(
    post, path = "/v1/project/scan", operation_id = "scan_project", tag = "project",
    responses(
        (status = 200, body = Scanned),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn scan(State(app): State<Arc<App>>) -> Result<Answer<Scanned>> {
    let open = app.project()?;
    let scanned = open.ask(Project::scan).await?;
    open.tell(Change::Pictures);
    Ok(Answer(scanned))
}

/// Adds a class.
///
/// One of the same name that was removed comes back.
#[utoipa::path(
    post, path = "/v1/project/classes", operation_id = "add_class", tag = "project",
    request_body(content = ClassRequest),
    responses(
        (status = 201, body = Class),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn add_class(
    State(app): State<Arc<App>>,
    Json(request): Json<ClassRequest>,
) -> Result<(StatusCode, Answer<Class>)> {
    let ClassRequest { name, colour } = request;
    let added = app.project()?.change_classes(move |project| {
        let id = project.add_class(&name, &colour)?;
        Ok::<_, ProjectError>(Class { id, name, colour })
    });
    Ok((StatusCode::CREATED, Answer(added.await?)))
}

/// Gives a class another name and colour.
#[utoipa::path(
    post, path = "/v1/project/classes/{id}", operation_id = "change_class", tag = "project",
    params(("id" = i64, Path, description = "Number of the class")),
    request_body(content = ClassRequest),
    responses(
        (status = 200, body = Class),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn change_class(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<ClassId>,
    Json(request): Json<ClassRequest>,
) -> Result<Answer<Class>> {
    let ClassRequest { name, colour } = request;
    let changed = app.project()?.change_classes(move |project| {
        let class = Class { id, name, colour };
        project.change_class(&class)?;
        Ok::<_, ProjectError>(class)
    });
    Ok(Answer(changed.await?))
}

/// Removes a class that no object has.
#[utoipa::path(
    delete, path = "/v1/project/classes/{id}", operation_id = "remove_class", tag = "project",
    params(("id" = i64, Path, description = "Number of the class")),
    responses(
        (status = 204),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn remove_class(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<ClassId>,
) -> Result<StatusCode> {
    let removed = app.project()?;
    removed
        .change_classes(move |project| project.remove_class(id))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Follows the project.
///
/// Server-sent events, of changes by all clients: `picture` with a picture as data after any change of it, `classes`
/// with `{"classes": […]}`, `training` with what `GET /v1/project/training` answers, and `pictures` with `{}` when all
/// pictures should be read again.
#[utoipa::path(
    get, path = "/v1/project/events", operation_id = "follow_project", tag = "project",
    responses(
        (status = 200, body = EventAnswer, content_type = "text/event-stream"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn events(State(app): State<Arc<App>>) -> Result<Response> {
    let changes = app.project()?.listen();
    let events = unfold(changes, |mut changes| async move {
        let told = match changes.recv().await {
            Ok(Change::Picture(picture)) => event("picture", &picture),
            Ok(Change::Classes(classes)) => event("classes", &json!({"classes": classes})),
            Ok(Change::Training(info)) => event("training", &info),
            // Whoever lags behind reads all again.
            Ok(Change::Pictures) | Err(RecvError::Lagged(_)) => event("pictures", &json!({})),
            Err(RecvError::Closed) => return None,
        };
        Some((told, changes))
    });
    let ending = app.ending.clone();
    Ok(stream(events.take_until(ending.cancelled_owned())))
}
