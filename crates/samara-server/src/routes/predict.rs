//! `/v1/predict`: masks for prompts.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use samara::{Candidates, Intent, Prompt, Select};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::ask::{Asked, Timing, ask, check_count};
use crate::blocking::blocking;
use crate::body::{Json, parse};
use crate::dialects::x_anylabeling;
use crate::error::{Problem, Result};
use crate::images::{ImageInfo, ImageRef};
use crate::masks::{MaskFormat, ObjectAnswer};
use crate::prompts::{PromptRequest, with_logits};

/// Prompts on an image.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PredictRequest {
    /// Which image; one that was uploaded before need not be sent again.
    image: ImageRef,
    /// One for every object that is asked for.
    #[schema(min_items = 1)]
    prompts: Vec<PromptRequest>,
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
    /// In which form masks are answered.
    #[serde(default)]
    masks: MaskFormat,
    /// Whether all candidates are answered, or the selected mask alone.
    #[serde(default = "yes")]
    #[schema(default = true)]
    candidates: bool,
    /// After so many milliseconds the work is given up, and answered 504.
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
    /// In the order of the prompts.
    objects: Vec<ObjectAnswer>,
    timing_ms: Timing,
}

impl PredictRequest {
    async fn answer(self, app: &Arc<App>) -> Result<PredictAnswer> {
        let select = self.select.as_deref().unwrap_or("best").parse::<Select>();
        let select = select.map_err(|e| Problem::field("select", e))?;
        let model = app.models.get(self.model.as_deref())?;
        let image = app.images.find(&self.image).await?;
        check_count(app, self.prompts.len())?;
        let prompts = {
            let (app, model, info) = (Arc::clone(app), Arc::clone(&model), Arc::clone(&image.info));
            let (prompts, intent) = (self.prompts, self.intent);
            blocking(move || {
                let prompts = prompts.into_iter().enumerate().map(|(index, prompt)| {
                    let prompt = prompt.prompt(&app.images, &app.answers, intent);
                    let prompt = prompt.and_then(|p| with_logits(p, model.segmenter(), &info));
                    prompt.map_err(|e| e.about(format!("prompts[{index}]")))
                });
                prompts.collect::<Result<Vec<Prompt>>>()
            })
            .await??
        };
        let info = Arc::clone(&image.info);
        let Asked {
            answers, timing, ..
        } = ask(app, &model, image, prompts).await?;
        let app = Arc::clone(app);
        let (all, format) = (self.candidates, self.masks);
        let objects = blocking(move || {
            let object = |candidates: Candidates| {
                let selection = candidates
                    .select(&select)
                    .map_err(|e| Problem::field("select", e))?;
                let id = app.answers.keep(&candidates, &selection);
                ObjectAnswer::new(id, &candidates, &selection, all, format)
            };
            answers.into_iter().map(object).collect::<Result<Vec<_>>>()
        });
        Ok(PredictAnswer {
            image: (*info).clone(),
            model: model.name.clone(),
            objects: objects.await??,
            timing_ms: timing,
        })
    }
}

/// Answers prompts with masks.
///
/// Every prompt is answered with three candidates (whole, part, subpart), or one, with their scores, and with the
/// one that `select` selects. Requests of X-AnyLabeling, which have `params`, are answered as it expects.
#[utoipa::path(
    post, path = "/v1/predict", tag = "predict", request_body = PredictRequest,
    responses(
        (status = 200, body = PredictAnswer),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 504, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn predict(
    State(app): State<Arc<App>>,
    Json(request): Json<Box<serde_json::value::RawValue>>,
) -> Result<Response> {
    let body = request.get();
    if let Ok(request) = serde_json::from_str::<x_anylabeling::PredictRequest>(body) {
        return Ok(x_anylabeling::predict(&app, request).await.into_response());
    }
    let request: PredictRequest = parse(body.as_bytes())?;
    let answer = app
        .in_time(request.deadline_ms, request.answer(&app))
        .await?;
    Ok(Answer(answer).into_response())
}
