//! The video routes of X-AnyLabeling's remote server, under `/v1/video`.

use std::fmt;
use std::io::{BufReader, Seek, Write};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use samara::{Direction, FrameMasks, Intent, Mask, ObjectMask, VideoOptions};
use serde::Deserialize;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::pixel;
use super::x_anylabeling::{Params, Shape, failure, model, success};
use crate::app::App;
use crate::ask::check_points;
use crate::blocking::blocking;
use crate::body::{Json, UrlPath, each_part};
use crate::bounded::Bounded;
use crate::error::{Problem, Result};
use crate::events::stream;
use crate::frames::Source;
use crate::images::decode_base64;
use crate::prompts::{PromptRequest, PromptedImage};

/// The answer, or the error as the tool expects it.
fn answer(result: Result<Response>) -> Response {
    result.unwrap_or_else(|problem| failure(&problem))
}

/// The frames of a request, which may be gigabytes: each is handed on as soon as it is read.
struct Frames<F>(F);

impl<'de, F: FnMut(&str) -> Result<()>> DeserializeSeed<'de> for Frames<&mut F> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(&str) -> Result<()>> Visitor<'de> for Frames<&mut F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of images as base64")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut frames: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(frame) = frames.next_element::<String>()? {
            let wrong = |problem: Problem| format!("frame {index} {}", problem.line());
            (self.0)(&frame).map_err(|problem| serde::de::Error::custom(wrong(problem)))?;
            index += 1;
        }
        Ok(())
    }
}

/// The request that begins a session; answers with the model's id.
struct Init<F>(F);

impl<'de, F: FnMut(&str) -> Result<()>> Visitor<'de> for Init<F> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with model and frames")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Option<String>, A::Error> {
        let mut model = None;
        while let Some(key) = map.next_key::<String>()? {
            match &*key {
                "model" => model = map.next_value()?,
                "frames" => map.next_value_seed(Frames(&mut self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(model)
    }
}

/// Begins a session of frames.
pub(crate) async fn init(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(begin(&app, request).await)
}

async fn begin(app: &Arc<App>, request: Request) -> Result<Response> {
    let failed = |e: std::io::Error| Problem::of_writing("the frames", &e);
    app.videos.check_disk(0)?;
    let most_frames = app.config.limits.frames;
    let mut file = app.videos.upload().map_err(failed)?;
    let most = app.config.limits.video_bytes;
    each_part(request.into_body(), app, most, |part| {
        file.write_all(part).map_err(failed)
    })
    .await?;
    let frames = tempfile_folder(app)?;
    let (model_id, frames, count) = blocking(move || {
        file.rewind().map_err(failed)?;
        let mut count = 0;
        let mut keep = |text: &str| {
            if count >= most_frames {
                return Err(Problem::field("frames", format!("more than {most_frames}")));
            }
            let bytes = decode_base64(text)?;
            std::fs::write(frames.path().join(format!("{count:06}")), bytes).map_err(failed)?;
            count += 1;
            Ok(())
        };
        let mut json = serde_json::Deserializer::from_reader(BufReader::new(file));
        let id = serde::Deserializer::deserialize_map(&mut json, Init(&mut keep));
        let id = id.and_then(|id| json.end().map(|()| id));
        let id = id.map_err(|e| Problem::field("frames", e))?;
        Ok::<_, Problem>((id, frames, count))
    })
    .await??;
    if count == 0 {
        return Err(Problem::field("frames", "none: a video has at least one"));
    }
    let model = model(app, model_id.as_deref())?;
    // The tool does not say when it has gone; its oldest session makes room.
    let video = app
        .videos
        .add(&model, VideoOptions::default(), Source::Frames, None, true)
        .await?;
    for index in 0..count {
        let path = frames.path().join(format!("{index:06}"));
        let pushed = match tokio::fs::read(path).await {
            Ok(file) => video.push(file, most_frames).await,
            Err(error) => Err(failed(error)),
        };
        if let Err(problem) = pushed {
            app.videos.remove(&video.id).await?;
            return Err(problem.about(format!("frames[{index}]")));
        }
    }
    Ok(success(
        json!({"session_id": video.id, "total_frames": count}),
    ))
}

fn tempfile_folder(app: &App) -> Result<tempfile::TempDir> {
    let folder = app.videos.upload_folder();
    folder.map_err(|e| Problem::of_writing("the frames", &e))
}

/// Clicks on an object, from 0 to 1.
#[derive(Debug, Deserialize)]
pub(crate) struct PromptBody {
    session_id: String,
    #[serde(default)]
    frame_index: usize,
    points: Option<Bounded<[f64; 2], 4096>>,
    point_labels: Option<Bounded<f64, 4096>>,
    obj_id: Option<u32>,
    text_prompt: Option<String>,
    #[serde(default)]
    params: Params,
}

/// Answers clicks on a frame.
pub(crate) async fn prompt(
    State(app): State<Arc<App>>,
    request: Result<Json<PromptBody>>,
) -> Response {
    let asked = async {
        let Json(request) = request?;
        let (video, model) = app.video(&request.session_id)?;
        let (frame, factor) = (request.frame_index, request.params.epsilon_factor);
        let object = request.obj_id.unwrap_or(1);
        let size = video.info(&model).await?.size();
        let prompt = request.prompt(size)?;
        let of = PromptedImage { size, image: None };
        let prompt = prompt.prompt(&of, &app.answers, Intent::default())?;
        check_points(&app, [&prompt])?;
        let found = app
            .in_time(None, video.prompt(&model, frame, object, prompt))
            .await?;
        let masks = shapes(&found, factor);
        Ok(success(
            json!({"masks": masks, "frame_index": frame, "num_objects": 1}),
        ))
    };
    answer(asked.await)
}

impl PromptBody {
    fn prompt(self, (width, height): (u32, u32)) -> Result<PromptRequest> {
        if width == 0 || height == 0 {
            return Err(Problem::conflict("the session has no frame yet"));
        }
        let Some(points) = self
            .points
            .map(|list| list.0)
            .filter(|points| !points.is_empty())
        else {
            let detail = match self.text_prompt {
                Some(_) => "Samara takes points, no text",
                None => "a prompt has at least one point",
            };
            return Err(Problem::field("points", detail));
        };
        let labels = self
            .point_labels
            .map_or_else(|| vec![1.0; points.len()], |list| list.0);
        if labels.len() != points.len() {
            let detail = format!("{} labels for {} points", labels.len(), points.len());
            return Err(Problem::field("point_labels", detail));
        }
        let points = points.iter().zip(labels).enumerate();
        let points = points.map(|(index, (&[x, y], label))| {
            let about = |e: Problem| e.about(format!("points[{index}]"));
            let (w, h) = (f64::from(width), f64::from(height));
            Ok([
                pixel(x, w).map_err(about)?,
                pixel(y, h).map_err(about)?,
                label,
            ])
        });
        Ok(PromptRequest::new(points.collect::<Result<_>>()?, None))
    }
}

fn shapes(found: &ObjectMask, factor: Option<f64>) -> Vec<Shape> {
    let empty = Mask::new(found.mask.width(), found.mask.height());
    let mask = if found.is_present() {
        &found.mask
    } else {
        &empty
    };
    Shape::of_mask(
        mask,
        found.predicted_iou.0,
        Some(found.object.max(1)),
        factor,
    )
}

/// Frames to track.
#[derive(Debug, Deserialize)]
pub(crate) struct PropagateBody {
    session_id: String,
    start_frame: Option<usize>,
    end_frame: Option<usize>,
}

/// Follows the objects; all masks come with the last event, as the tool expects it.
pub(crate) async fn propagate(
    State(app): State<Arc<App>>,
    request: Result<Json<PropagateBody>>,
) -> Response {
    let asked = async {
        let Json(request) = request?;
        let (video, model) = app.video(&request.session_id)?;
        let info = video.info(&model).await?;
        let start = request.start_frame.unwrap_or(0);
        let total = info.frame_count().saturating_sub(start);
        let end = request.end_frame.map_or(usize::MAX, |end| {
            end.saturating_add(1).saturating_sub(start)
        });
        let total = total.min(end);
        let frames = video
            .propagate(&model, start, total, Direction::Forward)
            .await?;
        Ok(events(frames, start, total))
    };
    answer(asked.await)
}

fn events(
    frames: tokio::sync::mpsc::Receiver<Result<FrameMasks>>,
    start: usize,
    total: usize,
) -> Response {
    let data = |value: Value| Event::default().data(value.to_string());
    let started =
        data(json!({"type": "started", "total_frames": total, "start_frame_index": start}));
    let mut results = Map::new();
    let mut failed = false;
    let frames = ReceiverStream::new(frames)
        .map(Some)
        .chain(tokio_stream::once(None));
    let progress = frames.filter_map(move |frame| match frame {
        Some(Ok(found)) => {
            let masks: Vec<Shape> = found
                .objects
                .iter()
                .flat_map(|object| shapes(object, None))
                .collect();
            results.insert(found.index.to_string(), json!({"masks": masks}));
            let done = results.len();
            Some(data(json!({
                "type": "progress", "current_frame": found.index, "total_frames": total,
                "progress": done as f64 / total.max(1) as f64,
            })))
        }
        Some(Err(problem)) => {
            failed = true;
            Some(data(json!({"type": "error", "message": problem.line()})))
        }
        None if failed => None,
        None => Some(data(
            json!({"type": "completed", "results": std::mem::take(&mut results)}),
        )),
    });
    let mut response = stream(tokio_stream::once(started).chain(progress));
    // Without a character set the tool's library takes text for Latin-1.
    let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Ends a session.
pub(crate) async fn cleanup(State(app): State<Arc<App>>, UrlPath(id): UrlPath<String>) -> Response {
    let removed = app.videos.remove(&id).await;
    answer(removed.map(|()| success(json!({"session_id": id})).into_response()))
}
