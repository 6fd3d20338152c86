//! `/v1/project/pictures`: the pictures of the project that is open, and what is drawn on them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json as Answer};
use samara_image::Rle;
use samara_project::{
    Action, Applied, ClassId, Edit, NewObject, Object as DrawnObject, ObjectId, Picture, PictureId,
    Project, ProjectError, Track, TrackId,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use crate::access::Client;
use crate::app::App;
use crate::body::{Json, UrlPath, UrlQuery};
use crate::bounded::Bounded;
use crate::error::{Problem, Result};
use crate::images::ImageInfo;
use crate::page::is_known;
use crate::project::OpenProject;
use crate::routes::project::author;
use crate::tiles::{Depth, TileAt};

/// Most edits of one request.
const MOST: usize = 10_000;
/// Most bytes of the JSON of an object's prompt, and of its attributes.
const MOST_WORDS: usize = 64 << 10;

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
        can_redo: opened.can_redo,
        depth,
    }))
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

/// What is done to a picture, as one action.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EditsRequest {
    /// At most 10 000, all made or none.
    #[schema(value_type = Vec<EditRequest>, max_items = 10_000)]
    edits: Bounded<EditRequest, MOST>,
    /// The revision that the picture must still have; left out: any.
    expected: Option<u64>,
}

/// Something that is done to the objects of a picture.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = EditRequest)]
pub(crate) enum EditRequest {
    /// A new object, on top of the others.
    Add(ObjectRequest),
    /// The number of an object, and what it is from now on: a list of these two.
    #[schema(value_type = Vec<serde_json::Value>)]
    Change((ObjectId, ObjectRequest)),
    /// The number of an object, and its place; the highest lies on top.
    #[schema(value_type = [i64; 2])]
    Move((ObjectId, i64)),
    /// The number of an object.
    Remove(ObjectId),
    /// The number of an object of a video, which goes from all its frames.
    RemoveTrack(TrackId),
    /// Whether the masks of the picture are as they should be.
    Check(bool),
}

/// An object as it is drawn.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ObjectRequest)]
pub(crate) struct ObjectRequest {
    /// Of the size of the picture: COCO run lengths, `counts` as a compressed string or as a list.
    #[schema(value_type = crate::prompts::RleRequest)]
    mask: Rle,
    /// The number of its class; null until somebody has said what it is.
    #[schema(value_type = Option<i64>)]
    class: Option<ClassId>,
    /// The model's estimate of the mask's IoU; null for one that was drawn by hand.
    predicted_iou: Option<f32>,
    /// Clicks and boxes that the mask answers, of any form.
    #[schema(value_type = Option<serde_json::Value>)]
    prompt: Option<Box<RawValue>>,
    /// Further words about it, by their names.
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    attributes: Option<Box<RawValue>>,
    /// In a frame of a video: of which of its objects this is a mask; left out: of a new one, or of that of which it was.
    #[schema(value_type = Option<i64>)]
    track: Option<TrackId>,
}

/// What is read of JSON that must be small.
fn small<T: DeserializeOwned>(field: &str, json: Option<Box<RawValue>>) -> Result<Option<T>> {
    let Some(json) = json else { return Ok(None) };
    let bytes = json.get().len();
    if bytes > MOST_WORDS {
        let detail = format!("has {bytes} bytes as JSON; at most {MOST_WORDS} are kept");
        return Err(Problem::field(field, detail));
    }
    let read = serde_json::from_str(json.get());
    read.map_err(|_| Problem::field(field, "is of a type that is not expected here"))
}

impl ObjectRequest {
    fn object(self) -> Result<NewObject> {
        Ok(NewObject {
            class: self.class,
            predicted_iou: self.predicted_iou,
            prompt: small("prompt", self.prompt)?,
            attributes: small("attributes", self.attributes)?.unwrap_or_default(),
            track: self.track.map(|id| Track {
                id,
                is_keyframe: true,
            }),
            ..NewObject::new(self.mask)
        })
    }
}

impl EditRequest {
    /// The field of what is said of the object.
    fn field(&self) -> &'static str {
        match self {
            Self::Add(_) => "add",
            Self::Change(_) => "change[1]",
            Self::Move(_) => "move",
            Self::Remove(_) => "remove",
            Self::RemoveTrack(_) => "remove_track",
            Self::Check(_) => "check",
        }
    }

    fn edit(self) -> Result<Edit> {
        Ok(match self {
            Self::Add(object) => Edit::Add(object.object()?),
            Self::Change((id, object)) => Edit::Change(id, object.object()?),
            Self::Move((id, position)) => Edit::Move(id, position),
            Self::Remove(id) => Edit::Remove(id),
            Self::RemoveTrack(track) => Edit::RemoveTrack(track),
            Self::Check(is) => Edit::Check(is),
        })
    }
}

/// Edits a picture.
///
/// All edits are made as one action, or none. 409 if somebody else has changed the picture since it had the revision
/// that is `expected`.
#[utoipa::path(
    post, path = "/v1/project/pictures/{id}/edits", operation_id = "edit_picture", tag = "project",
    params(("id" = i64, Path, description = "Number of the picture")),
    request_body(content = EditsRequest, example = json!({
        "edits": [{"add": {"mask": {"size": [2, 3], "counts": [1, 5]}, "class": 1}}, {"check": true}], "expected": 7
    })),
    responses(
        (status = 200, body = Applied),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn edit(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<PictureId>,
    Extension(client): Extension<Client>,
    Json(request): Json<EditsRequest>,
) -> Result<Answer<Applied>> {
    let open = app.project()?;
    let author = author(&app, client);
    let EditsRequest { edits, expected } = request;
    let fields: Vec<&str> = edits.0.iter().map(EditRequest::field).collect();
    let place = move |index: usize| {
        let field = fields.get(index).copied().unwrap_or_default();
        format!("edits[{index}].{field}")
    };
    let applied = open.change(id, move |project| {
        let edits = edits.0.into_iter().enumerate();
        let edits = edits.map(|(index, edit)| edit.edit().map_err(|e| e.about(place(index))));
        let edits: Vec<Edit> = edits.collect::<Result<_>>()?;
        let applied = project.apply(id, &author, &edits, expected);
        applied.map_err(|error| match error {
            ProjectError::Edit { index, error } => Problem::from(*error).about(place(index)),
            other => other.into(),
        })
    });
    Ok(Answer(applied.await?))
}

/// Which revision is meant.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StepRequest {
    /// The revision that the picture must still have; left out: any.
    expected: Option<u64>,
}

type Step = fn(&Project, PictureId, Option<u64>) -> samara_project::Result<Applied>;

/// Undoes or redoes. A class that was removed comes back with an object that has it.
async fn step(
    open: &Arc<OpenProject>,
    id: PictureId,
    request: StepRequest,
    step: Step,
) -> Result<Answer<Applied>> {
    let applied = open.change(id, move |project| {
        let before = project.classes()?;
        let applied = step(project, id, request.expected)?;
        let is_other = project.classes()? != before;
        Ok::<_, ProjectError>((applied, is_other))
    });
    let (applied, has_other_classes) = applied.await?;
    if has_other_classes {
        open.change_classes(|_| Ok::<_, ProjectError>(())).await?;
    }
    Ok(Answer(applied))
}

/// Takes the last action on a picture back.
///
/// 409 if there is none, or if somebody else has changed the picture since it had the revision that is `expected`.
#[utoipa::path(
    post, path = "/v1/project/pictures/{id}/undo", operation_id = "undo", tag = "project",
    params(("id" = i64, Path, description = "Number of the picture")),
    request_body(content = StepRequest),
    responses(
        (status = 200, body = Applied),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn undo(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<PictureId>,
    Json(request): Json<StepRequest>,
) -> Result<Answer<Applied>> {
    step(app.project()?, id, request, Project::undo).await
}

/// Does the action again that was undone last.
///
/// 409 if there is none, or if somebody else has changed the picture since it had the revision that is `expected`.
#[utoipa::path(
    post, path = "/v1/project/pictures/{id}/redo", operation_id = "redo", tag = "project",
    params(("id" = i64, Path, description = "Number of the picture")),
    request_body(content = StepRequest),
    responses(
        (status = 200, body = Applied),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn redo(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<PictureId>,
    Json(request): Json<StepRequest>,
) -> Result<Answer<Applied>> {
    step(app.project()?, id, request, Project::redo).await
}

/// What was done to a picture.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct History {
    /// The last first.
    actions: Vec<Action>,
}

/// Says what was done to a picture, and by whom.
#[utoipa::path(
    get, path = "/v1/project/pictures/{id}/history", operation_id = "get_history", tag = "project",
    params(("id" = i64, Path, description = "Number of the picture")),
    responses(
        (status = 200, body = History),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn history(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<PictureId>,
) -> Result<Answer<History>> {
    let actions = app.project()?.ask(move |project| project.history(id));
    Ok(Answer(History {
        actions: actions.await?,
    }))
}
