//! `samara segment`.

use std::cmp::Reverse;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use safetensors::tensor::{Dtype, TensorView};
use samara::{
    Candidate, Candidates, Click, Embedding, ImageLimits, Logits, MaskPrompt, Prompt, Segmenter,
    Selection, Zoom, read_image,
};
use samara_image::{Overlay, RgbImage, palette, save_image, write_atomic};

use super::tell_unused_intent;
use crate::args::SelectArg;
use crate::error::{CliError, Result};
use crate::files::{Files, Kind, result_in};
use crate::flags::SegmentFlags;
use crate::model::checkpoint;
use crate::progress;
use crate::report::{ImageRecord, ObjectRecord, Objects, Report, Timing, table};
use crate::{mask_file, terminal};

/// Most candidates of a prompt.
const CANDIDATES: usize = 4;

/// One object: what was asked, what was answered, what was selected.
struct Object {
    prompt: Prompt,
    candidates: Candidates,
    selection: Selection,
}

/// Segments the objects that the flags name.
pub(crate) fn run(flags: &SegmentFlags) -> Result<()> {
    // Everything that can be wrong is looked at before the expensive work starts.
    let checkpoint = checkpoint(&flags.model)?;
    let place = flags.model.device.options();
    let outputs = Outputs::resolve(flags);
    outputs
        .files(flags)
        .read("the checkpoint", checkpoint.path())
        .check()?;
    let limits = ImageLimits::from(&flags.limits);
    let image = read_image(&flags.image, &limits)?;
    let prompts = prompts(flags, &image, &limits)?;
    let select = flags.select.resolve(&limits)?;
    for prompt in &prompts {
        prompt.check(image.width(), image.height())?;
    }

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
    let tokens = timed(&mut timing.decode, || embedding.decode(&prompts))?;
    let answers = timed(&mut timing.mask, || {
        let answers = tokens.into_iter().zip(&prompts);
        let answers = answers.map(|(tokens, prompt)| Ok(embedding.candidates(tokens, prompt)?));
        answers.collect::<Result<Vec<Candidates>>>()
    })?;
    let answers = timed(&mut timing.zoom, || {
        let answers = prompts.iter().zip(answers);
        let answers = answers
            .map(|(prompt, first)| Ok(embedding.second_look(&image, prompt, first, flags.zoom)?));
        answers.collect::<Result<Vec<Candidates>>>()
    })?;
    let objects = prompts
        .into_iter()
        .zip(answers)
        .map(|(prompt, candidates)| {
            let selection = candidates.select(&select)?;
            Ok(Object {
                prompt,
                candidates,
                selection,
            })
        });
    let objects = objects.collect::<Result<Vec<Object>>>()?;

    let report = report(flags, &segmenter, &image, &objects, timing);
    outputs.write(flags, &image, &embedding, &objects, &report)?;
    if flags.explain {
        for object in &objects {
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
    if outputs.json_on_stdout() {
        return Ok(());
    }
    outputs.tell(flags, &report, &objects)
}

/// Below this predicted IoU an answer is worth another look.
const UNSURE: f32 = 0.5;

/// What helps where no candidate is any good by the model's own word.
fn hint(object: &Object) -> Option<String> {
    let scores = object.candidates.iter().map(|c| c.predicted_iou.0);
    let best = scores.fold(f32::MIN, f32::max);
    (best < UNSURE)
        .then(|| format!("the best predicted IoU is {best:.2}: another click or a box helps\n"))
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

/// One prompt of all points, the box and the mask; or one for each of several boxes.
fn prompts(flags: &SegmentFlags, image: &RgbImage, limits: &ImageLimits) -> Result<Vec<Prompt>> {
    if flags.points.is_empty() && flags.boxes.is_empty() && flags.mask.is_none() {
        return Err(CliError::usage(
            "no prompt: give --point X,Y, --box X0,Y0,X1,Y1 or --mask FILE",
        ));
    }
    let blank = Prompt::new().with_intent(flags.meaning.intent);
    let blank = if flags.single {
        blank.with_single_mask()
    } else {
        blank
    };
    if flags.boxes.len() > 1 {
        if !flags.points.is_empty() || flags.mask.is_some() {
            return Err(CliError::usage(
                "several --box are several objects: --point and --mask go with at most one --box",
            ));
        }
        return Ok(flags
            .boxes
            .iter()
            .map(|b| blank.clone().with_box(*b))
            .collect());
    }
    let mut prompt = flags.points.iter().copied().fold(blank, Prompt::with_click);
    if let Some(b) = flags.boxes.first() {
        prompt = prompt.with_box(*b);
    }
    if let Some(path) = &flags.mask {
        let mask = mask_file::read(path, limits)?;
        if let MaskPrompt::Mask(mask) = &mask {
            mask_file::tell_stretched(path, (mask.width(), mask.height()), image.dimensions());
        }
        prompt = prompt.with_mask(mask);
    }
    Ok(vec![prompt])
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
            flags.image.display()
        )));
    }
    Ok(embedding)
}

fn report(
    flags: &SegmentFlags,
    segmenter: &Segmenter,
    image: &RgbImage,
    objects: &[Object],
    timing_ms: Timing,
) -> Report {
    let mut records: Vec<ObjectRecord> = objects
        .iter()
        .map(|object| ObjectRecord::new(&object.candidates, &object.selection))
        .collect();
    let objects = if records.len() == 1 {
        Objects::One(records.remove(0))
    } else {
        Objects::Many { objects: records }
    };
    Report {
        image: ImageRecord {
            path: flags.image.display().to_string(),
            width: image.width(),
            height: image.height(),
        },
        model: segmenter.name(),
        architecture: segmenter.architecture(),
        intent: flags.meaning.intent,
        objects,
        timing_ms,
    }
}

/// Where the results go.
#[derive(Default)]
struct Outputs {
    overlay: Option<PathBuf>,
    folder: Option<PathBuf>,
    mask: Option<PathBuf>,
    json: Option<PathBuf>,
    raw: Option<PathBuf>,
}

impl Outputs {
    fn resolve(flags: &SegmentFlags) -> Self {
        let mut outputs = Self {
            mask: flags.out_mask.clone(),
            json: flags.json.clone(),
            raw: flags.raw.clone(),
            ..Self::default()
        };
        match &flags.out {
            Some(out) if is_folder(out) => outputs.folder = Some(out.clone()),
            Some(out) => outputs.overlay = Some(out.clone()),
            None if outputs.mask.is_none() && outputs.json.is_none() && outputs.raw.is_none() => {
                outputs.overlay = Some(format!("{}.overlay.png", stem(&flags.image)).into());
            }
            None => {}
        }
        outputs
    }

    /// What is read and written.
    fn files(&self, flags: &SegmentFlags) -> Files {
        let oracle = match &flags.select {
            SelectArg::Oracle(path) => Some(path),
            _ => None,
        };
        let inside = |folder: &PathBuf| {
            let names = Names::of(flags).all();
            names.into_iter().map(|name| folder.join(name)).collect()
        };
        let inside: Vec<PathBuf> = self.folder.as_ref().map(inside).unwrap_or_default();
        Files::new()
            .read("the input image", &flags.image)
            .read_all("the mask of --mask", &flags.mask)
            .read_all("the embedding of --embedding", &flags.embedding)
            .read_all("the mask of --select", oracle)
            .write("--out", Kind::Image, self.overlay.as_deref())
            .write("--out", Kind::Folder, self.folder.as_deref())
            .write("--out-mask", Kind::Mask, self.mask.as_deref())
            .write("--json", Kind::JsonOrStdout, self.json.as_deref())
            .write("--raw", Kind::Tensors, self.raw.as_deref())
            .write(
                "--save-embedding",
                Kind::Embedding,
                flags.save_embedding.as_deref(),
            )
            .write_inside("--out", inside)
    }

    fn json_on_stdout(&self) -> bool {
        self.json.as_deref() == Some(Path::new("-"))
    }

    fn write(
        &self,
        flags: &SegmentFlags,
        image: &RgbImage,
        embedding: &Embedding,
        objects: &[Object],
        report: &Report,
    ) -> Result<()> {
        let all = flags.select == SelectArg::All;
        if let Some(path) = &self.overlay {
            save_image(path, &overlay(image, objects, all))?;
        }
        if let Some(folder) = &self.folder {
            let names = Names::of(flags);
            let result = |name| result_in(folder, name);
            save_image(result(names.overlay())?, &overlay(image, objects, all))?;
            write_atomic(result(names.json())?, &json(report)?)?;
            for (i, object) in objects.iter().enumerate() {
                let mask = &object.selection.mask;
                mask.save_png(result(names.mask(i))?)?;
                for c in &object.candidates {
                    c.mask.save_png(result(names.candidate(i, c.index))?)?;
                }
            }
        }
        if let Some(path) = &self.mask {
            selected_mask(objects)?.save_png(path)?;
        }
        if let Some(path) = &self.raw {
            write_raw(path, embedding, objects, flags)?;
        }
        match &self.json {
            Some(_) if self.json_on_stdout() => terminal::print_raw(&json(report)?),
            Some(path) => Ok(write_atomic(path, &json(report)?)?),
            None => Ok(()),
        }
    }

    /// The table, and which files were written.
    fn tell(&self, flags: &SegmentFlags, report: &Report, objects: &[Object]) -> Result<()> {
        let timing = &report.timing_ms;
        let mut text = format!(
            "{} {}×{}, {}: load {:.0} ms, embed {:.0} ms, decode {:.0} ms, masks {:.0} ms{}\n",
            terminal::name(&flags.image),
            report.image.width,
            report.image.height,
            report.model,
            timing.load,
            timing.embed,
            timing.decode,
            timing.mask,
            if flags.zoom == Zoom::Off {
                String::new()
            } else {
                format!(", zoom {:.0} ms", timing.zoom)
            }
        );
        for object in objects {
            text += &table(&object.candidates, &object.selection);
            text.extend(hint(object));
        }
        let written = [
            &self.overlay,
            &self.folder,
            &self.mask,
            &self.json,
            &self.raw,
        ];
        for path in written.into_iter().flatten() {
            let _ = writeln!(text, "wrote {}", terminal::name(path));
        }
        terminal::print(&text)
    }
}

/// What the files in the folder of `--out` are called.
struct Names {
    stem: String,
    objects: usize,
}

impl Names {
    fn of(flags: &SegmentFlags) -> Self {
        Self {
            stem: stem(&flags.image),
            objects: flags.boxes.len().max(1),
        }
    }

    fn overlay(&self) -> String {
        format!("{}.overlay.png", self.stem)
    }

    fn json(&self) -> String {
        format!("{}.json", self.stem)
    }

    fn mask(&self, object: usize) -> String {
        format!("{}.mask.png", self.object(object))
    }

    fn candidate(&self, object: usize, index: usize) -> String {
        format!("{}.candidate-{index}.png", self.object(object))
    }

    fn object(&self, object: usize) -> String {
        match self.objects {
            1 => self.stem.clone(),
            _ => format!("{}.object-{object}", self.stem),
        }
    }

    /// All of them, for as many candidates as a prompt has.
    fn all(&self) -> Vec<String> {
        let of_object = |i| {
            let candidates = (0..CANDIDATES).map(move |index| self.candidate(i, index));
            candidates.chain([self.mask(i)])
        };
        let masks = (0..self.objects).flat_map(of_object);
        masks.chain([self.overlay(), self.json()]).collect()
    }
}

/// An existing folder, or a path that looks like one.
fn is_folder(path: &Path) -> bool {
    path.is_dir() || path.to_string_lossy().ends_with(['/', '\\']) || path.extension().is_none()
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(
        || "image".into(),
        |stem| stem.to_string_lossy().into_owned(),
    )
}

fn json(report: &Report) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(report).map_err(CliError::failed)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The union of the objects' selected masks.
fn selected_mask(objects: &[Object]) -> Result<samara::Mask> {
    let mut masks = objects.iter().map(|object| &object.selection.mask);
    let first = masks
        .next()
        .cloned()
        .ok_or_else(|| CliError::failed("nothing was segmented"))?;
    masks.try_fold(first, |all, mask| Ok(all.or(mask)?))
}

/// The photo with masks, prompts and scores.
fn overlay(image: &RgbImage, objects: &[Object], all: bool) -> RgbImage {
    let mut overlay = Overlay::new(image);
    let mut color = 0;
    for object in objects {
        if all {
            // Small masks over large ones.
            let mut candidates: Vec<_> = object.candidates.iter().collect();
            candidates.sort_by_key(|c| Reverse(c.mask.area()));
            for c in candidates {
                overlay = overlay.mask(&c.mask, palette(color)).label(label(c));
                color += 1;
            }
        } else {
            overlay = overlay.mask(&object.selection.mask, palette(color));
            if let Some(index) = object.selection.index {
                let c = &object.candidates.as_slice()[index];
                overlay = overlay.label(label(c));
            }
            color += 1;
        }
        for click in object.prompt.clicks() {
            overlay = overlay.point(click.at, click.positive);
        }
        if let Some(b) = object.prompt.box_prompt() {
            overlay = overlay.prompt_box(b);
        }
    }
    overlay.render()
}

/// Level, predicted IoU and, where there is one, match probability of a candidate.
fn label(candidate: &Candidate) -> String {
    let mut label = format!(
        "{} IoU {:.2}",
        candidate.granularity, candidate.predicted_iou
    );
    if let Some(probability) = candidate.match_probability {
        let _ = write!(label, " match {:.0}%", 100.0 * probability.0);
    }
    label
}

/// Writes `image_embedding` `[1, C, h, w]`, `low_res_logits` `[k, n, n]` and `iou` `[k]`: of the
/// candidates, or with `--select all` of every mask token. Several objects follow one another.
fn write_raw(
    path: &Path,
    embedding: &Embedding,
    objects: &[Object],
    flags: &SegmentFlags,
) -> Result<()> {
    let mut logits = Vec::new();
    let mut iou = Vec::new();
    for object in objects {
        if flags.select == SelectArg::All {
            let tokens = object.candidates.tokens();
            iou.extend(tokens.iou.iter().map(|score| score.0));
            logits.extend(tokens.low_res_logits.iter().flat_map(Logits::values));
        } else {
            iou.extend(object.candidates.iter().map(|c| c.predicted_iou.0));
            logits.extend(
                object
                    .candidates
                    .iter()
                    .flat_map(|c| c.low_res_logits.values()),
            );
        }
    }
    let side = embedding.segmenter().logits_side();
    let (features, shape) = embedding.values()?;
    let count = iou.len();
    let tensors = [
        ("image_embedding", shape.to_vec(), bytes(&features)),
        ("iou", vec![count], bytes(&iou)),
        ("low_res_logits", vec![count, side, side], bytes(&logits)),
    ];
    let failed = |e: safetensors::SafeTensorError| {
        CliError::failed(format!("--raw {}: {e}", path.display()))
    };
    let mut views = Vec::new();
    for (name, shape, bytes) in &tensors {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(failed)?;
        views.push((*name, view));
    }
    Ok(write_atomic(
        path,
        &safetensors::serialize(views, None).map_err(failed)?,
    )?)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}
