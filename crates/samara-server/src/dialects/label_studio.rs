//! The protocol of Label Studio's machine learning backends: `/setup`, `/predict`, `/webhook`, `/versions`.
//!
//! Facts: `label_studio/ml/api_connector.py`, and `label_studio_ml/api.py`. `/health` is that of the server.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use samara::{Candidates, Intent, Mask, Prompt};
use samara_image::polygons_to_mask;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::labeling_config::{Kind, Target};
use super::{best, brush_rle};
use crate::app::App;
use crate::ask::ask;
use crate::blocking::blocking;
use crate::body::Json;
use crate::bounded::Bounded;
use crate::error::{Problem, Result};
use crate::images::{Image, ImageInfo, decode_base64};
use crate::models::LoadedModel;
use crate::prompts::{PromptRequest, PromptedImage, with_logits};

/// Region types that prompt.
const PROMPTS: [&str; 4] = ["keypoint", "rectangle", "brush", "polygon"];

/// Tasks, and what the user has drawn in an interactive request.
#[derive(Debug, Deserialize)]
pub(crate) struct PredictBody {
    tasks: Bounded<Task, 1000>,
    label_config: Option<String>,
    #[serde(default)]
    params: Option<Params>,
}

#[derive(Debug, Default, Deserialize)]
struct Params {
    context: Option<Context>,
}

#[derive(Debug, Deserialize)]
struct Context {
    /// Left out by requests that prepare for clicks.
    result: Option<Bounded<Region, 4096>>,
}

#[derive(Debug, Deserialize)]
struct Task {
    id: Option<u64>,
    data: serde_json::Map<String, Value>,
    #[serde(default)]
    annotations: Option<Vec<Annotation>>,
}

#[derive(Debug, Deserialize)]
struct Annotation {
    #[serde(default)]
    result: Bounded<Region, 4096>,
}

/// A region of an image; all numbers are percent of its width or height.
#[derive(Debug, Clone, Deserialize)]
struct Region {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    value: serde_json::Map<String, Value>,
    is_positive: Option<bool>,
}

impl Region {
    /// `keypoint`, `rectangle`, … with and without labels.
    fn shape(&self) -> &str {
        self.kind.strip_suffix("labels").unwrap_or(&self.kind)
    }

    fn label(&self) -> Option<&str> {
        let labels = self
            .value
            .get(&self.kind)
            .or_else(|| self.value.get("labels"));
        labels?.as_array()?.first()?.as_str()
    }

    /// Whether a click is beside the object.
    fn is_negative(&self) -> bool {
        let of_value = || self.value.get("positive").and_then(Value::as_bool);
        self.is_positive.or_else(of_value) == Some(false)
    }

    fn number(&self, key: &str) -> Result<f64> {
        let number = self.value.get(key).and_then(Value::as_f64);
        number.ok_or_else(|| {
            Problem::field(format!("value.{key}"), "a number of percent is expected")
        })
    }
}

/// What is sent and not read.
#[derive(Debug, Deserialize)]
pub(crate) struct Anything {}

/// What the backend calls itself and its weights.
fn model_version(model: &LoadedModel) -> String {
    format!("samara-{}-{}", model.name, &model.fingerprint[..12])
}

/// An error that Label Studio shows: it shows nothing but the reason phrase.
fn failure(problem: &Problem) -> Response {
    problem.told(Answer(json!({"detail": problem.detail()})))
}

/// Greets a project.
pub(crate) async fn setup(
    State(app): State<Arc<App>>,
    request: Result<Json<Anything>>,
) -> Response {
    match request.and_then(|_| app.models.get(None)) {
        Ok(model) => Answer(json!({"model_version": model_version(&model)})).into_response(),
        Err(problem) => failure(&problem),
    }
}

/// Hears of annotations, of which nothing is learned.
pub(crate) async fn webhook(request: Result<Json<Anything>>) -> Response {
    match request {
        Ok(_) => Answer(json!({"status": "ok"})).into_response(),
        Err(problem) => failure(&problem),
    }
}

/// The versions of the model.
pub(crate) async fn versions(State(app): State<Arc<App>>) -> Response {
    let models = app.models.all();
    let versions: Vec<String> = models.iter().map(|model| model_version(model)).collect();
    Answer(json!({"versions": versions})).into_response()
}

/// Answers what the user has drawn with a mask; without that, the boxes of annotations.
pub(crate) async fn predict(
    State(app): State<Arc<App>>,
    request: Result<Json<PredictBody>>,
) -> Response {
    let answered = match request {
        Ok(Json(request)) => app.in_time(None, request.answer(&app)).await,
        Err(problem) => Err(problem),
    };
    match answered {
        Ok(results) => (StatusCode::OK, Answer(json!({"results": results}))).into_response(),
        Err(problem) => failure(&problem),
    }
}

impl PredictBody {
    async fn answer(self, app: &Arc<App>) -> Result<Vec<Value>> {
        let model = app.models.get(None)?;
        let config = self.label_config.as_deref().unwrap_or_default();
        let context = self.params.and_then(|params| params.context);
        let is_interactive = context.is_some();
        let mut results = Vec::with_capacity(self.tasks.0.len());
        let drawn = context
            .and_then(|context| context.result)
            .unwrap_or_default()
            .0;
        for (index, task) in self.tasks.0.iter().enumerate() {
            let prompts = if is_interactive {
                Drawn::of_interaction(&drawn)
            } else {
                Drawn::of_annotations(task.annotations.as_deref().unwrap_or_default())
            };
            let mut regions = Vec::new();
            if !prompts.is_empty() {
                let target = Target::of(config)?;
                let image = task
                    .image(app, &target)
                    .await
                    .map_err(|e| e.about(format!("tasks[{index}]")))?;
                regions = answer_all(app, &model, &target, image, prompts).await?;
            } else if !is_interactive {
                // No prediction, rather than an empty one that would be shown.
                results.push(json!([]));
                continue;
            }
            let scores = regions
                .iter()
                .filter_map(|region: &Value| region["score"].as_f64());
            let score = scores.fold(None, |lowest: Option<f64>, s| {
                Some(lowest.map_or(s, |l| l.min(s)))
            });
            results.push(json!({
                "result": regions,
                "score": score.unwrap_or(0.0).clamp(0.0, 1.0),
                "model_version": model_version(&model),
            }));
        }
        Ok(results)
    }
}

impl Task {
    async fn image(&self, app: &Arc<App>, target: &Target) -> Result<Image> {
        let key = &target.data_key;
        let about = |e: Problem| e.about(format!("data.{key}"));
        let text = self.data.get(key).and_then(Value::as_str);
        let text = text.ok_or_else(|| about(Problem::field("", "the image is expected here")))?;
        let file = if text.starts_with("data:") {
            decode_base64(text)
        } else {
            app.images.fetch_for_label_studio(text, self.id).await
        };
        app.images.add(file.map_err(about)?).await.map_err(about)
    }
}

/// What the user has drawn for one object.
struct Drawn {
    regions: Vec<Region>,
}

impl Drawn {
    /// All that is drawn is of one object. Negative clicks alone say nothing of where it is.
    fn of_interaction(regions: &[Region]) -> Vec<Self> {
        let prompts = regions
            .iter()
            .filter(|region| PROMPTS.contains(&region.shape()));
        let regions: Vec<Region> = prompts.cloned().collect();
        if regions.iter().any(|region| !region.is_negative()) {
            vec![Self { regions }]
        } else {
            Vec::new()
        }
    }

    /// Each box of the last annotation is an object.
    fn of_annotations(annotations: &[Annotation]) -> Vec<Self> {
        let regions = annotations
            .last()
            .map(|annotation| &annotation.result.0[..])
            .unwrap_or_default();
        let boxes = regions
            .iter()
            .filter(|region| region.shape() == "rectangle");
        boxes
            .map(|region| Self {
                regions: vec![region.clone()],
            })
            .collect()
    }

    fn label(&self) -> Option<&str> {
        self.regions.iter().find_map(Region::label)
    }

    fn prompt(&self, app: &App, image: &ImageInfo) -> Result<Prompt> {
        let of = PromptedImage::from(image);
        let (width, height) = of.size;
        let (w, h) = (f64::from(width), f64::from(height));
        // A click on the border is one on the last pixel.
        let inside = |percent: f64, size: f64| (percent / 100.0 * size).clamp(0.0, size - 1e-3);
        let (mut points, mut bbox, mut mask) = (Vec::new(), None, None::<Mask>);
        for region in &self.regions {
            let at = |key: &str, size: f64| Ok::<f64, Problem>(region.number(key)? / 100.0 * size);
            match region.shape() {
                "keypoint" => {
                    let label = if region.is_negative() { 0.0 } else { 1.0 };
                    points.push([
                        inside(region.number("x")?, w),
                        inside(region.number("y")?, h),
                        label,
                    ]);
                }
                "rectangle" => {
                    let (x, y) = (at("x", w)?, at("y", h)?);
                    bbox = Some([x, y, x + at("width", w)?, y + at("height", h)?]);
                }
                "brush" => {
                    let bytes = region.value.get("rle").cloned().unwrap_or_default();
                    let bytes: Vec<u8> = serde_json::from_value(bytes)
                        .map_err(|_| Problem::field("value.rle", "a list of bytes is expected"))?;
                    let drawn = brush_rle::decode(&bytes, width, height)?;
                    mask = Some(mask.map_or(Ok(drawn.clone()), |mask| mask.or(&drawn))?);
                }
                _ => {
                    let drawn = polygon(region, width, height)?;
                    mask = Some(mask.map_or(Ok(drawn.clone()), |mask| mask.or(&drawn))?);
                }
            }
        }
        let prompt =
            PromptRequest::new(points, bbox).prompt(&of, &app.answers, Intent::default())?;
        Ok(match mask {
            Some(mask) => prompt.with_mask(mask),
            None => prompt,
        })
    }
}

fn polygon(region: &Region, width: u32, height: u32) -> Result<Mask> {
    let points = region.value.get("points").cloned().unwrap_or_default();
    let points: Vec<[f64; 2]> = serde_json::from_value(points)
        .map_err(|_| Problem::field("value.points", "a list of [x, y] in percent is expected"))?;
    let (w, h) = (f64::from(width), f64::from(height));
    let flat: Vec<f64> = points
        .iter()
        .flat_map(|[x, y]| [x / 100.0 * w, y / 100.0 * h])
        .collect();
    let outer =
        samara_image::Ring::from_coco(&flat).map_err(|e| Problem::field("value.points", e))?;
    let polygon = samara_image::Polygon {
        outer,
        holes: Vec::new(),
    };
    Ok(polygons_to_mask(&[polygon], width, height)?)
}

async fn answer_all(
    app: &Arc<App>,
    model: &Arc<LoadedModel>,
    target: &Target,
    image: Image,
    drawn: Vec<Drawn>,
) -> Result<Vec<Value>> {
    let info = Arc::clone(&image.info);
    let labels: Vec<_> = drawn
        .iter()
        .map(|drawn| target.label(drawn.label()))
        .collect();
    let prompts = {
        let _turn = app.images.decoder().await;
        let (app, model, info) = (Arc::clone(app), Arc::clone(model), Arc::clone(&info));
        let prompt =
            move |drawn: &Drawn| with_logits(drawn.prompt(&app, &info)?, model.segmenter(), &info);
        blocking(move || drawn.iter().map(prompt).collect::<Result<_>>()).await??
    };
    let template = Template {
        kind: target.kind,
        region_type: target.region_type(),
        from_name: target.from_name.clone(),
        to_name: target.to_name.clone(),
        size: (info.width, info.height),
    };
    let show = move |candidates: &Candidates| {
        let chosen = best(candidates)?;
        let score = chosen
            .predicted_iou
            .map_or(1.0, |iou| iou.0)
            .clamp(0.0, 1.0);
        Ok(template.regions(&chosen.mask, score))
    };
    let (mut objects, _) = ask(app, model, image, prompts, show).await?;
    for (regions, label) in objects.iter_mut().zip(labels) {
        for region in regions {
            if let (Some(label), Some(value)) = (&label, region["value"].as_object_mut()) {
                value.insert(target.region_type().to_owned(), json!([label]));
            }
        }
    }
    Ok(objects.into_iter().flatten().collect())
}

/// What all regions of an answer have in common.
struct Template {
    kind: Kind,
    region_type: &'static str,
    from_name: String,
    to_name: String,
    size: (u32, u32),
}

impl Template {
    /// A mask as regions without a label: one brush, or a polygon for each part.
    fn regions(&self, mask: &Mask, score: f32) -> Vec<Value> {
        let (width, height) = self.size;
        let percent = |p: &samara::OriginalPx| {
            [
                p.x / f64::from(width) * 100.0,
                p.y / f64::from(height) * 100.0,
            ]
        };
        let values: Vec<Value> = match self.kind {
            _ if mask.is_empty() => Vec::new(),
            Kind::Brush => vec![json!({"format": "rle", "rle": brush_rle::encode(mask)})],
            Kind::Polygon => {
                let parts = mask
                    .to_polygons()
                    .into_iter()
                    .map(|part| part.outer.simplify(1.0));
                let parts = parts.filter(|ring| ring.points.len() > 2);
                let points =
                    |ring: samara_image::Ring| ring.points.iter().map(percent).collect::<Vec<_>>();
                parts
                    .map(|ring| json!({"points": points(ring), "closed": true}))
                    .collect()
            }
        };
        let region = |value| {
            json!({
                "id": Uuid::new_v4().simple().to_string()[..10],
                "from_name": self.from_name,
                "to_name": self.to_name,
                "type": self.region_type,
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "origin": "manual",
                "readonly": false,
                "score": score,
                "value": value,
            })
        };
        values.into_iter().map(region).collect()
    }
}
