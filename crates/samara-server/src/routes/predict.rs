//! `/v1/predict`: masks for prompts.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use samara::{Candidates, Intent, Prompt, Select, Zoom};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::app::App;
use crate::ask::{Timing, ask, check_count};
use crate::blocking::blocking;
use crate::body::{JsonText, look, parse};
use crate::bounded::Bounded;
use crate::dialects::x_anylabeling;
use crate::error::{Problem, Result};
use crate::images::{ImageInfo, ImageRef};
use crate::masks::{MaskFormat, MaskStyle, ObjectAnswer, Tolerance};
use crate::models::LoadedModel;
use crate::prompts::{PromptRequest, PromptedImage, warning, with_logits};

/// Prompts on an image.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PredictRequest {
    /// Which image; one that was uploaded before need not be sent again.
    image: ImageRef,
    /// One for every object that is asked for.
    #[schema(value_type = Vec<PromptRequest>, min_items = 1)]
    prompts: Bounded<PromptRequest, 4096>,
    /// The model; left out: the default one.
    model: Option<String>,
    /// Which of the candidates to use: `best`, `learned`, `score`, `largest`, `smallest`, `area=R`,
    /// `box=X0,Y0,X1,Y1`, `whole`, `part`, `subpart`, `union`, `intersection`, `weighted`, `vote`.
    #[schema(default = "best")]
    select: Option<String>,
    /// What a click usually means: `objects` (things with a name), `segments` (any region with an outline of its
    /// own), or a balance of both; for models with a candidate head, as `lite`.
    #[serde(default)]
    #[schema(value_type = String, default = "balanced")]
    intent: Intent,
    /// Whether small objects are answered once more from a crop of the image, which costs as much as an embedding:
    /// `off`, `auto` (where the answer covers little of the image), or by how much the crop is enlarged, as `8`.
    #[schema(default = "off")]
    zoom: Option<String>,
    /// In which form masks are answered.
    #[serde(default)]
    #[schema(default = "rle")]
    masks: MaskFormat,
    /// Polygons: how far a line may leave the mask's outline, in pixels; 0 follows every pixel.
    #[serde(default)]
    #[schema(value_type = f64, default = 0.0, minimum = 0.0)]
    tolerance: Tolerance,
    /// Whether all candidates are answered, or the selected mask alone.
    #[serde(default = "yes")]
    #[schema(default = true)]
    candidates: bool,
    /// After so many milliseconds the work is given up, and answered 408.
    #[schema(minimum = 1)]
    deadline_ms: Option<u64>,
}

fn yes() -> bool {
    true
}

/// Masks for prompts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PredictAnswer {
    image: ImageInfo,
    /// The model that answered.
    model: String,
    /// Numbers that it multiplied: `fp32`, `bf16` or `int8`.
    precision: &'static str,
    /// In the order of the prompts.
    objects: Vec<ObjectAnswer>,
    timing_ms: Timing,
}

impl PredictRequest {
    async fn answer(self, app: &Arc<App>) -> Result<PredictAnswer> {
        let select = self.select.as_deref().unwrap_or("best").parse::<Select>();
        let select = select.map_err(|e| Problem::field("select", e))?;
        let zoom = self.zoom.as_deref().map_or(Ok(Zoom::Off), str::parse);
        let zoom = zoom.map_err(|e| Problem::field("zoom", e))?;
        let model = app.models.get(self.model.as_deref())?;
        let image = app.images.find(self.image).await?;
        check_count(app, self.prompts.0.len())?;
        let prompts = self.prompts.0;
        let prompts = prompts_of(app, &model, &image.info, prompts, self.intent).await?;
        let (prompts, warnings): (Vec<Prompt>, Vec<Option<String>>) = prompts.into_iter().unzip();
        let info = Arc::clone(&image.info);
        let show = {
            let (app, id) = (Arc::clone(app), info.id.clone());
            let (all, style) = (self.candidates, MaskStyle::new(self.masks, self.tolerance));
            move |candidates: &Candidates| {
                let selection = candidates.select(&select);
                let selection = selection.map_err(|e| Problem::field("select", e))?;
                let answer = app.answers.keep(&id, candidates, &selection);
                ObjectAnswer::new(answer, candidates, &selection, all, style)
            }
        };
        let (mut objects, timing_ms) = ask(app, &model, image, prompts, zoom, show).await?;
        for (object, warning) in objects.iter_mut().zip(warnings) {
            object.warnings.extend(warning);
        }
        Ok(PredictAnswer {
            image: (*info).clone(),
            model: model.name.clone(),
            precision: model.segmenter().precision().name(),
            objects,
            timing_ms,
        })
    }
}

/// What the model is asked, and what may keep it from answering well. Masks are decoded off the threads that serve, as
/// few at a time as images, and no more of them when the client has gone.
async fn prompts_of(
    app: &Arc<App>,
    model: &Arc<LoadedModel>,
    info: &Arc<ImageInfo>,
    prompts: Vec<PromptRequest>,
    intent: Intent,
) -> Result<Vec<(Prompt, Option<String>)>> {
    let gone = CancellationToken::new();
    let _gone = gone.clone().drop_guard();
    let _turn = app.images.decoder().await;
    let (app, model, info) = (Arc::clone(app), Arc::clone(model), Arc::clone(info));
    blocking(move || {
        let of = PromptedImage::from(&*info);
        let prompts = prompts.into_iter().enumerate().map(|(index, prompt)| {
            if gone.is_cancelled() {
                return Err(Problem::unavailable("the work was stopped"));
            }
            let prompt = prompt.prompt(&of, &app.answers, intent);
            let prompt = prompt.and_then(|prompt| {
                let warning = warning(&prompt);
                Ok((with_logits(prompt, model.segmenter(), &info)?, warning))
            });
            prompt.map_err(|e| e.about(format!("prompts[{index}]")))
        });
        prompts.collect()
    })
    .await?
}

/// Who asks, at the same address.
enum Asked {
    ByTool(Result<x_anylabeling::PredictRequest>),
    Natively(PredictRequest),
}

/// Answers prompts with masks.
///
/// Every prompt is answered with three candidates (whole, part, subpart), or one, with their scores, and with the
/// one that `select` selects. Requests of X-AnyLabeling, which have `params`, are answered as it expects.
#[utoipa::path(
    post, path = "/v1/predict", operation_id = "predict", tag = "predict",
    request_body(content = PredictRequest, example = json!({
        "image": {"id": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"},
        "prompts": [{"points": [[290, 150]]}], "masks": "polygons", "tolerance": 1
    })),
    responses(
        (status = 200, body = PredictAnswer),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 408, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn predict(
    State(app): State<Arc<App>>,
    JsonText(body): JsonText,
) -> Result<Response> {
    let asked = look(body, |body| {
        Ok(if x_anylabeling::is_request(body) {
            Asked::ByTool(parse(body))
        } else {
            Asked::Natively(parse(body)?)
        })
    });
    let request = match asked.await? {
        Asked::ByTool(request) => return Ok(x_anylabeling::predict(&app, request).await),
        Asked::Natively(request) => request,
    };
    let answer = app
        .in_time(request.deadline_ms, request.answer(&app))
        .await?;
    Ok(Answer(answer).into_response())
}
