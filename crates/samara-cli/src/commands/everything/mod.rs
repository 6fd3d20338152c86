//! `samara everything`.

mod coco;
mod images;
mod inputs;
mod manifest;
mod merge;
mod results;
mod shards;
mod tally;

use std::fmt::Write;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use samara::{Embedding, Hierarchy, MaskGenerator, MaskRecord, Segmenter};
use samara_image::number::counted;
use samara_image::{ImageWarning, ReadImage, ReadOptions, RgbImage, read_image_with};
use serde_json::{Value, json};

use crate::args::names;
use crate::commands::journal::{Begin, RunFolder};
use crate::error::{CliError, Result};
use crate::files::{Files, Kind, result_in};
use crate::flags::EverythingFlags;
use crate::internal_error::caught;
use crate::interrupt::Interrupt;
use crate::model::checkpoint;
use crate::progress::{self, Bar};
use crate::read::{self, read};
use crate::terminal;
use inputs::{Input, Inputs};
use manifest::{Done, Entry, Manifest, Outcome};
use results::Results;
use tally::Tally;

/// Images that wait between two stages. One keeps the next stage busy; more only take memory.
const WAITING: usize = 1;

/// Segments everything in the images that the flags name.
pub(crate) fn run(flags: &EverythingFlags) -> Result<()> {
    // Everything that can be wrong is looked at before the expensive work starts.
    let checkpoint = checkpoint(&flags.model)?;
    let place = flags.model.options();
    let options = flags.generator.options()?;
    let options = options.with_output_mode(flags.output_mode);
    let options_of_images = flags.read.options();
    let inputs = Inputs::new(&flags.inputs, &flags.out)?;
    if inputs.iter().next().is_none() {
        let folder = flags.inputs[0].display();
        return Err(CliError::failed(format!("{folder}: no images in it")));
    }
    let results = Results::new(&flags.out, &flags.format);
    let named: Vec<Input> = inputs.files().collect();
    Files::new()
        .read("the checkpoint", checkpoint.path())
        .read_all("the points of --point-grids", &flags.generator.point_grids)
        .read_all("an input image", named.iter().map(|input| &input.path))
        .write("--out", Kind::Folder, Some(&flags.out))
        .write_inside(
            "--out",
            named
                .iter()
                .flat_map(|input| results.names(&input.name))
                .map(|name| flags.out.join(name)),
        )
        .check()?;
    let single = inputs.single();
    if single.is_some() && (flags.merge || flags.shard.is_some()) {
        let flag = if flags.merge { "--merge" } else { "--shard" };
        let why = "one image has no parts; name a folder or several images";
        return Err(CliError::usage(format!("{flag}: {why}")));
    }
    let inputs = inputs.of(flags.shard);
    let image = single
        .as_ref()
        .map(|input| read(&input.path, &options_of_images))
        .transpose()?;

    let segmenter = progress::spin("loading the model", || {
        Segmenter::from_checkpoint(&checkpoint, place)
    })?;
    let generator = MaskGenerator::new(&segmenter, options)?;
    match (single, image) {
        (Some(input), Some(read)) => one(flags, &generator, &results, &input, &read),
        _ if flags.merge => {
            let run = header(flags, &generator)?;
            let tally = merge::merge(&flags.out, &run, &results, &inputs, flags.overwrite)?;
            tally.tell(0, &flags.out)
        }
        _ => many(flags, &generator, &results, &inputs, &options_of_images),
    }
}

/// One image: no manifest, and a bar for its points.
fn one(
    flags: &EverythingFlags,
    generator: &MaskGenerator,
    results: &Results,
    input: &Input,
    ReadImage { image, warnings }: &ReadImage,
) -> Result<()> {
    shards::refuse(&flags.out)?;
    let folder = RunFolder::open(&flags.out)?;
    if !flags.overwrite {
        folder.refuse_others(results.shared())?;
        folder.refuse_others(results.names(&input.name).iter().map(String::as_str))?;
    }
    let start = Instant::now();
    let embedding = progress::spin("embedding the image", || generator.segmenter().embed(image))?;
    let bar = Bar::steps(100, 0, "masks");
    let records = generator.generate_from(image, &embedding, |share| {
        bar.set_position((share * 100.0) as u64);
        ControlFlow::Continue(())
    })?;
    bar.finish();
    tell_none(generator, input, &records, &embedding)?;
    let tree = Hierarchy::of(&records);
    let seconds = start.elapsed().as_secs_f64();
    let mut written = results.write(&input.name, image, &records, &tree)?;
    if let Some(name) = results.shared() {
        let path = result_in(&flags.out, name)?;
        let entry = done(input, image, warnings, &records);
        coco::write(&path, results, [Ok(entry)])?;
        written.push(path);
    }
    let mut text = format!(
        "{} {}×{}, {} in {}: {} masks ({}) in {seconds:.1} s\n",
        terminal::name(&input.path),
        image.width(),
        image.height(),
        generator.segmenter().name(),
        generator.segmenter().precision(),
        records.len(),
        results::levels(&tree),
    );
    for path in written {
        let _ = writeln!(text, "wrote {}", terminal::name(&path));
    }
    terminal::print(&text)
}

/// Says why there are no masks, if there are none.
fn tell_none(
    generator: &MaskGenerator,
    input: &Input,
    records: &[MaskRecord],
    embedding: &Embedding,
) -> Result<()> {
    if records.is_empty() {
        let why = generator.explain_none(embedding)?;
        terminal::tell("notice", &format!("{}: {why}", input.path.display()));
    }
    Ok(())
}

fn done(
    input: &Input,
    image: &RgbImage,
    warnings: &[ImageWarning],
    records: &[MaskRecord],
) -> Entry {
    Entry {
        image: input.name.clone(),
        outcome: Outcome::Done {
            width: image.width(),
            height: image.height(),
            masks: records.len(),
            warnings: warnings.iter().map(ImageWarning::to_string).collect(),
        },
    }
}

/// An image on its way from stage to stage, or why it does not go on.
type Staged<T> = (Input, Result<T, String>);

/// The folder of a run over many images; the lock of its shard, if it is one; its journal, and what is done.
type Begun = ((RunFolder, Option<shards::Lock>), Manifest, Done);

fn begin(
    flags: &EverythingFlags,
    generator: &MaskGenerator,
    results: &Results,
    inputs: &Inputs,
) -> Result<Begun> {
    let (folder, lock) = if let Some(shard) = flags.shard {
        let (folder, lock) = shards::open(&flags.out, shard)?;
        (folder, Some(lock))
    } else {
        shards::refuse(&flags.out)?;
        (RunFolder::open(&flags.out)?, None)
    };
    let begin = Begin::of(flags.resume, flags.overwrite);
    let is_begun = folder.has(manifest::FILE) || folder.has(&manifest::file(flags.shard));
    if begin != Begin::Overwrite && !is_begun {
        folder.refuse_others(results.shared())?;
        for input in inputs.iter() {
            folder.refuse_others(results.names(&input.name).iter().map(String::as_str))?;
        }
    }
    let run = header(flags, generator)?;
    if let Some(shard) = flags.shard.filter(|_| begin != Begin::Overwrite) {
        manifest::refuse_other_runs(&flags.out, &run, shard)?;
    }
    let are_there = |name: &str| results.are_there(name);
    let (manifest, done) = manifest::open(&folder, &run, flags.shard, begin, are_there)?;
    Ok(((folder, lock), manifest, done))
}

/// Many images: while the masks of one are drawn, the next is embedded and the one after it is
/// decoded.
fn many(
    flags: &EverythingFlags,
    generator: &MaskGenerator,
    results: &Results,
    inputs: &Inputs,
    options: &ReadOptions,
) -> Result<()> {
    let (_folder, mut manifest, before) = begin(flags, generator, results, inputs)?;
    let (mut total, mut skipped) = (0, 0);
    for input in inputs.iter() {
        total += 1;
        skipped += u64::from(before.contains(&input.name));
    }
    let bar = Bar::steps(total, skipped, "images");
    let mut tally = Tally::default();
    let interrupt = Interrupt::listen();
    thread::scope(|scope| {
        let (decoded, to_embed) = sync_channel(WAITING);
        let (embedded, to_segment) = sync_channel(WAITING);
        let before = &before;
        // A stage that ends drops its channel, and so ends the next one.
        scope.spawn(move || decode(inputs, before, options, &decoded));
        scope.spawn(move || embed(generator, to_embed, &embedded));
        for (input, staged) in to_segment {
            let outcome = match staged {
                Ok((read, embedding)) => {
                    read::tell(&input.path, &read.warnings);
                    segment(generator, results, &input, &read, &embedding, &interrupt)?
                }
                Err(error) => Outcome::Failed { error },
            };
            if interrupt.asked().load(Ordering::Relaxed) {
                // The stages before this one end when nobody takes what they make.
                return Err(interrupt.stopped_after(&counted(tally.images, "image")));
            }
            tally.add(&outcome);
            let image = input.name;
            manifest.add(&Entry { image, outcome })?;
            bar.inc(1);
        }
        Ok::<_, CliError>(())
    })?;
    bar.finish();
    // Of shards, a merge makes it.
    if let Some(name) = results.shared().filter(|_| flags.shard.is_none()) {
        let path = result_in(&flags.out, name)?;
        let entries = manifest.entries().map_err(CliError::failed)?;
        coco::write(&path, results, entries)?;
    }
    tally.tell(skipped as usize, &flags.out)
}

/// What a run does: the first line of its manifest, which names the shard besides.
fn header(flags: &EverythingFlags, generator: &MaskGenerator) -> Result<Value> {
    let segmenter = generator.segmenter();
    Ok(json!({
        "samara": env!("CARGO_PKG_VERSION"),
        "model": segmenter.name(),
        "weights": segmenter.fingerprint()?,
        "precision": segmenter.precision().name(),
        "options": generator.options(),
        "page": flags.read.page,
        "stretch": flags.read.depth.stretch.to_string(),
        "formats": names(&flags.format),
    }))
}

/// The first stage. It ends when there is nothing left, or when the next one is gone.
fn decode(
    inputs: &Inputs,
    before: &Done,
    options: &ReadOptions,
    next: &SyncSender<Staged<ReadImage>>,
) {
    for input in inputs.iter().filter(|input| !before.contains(&input.name)) {
        let image = caught(&input.path, || read_image_with(&input.path, options));
        if next.send((input, image)).is_err() {
            return;
        }
    }
}

/// The second stage.
fn embed(
    generator: &MaskGenerator,
    images: Receiver<Staged<ReadImage>>,
    next: &SyncSender<Staged<(ReadImage, Embedding)>>,
) {
    for (input, image) in images {
        let embedded = image.and_then(|image| {
            let embedding = caught(&input.path, || generator.segmenter().embed(&image.image))?;
            Ok((image, embedding))
        });
        if next.send((input, embedded)).is_err() {
            return;
        }
    }
}

/// The last stage. What is wrong with an image is told; what is wrong with the disk is an error.
fn segment(
    generator: &MaskGenerator,
    results: &Results,
    input: &Input,
    ReadImage { image, warnings }: &ReadImage,
    embedding: &Embedding,
    interrupt: &Interrupt,
) -> Result<Outcome> {
    let going = |_| {
        if interrupt.asked().load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let records = || generator.generate_from(image, embedding, going);
    let records = match caught(&input.path, records) {
        Ok(records) => records,
        Err(error) => return Ok(Outcome::Failed { error }),
    };
    tell_none(generator, input, &records, embedding)?;
    results.write(&input.name, image, &records, &Hierarchy::of(&records))?;
    Ok(done(input, image, warnings, &records).outcome)
}
