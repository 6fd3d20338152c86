//! `/v1/project/videos`: the videos of the project that is open, and the objects that are followed through them.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json as Answer};
use samara_project::{Picture, PictureId, Placed, TrackId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::Client;
use crate::app::App;
use crate::blocking::blocking;
use crate::body::{Json, UrlPath};
use crate::error::{Problem, Result};
use crate::events::{EventAnswer, event, frames as frames_of};
use crate::project::OpenProject;
use crate::propagation::{Done, Way, propagate as follow};
use crate::routes::project::author;

/// A video that was opened.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VideoAnswer {
    video: Picture,
    /// Its frames in their order: pictures, which are opened, seen and edited as others.
    frames: Vec<PictureId>,
    /// Where its objects are, by track and frame.
    placed: Vec<Placed>,
}

/// A picture of the project that is a video.
async fn find(open: &Arc<OpenProject>, id: PictureId) -> Result<Picture> {
    let video = open.ask(move |project| project.picture(id)).await?;
    if video.frames.is_none() {
        return Err(Problem::not_found(format!("picture {id} is no video")));
    }
    Ok(video)
}

/// Opens a video.
///
/// Its file is read to the end when it is opened for the first time, to know how many frames it has.
#[utoipa::path(
    post, path = "/v1/project/videos/{id}/open", operation_id = "open_video", tag = "project",
    params(("id" = i64, Path, description = "Number of the video among the pictures")),
    responses(
        (status = 200, body = VideoAnswer),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn open(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<PictureId>,
) -> Result<Answer<VideoAnswer>> {
    let open = app.project()?;
    let video = find(open, id).await?;
    let _turn = app.images.decoder().await;
    let (video, frames, placed) = open.open_frames(&app.images, &video).await?;
    Ok(Answer(VideoAnswer {
        video,
        frames,
        placed,
    }))
}

/// Where the objects of a video are.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tracks {
    /// By track and frame.
    placed: Vec<Placed>,
}

/// Says where the objects of a video are.
#[utoipa::path(
    get, path = "/v1/project/videos/{id}/tracks", operation_id = "list_tracks", tag = "project",
    params(("id" = i64, Path, description = "Number of the video among the pictures")),
    responses(
        (status = 200, body = Tracks),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<PictureId>,
) -> Result<Answer<Tracks>> {
    let open = app.project()?;
    let video = find(open, id).await?;
    let placed = open.ask(move |project| project.tracks(video.id)).await?;
    Ok(Answer(Tracks { placed }))
}

/// How far objects are followed, and which.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FollowRequest {
    /// The frame whose masks are followed, counted from 0.
    from: u32,
    /// The last frame, after or before it.
    to: u32,
    /// Only these; left out: all that have a mask in the first frame.
    tracks: Option<Vec<TrackId>>,
    /// The model; left out: the default one.
    model: Option<String>,
}

/// A frame that is done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FollowedFrame {
    /// Counted from 0.
    frame: u32,
    /// Its number among the pictures.
    picture: PictureId,
    /// All objects in it.
    placed: Vec<Placed>,
}

/// Follows objects of a video from frame to frame, and keeps their masks.
///
/// Masks that somebody has drawn stay as they are, and correct those after them. Server-sent events: `frame`
/// (`FollowedFrame`) for every frame, then `done`, or `failed` with a problem. Closing the connection stops it; what was
/// found until then is kept, and is undone as one action.
#[utoipa::path(
    post, path = "/v1/project/videos/{id}/propagate", operation_id = "propagate_tracks", tag = "project",
    params(("id" = i64, Path, description = "Number of the video among the pictures")),
    request_body(content = FollowRequest, example = json!({"from": 0, "to": 24})),
    responses(
        (status = 200, body = EventAnswer, content_type = "text/event-stream"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn propagate(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<PictureId>,
    Extension(client): Extension<Client>,
    Json(request): Json<FollowRequest>,
) -> Result<Response> {
    let open = app.project()?;
    let video = find(open, id).await?;
    let model = app.models.get(request.model.as_deref())?;
    if video.is_gone || video.is_changed {
        let detail = format!(
            "{}: is gone, or another video than that on which masks were drawn",
            video.path
        );
        return Err(Problem::conflict(detail));
    }
    let FollowRequest {
        from, to, tracks, ..
    } = request;
    let way = Way { from, to, tracks };
    let (owner, images) = (Arc::clone(open), Arc::clone(&app.images));
    let source = blocking(move || owner.open_video(&images, &video.path)).await??;
    let author = author(&app, client);
    let ending = app.ending.clone();
    let frames = follow(open, &model, author, source, id, way, ending).await?;
    let answer = |Done {
                      frame,
                      picture,
                      placed,
                  }| {
        Ok(FollowedFrame {
            frame,
            picture,
            placed,
        })
    };
    let done = |_| event("done", &serde_json::json!({}));
    Ok(frames_of(frames, answer, done))
}
