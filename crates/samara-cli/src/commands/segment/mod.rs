//! `samara segment`.

mod folder;
mod many;
mod outputs;
mod prompts;

use std::path::Path;
use std::time::Instant;

use samara::{Candidates, Click, Embedding, Prompt, Segmenter, Select, Selection, Zoom};
use samara_image::{Annotation, ReadImage, RgbImage};

use super::tell_unused_intent;
use crate::error::{CliError, Result};
use crate::flags::SegmentFlags;
use crate::model::checkpoint;
use crate::progress;
use crate::read::read;
use crate::report::{ImageRecord, ObjectRecord, Report, Timing};
use crate::terminal;
use outputs::Outputs;
use prompts::Asked;

/// What an object without a name is called where a format needs a name.
const LABEL: &str = "object";

/// One object: what was asked, what was answered, what was selected.
struct Object {
    label: Option<String>,
    prompt: Prompt,
    candidates: Candidates,
    selection: Selection,
}

impl Object {
    /// The selected mask, for annotation tools.
    fn annotation(&self) -> Annotation {
        let best = self.selection.index.map(|i| &self.candidates.as_slice()[i]);
        Annotation {
            label: self.label.clone().unwrap_or_else(|| LABEL.into()),
            score: best.map(|candidate| candidate.predicted_iou.0),
            mask: self.selection.mask.clone(),
        }
    }
}

/// Segments the objects that the flags name.
pub(crate) fn run(flags: &SegmentFlags) -> Result<()> {
    let limits = flags.read.options().limits;
    match (&flags.image, &flags.prompts) {
        (None, None) => Err(CliError::usage(
            "no image: name one, or give --prompts FILE, which names them",
        )),
        (Some(image), None) => one(flags, image, &prompts::of_flags(flags)?),
        (None, Some(file)) => many::run(flags, &prompts::of_file(file, flags, &limits)?),
        // Prompts for the image of the command line are as if they stood there.
        (Some(image), Some(file)) => {
            let jobs = prompts::of_file(file, flags, &limits)?;
            let asked: Vec<Asked> = jobs.into_iter().flat_map(|job| job.asked).collect();
            one(flags, image, &asked)
        }
    }
}

/// The image that the command line names.
fn one(flags: &SegmentFlags, path: &Path, asked: &[Asked]) -> Result<()> {
    // Everything that can be wrong is looked at before the expensive work starts.
    if flags.resume || flags.overwrite {
        return Err(CliError::usage(
            "--resume and --overwrite are for the images of a --prompts file",
        ));
    }
    let checkpoint = checkpoint(&flags.model)?;
    let place = flags.model.device.options();
    let outputs = Outputs::resolve(flags, path, asked.len())?;
    outputs
        .files(flags, path, asked)
        .read("the checkpoint", checkpoint.path())
        .check()?;
    let options = flags.read.options();
    let ReadImage { image, warnings } = read(path, &options)?;
    let prompts = prompts::checked(asked, &image, &options.limits)?;
    let select = flags.select.resolve(&options.limits)?;
    tell_shares(flags, &image);

    let mut timing = Timing::default();
    let segmenter = timed(&mut timing.load, || {
        progress::spin("loading the model", || {
            Segmenter::from_checkpoint(&checkpoint, place)
        })
    })?;
    tell_unused_intent(flags.meaning.intent, &segmenter);
    let embedding = timed(&mut timing.embed, || embedding(flags, &segmenter, &image))?;
    if let Some(path) = &flags.save_embedding {
        embedding.save(path)?;
    }
    let objects = answer(
        flags,
        &embedding,
        &image,
        asked,
        prompts,
        &select,
        &mut timing,
    )?;
    let report = Report {
        image: ImageRecord::new(path, &image, &warnings),
        model: segmenter.name(),
        architecture: segmenter.architecture(),
        intent: flags.meaning.intent,
        objects: objects.iter().map(record).collect(),
        timing_ms: timing,
    };
    outputs.write(flags, &image, &embedding, &objects, &report)?;
    if flags.explain {
        explain(flags, &objects);
    }
    if outputs.json_on_stdout() {
        return Ok(());
    }
    outputs.tell(flags, &report, &objects)
}

fn record(object: &Object) -> ObjectRecord {
    ObjectRecord::new(object.label.clone(), &object.candidates, &object.selection)
}

/// Answers prompts for an image.
fn answer(
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
        let selection = candidates.select(select)?;
        Ok(Object {
            label: asked.label.clone(),
            prompt,
            candidates,
            selection,
        })
    });
    objects.collect()
}

/// Says why each mask was selected.
fn explain(flags: &SegmentFlags, objects: &[Object]) {
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

/// Coordinates that look like shares of the image are taken as pixels; better to say so.
fn tell_shares(flags: &SegmentFlags, image: &RgbImage) {
    let is_share = |v: f64| v > 0.0 && v < 1.0;
    for Click { at, .. } in flags
        .points
        .iter()
        .filter(|c| is_share(c.at.x) && is_share(c.at.y))
    {
        let (x, y) = (
            at.x * f64::from(image.width()),
            at.y * f64::from(image.height()),
        );
        let line = format!(
            "--point {},{}: taken as pixels; if shares of the image are meant, that is {x:.0},{y:.0}",
            at.x, at.y
        );
        terminal::tell("notice", &line);
    }
}

/// Runs `work` and notes how many milliseconds it took.
fn timed<T>(milliseconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *milliseconds = start.elapsed().as_secs_f64() * 1000.0;
    result
}

/// Computes the embedding, or loads the one that was kept.
fn embedding(flags: &SegmentFlags, segmenter: &Segmenter, image: &RgbImage) -> Result<Embedding> {
    let Some(path) = &flags.embedding else {
        return Ok(progress::spin("embedding the image", || {
            segmenter.embed(image)
        })?);
    };
    let embedding = Embedding::load(path, segmenter)?;
    if !embedding.is_of(image) {
        return Err(CliError::failed(format!(
            "--embedding {}: made from another image than {}",
            path.display(),
            flags.image.as_deref().unwrap_or(path).display()
        )));
    }
    Ok(embedding)
}
