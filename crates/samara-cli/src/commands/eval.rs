//! `samara eval`.

use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use samara::checkpoint::{Checkpoint, StorageType};
use samara::{Calibration, MaskGenerator, Segmenter, SegmenterOptions};
use samara_data::DataSet;
use samara_data::prompts::Placement;
use samara_eval::{
    CalibrationKind, CalibrationSource, EvalError, EvalOptions, Evaluation, EverythingReport,
    ModelDescription, Report, Subject, VideoDataSet, VideoEvalOptions, VideoProtocol, VideoReport,
    VideoSubject, cross_fit, evaluate, evaluate_everything, evaluate_together, evaluate_video,
    fit_calibration,
};
use samara_image::write_atomic;
use serde_json::json;

use super::{ALL, left_out, open_data};
use crate::error::{CliError, Result};
use crate::files::{Files, Kind};
use crate::flags::{CalibrationFlag, EvalFlags, ModelFlags, ProtocolFlag};
use crate::model::{checkpoint, named_checkpoint};
use crate::progress::{self, Bar};
use crate::terminal;

/// Evaluates the model that the flags name.
pub(crate) fn run(flags: &EvalFlags) -> Result<()> {
    if flags.video {
        return video(flags);
    }
    // Everything that can be wrong is looked at before the expensive work starts.
    let checkpoint = checkpoint(&flags.model)?;
    let other = flags.compare.as_deref();
    let other = other.map(|name| named_checkpoint("--compare", name));
    let other = other.transpose()?;
    let options = options(flags)?;
    let (images, stretch) = (flags.read.images.as_ref(), flags.read.depth.stretch);
    let open = |path: &PathBuf| open_data(path, &flags.split, images, stretch);
    let data_sets: Vec<DataSet> = flags.data.iter().map(open).collect::<Result<_>>()?;
    let files = outputs(flags)
        .read("the checkpoint", checkpoint.path())
        .read_all(
            "the model of --compare",
            other.as_ref().map(Checkpoint::path),
        );
    data_sets.iter().fold(files, Files::read_data).check()?;

    let own = flags.model.options();
    let segmenter = load(&checkpoint, own.clone())?;
    if flags.everything {
        return everything(flags, &segmenter, &data_sets);
    }
    let place = match flags.compare_precision {
        Some(precision) => own.with_precision(precision),
        None => own,
    };
    let other = other.map(|other| load(&other, place).map(|segmenter| (other, segmenter)));
    let other = other.transpose()?;
    let mut evaluations = evaluate_all(
        &segmenter,
        other.as_ref().map(|(_, segmenter)| segmenter),
        &data_sets,
        &options,
    )?;

    let kind = match flags.calibration {
        CalibrationFlag::Isotonic => CalibrationKind::Isotonic,
        CalibrationFlag::Temperature => CalibrationKind::Temperature,
    };
    let [of_model, of_other] = &mut evaluations;
    // A model that is about to get a new calibration is judged by that.
    let refit = flags.calibrate.is_some();
    let subject = Subject {
        model: describe(&flags.model, checkpoint.path(), &segmenter)?,
        calibration: judge(&segmenter, of_model, kind, refit),
        evaluations: of_model,
    };
    let other = match (&other, &flags.compare) {
        (Some((_, segmenter)), Some(name)) => Some(Subject {
            model: describe_as(name.clone(), &flags.model, segmenter)?,
            calibration: judge(segmenter, of_other, kind, false),
            evaluations: of_other,
        }),
        _ => None,
    };
    let report = progress::spin("confidence intervals", || {
        Report::new(&flags.split, &options, subject, other)
    });
    if let Some(out) = &flags.calibrate {
        calibrate(&checkpoint, &evaluations[0], kind, out)?;
    }
    write(flags, &report)?;
    let failed = report
        .subject
        .data_sets
        .iter()
        .flat_map(|set| set.failed.clone());
    left_out(&failed.collect::<Vec<_>>(), "image")
}

fn load(checkpoint: &Checkpoint, place: SegmenterOptions) -> Result<Segmenter> {
    let segmenter = progress::spin("loading the model", || {
        Segmenter::from_checkpoint(checkpoint, place)
    })?;
    Ok(segmenter)
}

/// Evaluates the model, and the other one beside it, on all data sets. Without another one its
/// evaluations are none.
fn evaluate_all(
    segmenter: &Segmenter,
    other: Option<&Segmenter>,
    data_sets: &[DataSet],
    options: &EvalOptions,
) -> Result<[Vec<Evaluation>; 2]> {
    let mut evaluations = [Vec::new(), Vec::new()];
    for data in data_sets {
        let [of_model, of_other] = &mut evaluations;
        with_bar(&data.name, |progress| {
            if let Some(other) = other {
                let [a, b] = evaluate_together([segmenter, other], data, options, progress)?;
                of_model.push(a);
                of_other.push(b);
            } else {
                of_model.push(evaluate(segmenter, data, options, progress)?);
            }
            Ok::<(), EvalError>(())
        })?;
    }
    Ok(evaluations)
}

/// Says what judges the scores: the model's own calibration, or one that is fitted here.
fn judge(
    segmenter: &Segmenter,
    evaluations: &mut [Evaluation],
    kind: CalibrationKind,
    refit: bool,
) -> CalibrationSource {
    if segmenter.calibration().is_some() && !refit {
        CalibrationSource::Checkpoint
    } else {
        cross_fit(evaluations, kind);
        CalibrationSource::CrossFit
    }
}

/// Evaluates segment-everything.
fn everything(flags: &EvalFlags, segmenter: &Segmenter, data_sets: &[DataSet]) -> Result<()> {
    let generator = MaskGenerator::new(segmenter, flags.generator.options()?)?;
    let mut reports = Vec::new();
    for data in data_sets {
        reports.push(with_bar(&data.name, |progress| {
            evaluate_everything(&generator, data, flags.limit, progress)
        })?);
    }
    let mut json = serde_json::to_string_pretty(&reports).map_err(CliError::failed)?;
    json.push('\n');
    let text = reports.iter().map(EverythingReport::to_text).collect();
    tell(&[&flags.json], flags.json.as_deref(), &json, text)?;
    let failed = reports.into_iter().flat_map(|report| report.failed);
    left_out(&failed.collect::<Vec<_>>(), "image")
}

/// Evaluates tracking, or masks that are there already.
fn video(flags: &EvalFlags) -> Result<()> {
    if let (Some(folder), true) = (&flags.predictions, flags.data.len() > 1) {
        return Err(CliError::usage(format!(
            "--predictions {}: these are the masks of one data set",
            folder.display()
        )));
    }
    let split = (flags.split != ALL).then_some(flags.split.as_str());
    let open = |path| VideoDataSet::open(path, split).map_err(CliError::failed);
    let data_sets: Vec<VideoDataSet> = flags.data.iter().map(open).collect::<Result<_>>()?;
    let sequences = data_sets.iter().flat_map(|data| &data.sequences);
    outputs(flags)
        .read_all("the checkpoint", &flags.model.checkpoint)
        .read_all(
            "the annotations of a video",
            sequences.map(|s| &s.annotations),
        )
        .check()?;
    let mut model = None;
    if flags.predictions.is_none() {
        let checkpoint = checkpoint(&flags.model)?;
        let place = flags.model.options();
        let segmenter = progress::spin("loading the model", || {
            Segmenter::from_checkpoint(&checkpoint, place)
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
    let has_split = flags.split == ALL || data_sets.iter().any(|data| data.split.is_some());
    let description = model.as_ref().map(|(_, description)| description);
    let all = json!({
        "model": description,
        "predictions": flags.predictions,
        "split": has_split.then_some(&flags.split),
        "data_sets": reports,
    });
    let mut json = serde_json::to_string_pretty(&all).map_err(CliError::failed)?;
    json.push('\n');
    let text = reports.iter().map(VideoReport::to_text).collect();
    tell(&[&flags.json], flags.json.as_deref(), &json, text)?;
    let failed = reports.into_iter().flat_map(|report| report.failed);
    let failed = failed.map(|sequence| sequence.error);
    left_out(&failed.collect::<Vec<_>>(), "video")
}

/// What is written.
fn outputs(flags: &EvalFlags) -> Files {
    Files::new()
        .read_all("the points of --point-grids", &flags.generator.point_grids)
        .write("--json", Kind::JsonOrStdout, flags.json.as_deref())
        .write("--report", Kind::Page, flags.report.as_deref())
        .write("--calibrate", Kind::Model, flags.calibrate.as_deref())
}

fn options(flags: &EvalFlags) -> Result<EvalOptions> {
    if let Some(max) = flags.max_area.filter(|&max| max < flags.min_area) {
        return Err(CliError::usage(format!(
            "--max-area {max}: less than --min-area {}",
            flags.min_area
        )));
    }
    let default = EvalOptions::default();
    let mut options = EvalOptions {
        draws: flags.draws.unwrap_or(default.draws),
        seed: flags.seed.unwrap_or(default.seed),
        further_clicks_at: flags.further_clicks_at.unwrap_or_default(),
        intent: flags.intent,
        zoom: flags.zoom,
        clicks: flags.clicks.into(),
        noc: flags.noc,
        max_objects: flags.max_objects,
        limit: flags.limit,
        min_area: flags.min_area,
        max_area: flags.max_area,
        ..default
    };
    if !flags.clicks_at.is_empty() {
        options.clicks_at.clone_from(&flags.clicks_at);
    }
    options.clicks_at = options.placements();
    check_draws(flags, &options)?;
    Ok(options)
}

/// Refuses what is said of drawn and of further clicks where there are none.
fn check_draws(flags: &EvalFlags, options: &EvalOptions) -> Result<()> {
    if let (Some(place), 1, false) = (flags.further_clicks_at, flags.clicks, flags.noc) {
        return Err(CliError::usage(format!(
            "--further-clicks-at {place}: no click follows the first one with --clicks 1"
        )));
    }
    let first = options.clicks_at.iter().any(|&at| at != Placement::Center);
    let further = options.further_clicks_at != Placement::Center;
    let unused = match (flags.draws, flags.seed) {
        (Some(draws), _) if !first => format!("--draws {draws}"),
        (_, Some(seed)) if !first && !further => format!("--seed {seed}"),
        _ => return Ok(()),
    };
    Err(CliError::usage(format!(
        "{unused}: no click is drawn with --clicks-at center; add uniform or human"
    )))
}

/// Runs an evaluation, or another work on a data set, with a bar for its images.
pub(super) fn with_bar<T, E: Into<CliError>>(
    name: &str,
    evaluate: impl FnOnce(&mut dyn FnMut(usize, usize) -> ControlFlow<()>) -> Result<T, E>,
) -> Result<T> {
    let bar = Bar::steps(0, 0, name);
    let evaluation = evaluate(&mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        ControlFlow::Continue(())
    });
    bar.finish();
    evaluation.map_err(Into::into)
}

pub(super) fn describe(
    flags: &ModelFlags,
    path: &Path,
    segmenter: &Segmenter,
) -> Result<ModelDescription> {
    let file = || path.display().to_string();
    describe_as(flags.model.clone().unwrap_or_else(file), flags, segmenter)
}

/// As [`describe`], for a model with another name than the flags say.
fn describe_as(
    model: String,
    flags: &ModelFlags,
    segmenter: &Segmenter,
) -> Result<ModelDescription> {
    Ok(ModelDescription {
        model,
        architecture: segmenter.architecture(),
        fingerprint: segmenter.fingerprint()?.to_owned(),
        precision: segmenter.precision().name(),
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
        .convert_with(out, as_it_is, &[(Calibration::KEY, calibration)], &[])
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
        Some(path) if path == Path::new("-") => return terminal::print_raw(json.as_bytes()),
        Some(path) => write_atomic(path, json.as_bytes())?,
        None => {}
    }
    for path in files.iter().copied().flatten() {
        let _ = writeln!(text, "wrote {}", terminal::name(path));
    }
    terminal::print(&text)
}
