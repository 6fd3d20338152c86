//! The protocol of X-AnyLabeling's remote server: `GET /v1/models` and `POST /v1/predict`.
//!
//! Facts: `anylabeling/services/auto_labeling/remote_server.py` of X-AnyLabeling, and the documents of
//! X-AnyLabeling-Server.

use std::sync::Arc;

use axum::Json as Answer;
use axum::response::{IntoResponse, Response};
use samara::{Candidates, Intent, Mask, MaskGeneratorOptions, OutputMode, Zoom};
use samara_image::Ring;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{best, large_parts, objects};
use crate::app::App;
use crate::ask::ask;
use crate::blocking::blocking;
use crate::body::parse_value;
use crate::bounded::Bounded;
use crate::error::{Problem, Result};
use crate::images::Image;
use crate::masks::MaskStyle;
use crate::models::LoadedModel;
use crate::prompts::{PromptRequest, PromptedImage};

/// The label of a shape that the user has not named yet: the next answer takes its place.
const UNNAMED: &str = "AUTOLABEL_OBJECT";
/// A model that is listed for videos is called so beside its name.
pub(super) const VIDEO: &str = " (video)";
/// How far a polygon leaves the mask, as a share of its length, if the request does not say.
const EPSILON_FACTOR: f64 = 0.001;

/// A request of X-AnyLabeling: other than a native one it has `params`, and the image as text.
#[derive(Debug, Deserialize)]
pub(crate) struct PredictRequest {
    #[serde(default)]
    model: Option<String>,
    image: String,
    #[serde(default)]
    params: Option<Params>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Params {
    marks: Option<Bounded<Mark, 4096>>,
    text_prompt: Option<String>,
    pub(super) epsilon_factor: Option<f64>,
}

/// What the user has drawn, in pixels; what `data` is depends on the type.
#[derive(Debug, Deserialize)]
struct Mark {
    #[serde(rename = "type")]
    kind: String,
    data: Option<Box<RawValue>>,
    label: Option<f64>,
}

impl Mark {
    fn numbers<const N: usize>(&self) -> Result<[f64; N]> {
        let text = self.data.as_ref().map_or("null", |data| data.get());
        let numbers = parse_value::<Bounded<f64, 4>>(text.as_bytes());
        let numbers = numbers.map_err(|e| e.about("data"))?.0;
        let wrong = |_| Problem::field("data", format!("{N} numbers are expected"));
        numbers.try_into().map_err(wrong)
    }
}

/// A shape on the canvas.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the tool calls it so")]
pub(super) struct Shape {
    label: &'static str,
    shape_type: &'static str,
    points: Vec<[f64; 2]>,
    group_id: Option<u32>,
    score: Option<f32>,
    description: &'static str,
    difficult: bool,
    direction: f64,
    flags: Value,
    attributes: Value,
    kie_linking: [Value; 0],
}

impl Shape {
    /// The parts of a mask, which share a group. Holes cannot be said.
    pub(super) fn of_mask(
        mask: &Mask,
        score: f32,
        group: Option<u32>,
        epsilon_factor: Option<f64>,
    ) -> Vec<Self> {
        let large = large_parts(mask);
        let group = if large.len() > 1 {
            group.or(Some(1))
        } else {
            group
        };
        let factor = epsilon_factor.unwrap_or(EPSILON_FACTOR).clamp(0.0, 0.1);
        let shapes = large.iter().filter_map(|part| {
            let ring = part.outer.simplify(factor * length(&part.outer));
            let mut points: Vec<[f64; 2]> = ring.points.iter().map(|p| [p.x, p.y]).collect();
            if points.len() < 3 {
                return None;
            }
            // A polygon is closed for the tool if it ends where it begins.
            points.push(points[0]);
            Some(Self::polygon(points, score, group))
        });
        shapes.collect()
    }

    fn polygon(points: Vec<[f64; 2]>, score: f32, group_id: Option<u32>) -> Self {
        Self {
            label: UNNAMED,
            shape_type: "polygon",
            points,
            group_id,
            score: Some(score).filter(|score| score.is_finite()),
            description: "",
            difficult: false,
            direction: 0.0,
            flags: json!({}),
            attributes: json!({}),
            kie_linking: [],
        }
    }
}

fn length(ring: &Ring) -> f64 {
    let points = &ring.points;
    let next = points.iter().cycle().skip(1);
    points
        .iter()
        .zip(next)
        .map(|(a, b)| (a.x - b.x).hypot(a.y - b.y))
        .sum()
}

/// The loaded models, by id.
pub(crate) fn models(app: &App) -> Value {
    let widget = |name: &str| json!({"name": name, "value": null});
    let drawing = ["button_add_point", "button_remove_point"].map(widget);
    let ending = ["button_clear", "button_finish_object"].map(widget);
    let fineness = [
        json!({"name": "mask_fineness_slider", "value": 10}),
        json!({"name": "mask_fineness_value_label", "value": null}),
        // An error must not take shapes away: the tool replaces them by nothing otherwise.
        json!({"name": "toggle_preserve_existing_annotations", "value": true}),
    ];
    let entry = |name: String, more: &[Value], mode: Value| {
        let widgets: Vec<&Value> = drawing
            .iter()
            .chain(more)
            .chain(&ending)
            .chain(&fineness)
            .collect();
        json!({
            "display_name": format!("Samara {name}"),
            "widgets": widgets,
            "batch_processing_mode": mode,
            "params": {},
            "capabilities": {},
        })
    };
    let mut all = serde_json::Map::new();
    for model in app.models.all() {
        let image = [
            widget("button_add_rect"),
            widget("button_segment_everything"),
        ];
        all.insert(
            model.name.clone(),
            entry(model.name.clone(), &image, Value::Null),
        );
        let video = format!("{}{VIDEO}", model.name);
        all.insert(
            video.clone(),
            entry(video, &[widget("button_run")], json!("video")),
        );
    }
    Value::Object(all)
}

/// The model of an id.
pub(super) fn model(app: &App, id: Option<&str>) -> Result<Arc<LoadedModel>> {
    app.models
        .get(id.map(|id| id.strip_suffix(VIDEO).unwrap_or(id)))
}

/// An answer as the tool expects it.
pub(super) fn success(data: impl Serialize) -> Response {
    Answer(json!({"success": true, "data": data})).into_response()
}

/// An error as the tool expects it, which it shows if it is the reason phrase.
pub(super) fn failure(problem: &Problem) -> Response {
    let code = problem
        .status()
        .canonical_reason()
        .unwrap_or("Error")
        .to_uppercase()
        .replace([' ', '-'], "_");
    let body = json!({"success": false, "error": {"code": code, "message": problem.line(), "details": null}});
    problem.told(Answer(body))
}

/// Whether a request is one of the tool: native ones have no `params`.
pub(crate) fn is_request(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Probe {
        #[serde(default, deserialize_with = "is_there")]
        params: bool,
    }
    fn is_there<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<bool, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
    }
    serde_json::from_slice::<Probe>(body).is_ok_and(|probe| probe.params)
}

/// Answers marks with shapes.
pub(crate) async fn predict(app: &Arc<App>, request: Result<PredictRequest>) -> Response {
    let answered = match request {
        Ok(request) => app.in_time(None, request.shapes(app)).await,
        Err(problem) => Err(problem),
    };
    match answered {
        Ok(shapes) => success(json!({"shapes": shapes, "description": "", "replace": false})),
        Err(problem) => failure(&problem),
    }
}

impl PredictRequest {
    async fn shapes(self, app: &Arc<App>) -> Result<Vec<Shape>> {
        let model = model(app, self.model.as_deref())?;
        let params = self.params.unwrap_or_default();
        let marks = params.marks.unwrap_or_default().0;
        if marks.is_empty() {
            return match params.text_prompt.filter(|text| !text.trim().is_empty()) {
                Some(_) => Err(Problem::field(
                    "params.text_prompt",
                    "Samara takes points and boxes, no text",
                )),
                // What the tool asks of every picture of a batch.
                None => Ok(Vec::new()),
            };
        }
        let image = app.images.add_base64(self.image).await;
        let image = image.map_err(|e| e.about("image"))?;
        let factor = params.epsilon_factor;
        if marks.iter().any(|mark| mark.kind == "auto_grid") {
            return everything(app, &model, image, factor).await;
        }
        let info = Arc::clone(&image.info);
        let of = PromptedImage::from(&*info);
        let prompts = prompts(&marks)?.into_iter();
        let prompts = prompts.map(|prompt| prompt.prompt(&of, &app.answers, Intent::default()));
        let prompts = prompts.collect::<Result<_>>()?;
        let show = move |candidates: &Candidates| {
            let chosen = best(candidates)?;
            let score = chosen.predicted_iou.map_or(1.0, |iou| iou.0);
            Ok(Shape::of_mask(&chosen.mask, score, None, factor))
        };
        let (mut objects, _) = ask(app, &model, image, prompts, Zoom::Off, show).await?;
        if objects.len() > 1 {
            for (shapes, group) in objects.iter_mut().zip(1..) {
                shapes
                    .iter_mut()
                    .for_each(|shape| shape.group_id = Some(group));
            }
        }
        Ok(objects.into_iter().flatten().collect())
    }
}

/// What was drawn, as prompts.
fn prompts(marks: &[Mark]) -> Result<Vec<PromptRequest>> {
    let mut points = Vec::new();
    let mut boxes = Vec::new();
    for (index, mark) in marks.iter().enumerate() {
        let about = |e: Problem| e.about(format!("params.marks[{index}]"));
        match &*mark.kind {
            "point" => {
                let [x, y] = mark.numbers().map_err(about)?;
                points.push([x, y, mark.label.unwrap_or(1.0)]);
            }
            "rectangle" => boxes.push(mark.numbers().map_err(about)?),
            _ => {}
        }
    }
    Ok(objects(&points, &boxes))
}

async fn everything(
    app: &Arc<App>,
    model: &Arc<LoadedModel>,
    image: Image,
    factor: Option<f64>,
) -> Result<Vec<Shape>> {
    let options = MaskGeneratorOptions::default().with_output_mode(OutputMode::CocoRle);
    let job = app.jobs.everything(
        model,
        &app.embeddings,
        &app.images,
        &image.info,
        options,
        MaskStyle::default(),
    )?;
    let _stop = job.stopped_when_dropped();
    let mut progress = job.progress.subscribe();
    let _ = progress.wait_for(crate::jobs::Progress::is_end).await;
    let result = job.result()?;
    blocking(move || {
        let shapes = result
            .each_mask()
            .enumerate()
            .map(|(index, (mask, score))| {
                Ok(Shape::of_mask(
                    &mask?,
                    score,
                    Some(index as u32 + 1),
                    factor,
                ))
            });
        Ok(shapes
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect())
    })
    .await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polygon_ends_where_it_begins_and_specks_are_left_out() {
        let mask = Mask::from_fn(60, 40, |x, y| {
            (5..45).contains(&x) && (5..35).contains(&y) || x == 55 && y == 2
        });
        let shapes = Shape::of_mask(&mask, 0.9, None, None);
        assert_eq!(shapes.len(), 1);
        assert_eq!(shapes[0].points.first(), shapes[0].points.last());
        assert_eq!(shapes[0].points.len(), 5);
        assert_eq!(shapes[0].group_id, None);
    }

    #[test]
    fn parts_of_one_object_share_a_group() {
        let mask = Mask::from_fn(60, 40, |x, _| x % 30 < 20);
        let groups: Vec<_> = Shape::of_mask(&mask, 0.9, None, None)
            .iter()
            .map(|s| s.group_id)
            .collect();
        assert_eq!(groups, [Some(1), Some(1)]);
    }

    #[test]
    fn native_requests_are_none_of_these() {
        let native = r#"{"image": {"id": "a"}, "prompts": []}"#;
        assert!(!is_request(native.as_bytes()));
        let request = r#"{"model": "lite", "image": "data:image/png;base64,AA==",
            "params": {"marks": [{"type": "point", "data": [1, 2], "label": 1}], "epsilon_factor": 0.001,
            "conf_threshold": 0.0, "reset_tracker": true}}"#;
        assert!(is_request(request.as_bytes()));
        let request: PredictRequest = serde_json::from_str(request).unwrap();
        assert_eq!(request.params.unwrap().marks.unwrap().0.len(), 1);
    }
}
