//! `samara segment`.

mod answer;
mod drawing;
mod folder;
mod many;
mod object;
mod outputs;
mod prompts;

use std::path::Path;

use samara::{Click, Embedding, Segmenter};
use samara_image::{ReadImage, RgbImage};

use super::tell_unused_intent;
use crate::error::{CliError, Result};
use crate::flags::SegmentFlags;
use crate::model::checkpoint;
use crate::progress;
use crate::read::read;
use crate::report::{ImageRecord, Report, Timing, timed};
use crate::terminal;
use answer::{answer, explain};
use object::Object;
use outputs::Outputs;
use prompts::Asked;

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
            let jobs = prompts::of_file(file, flags, &limits)?.jobs;
            let asked: Vec<Asked> = jobs.into_iter().flat_map(|job| job.asked).collect();
            one(flags, image, &asked)
        }
    }
}

/// The image that the command line names.
fn one(flags: &SegmentFlags, path: &Path, asked: &[Asked]) -> Result<()> {
    // Everything that can be wrong is looked at before the expensive work starts.
    if flags.resume {
        return Err(CliError::usage(
            "--resume: for the images of a --prompts file",
        ));
    }
    let checkpoint = checkpoint(&flags.model)?;
    let place = flags.model.options();
    let outputs = Outputs::resolve(flags, path, asked.len())?;
    outputs
        .files(flags, path, asked)
        .read("the checkpoint", checkpoint.path())
        .check()?;
    let _folder = outputs.begin_folder(flags, path, asked.len())?;
    let options = flags.read.options();
    let ReadImage { image, warnings } = read(path, &options)?;
    let prompts = prompts::checked(asked, &image, &options.limits)?;
    let select = flags.select.resolve(&options.limits, image.dimensions())?;
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
        &prompts,
        &select,
        &mut timing,
    )?;
    let report = Report {
        image: ImageRecord::new(path, &image, &warnings),
        model: segmenter.name(),
        architecture: segmenter.architecture(),
        precision: embedding.precision().name(),
        intent: flags.meaning.intent,
        objects: objects.iter().map(Object::record).collect(),
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
    let (made_in, asked) = (embedding.precision(), segmenter.precision());
    if made_in != asked {
        let path = path.display();
        let told =
            format!("--embedding {path}: computed in {made_in}; prompts are answered in {asked}");
        terminal::tell("notice", &told);
    }
    Ok(embedding)
}
