//! `/v1/videos`: objects followed through videos.

use std::io::Write;
use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::{FromRequest, Request, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use samara::{Direction, Intent, VideoOptions};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::ask::check_points;
use crate::blocking::blocking;
use crate::body::{File, Json, UrlPath, UrlQuery, each_part};
use crate::error::{Problem, Result};
use crate::events::{EventAnswer, event, frames as frames_of};
use crate::frames::Source;
use crate::masks::{MaskFormat, MaskStyle, Tolerance};
use crate::models::LoadedModel;
use crate::prompts::{PromptRequest, PromptedImage};
use crate::video::Video;
use crate::video_answers::{VideoFrameAnswer, VideoInfo, VideoObject};

/// A session to begin: exactly one of `path` and `frames`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VideoRequest {
    /// A video file, or a folder of frames, below the server's `--root`.
    path: Option<String>,
    /// True: frames are pushed one by one.
    #[serde(default)]
    frames: bool,
    /// The model; left out: the default one.
    model: Option<String>,
    /// Those of the official video predictor, under their names.
    #[serde(default)]
    #[schema(value_type = Option<crate::openapi::VideoOptions>)]
    options: VideoOptions,
}

/// Which model follows the objects of an upload.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UploadQuery {
    /// The model; left out: the default one.
    model: Option<String>,
}

/// The sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VideoList {
    videos: Vec<VideoListed>,
}

/// A session in the list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VideoListed {
    /// Its name.
    id: String,
    model: String,
}

/// A frame that was pushed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pushed {
    /// Its number, from 0.
    frame: usize,
}

/// A prompt for an object on a frame.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VideoPromptRequest {
    /// Number of the frame, from 0.
    frame: usize,
    /// Which object, new or known; the number is the client's choice.
    object: u32,
    /// Replaces an earlier prompt for the object on this frame. A mask that the frame has already is refined.
    prompt: PromptRequest,
    /// In which form the mask is answered.
    #[serde(default)]
    #[schema(default = "rle")]
    masks: MaskFormat,
    /// Polygons: how far a line may leave the mask's outline, in pixels; 0 follows every pixel.
    #[serde(default)]
    #[schema(value_type = f64, default = 0.0, minimum = 0.0)]
    tolerance: Tolerance,
}

/// An object on a frame.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PromptQuery {
    /// Number of the frame.
    frame: usize,
    /// Which object.
    object: u32,
}

/// Frames to track.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PropagateRequest {
    /// The first frame.
    #[serde(default)]
    start: usize,
    /// How many; left out: to the end of the video, or to the last frame that was pushed.
    #[schema(minimum = 1)]
    count: Option<usize>,
    /// `forward` or `backward`.
    #[serde(default = "forward")]
    #[schema(value_type = String, default = "forward")]
    direction: Direction,
    /// In which form masks are answered.
    #[serde(default)]
    #[schema(default = "rle")]
    masks: MaskFormat,
    /// Polygons: how far a line may leave the mask's outline, in pixels; 0 follows every pixel.
    #[serde(default)]
    #[schema(value_type = f64, default = 0.0, minimum = 0.0)]
    tolerance: Tolerance,
}

fn forward() -> Direction {
    Direction::Forward
}

/// The end of the frames.
#[derive(Debug, Serialize)]
struct Done {
    /// How many were tracked.
    frames: usize,
}

/// Begins a video session.
///
/// The body is the file of a video (with a content type of `video/…` or `application/octet-stream`), or JSON.
#[utoipa::path(
    post, path = "/v1/videos", operation_id = "create_video", tag = "videos", params(UploadQuery),
    request_body(content(
        (VideoRequest = "application/json", example = json!({"frames": true})),
        (Vec<u8> = "video/*"), (Vec<u8> = "application/octet-stream")
    )),
    responses(
        (status = 201, body = VideoInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    UrlQuery(query): UrlQuery<UploadQuery>,
    request: Request,
) -> Result<(StatusCode, Answer<VideoInfo>)> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_ascii_lowercase();
    let is_file =
        content_type.starts_with("video/") || content_type.starts_with("application/octet-stream");
    let (video, model) = if is_file {
        upload(&app, query.model.as_deref(), request).await?
    } else {
        let Json(request) = Json::from_request(request, &app).await?;
        begin(&app, request).await?
    };
    Ok((StatusCode::CREATED, Answer(video.info(&model).await?)))
}

async fn upload(
    app: &Arc<App>,
    model: Option<&str>,
    request: Request,
) -> Result<(Arc<Video>, Arc<LoadedModel>)> {
    let model = app.models.get(model)?;
    let failed = |e: std::io::Error| Problem::of_writing("the video", &e);
    app.videos.check_disk(0)?;
    let mut file = app.videos.upload().map_err(failed)?;
    let most = app.config.limits.video_bytes;
    each_part(request.into_body(), app, most, |part| {
        file.write_all(part).map_err(failed)
    })
    .await?;
    let video = app.videos.add(
        &model,
        VideoOptions::default(),
        Source::Upload,
        Some(file.into_temp_path()),
        false,
    );
    Ok((video.await?, model))
}

async fn begin(app: &Arc<App>, request: VideoRequest) -> Result<(Arc<Video>, Arc<LoadedModel>)> {
    let model = app.models.get(request.model.as_deref())?;
    let video = match (request.path, request.frames) {
        (Some(path), false) => {
            let path = app.images.below_root(&path).map_err(|e| e.about("path"))?;
            app.videos
                .add(&model, request.options, Source::Path(path), None, false)
                .await?
        }
        (None, true) => {
            app.videos
                .add(&model, request.options, Source::Frames, None, false)
                .await?
        }
        _ => return Err(Problem::field("path", "either a path, or frames: true")),
    };
    Ok((video, model))
}

/// Lists the sessions, also those of before the server was started.
#[utoipa::path(get, path = "/v1/videos", operation_id = "list_videos", tag = "videos", responses((status = 200, body = VideoList)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Answer<VideoList> {
    let videos = app.videos.list();
    let listed = |video: &Arc<Video>| VideoListed {
        id: video.id.clone(),
        model: video.model().to_owned(),
    };
    Answer(VideoList {
        videos: videos.iter().map(listed).collect(),
    })
}

/// Says what is known of a session.
#[utoipa::path(
    get, path = "/v1/videos/{id}", operation_id = "get_video", tag = "videos", params(("id" = String, Path, description = "Id of the session")),
    responses(
        (status = 200, body = VideoInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<String>,
) -> Result<Answer<VideoInfo>> {
    let (video, model) = app.video(&id)?;
    video.info(&model).await.map(Answer)
}

/// Ends a session, stops what it does, and deletes what is kept of it.
#[utoipa::path(
    delete, path = "/v1/videos/{id}", operation_id = "delete_video", tag = "videos", params(("id" = String, Path, description = "Id of the session")),
    responses(
        (status = 204),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<String>,
) -> Result<StatusCode> {
    app.videos.remove(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pushes the next frame of a session of frames: the file of an image.
#[utoipa::path(
    post, path = "/v1/videos/{id}/frames", operation_id = "push_frame", tag = "videos",
    params(("id" = String, Path, description = "Id of the session")),
    request_body(content((Vec<u8> = "image/*"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 201, body = Pushed),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn push(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<String>,
    file: File,
) -> Result<(StatusCode, Answer<Pushed>)> {
    let (video, _) = app.video(&id)?;
    app.videos.check_disk(file.bytes.len() as u64)?;
    let _turn = app.images.decoder().await;
    let frame = video.push(file.bytes, app.config.limits.frames).await?;
    Ok((StatusCode::CREATED, Answer(Pushed { frame })))
}

/// Prompts an object on a frame, and answers with its mask there.
///
/// A prompt on a frame that was tracked is a correction; propagate again from there.
#[utoipa::path(
    post, path = "/v1/videos/{id}/prompts", operation_id = "prompt_video", tag = "videos",
    params(("id" = String, Path, description = "Id of the session")),
    request_body(content = VideoPromptRequest, example = json!({
        "frame": 0, "object": 1, "prompt": {"points": [[290, 150]]}
    })),
    responses(
        (status = 200, body = VideoObject),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn prompt(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<String>,
    Json(request): Json<VideoPromptRequest>,
) -> Result<Answer<VideoObject>> {
    let (video, model) = app.video(&id)?;
    let size = video.info(&model).await?.size();
    let turn = app.images.decoder().await;
    let prompt = {
        let (app, prompt) = (Arc::clone(&app), request.prompt);
        let of = PromptedImage { size, image: None };
        blocking(move || prompt.prompt(&of, &app.answers, Intent::default())).await?
    };
    drop(turn);
    let prompt = prompt.map_err(|e| e.about("prompt"))?;
    check_points(&app, [&prompt])?;
    let found = video.prompt(&model, request.frame, request.object, prompt);
    let found = app.in_time(None, found).await?;
    VideoObject::new(&found, MaskStyle::new(request.masks, request.tolerance)).map(Answer)
}

/// Takes the prompts for an object on a frame back.
#[utoipa::path(
    delete, path = "/v1/videos/{id}/prompts", operation_id = "delete_video_prompt", tag = "videos",
    params(("id" = String, Path, description = "Id of the session"), PromptQuery),
    responses(
        (status = 204),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn clear_prompt(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<String>,
    UrlQuery(query): UrlQuery<PromptQuery>,
) -> Result<StatusCode> {
    let (video, model) = app.video(&id)?;
    video
        .clear_prompt(&model, query.frame, query.object)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Follows an object no longer.
#[utoipa::path(
    delete, path = "/v1/videos/{id}/objects/{object}", operation_id = "delete_video_object", tag = "videos",
    params(
        ("id" = String, Path, description = "Id of the session"),
        ("object" = u32, Path, description = "Which object"),
    ),
    responses(
        (status = 204),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn remove_object(
    State(app): State<Arc<App>>,
    UrlPath((id, object)): UrlPath<(String, String)>,
) -> Result<StatusCode> {
    let (video, model) = app.video(&id)?;
    let object = object.parse();
    let object = object.map_err(|_| Problem::field("object", "is the number of an object"))?;
    video.remove_object(&model, object).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Follows all objects from frame to frame.
///
/// Server-sent events: `frame` with all objects (`VideoFrameAnswer`) for every frame, then `done` with their number, or
/// `failed` with a problem. Closing the connection stops it; what was found until then is kept, and the next request goes on.
#[utoipa::path(
    post, path = "/v1/videos/{id}/propagate", operation_id = "propagate_video", tag = "videos",
    params(("id" = String, Path, description = "Id of the session")),
    request_body(content = PropagateRequest, example = json!({"start": 0})),
    responses(
        (status = 200, body = EventAnswer, content_type = "text/event-stream"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn propagate(
    State(app): State<Arc<App>>,
    UrlPath(id): UrlPath<String>,
    Json(request): Json<PropagateRequest>,
) -> Result<Response> {
    let (video, model) = app.video(&id)?;
    if request.count == Some(0) {
        return Err(Problem::field("count", "0 frames: at least 1"));
    }
    let count = request.count.unwrap_or(usize::MAX);
    let frames = video
        .propagate(&model, request.start, count, request.direction)
        .await?;
    let style = MaskStyle::new(request.masks, request.tolerance);
    let answer = move |found| VideoFrameAnswer::new(&found, style);
    let done = |frames| event("done", &Done { frames });
    Ok(frames_of(frames, answer, done))
}
