//! What CVAT asks of the dashboard of Nuclio: its functions, and their invocation.
//!
//! Facts: `cvat/apps/lambda_manager/views.py`. Two functions for each model: an interactor, and a tracker.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use samara::{Candidates, Intent, Mask, Zoom};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::{best, objects, score};
use crate::app::App;
use crate::ask::ask;
use crate::body::{Json, UrlPath};
use crate::bounded::Bounded;
use crate::error::{Problem, Result};
use crate::images::Image;
use crate::models::LoadedModel;
use crate::owner::Urgency;
use crate::prompts::{PromptRequest, PromptedImage};
use crate::tracks::{Track, TrackState};

/// Names of functions begin so.
const PREFIX: &str = "samara-";
/// Those of trackers end so.
const TRACKER: &str = "-tracker";
/// From this version on CVAT draws shapes, which are smaller than masks of the whole image.
const DRAWS_SHAPES: (u32, u32) = (2, 70);

/// An error that CVAT shows: it shows nothing but the reason phrase.
fn failure(problem: &Problem) -> Response {
    problem.told(Answer(json!({"error": problem.line()})))
}

fn function(model: &str, is_tracker: bool, port: u16) -> (String, Value) {
    let name = if is_tracker {
        format!("{PREFIX}{model}{TRACKER}")
    } else {
        format!("{PREFIX}{model}")
    };
    let mut annotations = json!({
        "name": if is_tracker { format!("Samara {model} tracker") } else { format!("Samara {model}") },
        "type": if is_tracker { "tracker" } else { "interactor" },
        "framework": "samara",
        "spec": "",
    });
    if !is_tracker {
        annotations["version"] = json!("2");
        annotations["min_pos_points"] = json!("0");
        annotations["min_neg_points"] = json!("0");
        annotations["startswith_box_optional"] = json!("true");
        annotations["help_message"] =
            json!("Click on the object, click with the right button beside it, or draw a box");
    }
    let description = if is_tracker {
        "Follows objects from frame to frame"
    } else {
        "Masks for clicks and boxes"
    };
    let function = json!({
        "metadata": {
            "name": name,
            "namespace": "nuclio",
            "labels": {"nuclio.io/project-name": "cvat"},
            "annotations": annotations,
        },
        "spec": {"description": description},
        "status": {"state": "ready", "httpPort": port},
    });
    (name, function)
}

fn all_functions(app: &App) -> Map<String, Value> {
    let port = app.config.listen.port();
    let models = app.models.all();
    let both = models
        .iter()
        .flat_map(|model| [false, true].map(|tracker| function(&model.name, tracker, port)));
    both.collect()
}

/// Lists the functions.
pub(crate) async fn functions(State(app): State<Arc<App>>) -> Response {
    Answer(Value::Object(all_functions(&app))).into_response()
}

/// Describes a function.
pub(crate) async fn describe(
    State(app): State<Arc<App>>,
    UrlPath(name): UrlPath<String>,
) -> Response {
    match all_functions(&app).remove(&name) {
        Some(function) => Answer(function).into_response(),
        None => failure(&Problem::not_found(format!(
            "there is no function {name:?}"
        ))),
    }
}

/// Points as CVAT sends them.
type Points = Bounded<[f64; 2], 4096>;

/// What CVAT sends to a function; which one is told by its name, or by the fields.
#[derive(Debug, Deserialize)]
pub(crate) struct Payload {
    image: String,
    #[serde(default)]
    pos_points: Option<Points>,
    #[serde(default)]
    neg_points: Option<Points>,
    /// Two corners for each box.
    #[serde(default)]
    obj_bbox: Option<Points>,
    #[serde(default)]
    shapes: Option<Bounded<Option<TrackedShape>, 4096>>,
    #[serde(default)]
    states: Option<Bounded<Option<TrackState>, 4096>>,
}

/// A rectangle as its corners, or as an object with its type.
#[derive(Debug, Clone)]
struct TrackedShape {
    points: Bounded<f64, 4096>,
}

impl<'de> Deserialize<'de> for TrackedShape {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = TrackedShape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the corners of a rectangle")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, points: A) -> Result<TrackedShape, A::Error> {
                let points = Bounded::deserialize(SeqAccessDeserializer::new(points))?;
                Ok(TrackedShape { points })
            }

            fn visit_map<A: MapAccess<'de>>(self, shape: A) -> Result<TrackedShape, A::Error> {
                #[derive(Deserialize)]
                struct Typed {
                    points: Bounded<f64, 4096>,
                }
                let Typed { points } = Typed::deserialize(MapAccessDeserializer::new(shape))?;
                Ok(TrackedShape { points })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Invokes the function that a header names, or that the fields fit.
pub(crate) async fn invoke(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    request: Result<Json<Payload>>,
) -> Response {
    let answered = async {
        let Json(mut payload) = request?;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let (model, is_tracker) = match text("x-nuclio-function-name") {
            Some(name) => {
                let unknown = || Problem::not_found(format!("there is no function {name:?}"));
                let model = name.strip_prefix(PREFIX).ok_or_else(unknown)?;
                let tracked = model.strip_suffix(TRACKER);
                (
                    app.models
                        .get(Some(tracked.unwrap_or(model)))
                        .map_err(|_| unknown())?,
                    tracked.is_some(),
                )
            }
            None => (app.models.get(None)?, payload.states.is_some()),
        };
        let image = app
            .images
            .add_base64(std::mem::take(&mut payload.image))
            .await;
        let image = image.map_err(|e| e.about("image"))?;
        if is_tracker {
            app.in_time(None, payload.track(&app, &model, image)).await
        } else {
            let version = text(header::USER_AGENT.as_str()).and_then(cvat_version);
            let shapes = version.is_some_and(|version| version >= DRAWS_SHAPES);
            app.in_time(None, payload.interact(&app, &model, image, shapes))
                .await
        }
    };
    answered.await.unwrap_or_else(|problem| failure(&problem))
}

/// The version in CVAT's user agent, `CVAT/2.70.0 …`.
fn cvat_version(agent: &str) -> Option<(u32, u32)> {
    let mut numbers = agent.strip_prefix("CVAT/")?.split(['.', ' ', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// A mask as rows of 0 and 255.
struct Rows<'a>(&'a Mask);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(Some(self.0.height() as usize))?;
        let mut row = vec![0u8; self.0.width() as usize];
        for y in 0..self.0.height() {
            let pixels = row.iter_mut().zip(0..);
            pixels.for_each(|(pixel, x)| *pixel = if self.0.get(x, y) { 255 } else { 0 });
            rows.serialize_element(&row)?;
        }
        rows.end()
    }
}

/// A mask for CVAT until 2.69.
#[derive(Serialize)]
struct MaskAnswer<'a> {
    mask: Rows<'a>,
    /// Its largest part as a polygon; none for an empty mask, which CVAT then does not draw.
    points: Vec<[f64; 2]>,
}

impl<'a> MaskAnswer<'a> {
    fn new(mask: &'a Mask) -> Self {
        let parts = mask.to_polygons();
        let largest = parts.iter().max_by(|a, b| a.area().total_cmp(&b.area()));
        let points = largest
            .map(|part| part.outer.simplify(1.0).points)
            .unwrap_or_default();
        Self {
            mask: Rows(mask),
            points: points.iter().map(|p| [p.x, p.y]).collect(),
        }
    }
}

/// A mask as CVAT keeps it: run lengths of its box, row by row, from unset pixels on; then left, top, right, bottom.
fn run_lengths(mask: &Mask) -> Vec<u32> {
    let Some(bbox) = mask.bbox() else {
        return Vec::new();
    };
    let [left, top, right, bottom] = bbox.xyxy_inclusive();
    let mut runs = vec![0];
    let mut set = false;
    for y in top..=bottom {
        for x in left..=right {
            if mask.get(x, y) != set {
                set = !set;
                runs.push(0);
            }
            if let Some(run) = runs.last_mut() {
                *run += 1;
            }
        }
    }
    runs.extend([left, top, right, bottom]);
    runs
}

impl Payload {
    /// One object, or one for each box if there are several.
    fn prompts(&self) -> Result<Vec<PromptRequest>> {
        let labelled = |points: &Option<Points>, label| {
            let points = points.as_ref().map_or(&[][..], |list| &list.0).iter();
            points.map(move |&[x, y]| [x, y, label]).collect::<Vec<_>>()
        };
        let mut points = labelled(&self.pos_points, 1.0);
        points.extend(labelled(&self.neg_points, 0.0));
        let (boxes, rest) = self
            .obj_bbox
            .as_ref()
            .map_or(&[][..], |list| &list.0)
            .as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Problem::field("obj_bbox", "two corners make a box"));
        }
        let boxes = boxes.iter().map(|&[[x0, y0], [x1, y1]]| [x0, y0, x1, y1]);
        Ok(objects(&points, &boxes.collect::<Vec<_>>()))
    }

    async fn interact(
        self,
        app: &Arc<App>,
        model: &Arc<LoadedModel>,
        image: Image,
        shapes: bool,
    ) -> Result<Response> {
        let info = Arc::clone(&image.info);
        let of = PromptedImage::from(&*info);
        let prompts = self.prompts()?.into_iter();
        let prompts = prompts.map(|prompt| prompt.prompt(&of, &app.answers, Intent::default()));
        let prompts = prompts.collect::<Result<_>>()?;
        if shapes {
            let show = |candidates: &Candidates| {
                let chosen = best(candidates)?;
                let confidence = score(&chosen);
                Ok((!chosen.mask.is_empty()).then(|| {
                    json!({
                        "type": "mask",
                        "points": run_lengths(&chosen.mask),
                        "attributes": [{"spec_id": 0, "value": format!("{confidence:.2}")}],
                    })
                }))
            };
            let (shapes, _) = ask(app, model, image, prompts, Zoom::Off, show).await?;
            let shapes: Vec<Value> = shapes.into_iter().flatten().collect();
            return Ok(Answer(json!({"shapes": shapes})).into_response());
        }
        let show = |candidates: &Candidates| Ok(best(candidates)?.mask.to_rle());
        let (masks, _) = ask(app, model, image, prompts, Zoom::Off, show).await?;
        let mut mask = Mask::new(info.width, info.height);
        for one in &masks {
            mask = mask.or(&one.to_mask()?)?;
        }
        Ok((StatusCode::OK, Answer(MaskAnswer::new(&mask))).into_response())
    }
}

impl Payload {
    async fn track(
        self,
        app: &Arc<App>,
        model: &Arc<LoadedModel>,
        image: Image,
    ) -> Result<Response> {
        let states = self.states.unwrap_or_default().0;
        let shapes = self.shapes.unwrap_or_default().0;
        let count = states.len().max(shapes.len());
        let most = app.config.limits.prompts;
        if count > most {
            return Err(Problem::field(
                "shapes",
                format!("{count} objects: at most {most}"),
            ));
        }
        let mut tracks = Vec::with_capacity(count);
        for index in 0..count {
            let begun = states.get(index).copied().flatten();
            tracks.push(match (begun, shapes.get(index).cloned().flatten()) {
                (Some(state), _) => Step::Continue(app.tracks.find(state)?, state),
                (None, Some(shape)) => {
                    Step::Begin(corners(&shape).map_err(|e| e.about(format!("shapes[{index}]")))?)
                }
                (None, None) => {
                    return Err(Problem::field(
                        format!("shapes[{index}]"),
                        "a shape or a state is expected",
                    ));
                }
            });
        }
        let cancelled = CancellationToken::new();
        let _cancel = cancelled.clone().drop_guard();
        let app = Arc::clone(app);
        let work = model
            .owner
            .run(Urgency::Embedding, cancelled, move |model, pause| {
                // An embedding is one of a numbered frame; objects that began together share it.
                let mut frames: Vec<samara::VideoFrame> = Vec::new();
                let mut found = Vec::with_capacity(tracks.len());
                for step in tracks {
                    let number = step.frame();
                    if !frames.iter().any(|frame| frame.index() == number)
                        && !step.is_repeated(&image)
                    {
                        let mut between = || pause.take();
                        frames.push(model.embed_frame(number, &image.pixels, &mut between)?);
                    }
                    let frame = frames.iter().find(|frame| frame.index() == number);
                    found.push(match step {
                        Step::Begin(bbox) => {
                            app.tracks.begin(model.segmenter(), frame, bbox, &image)?
                        }
                        Step::Continue(track, state) => {
                            let mut track = track.lock().unwrap_or_else(PoisonError::into_inner);
                            track.go_on(frame, state, &image)?
                        }
                    });
                }
                Ok(found)
            });
        let (shapes, states): (Vec<[f64; 4]>, Vec<TrackState>) = work.await?.into_iter().unzip();
        Ok(Answer(json!({"shapes": shapes, "states": states})).into_response())
    }
}

/// What is done for one object.
enum Step {
    Begin([f64; 4]),
    Continue(Arc<Mutex<Track>>, TrackState),
}

impl Step {
    fn frame(&self) -> usize {
        match self {
            Self::Begin(_) => 0,
            Self::Continue(_, state) => state.frames,
        }
    }

    fn is_repeated(&self, image: &Image) -> bool {
        match self {
            Self::Begin(_) => false,
            Self::Continue(track, state) => {
                let track = track.lock().unwrap_or_else(PoisonError::into_inner);
                track.is_repeated(*state, image)
            }
        }
    }
}

/// The box of a shape: of any points, the smallest around them.
fn corners(shape: &TrackedShape) -> Result<[f64; 4]> {
    let points = &shape.points.0;
    let (pairs, rest) = points.as_chunks::<2>();
    if pairs.len() < 2 || !rest.is_empty() || points.iter().any(|p| !p.is_finite()) {
        return Err(Problem::field(
            "",
            "the corners of a rectangle are expected",
        ));
    }
    let start = [
        f64::INFINITY,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NEG_INFINITY,
    ];
    Ok(pairs.iter().fold(start, |[x0, y0, x1, y1], &[x, y]| {
        [x0.min(x), y0.min(y), x1.max(x), y1.max(y)]
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_those_of_the_box() {
        let mask = Mask::from_fn(6, 4, |x, y| {
            (1..4).contains(&x) && (1..3).contains(&y) && (x, y) != (1, 1)
        });
        assert_eq!(run_lengths(&mask), [1, 5, 1, 1, 3, 2]);
        assert!(run_lengths(&Mask::new(3, 3)).is_empty());
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(
            cvat_version("CVAT/2.70.1 python-requests/2.32"),
            Some((2, 70))
        );
        assert_eq!(cvat_version("CVAT/2.15-alpha"), Some((2, 15)));
        assert_eq!(cvat_version("curl/8"), None);
    }

    #[test]
    fn an_empty_mask_has_no_points() {
        let text = serde_json::to_string(&MaskAnswer::new(&Mask::new(2, 2))).unwrap();
        assert_eq!(text, r#"{"mask":[[0,0],[0,0]],"points":[]}"#);
    }

    #[test]
    fn corners_are_in_any_order() {
        let corners = |json: &str| {
            let shape: TrackedShape = serde_json::from_str(json).map_err(Problem::internal)?;
            corners(&shape)
        };
        assert_eq!(corners("[9, 8, 1, 2]").unwrap(), [1.0, 2.0, 9.0, 8.0]);
        let typed = r#"{"type": "rectangle", "points": [9, 8, 1, 2]}"#;
        assert_eq!(corners(typed).unwrap(), [1.0, 2.0, 9.0, 8.0]);
        corners("[1, 2]").unwrap_err();
        corners("[1, 2, 3]").unwrap_err();
        corners("7").unwrap_err();
    }
}
