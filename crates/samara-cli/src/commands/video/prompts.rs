//! Which objects are prompted on which frames.

use std::collections::BTreeMap;

use samara::{ImageLimits, Mask, MaskPrompt, ObjectId, OriginalBox, Prompt};
use samara_image::{Rle, read_file, read_mask, read_object_map};
use serde::Deserialize;

use crate::args::{MOST_OBJECTS, PromptShape, VideoPromptArg};
use crate::error::{CliError, Result};
use crate::flags::VideoFlags;
use crate::prompt_file::{Object, PointRecord, text};

/// Prompts by frame and object.
pub(super) type Prompts = BTreeMap<usize, BTreeMap<ObjectId, Prompt>>;

/// A prompt in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    frame: usize,
    object: u16,
    #[serde(default)]
    points: Vec<PointRecord>,
    #[serde(rename = "box")]
    bbox: Option<OriginalBox>,
}

/// All prompts of the flags, for frames of this size.
pub(super) fn prompts(
    flags: &VideoFlags,
    limits: &ImageLimits,
    size: (u32, u32),
) -> Result<Prompts> {
    let mut prompts = Prompts::new();
    for VideoPromptArg {
        frame,
        object,
        shape,
    } in &flags.prompts
    {
        let what = format!("--prompt {frame}:{object}");
        edit(&mut prompts, *frame, *object, |prompt| match shape {
            PromptShape::Click(click) => Ok(prompt.with_click(*click)),
            PromptShape::Box(bbox) => with_box(prompt, *bbox, &what),
        })?;
    }
    if let Some(path) = &flags.prompts_file {
        let wrong = |e: &dyn std::fmt::Display| {
            CliError::usage(format!("--prompts {}: {e}", path.display()))
        };
        let bytes = read_file(path, limits).map_err(|e| wrong(&e.reason()))?;
        let records: Vec<Object<Record>> =
            serde_json::from_slice(text(&bytes)).map_err(|e| wrong(&e))?;
        if records.is_empty() {
            return Err(wrong(&"holds no prompt"));
        }
        for Object(record) in records {
            let (frame, object) = (record.frame, u32::from(record.object));
            if object == 0 {
                return Err(wrong(&"object 0: objects have the numbers 1 to 65535"));
            }
            let what = format!(
                "--prompts {}: frame {frame}, object {object}",
                path.display()
            );
            edit(&mut prompts, frame, object, |mut prompt| {
                for point in &record.points {
                    prompt = prompt.with_click(point.click().map_err(|why| wrong(&why))?);
                }
                match record.bbox {
                    Some(bbox) => with_box(prompt, bbox, &what),
                    None => Ok(prompt),
                }
            })?;
        }
    }
    add_masks(&mut prompts, flags, limits, size)?;
    for prompt in prompts.values_mut().flat_map(BTreeMap::values_mut) {
        *prompt = prompt.clone().with_intent(flags.meaning.intent);
    }
    for (frame, objects) in &prompts {
        for (object, prompt) in objects {
            let named = |e| CliError::usage(format!("frame {frame}, object {object}: {e}"));
            prompt.check(size.0, size.1).map_err(named)?;
        }
    }
    if prompts.is_empty() {
        return Err(CliError::usage(
            "nothing to follow: give --prompt FRAME:OBJ:X,Y, --masks or --prompts",
        ));
    }
    Ok(prompts)
}

fn add_masks(
    prompts: &mut Prompts,
    flags: &VideoFlags,
    limits: &ImageLimits,
    size: (u32, u32),
) -> Result<()> {
    for masks in &flags.masks {
        let file = masks.file.display();
        let check = |(width, height): (u32, u32)| {
            if (width, height) == size {
                return Ok(());
            }
            Err(CliError::failed(format!(
                "--masks {file}: {width}×{height} pixels, the video has {}×{}",
                size.0, size.1
            )))
        };
        let objects: Vec<(u32, Mask)> = if let Some(object) = masks.object {
            let mask = read_mask(&masks.file, limits)?;
            check((mask.width(), mask.height()))?;
            vec![(object, mask)]
        } else {
            let map = read_object_map(&masks.file, limits)?;
            check((map.width, map.height))?;
            let mask = |(&object, rle): (&u32, &Rle)| Ok((object, rle.to_mask()?));
            map.objects.iter().map(mask).collect::<Result<_>>()?
        };
        if objects.iter().all(|(_, mask)| mask.is_empty()) {
            return Err(CliError::failed(format!("--masks {file}: no object in it")));
        }
        for (object, mask) in objects {
            if object > MOST_OBJECTS {
                return Err(CliError::failed(format!(
                    "--masks {file}: object {object}; objects have the numbers 1 to {MOST_OBJECTS}"
                )));
            }
            edit(prompts, masks.frame, object, |prompt| {
                Ok(prompt.with_mask(MaskPrompt::Mask(mask)))
            })?;
        }
    }
    Ok(())
}

fn edit(
    prompts: &mut Prompts,
    frame: usize,
    object: ObjectId,
    change: impl FnOnce(Prompt) -> Result<Prompt>,
) -> Result<()> {
    let objects = prompts.entry(frame).or_default();
    let prompt = change(objects.remove(&object).unwrap_or_default())?;
    objects.insert(object, prompt);
    Ok(())
}

fn with_box(prompt: Prompt, bbox: OriginalBox, what: &str) -> Result<Prompt> {
    if prompt.box_prompt().is_some() {
        let why = "an object has one box on a frame at most";
        return Err(CliError::usage(format!("{what}: {why}")));
    }
    Ok(prompt.with_box(bbox))
}
