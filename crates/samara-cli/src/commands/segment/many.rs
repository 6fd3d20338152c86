//! The images of a file of prompts.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::Ordering;

use samara::{Segmenter, Select};
use samara_data::Category;
use samara_image::number::counted;
use samara_image::{CocoWriter, Labels, ReadImage, RgbImage, Rle, write_atomic_with};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{answer, explain};
use super::folder::{Answered, COCO, Names, shared, write_classes};
use super::object::Object;
use super::prompts::{Job, Prompts, checked};
use crate::args::{SelectArg, names};
use crate::commands::journal::{Begin, Journal, RunFolder};
use crate::commands::tell_unused_intent;
use crate::error::{CliError, Result};
use crate::files::{Files, Kind, result_in};
use crate::flags::{SegmentFlags, SegmentFormat};
use crate::internal_error::caught;
use crate::interrupt::Interrupt;
use crate::model::checkpoint;
use crate::progress::{self, Bar};
use crate::read::read;
use crate::report::{ImageRecord, Report, Timing, timed};
use crate::terminal;

/// Which images are done, and their objects.
const JOURNAL: &str = "objects.jsonl";

/// An image that was looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    image: String,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Outcome {
    Done {
        width: u32,
        height: u32,
        objects: Vec<Found>,
        warnings: Vec<String>,
    },
    Failed {
        error: String,
    },
}

/// A selected mask.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Found {
    label: String,
    score: Option<f32>,
    segmentation: Rle,
}

/// Segments all images, and goes on after one that fails.
pub(super) fn run(flags: &SegmentFlags, prompts: &Prompts) -> Result<()> {
    let Prompts { jobs, categories } = prompts;
    // Everything that can be wrong is looked at before the expensive work starts.
    let Some(out) = &flags.out else {
        return Err(CliError::usage(
            "--prompts: name a folder for the results with --out",
        ));
    };
    refuse_single(flags)?;
    let checkpoint = checkpoint(&flags.model)?;
    let place = flags.model.options();
    let inside = results(flags, jobs)?;
    let masks = jobs
        .iter()
        .flat_map(|job| &job.asked)
        .filter_map(|asked| asked.mask.as_ref());
    Files::new()
        .read("the checkpoint", checkpoint.path())
        .read_all("the file of prompts", &flags.prompts)
        .read_all("a mask of the prompts", masks)
        .read_all("an input image", jobs.iter().map(|job| &job.image))
        .write("--out", Kind::Folder, Some(out))
        .write_inside("--out", inside.iter().map(|name| out.join(name)))
        .check()?;
    // A mask in a file is for one image.
    let select = match &flags.select {
        SelectArg::How(select) => select.clone(),
        SelectArg::All | SelectArg::Oracle(_) => Select::Best,
    };

    let segmenter = progress::spin("loading the model", || {
        Segmenter::from_checkpoint(&checkpoint, place)
    })?;
    tell_unused_intent(flags.meaning.intent, &segmenter);
    let folder = RunFolder::open(out)?;
    let begin = Begin::of(flags.resume, flags.overwrite);
    if begin != Begin::Overwrite && !folder.has(JOURNAL) {
        folder.refuse_others(inside.iter().map(String::as_str))?;
    }
    let mut labels = Labels::new();
    for category in categories {
        labels.number(&category.name);
    }
    let mut before: HashSet<String> = HashSet::new();
    let header = header(flags, &segmenter)?;
    let images: HashMap<&str, &Path> = jobs.iter().map(|j| (&*j.name, &*j.image)).collect();
    let mut journal = Journal::open(&folder, JOURNAL, &header, begin, |entry: &Entry| {
        let Outcome::Done { objects, .. } = &entry.outcome else {
            return false;
        };
        let Some(image) = images.get(&*entry.image) else {
            return false;
        };
        if !Names::new(image, objects.len()).are_there(out, &flags.format) {
            return false;
        }
        for object in objects {
            labels.number(&object.label);
        }
        before.insert(entry.image.clone())
    })?;
    let bar = Bar::steps(jobs.len() as u64, before.len() as u64, "images");
    let (mut count, mut failures) = (0, Vec::new());
    let interrupt = Interrupt::listen();
    let mut left = jobs.iter().filter(|job| !before.contains(&job.name));
    for job in left.by_ref() {
        // What is wrong with an image is told; what is wrong with the disk is an error.
        let work = || segment(flags, &segmenter, &select, job);
        let outcome = match caught(&job.image, work) {
            Ok(segmented) => segmented.write(flags, job, &mut labels)?,
            Err(error) => Outcome::Failed { error },
        };
        match &outcome {
            Outcome::Done { objects, .. } => count += objects.len(),
            Outcome::Failed { error } => failures.push(error.clone()),
        }
        let image = job.name.clone();
        journal.add(&Entry { image, outcome })?;
        bar.inc(1);
        if interrupt.asked().load(Ordering::Relaxed) {
            break;
        }
    }
    bar.finish();
    if left.next().is_some() {
        return Err(interrupt.stopped_after(&counted(count, "object")));
    }
    finish(flags, out, categories, &journal, &labels)?;
    let done = jobs.len() - before.len() - failures.len();
    let skipped = match before.len() {
        0 => String::new(),
        n => format!(", {n} done before"),
    };
    let wrote = terminal::name(out);
    terminal::print(&format!(
        "{}, {}{skipped}\nwrote {wrote}\n",
        counted(done, "image"),
        counted(count, "object")
    ))?;
    failed(&failures, jobs.len())
}

/// The end of a run: an error if an image failed.
fn failed(failures: &[String], total: usize) -> Result<()> {
    if failures.is_empty() {
        return Ok(());
    }
    for failure in failures {
        terminal::tell("failed", failure);
    }
    Err(CliError::failed(format!(
        "{} of {} failed",
        failures.len(),
        counted(total, "image")
    )))
}

/// All files that may be written, none of them twice.
fn results(flags: &SegmentFlags, jobs: &[Job]) -> Result<Vec<String>> {
    let together = shared(&flags.format).map(str::to_owned);
    let mut owners: HashMap<String, &str> = HashMap::new();
    owners.insert(JOURNAL.to_owned(), "the journal of the run");
    owners.extend(together.map(|name| (name, "the file for all images")));
    for job in jobs {
        let files = Names::new(&job.image, job.asked.len());
        // The number of objects is part of the names of their own files alone.
        let by_object = [SegmentFormat::Masks, SegmentFormat::Cutouts];
        let by_object = by_object.iter().any(|format| flags.format.contains(format));
        let stem = by_object.then(|| files.stem().to_owned());
        for name in files.all(&flags.format).into_iter().chain(stem) {
            if let Some(other) = owners.insert(name.clone(), &job.name) {
                return Err(CliError::usage(format!(
                    "--prompts: {other} and the results of {} have the same name, {name}; rename the image",
                    job.name
                )));
            }
        }
    }
    let is_file = |name: &String| {
        jobs.iter()
            .all(|job| Names::new(&job.image, 1).stem() != name)
    };
    Ok(owners.into_keys().filter(is_file).collect())
}

/// Flags that are about one image.
fn refuse_single(flags: &SegmentFlags) -> Result<()> {
    let prompts = !flags.points.is_empty() || !flags.boxes.is_empty() || flags.mask.is_some();
    let single = [
        ("--point, --box and --mask", prompts),
        ("--out-mask", flags.out_mask.is_some()),
        ("--json", flags.json.is_some()),
        ("--raw", flags.raw.is_some()),
        ("--embedding", flags.embedding.is_some()),
        ("--save-embedding", flags.save_embedding.is_some()),
        (
            "--select oracle=FILE",
            matches!(flags.select, SelectArg::Oracle(_)),
        ),
    ];
    let given = single.into_iter().find(|(_, given)| *given);
    given.map_or(Ok(()), |(flag, _)| {
        Err(CliError::usage(format!(
            "{flag}: for one image, not for those of a --prompts file"
        )))
    })
}

/// An image with its answers.
struct Segmented {
    image: RgbImage,
    objects: Vec<Object>,
    report: Report,
}

fn segment(
    flags: &SegmentFlags,
    segmenter: &Segmenter,
    select: &Select,
    job: &Job,
) -> Result<Segmented> {
    let options = flags.read.options();
    let ReadImage { image, warnings } = read(&job.image, &options)?;
    if let Some((width, height)) = job.size.filter(|&size| size != image.dimensions()) {
        return Err(CliError::failed(format!(
            "{}: the image is {}x{}, its annotations are for {width}x{height}",
            job.image.display(),
            image.width(),
            image.height()
        )));
    }
    let prompts = checked(&job.asked, &image, &options.limits)?;
    let mut timing = Timing::default();
    let embedding = timed(&mut timing.embed, || segmenter.embed(&image))?;
    let objects = answer(
        flags,
        &embedding,
        &image,
        &job.asked,
        &prompts,
        select,
        &mut timing,
    )?;
    let report = Report {
        image: ImageRecord::new(&job.image, &image, &warnings),
        model: segmenter.name(),
        architecture: segmenter.architecture(),
        precision: embedding.precision().name(),
        intent: flags.meaning.intent,
        objects: objects.iter().map(Object::record).collect(),
        timing_ms: timing,
    };
    if flags.explain {
        explain(flags, &objects);
    }
    Ok(Segmented {
        image,
        objects,
        report,
    })
}

impl Segmented {
    /// Writes the results of the image.
    fn write(self, flags: &SegmentFlags, job: &Job, labels: &mut Labels) -> Result<Outcome> {
        let answered = Answered {
            path: &job.image,
            image: &self.image,
            objects: &self.objects,
            report: &self.report,
        };
        let out = flags.out.as_deref().unwrap_or(Path::new("."));
        answered.write(out, flags, flags.select == SelectArg::All, labels)?;
        let found = self.objects.iter().map(|object| Found {
            label: object.label().to_owned(),
            score: object.score(),
            segmentation: object.mask().to_rle(),
        });
        Ok(Outcome::Done {
            width: self.image.width(),
            height: self.image.height(),
            objects: found.collect(),
            warnings: self.report.image.warnings,
        })
    }
}

/// Writes what is about all images.
fn finish(
    flags: &SegmentFlags,
    out: &Path,
    categories: &[Category],
    journal: &Journal<Entry>,
    labels: &Labels,
) -> Result<()> {
    if flags.format.contains(&SegmentFormat::Yolo) {
        write_classes(out, labels)?;
    }
    if !flags.format.contains(&SegmentFormat::Coco) {
        return Ok(());
    }
    let entries = journal.entries().map_err(CliError::failed)?;
    Ok(write_atomic_with(result_in(out, COCO)?, |file| {
        let mut coco = CocoWriter::new(file)?;
        for category in categories {
            coco.category(category.id, &category.name);
        }
        for entry in entries {
            let Entry { image, outcome } = entry?;
            let Outcome::Done {
                width,
                height,
                objects,
                ..
            } = outcome
            else {
                continue;
            };
            coco.image(&image, (width, height));
            for object in objects {
                coco.object(&object.label, object.score, &object.segmentation)?;
            }
        }
        coco.finish()
    })?)
}

/// What a run does: the first line of its journal.
fn header(flags: &SegmentFlags, segmenter: &Segmenter) -> Result<Value> {
    let file = flags.prompts.as_deref().unwrap_or(Path::new(""));
    let prompts = std::fs::read(file)
        .map_err(|e| CliError::failed(format!("--prompts {}: {e}", file.display())))?;
    Ok(json!({
        "samara": env!("CARGO_PKG_VERSION"),
        "model": segmenter.name(),
        "weights": segmenter.fingerprint()?,
        "precision": segmenter.precision().name(),
        "prompts_crc32": format!("{:08x}", crc32fast::hash(&prompts)),
        "single": flags.single,
        "intent": flags.meaning.intent,
        "select": flags.select.to_string(),
        "zoom": flags.zoom.to_string(),
        "page": flags.read.page,
        "stretch": flags.read.depth.stretch.to_string(),
        "label": flags.label,
        "formats": names(&flags.format),
    }))
}
