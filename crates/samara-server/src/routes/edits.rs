//! Edits of the pictures of a project: what is drawn, taken back and done again.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json as Answer};
use samara_image::Rle;
use samara_project::{
    Action, Applied, ClassId, Edit, MOST_WORDS, NewObject, ObjectId, PictureId, Project,
    ProjectError, Track, TrackId,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::access::Client;
use crate::app::App;
use crate::body::{Json, UrlPath};
use crate::bounded::Bounded;
use crate::error::{Problem, Result};
use crate::project::OpenProject;
use crate::routes::project::author;

/// Most edits of one request.
const MOST: usize = 10_000;

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
