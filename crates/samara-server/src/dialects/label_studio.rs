//! The protocol of Label Studio's machine learning backends: `/setup`, `/predict`, `/webhook`, `/versions`.
//!
//! Facts: `label_studio/ml/api_connector.py`, and `label_studio_ml/api.py`. `/health` is that of the server.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use samara::{Candidates, Intent, Mask, Prompt, Zoom};
use samara_image::polygons_to_mask;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use super::labeling_config::{Kind, LabelingConfig, Target};
use super::{best, brush_rle, large_parts, pixel, score};
use crate::app::App;
use crate::ask::ask;
use crate::blocking::blocking;
use crate::body::{Json, parse_value};
use crate::bounded::{Bounded, Last, find_text};
use crate::error::{Problem, Result};
use crate::images::{Image, ImageInfo};
use crate::models::LoadedModel;
use crate::prompts::{PromptRequest, PromptedImage, own_box, with_logits};

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
    data: Box<RawValue>,
    #[serde(default)]
    annotations: Option<Last<Annotation>>,
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
    value: Option<Box<RawValue>>,
    to_name: Option<String>,
    is_positive: Option<bool>,
    image_rotation: Option<f64>,
}

/// What the regions that prompt say.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RegionValue {
    x: Option<f64>,
    y: Option<f64>,
    width: Option<f64>,
    height: Option<f64>,
    points: Option<Bounded<[f64; 2], 65536>>,
    rle: Vec<u8>,
    positive: Option<bool>,
    keypointlabels: Option<Labels>,
    rectanglelabels: Option<Labels>,
    brushlabels: Option<Labels>,
    polygonlabels: Option<Labels>,
    labels: Option<Labels>,
}

type Labels = Bounded<String, 1000>;

impl Region {
    /// `keypoint`, `rectangle`, … with and without labels.
    fn shape(&self) -> &str {
        self.kind.strip_suffix("labels").unwrap_or(&self.kind)
    }

    fn prompts(&self) -> bool {
        PROMPTS.contains(&self.shape())
    }

    fn read(&self) -> Result<Stroke> {
        let about = |e: Problem| e.about(format!("value of a {}", self.kind));
        if self.image_rotation.is_some_and(|angle| angle != 0.0) {
            let detail = "images that are rotated in Label Studio are not understood";
            return Err(Problem::field("image_rotation", detail));
        }
        let text = self.value.as_ref().map_or("{}", |value| value.get());
        let value: RegionValue = parse_value(text.as_bytes()).map_err(about)?;
        Ok(Stroke {
            shape: self.shape().to_owned(),
            is_negative: self.is_positive.or(value.positive) == Some(false),
            value,
        })
    }
}

/// A region that prompts.
#[derive(Debug)]
struct Stroke {
    shape: String,
    /// Whether a click is beside the object.
    is_negative: bool,
    value: RegionValue,
}

impl Stroke {
    fn label(&self) -> Option<&str> {
        let value = &self.value;
        let of_shape = match &*self.shape {
            "keypoint" => &value.keypointlabels,
            "rectangle" => &value.rectanglelabels,
            "brush" => &value.brushlabels,
            _ => &value.polygonlabels,
        };
        let labels = of_shape.as_ref().or(value.labels.as_ref())?;
        Some(labels.0.first()?)
    }
}

/// A number of percent as a share.
fn share(key: &str, number: Option<f64>) -> Result<f64> {
    let number = number.ok_or_else(|| Problem::field("", "a number of percent is expected"));
    let number = number.map_err(|e| e.about(format!("value.{key}")))?;
    Ok(number / 100.0)
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
    problem.told(Answer(json!({"detail": problem.line()})))
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
        let read = move || {
            let missing = || Problem::field("label_config", "is missing");
            LabelingConfig::read(&self.label_config.ok_or_else(missing)?)
        };
        let config = Arc::new(blocking(read).await?);
        let context = self.params.and_then(|params| params.context);
        let is_interactive = context.is_some();
        let mut results = Vec::with_capacity(self.tasks.0.len());
        let drawn: Arc<[Region]> = context
            .and_then(|context| context.result)
            .unwrap_or_default()
            .0
            .into();
        for (index, task) in self.tasks.0.into_iter().enumerate() {
            let about = |e: Problem| e.about(format!("tasks[{index}]"));
            let regions = if is_interactive {
                Arc::clone(&drawn)
            } else {
                let last = task.annotations.and_then(|annotations| annotations.0);
                last.map(|annotation| annotation.result.0)
                    .unwrap_or_default()
                    .into()
            };
            let by_image = blocking(move || {
                if is_interactive {
                    Drawn::of_interaction(&regions)
                } else {
                    Drawn::of_annotation(&regions)
                }
            });
            let by_image = by_image.await?.map_err(about)?;
            if by_image.is_empty() && !is_interactive {
                // No prediction, rather than an empty one that would be shown.
                results.push(json!([]));
                continue;
            }
            let mut regions = Vec::new();
            for (to_name, prompts) in by_image {
                let config = config.as_ref().as_ref().map_err(Clone::clone)?;
                let target = match config.target(to_name.as_deref()) {
                    // Of boxes on images without a control for masks no mask is expected.
                    Err(_) if !is_interactive && config.target(None).is_ok() => continue,
                    target => target?,
                };
                let image = image_of(app, &task.data, task.id, target).await;
                let answers = answer_all(app, &model, target, image.map_err(about)?, prompts);
                regions.extend(answers.await.map_err(about)?);
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

/// The image of a task.
async fn image_of(
    app: &Arc<App>,
    data: &RawValue,
    task: Option<u64>,
    target: &Target,
) -> Result<Image> {
    let key = &target.data_key;
    let about = |e: Problem| e.about(format!("data.{key}"));
    let missing = || Problem::field("", "the address of the image, or its data URI, is expected");
    let text = find_text(data, key).ok_or_else(|| about(missing()))?;
    let image = if text.starts_with("data:") {
        app.images.add_base64(text).await
    } else {
        let file = app.images.fetch_for_label_studio(&text, task).await;
        app.images.add(file.map_err(about)?).await
    };
    image.map_err(about)
}

/// What the user has drawn for one object.
struct Drawn {
    strokes: Vec<Stroke>,
}

/// Objects by the name of the image that they are on.
type ByImage = Vec<(Option<String>, Vec<Drawn>)>;

impl Drawn {
    /// All that is drawn on the image of the first region is of one object. Negative clicks alone say nothing of where
    /// it is.
    fn of_interaction(regions: &[Region]) -> Result<ByImage> {
        let prompts = || regions.iter().filter(|region| region.prompts());
        let to_name = prompts().next().and_then(|region| region.to_name.clone());
        let own = prompts().filter(|region| region.to_name == to_name);
        let strokes = own.map(Region::read).collect::<Result<Vec<Stroke>>>()?;
        Ok(if strokes.iter().any(|stroke| !stroke.is_negative) {
            vec![(to_name, vec![Self { strokes }])]
        } else {
            Vec::new()
        })
    }

    /// Each box of an annotation is an object.
    fn of_annotation(regions: &[Region]) -> Result<ByImage> {
        let mut found: ByImage = Vec::new();
        let boxes = regions
            .iter()
            .filter(|region| region.shape() == "rectangle");
        for region in boxes {
            let drawn = Self {
                strokes: vec![region.read()?],
            };
            match found.iter_mut().find(|(name, _)| *name == region.to_name) {
                Some((_, all)) => all.push(drawn),
                None => found.push((region.to_name.clone(), vec![drawn])),
            }
        }
        Ok(found)
    }

    fn label(&self) -> Option<&str> {
        // Of several rectangles the last one counts.
        self.strokes.iter().rev().find_map(Stroke::label)
    }

    fn prompt(&self, app: &App, image: &ImageInfo) -> Result<Prompt> {
        let of = PromptedImage::from(image);
        let (width, height) = of.size;
        let (w, h) = (f64::from(width), f64::from(height));
        let (mut points, mut bbox, mut mask) = (Vec::new(), None, None::<Mask>);
        for stroke in &self.strokes {
            let value = &stroke.value;
            let of_side = |key, number, size| Ok::<f64, Problem>(share(key, number)? * size);
            match &*stroke.shape {
                "keypoint" => {
                    let at = |key, number, size| {
                        let about = |e: Problem| e.about(format!("value.{key}"));
                        pixel(share(key, number)?, size).map_err(about)
                    };
                    let (x, y) = (at("x", value.x, w)?, at("y", value.y, h)?);
                    points.push([x, y, if stroke.is_negative { 0.0 } else { 1.0 }]);
                }
                "rectangle" => {
                    let (x, y) = (of_side("x", value.x, w)?, of_side("y", value.y, h)?);
                    let width = of_side("width", value.width, w)?;
                    let height = of_side("height", value.height, h)?;
                    bbox = Some([x, y, x + width, y + height]);
                }
                "brush" => {
                    let drawn = brush_rle::decode(&value.rle, width, height);
                    let drawn = drawn.map_err(|e| e.about("value"))?;
                    mask = Some(mask.map_or(Ok(drawn.clone()), |mask| mask.or(&drawn))?);
                }
                _ => {
                    let points = value.points.as_ref().map_or(&[][..], |list| &list.0);
                    let drawn = polygon(points, width, height)?;
                    mask = Some(mask.map_or(Ok(drawn.clone()), |mask| mask.or(&drawn))?);
                }
            }
        }
        if points.is_empty() && bbox.is_none() {
            // A mask alone is a weak prompt; its own box makes it a strong one.
            bbox = mask.as_ref().and_then(own_box);
        }
        let prompt =
            PromptRequest::new(points, bbox).prompt(&of, &app.answers, Intent::default())?;
        Ok(match mask {
            Some(mask) => prompt.with_mask(mask),
            None => prompt,
        })
    }
}

fn polygon(points: &[[f64; 2]], width: u32, height: u32) -> Result<Mask> {
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
        Ok(template.regions(&chosen.mask, score(&chosen)))
    };
    let (mut objects, _) = ask(app, model, image, prompts, Zoom::Off, show).await?;
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
                let parts = large_parts(mask).into_iter();
                let parts = parts.map(|part| part.outer.simplify(1.0));
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
