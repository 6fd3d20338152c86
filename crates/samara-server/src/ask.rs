//! Prompts on an image, from the image's embedding to the model's answers.

use std::sync::Arc;
use std::time::Instant;

use samara::{Candidates, Embedding, Prompt, RgbImage, Zoom};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::app::App;
use crate::blocking::blocking;
use crate::error::{Problem, Result};
use crate::images::Image;
use crate::models::LoadedModel;
use crate::owner::{PROMPTS_AT_ONCE, Urgency};

/// Milliseconds of wall time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Timing {
    /// Until the image's embedding was there; next to 0 if it was.
    embed: f64,
    /// Waiting for the model, its answer, and writing it.
    predict: f64,
}

/// Points of the prompts that are answered at once, unless a single prompt has more.
const POINTS_AT_ONCE: usize = 64;

/// The prompts in parts that take the model some tenths of a second at most.
fn together(prompts: &[Prompt]) -> impl Iterator<Item = &[Prompt]> {
    let mut rest = prompts;
    std::iter::from_fn(move || {
        let mut points = 0;
        let fits = |prompt: &&Prompt| {
            points += prompt.clicks().len();
            points <= POINTS_AT_ONCE
        };
        let fitting = rest.iter().take(PROMPTS_AT_ONCE).take_while(fits).count();
        let (some, others) = rest.split_at_checked(fitting.max(1))?;
        rest = others;
        Some(some)
    })
}

/// Refuses more prompts than a request may have.
pub(crate) fn check_count(app: &App, count: usize) -> Result<()> {
    let most = app.config.limits.prompts;
    if count == 0 || count > most {
        let detail = format!("{count} prompts: 1 to {most} of them");
        return Err(Problem::field("prompts", detail));
    }
    Ok(())
}

/// Refuses more points than a request may have.
pub(crate) fn check_points<'a>(
    app: &App,
    prompts: impl IntoIterator<Item = &'a Prompt>,
) -> Result<()> {
    let most = app.config.limits.points;
    let points: usize = prompts
        .into_iter()
        .map(|prompt| prompt.clicks().len())
        .sum();
    if points > most {
        let detail = format!("{points} points: at most {most} in all prompts of a request");
        return Err(Problem::field("prompts", detail));
    }
    Ok(())
}

/// Asks a model about an image, whose embedding is waited for. `show` makes of each answer what is told of it, as soon as
/// it is there: the masks of many answers on a large image would fill the memory. `zoom` says whether small objects are
/// looked at once more.
pub(crate) async fn ask<T: Send + 'static>(
    app: &Arc<App>,
    model: &Arc<LoadedModel>,
    image: Image,
    prompts: Vec<Prompt>,
    zoom: Zoom,
    show: impl Fn(&Candidates) -> Result<T> + Send + Sync + 'static,
) -> Result<(Vec<T>, Timing)> {
    check_count(app, prompts.len())?;
    check_points(app, &prompts)?;
    let start = Instant::now();
    let pixels = Arc::clone(&image.pixels);
    let embedding = app.embeddings.get(model, image).await?;
    let embed = start.elapsed();
    embedding.check(&prompts).map_err(|error| match error {
        samara::Error::Prompt(samara::PromptError::OfBatch { index, source }) => {
            Problem::field(format!("prompts[{index}]"), source)
        }
        samara::Error::Prompt(error) if prompts.len() == 1 => Problem::field("prompts[0]", error),
        other => other.into(),
    })?;
    let show = Arc::new(show);
    let mut shown = Vec::with_capacity(prompts.len());
    // Others come in between, and nothing more is done when the client has gone.
    for some in together(&prompts) {
        let answers = model
            .owner
            .predict(Arc::clone(&embedding), some.to_vec())
            .await?;
        let answers = look_again(model, &embedding, &pixels, some, answers, zoom).await?;
        let show = Arc::clone(&show);
        let all = blocking(move || answers.iter().map(&*show).collect::<Result<Vec<T>>>());
        shown.extend(all.await??);
    }
    let ms = |seconds: f64| seconds * 1000.0;
    let timing = Timing {
        embed: ms(embed.as_secs_f64()),
        predict: ms(start.elapsed().saturating_sub(embed).as_secs_f64()),
    };
    Ok((shown, timing))
}

/// The answers, drawn again from a crop of the image where that shows more.
async fn look_again(
    model: &LoadedModel,
    embedding: &Arc<Embedding>,
    image: &Arc<RgbImage>,
    prompts: &[Prompt],
    answers: Vec<Candidates>,
    zoom: Zoom,
) -> Result<Vec<Candidates>> {
    if zoom == Zoom::Off {
        return Ok(answers);
    }
    let cancelled = CancellationToken::new();
    let _cancel = cancelled.clone().drop_guard();
    let mut again = Vec::with_capacity(answers.len());
    for (prompt, first) in prompts.iter().zip(answers) {
        let (embedding, image) = (Arc::clone(embedding), Arc::clone(image));
        let prompt = prompt.clone();
        // A crop costs as much as the embedding of an image.
        let looked = model
            .owner
            .run(Urgency::Embedding, cancelled.clone(), move |_, _| {
                Ok(embedding.second_look(&image, &prompt, first, zoom)?)
            });
        again.push(looked.await?);
    }
    Ok(again)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_prompts_are_asked_in_parts() {
        let of = |points: usize| {
            (0..points).fold(Prompt::new(), |prompt, _| prompt.with_point(1.0, 1.0))
        };
        let parts = |points: &[usize]| {
            let prompts: Vec<Prompt> = points.iter().map(|&points| of(points)).collect();
            together(&prompts).map(<[Prompt]>::len).collect::<Vec<_>>()
        };
        assert_eq!(parts(&[1]), [1]);
        assert_eq!(parts(&[1; 40]), [16, 16, 8]);
        assert_eq!(parts(&[30, 30, 30]), [2, 1]);
        assert_eq!(parts(&[500, 1, 200]), [1, 1, 1]);
    }
}
