//! Prompts on an image, from the image's embedding to the model's answers.

use std::sync::Arc;
use std::time::Instant;

use samara::{Candidates, Prompt};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::{Problem, Result};
use crate::images::Image;
use crate::models::LoadedModel;

/// Milliseconds of wall time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Timing {
    /// Until the image's embedding was there; next to 0 if it was.
    embed: f64,
    /// Waiting for the model, and its answer.
    predict: f64,
}

/// Prompts that an image was asked, and the answers.
pub(crate) struct Asked {
    pub(crate) answers: Vec<Candidates>,
    pub(crate) timing: Timing,
}

/// Asks a model about an image, whose embedding is waited for.
pub(crate) async fn ask(
    app: &Arc<App>,
    model: &Arc<LoadedModel>,
    image: &Image,
    prompts: Vec<Prompt>,
) -> Result<Asked> {
    let start = Instant::now();
    let embedding = app.embeddings.get(model, image).await?;
    let embed = start.elapsed();
    embedding.check(&prompts).map_err(|error| match error {
        samara::Error::Prompt(samara::PromptError::OfBatch { index, source }) => {
            Problem::field(format!("prompts[{index}]"), source)
        }
        samara::Error::Prompt(error) if prompts.len() == 1 => Problem::field("prompts[0]", error),
        other => other.into(),
    })?;
    let answers = model.owner.predict(embedding, prompts).await?;
    let ms = |seconds: f64| seconds * 1000.0;
    let timing = Timing {
        embed: ms(embed.as_secs_f64()),
        predict: ms(start.elapsed().saturating_sub(embed).as_secs_f64()),
    };
    Ok(Asked { answers, timing })
}
