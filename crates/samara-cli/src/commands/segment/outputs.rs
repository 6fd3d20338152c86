//! Where the answer for one image goes.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use samara::{Embedding, Logits, Zoom};
use samara_image::{CocoWriter, Labels, RgbImage, save_image, write_atomic, write_atomic_with};

use super::drawing::overlay;
use super::folder::{Answered, COCO, Names, shared, write_classes};
use super::object::Object;
use super::prompts::Asked;
use crate::args::SelectArg;
use crate::commands::journal::RunFolder;
use crate::error::{CliError, Result};
use crate::files::{Files, Kind, result_in};
use crate::flags::{SegmentFlags, SegmentFormat};
use crate::report::{Report, table};
use crate::terminal;

/// Below this predicted IoU an answer is worth another look.
const UNSURE: f32 = 0.5;

/// What helps where no candidate is any good by the model's own word.
fn hint(object: &Object) -> Option<String> {
    if object.mask().is_empty() {
        return Some(
            "the selected mask has no pixel: another click or a tighter box helps\n".into(),
        );
    }
    let scores = object.candidates.iter().map(|c| c.predicted_iou.0);
    let best = scores.fold(f32::MIN, f32::max);
    (best < UNSURE)
        .then(|| format!("the best predicted IoU is {best:.2}: another click or a box helps\n"))
}

/// Where the results go.
#[derive(Default)]
pub(super) struct Outputs {
    overlay: Option<PathBuf>,
    folder: Option<PathBuf>,
    mask: Option<PathBuf>,
    json: Option<PathBuf>,
    raw: Option<PathBuf>,
}

impl Outputs {
    pub(super) fn resolve(flags: &SegmentFlags, image: &Path, objects: usize) -> Result<Self> {
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
                outputs.overlay =
                    Some(format!("{}.overlay.png", Names::new(image, objects).stem()).into());
            }
            None => {}
        }
        if outputs.folder.is_none() && flags.format != SegmentFormat::DEFAULT {
            return Err(CliError::usage(
                "--format: for a folder of results, which --out names",
            ));
        }
        Ok(outputs)
    }

    /// What is read and written.
    pub(super) fn files(&self, flags: &SegmentFlags, image: &Path, asked: &[Asked]) -> Files {
        let oracle = match &flags.select {
            SelectArg::Oracle(path) => Some(path),
            _ => None,
        };
        let inside = |folder: &PathBuf| {
            let names = inside(flags, image, asked.len());
            names.map(|name| folder.join(name)).collect()
        };
        let inside: Vec<PathBuf> = self.folder.as_ref().map(inside).unwrap_or_default();
        let masks = asked.iter().filter_map(|asked| asked.mask.as_ref());
        Files::new()
            .read("the input image", image)
            .read_all("the mask of --mask", masks)
            .read_all("the file of --prompts", &flags.prompts)
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

    /// Opens the folder of results, if there is one, for this run alone. Nothing in it is replaced that nobody
    /// said may go.
    pub(super) fn begin_folder(
        &self,
        flags: &SegmentFlags,
        image: &Path,
        objects: usize,
    ) -> Result<Option<RunFolder>> {
        let Some(path) = &self.folder else {
            return Ok(None);
        };
        let folder = RunFolder::open(path)?;
        if !flags.overwrite {
            let names: Vec<String> = inside(flags, image, objects).collect();
            folder.refuse_others(names.iter().map(String::as_str))?;
        }
        Ok(Some(folder))
    }

    pub(super) fn json_on_stdout(&self) -> bool {
        self.json.as_deref() == Some(Path::new("-"))
    }

    pub(super) fn write(
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
            let path = flags.image.as_deref().unwrap_or(Path::new("image"));
            let answered = Answered {
                path,
                image,
                objects,
                report,
            };
            let mut labels = Labels::new();
            answered.write(folder, flags, all, &mut labels)?;
            if flags.format.contains(&SegmentFormat::Yolo) {
                write_classes(folder, &labels)?;
            }
            if flags.format.contains(&SegmentFormat::Coco) {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                write_atomic_with(result_in(folder, COCO)?, |file| {
                    let mut coco = CocoWriter::new(file)?;
                    coco.image(&name, image.dimensions());
                    for object in objects {
                        coco.object(object.label(), object.score(), &object.mask().to_rle())?;
                    }
                    coco.finish()
                })?;
            }
        }
        if let Some(path) = &self.mask {
            selected_mask(objects)?.save_png(path)?;
        }
        if let Some(path) = &self.raw {
            write_raw(path, embedding, objects, flags)?;
        }
        match &self.json {
            Some(_) if self.json_on_stdout() => terminal::print_raw(&report.to_json()?),
            Some(path) => Ok(write_atomic(path, &report.to_json()?)?),
            None => Ok(()),
        }
    }

    /// The table, and which files were written.
    pub(super) fn tell(
        &self,
        flags: &SegmentFlags,
        report: &Report,
        objects: &[Object],
    ) -> Result<()> {
        let timing = &report.timing_ms;
        let mut text = format!(
            "{} {}×{}, {} in {}: load {:.0} ms, embed {:.0} ms, decode {:.0} ms, masks {:.0} ms{}\n",
            terminal::shown(&report.image.path),
            report.image.width,
            report.image.height,
            report.model,
            report.precision,
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

/// What may be written in a folder of results.
fn inside(flags: &SegmentFlags, image: &Path, objects: usize) -> impl Iterator<Item = String> {
    let names = Names::new(image, objects).all(&flags.format);
    let shared = shared(&flags.format).map(str::to_owned);
    names.into_iter().chain(shared)
}

/// An existing folder, or a path that looks like one.
fn is_folder(path: &Path) -> bool {
    path.is_dir() || path.to_string_lossy().ends_with(['/', '\\']) || path.extension().is_none()
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
