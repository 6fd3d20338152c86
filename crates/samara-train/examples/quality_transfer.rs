//! Teaches a model to judge masks that it did not make, and measures how well it does, before and
//! after:
//!
//! ```text
//! cargo run --release -p samara-train --example quality_transfer -- crates/samara-lite/quality.safetensors \
//!     --fit data/coco256 --fit data/bsds500 \
//!     --measure data/coco256 --measure data/bsds500
//! ```
//!
//! The head is fitted to the training splits and measured on the validation splits. Without `--fit`
//! an existing head is measured. `--with-box` measures masks that come with a rough box of their
//! object, `--limit N` looks at N images of a set, `--checkpoint FILE` takes another model than the
//! embedded one.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example says what it did"
)]

use std::error::Error;
use std::ops::ControlFlow;
use std::path::PathBuf;

use samara::{DeviceKind, Segmenter};
use samara_data::{Damage, DataSet};
use samara_quality::{DamageOptions, DamagedMask, QualityHead, damaged_masks, measure};
use samara_train::{FitOptions, fit_quality_head};

struct Arguments {
    head: PathBuf,
    fit: Vec<PathBuf>,
    measure: Vec<PathBuf>,
    checkpoint: Option<PathBuf>,
    /// Masks are measured together with a rough box of their object.
    boxes: bool,
    limit: Option<usize>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = arguments()?;
    let segmenter = match &arguments.checkpoint {
        Some(path) => Segmenter::load(path, DeviceKind::Cpu)?,
        None => Segmenter::embedded(DeviceKind::Cpu)?,
    };
    let look = |path: &PathBuf, split: &str, options: DamageOptions| {
        let data = DataSet::open(path, Some(split))?;
        let limit = arguments.limit;
        let options = DamageOptions { limit, ..options };
        damaged_masks(&segmenter, &data, &options, &mut |done, all| {
            eprint!("\r{} {split}: {done}/{all}  ", data.name);
            ControlFlow::Continue(())
        })
        .map_err(Box::<dyn Error>::from)
    };
    if !arguments.fit.is_empty() {
        let mut masks = Vec::new();
        for path in &arguments.fit {
            let claims = 0.3;
            let options = DamageOptions {
                claims,
                per_object: 4,
                seed: 1,
                ..DamageOptions::default()
            };
            masks.extend(look(path, "train", options)?);
        }
        let device = samara::tensors::open_device(DeviceKind::Cpu)?;
        let fingerprint = segmenter.fingerprint()?;
        fit_quality_head(&masks, fingerprint, &FitOptions::default(), &device)?
            .save(&arguments.head)?;
        println!("\nfitted to {} masks", masks.len());
    }
    let head = QualityHead::load(&arguments.head)?;
    for path in &arguments.measure {
        let options = DamageOptions {
            claims: f64::from(u8::from(arguments.boxes)),
            seed: 2,
            ..DamageOptions::default()
        };
        let masks = look(path, "val", options)?;
        println!("\n{}", path.display());
        tell(&masks, &head)?;
    }
    Ok(())
}

fn tell(masks: &[DamagedMask], head: &QualityHead) -> Result<(), Box<dyn Error>> {
    let predicted = |m: &DamagedMask| m.predicted_iou;
    let estimate = |m: &DamagedMask| head.estimate(&m.evidence).map(|e| f64::from(e.0));
    let before: Vec<f64> = masks.iter().map(predicted).collect();
    let after: Vec<f64> = masks.iter().map(estimate).collect::<Result<_, _>>()?;
    for (name, estimates) in [("before", &before), ("after", &after)] {
        let figures = measure(masks, estimates);
        println!(
            "  {name:<7} {} masks, Spearman {:.3}, MAE {:.3}, wrong objects in the worst decile {:.1} %",
            figures.masks,
            figures.spearman.unwrap_or(f64::NAN),
            figures.mae,
            100.0 * figures.wrong_in_worst_decile.unwrap_or(f64::NAN)
        );
    }
    let kinds = std::iter::once(None).chain(Damage::ALL.map(Some));
    for kind in kinds {
        let of = || masks.iter().zip(&after).filter(|(m, _)| m.damage == kind);
        let count = of().count().max(1) as f64;
        println!(
            "  {:<13} {:>5} masks, mean IoU {:.2}, mean estimate {:.2}",
            kind.map_or("undamaged", Damage::name),
            of().count(),
            of().map(|(m, _)| m.iou).sum::<f64>() / count,
            of().map(|(_, e)| e).sum::<f64>() / count
        );
    }
    Ok(())
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut arguments = Arguments {
        head: PathBuf::new(),
        fit: Vec::new(),
        measure: Vec::new(),
        checkpoint: None,
        boxes: false,
        limit: None,
    };
    let mut rest = std::env::args().skip(1);
    while let Some(argument) = rest.next() {
        let mut value = || {
            rest.next()
                .ok_or_else(|| format!("{argument} needs a value"))
        };
        match argument.as_str() {
            "--fit" => arguments.fit.push(value()?.into()),
            "--measure" => arguments.measure.push(value()?.into()),
            "--checkpoint" => arguments.checkpoint = Some(value()?.into()),
            "--with-box" => arguments.boxes = true,
            "--limit" => arguments.limit = Some(value()?.parse()?),
            head => arguments.head = head.into(),
        }
    }
    if arguments.head.as_os_str().is_empty() {
        return Err(
            "usage: quality_transfer HEAD.safetensors [--fit DATA]… [--measure DATA]…".into(),
        );
    }
    Ok(arguments)
}
