//! `/v1/project/pictures`: the pictures of the project that is open.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json as Answer};
use samara_project::{Object as DrawnObject, Opened, Picture, PictureId, Project};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::access::Client;
use crate::app::App;
use crate::body::{UrlPath, UrlQuery};
use crate::error::{Problem, Result};
use crate::images::ImageInfo;
use crate::page::is_known;
use crate::tiles::{Depth, TileAt};

/// The pictures of a project.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PictureList {
    /// By their path.
    pictures: Vec<Picture>,
}

/// A picture that was opened.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OpenedAnswer {
    picture: Picture,
    /// Its file as it is now, by whose id prompts name it.
    image: ImageInfo,
    /// The lowest first.
    objects: Vec<DrawnObject>,
    /// Whether there is an action to be undone.
    can_undo: bool,
    /// Who has done it.
    last_author: Option<String>,
    /// Whether there is one to be done again.
    can_redo: bool,
    /// How its tiles show 16-bit grey if nothing else is said; null for any other picture.
    depth: Option<Depth>,
}

/// Lists the pictures.
#[utoipa::path(
    get, path = "/v1/project/pictures", operation_id = "list_pictures", tag = "project",
    responses(
        (status = 200, body = PictureList),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Answer<PictureList>> {
    let pictures = app.project()?.ask(Project::pictures).await?;
    Ok(Answer(PictureList { pictures }))
}

/// How a picture is opened.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OpenQuery {
    /// Nobody looks at it yet: its embedding is left to `/v1/embeddings`.
    #[param(default = false)]
    ahead: bool,
}

/// Opens a picture.
///
/// Its file is read now, and the embedding of it asked for before all others. That of the picture which the client has
/// opened before is given up if it is not there.
#[utoipa::path(
    post, path = "/v1/project/pictures/{id}/open", operation_id = "open_picture", tag = "project",
    params(("id" = i64, Path, description = "Number of the picture"), OpenQuery),
    responses(
        (status = 200, body = OpenedAnswer),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn open(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<PictureId>,
    UrlQuery(query): UrlQuery<OpenQuery>,
    Extension(Client(client)): Extension<Client>,
) -> Result<Answer<OpenedAnswer>> {
    let open = app.project()?;
    let picture = open.ask(move |project| project.picture(id)).await?;
    if picture.frames.is_some() {
        let detail = format!("picture {id} is a video; open its frames");
        return Err(Problem::conflict(detail));
    }
    let image = open.read(&app.images, &picture).await?;
    if let Some(model) = app.models.get(None).ok().filter(|_| !query.ahead) {
        // Where too many wait, the first click asks again.
        let _ = app.embeddings.ask_now(&client, &model, &image);
    }
    let info = Arc::clone(&image.info);
    let has_depth = image.gray.is_some();
    let (tiles, of) = (Arc::clone(open), image.clone());
    let pyramid = tokio::spawn(async move { tiles.tiles.of(of).await });
    let depth = if has_depth {
        let pyramid = pyramid.await.map_err(Problem::internal)??;
        pyramid.depth()
    } else {
        None
    };
    let found = Arc::clone(&info);
    let is_known = picture.sha256.as_deref() == Some(info.id.as_str()) && !picture.is_changed;
    let identify =
        move |project: &Project| project.identify(id, found.id.as_str(), found.width, found.height);
    if !is_known {
        open.change(id, identify).await?;
    }
    let opened = open.ask(move |project| project.opened(id)).await?;
    Ok(Answer(OpenedAnswer {
        picture: opened.picture,
        image: (*info).clone(),
        objects: opened.objects,
        can_undo: opened.can_undo,
        last_author: opened.last_author,
        can_redo: opened.can_redo,
        depth,
    }))
}

/// Says what is kept of a picture, without reading its file, which may be gone.
#[utoipa::path(
    get, path = "/v1/project/pictures/{id}", operation_id = "get_picture", tag = "project",
    params(("id" = i64, Path, description = "Number of the picture")),
    responses(
        (status = 200, body = Opened),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<PictureId>,
) -> Result<Answer<Opened>> {
    let kept = app.project()?.ask(move |project| project.opened(id));
    Ok(Answer(kept.await?))
}

/// A picture as JPEG, which clients keep by the id of its file.
fn jpeg(tag: &str, bytes: Option<impl IntoResponse>) -> Response {
    let headers = [
        (header::ETAG, tag.to_owned()),
        // Another file may lie there the next time.
        (header::CACHE_CONTROL, "private, no-cache".to_owned()),
    ];
    match bytes {
        Some(bytes) => (headers, [(header::CONTENT_TYPE, "image/jpeg")], bytes).into_response(),
        None => (StatusCode::NOT_MODIFIED, headers).into_response(),
    }
}

/// A small form of a picture.
///
/// JPEG, upright, whose longer side has 192 pixels.
#[utoipa::path(
    get, path = "/v1/project/pictures/{id}/thumbnail", operation_id = "get_thumbnail", tag = "project",
    params(("id" = i64, Path, description = "Number of the picture")),
    responses(
        (status = 200, body = Vec<u8>, content_type = "image/jpeg"),
        (status = 304),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn thumbnail(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<PictureId>,
    headers: HeaderMap,
) -> Result<Response> {
    let known = headers.get(header::IF_NONE_MATCH);
    let known = known.and_then(|known| known.to_str().ok());
    let (id, bytes) = app.project()?.thumbnail(&app.images, id, known).await?;
    Ok(jpeg(&format!("\"{id}\""), bytes))
}

/// How 16-bit grey is shown.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TileQuery {
    /// The value of 16-bit grey that is shown black; left out: as the picture was opened.
    low: Option<u16>,
    /// The value of 16-bit grey that is shown white; left out: as the picture was opened.
    high: Option<u16>,
}

/// A part of a picture.
///
/// JPEG of 512×512 pixels at most, of the picture halved `level` times; sizes are rounded up. 404 outside of it.
#[utoipa::path(
    get, path = "/v1/project/pictures/{id}/tiles/{level}/{x}/{y}", operation_id = "get_tile", tag = "project",
    params(
        ("id" = i64, Path, description = "Number of the picture"),
        ("level" = u32, Path, description = "How often it is halved; 0 is the picture itself"),
        ("x" = u32, Path, description = "Column of the tile, from the left, counted from 0"),
        ("y" = u32, Path, description = "Row of the tile, from above, counted from 0"),
        TileQuery
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "image/jpeg"),
        (status = 304),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn tile(
    State(app): State<Arc<App>>,
    UrlPath((id, level, x, y)): UrlPath<(PictureId, u32, u32, u32)>,
    UrlQuery(query): UrlQuery<TileQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    let open = app.project()?;
    let pyramid = open.pyramid(&app.images, id).await?;
    let (depth, shown) = match pyramid.depth() {
        Some(depth) => {
            let depth = depth.within(query.low, query.high)?;
            (depth, depth.text())
        }
        None => (Depth::BYTES, String::new()),
    };
    let tag = format!("\"{}{shown}\"", pyramid.id());
    if is_known(&headers, &tag) {
        return Ok(jpeg(&tag, None::<()>));
    }
    let at = TileAt { level, x, y };
    let bytes = open.tiles.tile(pyramid, at, depth).await?;
    Ok(jpeg(&tag, Some(bytes)))
}
