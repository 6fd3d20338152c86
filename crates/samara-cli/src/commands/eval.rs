//! `samara eval`.

use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use samara::checkpoint::{Checkpoint, StorageType};
use samara::image::write_atomic;
use samara::{Calibration, MaskGenerator, MaskGeneratorOptions, Segmenter};
use samara_train::data::DataSet;
use samara_train::eval::{
    CalibrationKind, CalibrationSource, EvalError, EvalOptions, Evaluation, EverythingReport,
    ModelDescription, Report, VideoDataSet, VideoEvalOptions, VideoProtocol, VideoReport,
    VideoSubject, cross_fit, evaluate, evaluate_everything, evaluate_video, fit_calibration,
    keep_predicted,
};
use serde_json::json;

use crate::args::{check_parent, checkpoint};
use crate::error::{CliError, Result};
use crate::flags::{CalibrationFlag, EvalFlags, ModelFlags, ProtocolFlag};
use crate::terminal;

/// The split that means every image.
pub(super) const ALL: &str = "all";

/// Evaluates the model that the flags name.
pub(crate) fn run(flags: &EvalFlags) -> Result<()> {
    if flags.video {
        return video(flags);
    }
    // Everything that can be wrong is looked at before the expensive work starts.
    let checkpoint = checkpoint(&flags.model)?;
    check_outputs(flags)?;
    let split = (flags.split != ALL).then_some(flags.split.as_str());
    let open = |path| DataSet::open(path, split).map_err(CliError::failed);
    let data_sets: Vec<DataSet> = flags.data.iter().map(open).collect::<Result<_>>()?;

    let device = flags.model.device.device.open()?;
    let segmenter = terminal::spin("loading the model", || {
        Segmenter::from_checkpoint(&checkpoint, &device)
    })?;
    if flags.everything {
        return everything(flags, &segmenter, &data_sets);
    }
    let options = options(flags);
    let mut evaluations = data_sets
        .iter()
        .map(|data| {
            with_bar(&data.name, |progress| {
                evaluate(&segmenter, data, &options, progress)
            })
        })
        .collect::<Result<Vec<Evaluation>>>()?;

    let kind = match flags.calibration {
        CalibrationFlag::Isotonic => CalibrationKind::Isotonic,
        CalibrationFlag::Temperature => CalibrationKind::Temperature,
    };
    // A model that is about to get a new calibration is judged by that.
    let source = if segmenter.calibration().is_some() && flags.calibrate.is_none() {
        keep_predicted(&mut evaluations);
        CalibrationSource::Checkpoint
    } else {
        cross_fit(&mut evaluations, kind);
        CalibrationSource::CrossFit
    };
    let model = describe(&flags.model, checkpoint.path(), &segmenter)?;
    let report = terminal::spin("confidence intervals", || {
        Report::new(model, &flags.split, &options, source, &evaluations)
    });
    if let Some(out) = &flags.calibrate {
        calibrate(&checkpoint, &evaluations, kind, out)?;
    }
    write(flags, &report)
}

/// Evaluates segment-everything.
fn everything(flags: &EvalFlags, segmenter: &Segmenter, data_sets: &[DataSet]) -> Result<()> {
    let options = MaskGeneratorOptions::for_model(segmenter.config(), segmenter.calibration());
    let generator = MaskGenerator::new(segmenter, flags.generator.options(options)?)?;
    let mut reports = Vec::new();
    for data in data_sets {
        reports.push(with_bar(&data.name, |progress| {
            evaluate_everything(&generator, data, flags.limit, progress)
        })?);
    }
    let mut json = serde_json::to_string_pretty(&reports).map_err(CliError::failed)?;
    json.push('\n');
    let text = reports.iter().map(EverythingReport::to_text).collect();
    tell(&[&flags.json], flags.json.as_deref(), &json, text)
}

/// Evaluates tracking, or masks that are there already.
fn video(flags: &EvalFlags) -> Result<()> {
    check_outputs(flags)?;
    if let (Some(folder), true) = (&flags.predictions, flags.data.len() > 1) {
        return Err(CliError::usage(format!(
            "--predictions {}: these are the masks of one data set",
            folder.display()
        )));
    }
    let split = (flags.split != ALL).then_some(flags.split.as_str());
    let open = |path| VideoDataSet::open(path, split).map_err(CliError::failed);
    let data_sets: Vec<VideoDataSet> = flags.data.iter().map(open).collect::<Result<_>>()?;
    let mut model = None;
    if flags.predictions.is_none() {
        let checkpoint = checkpoint(&flags.model)?;
        let device = flags.model.device.device.open()?;
        let segmenter = terminal::spin("loading the model", || {
            Segmenter::from_checkpoint(&checkpoint, &device)
        })?;
        let description = describe(&flags.model, checkpoint.path(), &segmenter)?;
        model = Some((segmenter, description));
    }
    let subject = match (&model, &flags.predictions) {
        (Some((segmenter, _)), _) => VideoSubject::Model(segmenter),
        (None, Some(folder)) => VideoSubject::Predictions(folder),
        (None, None) => return Err(CliError::usage("a model or --predictions is needed")),
    };
    let options = VideoEvalOptions {
        protocol: flags.protocol.map(|protocol| match protocol {
            ProtocolFlag::Davis => VideoProtocol::Davis,
            ProtocolFlag::Sav => VideoProtocol::Sav,
        }),
        limit: flags.limit,
    };
    let evaluate = |data: &VideoDataSet| {
        with_bar(&data.name, |progress| {
            evaluate_video(subject, data, &options, progress)
        })
    };
    let reports: Vec<VideoReport> = data_sets.iter().map(evaluate).collect::<Result<_>>()?;
    let description = model.as_ref().map(|(_, description)| description);
    let all = json!({
        "model": description,
        "predictions": flags.predictions,
        "split": flags.split,
        "data_sets": reports,
    });
    let mut json = serde_json::to_string_pretty(&all).map_err(CliError::failed)?;
    json.push('\n');
    let text = reports.iter().map(VideoReport::to_text).collect();
    tell(&[&flags.json], flags.json.as_deref(), &json, text)
}

fn check_outputs(flags: &EvalFlags) -> Result<()> {
    for (flag, path) in [
        ("--json", &flags.json),
        ("--report", &flags.report),
        ("--calibrate", &flags.calibrate),
    ] {
        if let Some(path) = path {
            check_parent(flag, path)?;
        }
    }
    match &flags.calibrate {
        Some(path) if path.extension().is_none_or(|e| e != "safetensors") => {
            Err(CliError::usage(format!(
                "--calibrate {}: the output is a .safetensors file",
                path.display()
            )))
        }
        _ => Ok(()),
    }
}

fn options(flags: &EvalFlags) -> EvalOptions {
    EvalOptions {
        clicks: flags.clicks.into(),
        noc: flags.noc,
        max_objects: flags.max_objects,
        limit: flags.limit,
        min_area: flags.min_area,
        ..EvalOptions::default()
    }
}

/// Runs an evaluation, or another work on a data set, with a bar for its pictures.
pub(super) fn with_bar<T>(
    name: &str,
    evaluate: impl FnOnce(&mut dyn FnMut(usize, usize) -> ControlFlow<()>) -> Result<T, EvalError>,
) -> Result<T> {
    let bar = terminal::steps_bar(0, name);
    let evaluation = evaluate(&mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    evaluation.map_err(|error| match error {
        EvalError::Model(error) => error.into(),
        other => CliError::failed(other),
    })
}

pub(super) fn describe(
    flags: &ModelFlags,
    path: &Path,
    segmenter: &Segmenter,
) -> Result<ModelDescription> {
    let file = || path.display().to_string();
    Ok(ModelDescription {
        model: flags.model.clone().unwrap_or_else(file),
        architecture: segmenter.architecture(),
        fingerprint: segmenter.fingerprint()?.to_owned(),
        device: flags.device.device.to_string(),
    })
}

/// Writes the checkpoint with a calibration fitted to everything that was evaluated.
fn calibrate(
    checkpoint: &Checkpoint,
    evaluations: &[Evaluation],
    kind: CalibrationKind,
    out: &Path,
) -> Result<()> {
    let calibration = fit_calibration(evaluations, kind)?.to_json()?;
    let as_it_is: Option<StorageType> = None;
    checkpoint
        .convert_with(out, as_it_is, &[(Calibration::KEY, calibration)])
        .map_err(CliError::failed)
}

fn write(flags: &EvalFlags, report: &Report) -> Result<()> {
    if let Some(path) = &flags.report {
        let page = report.to_html().map_err(CliError::failed)?;
        write_atomic(path, page.as_bytes())?;
    }
    let json = report.to_json().map_err(CliError::failed)?;
    let files = [&flags.json, &flags.report, &flags.calibrate];
    tell(&files, flags.json.as_deref(), &json, report.to_text())
}

/// The figures as JSON, or as text with the files that were written.
fn tell(
    files: &[&Option<PathBuf>],
    json_to: Option<&Path>,
    json: &str,
    mut text: String,
) -> Result<()> {
    match json_to {
        Some(path) if path == Path::new("-") => return terminal::print(json),
        Some(path) => write_atomic(path, json.as_bytes())?,
        None => {}
    }
    for path in files.iter().copied().flatten() {
        let _ = writeln!(text, "wrote {}", path.display());
    }
    terminal::print(&text)
}
