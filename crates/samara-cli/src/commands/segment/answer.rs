//! From prompts to objects.

use samara::{Candidates, Embedding, Prompt, Select, Zoom};
use samara_image::RgbImage;

use super::object::Object;
use super::prompts::Asked;
use crate::error::Result;
use crate::flags::SegmentFlags;
use crate::report::{Timing, timed};
use crate::terminal;

/// Prompts that are answered together. An answer takes 2 MB while it has its logits.
const TOGETHER: usize = 64;

/// Answers prompts for an image. Logits are kept for `--raw` alone.
pub(super) fn answer(
    flags: &SegmentFlags,
    embedding: &Embedding,
    image: &RgbImage,
    asked: &[Asked],
    prompts: Vec<Prompt>,
    select: &Select,
    timing: &mut Timing,
) -> Result<Vec<Object>> {
    let mut objects = Vec::with_capacity(asked.len());
    let mut prompts = prompts.into_iter();
    for asked in asked.chunks(TOGETHER) {
        let prompts = prompts.by_ref().take(asked.len()).collect();
        let answered = answer_together(flags, embedding, image, asked, prompts, select, timing)?;
        objects.extend(answered);
    }
    Ok(objects)
}

fn answer_together(
    flags: &SegmentFlags,
    embedding: &Embedding,
    image: &RgbImage,
    asked: &[Asked],
    prompts: Vec<Prompt>,
    select: &Select,
    timing: &mut Timing,
) -> Result<Vec<Object>> {
    let tokens = timed(&mut timing.decode, || embedding.decode(&prompts))?;
    let answers = timed(&mut timing.mask, || {
        let answers = tokens.into_iter().zip(&prompts);
        let answers = answers.map(|(tokens, prompt)| Ok(embedding.candidates(tokens, prompt)?));
        answers.collect::<Result<Vec<Candidates>>>()
    })?;
    let answers = timed(&mut timing.zoom, || {
        let answers = prompts.iter().zip(answers);
        let answers = answers
            .map(|(prompt, first)| Ok(embedding.second_look(image, prompt, first, flags.zoom)?));
        answers.collect::<Result<Vec<Candidates>>>()
    })?;
    let all = asked.iter().zip(prompts).zip(answers);
    let objects = all.map(|((asked, prompt), candidates)| {
        let mut selection = candidates.select(select)?;
        let kept = flags.raw.is_some();
        selection.low_res_logits.take_if(|_| !kept);
        Ok(Object {
            label: asked.label.clone(),
            prompt,
            candidates: if kept {
                candidates
            } else {
                candidates.without_logits()
            },
            selection,
        })
    });
    objects.collect()
}

/// Says why each mask was selected.
pub(super) fn explain(flags: &SegmentFlags, objects: &[Object]) {
    for object in objects {
        terminal::tell("selected", &object.selection.reason);
        match object.candidates.view() {
            Some(view) => terminal::tell("zoom", &format!("answered from {view} of the image")),
            None if flags.zoom != Zoom::Off => {
                terminal::tell("zoom", "the answer from the whole image is kept");
            }
            None => (),
        }
    }
}
