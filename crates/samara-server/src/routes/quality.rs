//! `/v1/quality`: how good masks are that someone else made.

use std::ops::ControlFlow;
use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use samara_quality::{EstimateSource, ExternalMask, QualityEstimator};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::app::App;
use crate::body::Json;
use crate::bounded::Bounded;
use crate::error::{Problem, Result};
use crate::images::ImageRef;
use crate::masks::{MaskAnswer, MaskFormat, MaskStyle, Tolerance};
use crate::owner::Urgency;
use crate::prompts::RleRequest;

/// Masks of an image.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QualityRequest {
    image: ImageRef,
    /// The masks, as COCO run lengths of the size of the image.
    #[schema(min_items = 1)]
    #[schema(value_type = Vec<RleRequest>)]
    masks: Bounded<RleRequest, 4096>,
    /// The model; left out: the default one.
    model: Option<String>,
    /// In which form the refined masks are answered.
    #[serde(default)]
    #[schema(default = "rle")]
    refined: MaskFormat,
    /// Polygons: how far a line may leave the mask's outline, in pixels; 0 follows every pixel.
    #[serde(default)]
    #[schema(value_type = f64, default = 0.0, minimum = 0.0)]
    tolerance: Tolerance,
    /// After so many milliseconds the work is given up, and answered 408.
    #[schema(minimum = 1)]
    deadline_ms: Option<u64>,
}

/// How good masks are.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QualityAnswer {
    /// The model that was asked.
    model: String,
    /// `head`: a trained head weighs the evidence; `product`: predicted IoU times alignment.
    #[schema(value_type = String)]
    source: EstimateSource,
    /// In the order of the request.
    masks: Vec<MaskQualityAnswer>,
}

/// How good a mask is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MaskQualityAnswer {
    /// The estimated IoU of the mask with its unknown truth.
    estimate: f32,
    /// IoU of the mask with how the model would draw it.
    alignment_iou: f64,
    /// How the model would draw it.
    refined: MaskAnswer,
}

/// Estimates how good masks are that someone else made.
#[utoipa::path(
    post, path = "/v1/quality", operation_id = "assess_quality", tag = "quality",
    request_body(content = QualityRequest, example = json!({
        "image": {"id": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"},
        "masks": [{"size": [400, 600], "counts": [120_150, 9600, 110_250]}], "refined": "none"
    })),
    responses(
        (status = 200, body = QualityAnswer),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 408, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn quality(
    State(app): State<Arc<App>>,
    Json(request): Json<QualityRequest>,
) -> Result<Answer<QualityAnswer>> {
    app.in_time(request.deadline_ms, request.answer(&app))
        .await
        .map(Answer)
}

impl QualityRequest {
    async fn answer(self, app: &Arc<App>) -> Result<QualityAnswer> {
        let most = app.config.limits.prompts;
        if self.masks.0.is_empty() || self.masks.0.len() > most {
            let detail = format!("{} masks: 1 to {most} of them", self.masks.0.len());
            return Err(Problem::field("masks", detail));
        }
        let model = app.models.get(self.model.as_deref())?;
        let image = app.images.find(self.image).await?;
        let embedding = app.embeddings.get(&model, image.clone()).await?;
        let (style, masks) = (MaskStyle::new(self.refined, self.tolerance), self.masks.0);
        let cancelled = CancellationToken::new();
        let _cancel = cancelled.clone().drop_guard();
        let work = model
            .owner
            .run(Urgency::Embedding, cancelled, move |_, pause| {
                let (width, height) = image.pixels.dimensions();
                let estimator = QualityEstimator::new(&embedding, &image.pixels)?;
                let mut answers = Vec::with_capacity(masks.len());
                for (index, rle) in masks.into_iter().enumerate() {
                    if pause.take() == ControlFlow::Break(()) {
                        return Err(Problem::unavailable("the work was stopped"));
                    }
                    let about = |e: Problem| e.about(format!("masks[{index}]"));
                    let mask = rle.mask_of((width, height)).map_err(about)?;
                    let mask = ExternalMask::new(&mask, width, height);
                    let mask = mask.map_err(|e| about(e.into()))?;
                    for quality in estimator.assess(&[mask])? {
                        answers.push(MaskQualityAnswer {
                            estimate: quality.estimate.0,
                            alignment_iou: quality.alignment_iou,
                            refined: MaskAnswer::new(&quality.refined.mask, style)?,
                        });
                    }
                }
                Ok((estimator.source(), answers))
            });
        let (source, masks) = work.await?;
        Ok(QualityAnswer {
            model: model.name.clone(),
            source,
            masks,
        })
    }
}
