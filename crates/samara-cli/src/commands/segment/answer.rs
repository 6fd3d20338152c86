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
    prompts: &[Prompt],
    select: &Select,
    timing: &mut Timing,
) -> Result<Vec<Object>> {
    let kept = flags.raw.is_some();
    let mut objects = Vec::with_capacity(asked.len());
    for (asked, prompts) in asked.chunks(TOGETHER).zip(prompts.chunks(TOGETHER)) {
        let tokens = timed(&mut timing.decode, || embedding.decode(prompts))?;
        let answers = timed(&mut timing.mask, || {
            let answers = tokens.into_iter().zip(prompts);
            let answers = answers.map(|(tokens, prompt)| Ok(embedding.candidates(tokens, prompt)?));
            answers.collect::<Result<Vec<Candidates>>>()
        })?;
        let answers = timed(&mut timing.zoom, || {
            let answers = prompts.iter().zip(answers);
            let answers = answers.map(|(prompt, first)| {
                Ok(embedding.second_look(image, prompt, first, flags.zoom)?)
            });
            answers.collect::<Result<Vec<Candidates>>>()
        })?;
        for ((asked, prompt), candidates) in asked.iter().zip(prompts).zip(answers) {
            let mut selection = candidates.select(select)?;
            selection.low_res_logits.take_if(|_| !kept);
            objects.push(Object {
                label: asked.label.clone(),
                prompt: prompt.clone(),
                candidates: if kept {
                    candidates
                } else {
                    candidates.without_logits()
                },
                selection,
            });
        }
    }
    Ok(objects)
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
