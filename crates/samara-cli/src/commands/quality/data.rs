//! The annotations of a data set.

use std::fmt::Write;
use std::path::Path;

use samara::{ImageLimits, Segmenter};
use samara_data::DataSet;
use samara_eval::ModelDescription;
use samara_image::write_atomic;
use samara_quality::EstimateSource;
use samara_quality::{AnnotationQuality, Audit, AuditOptions, Filter, audit, keep_others};
use serde::Serialize;

use super::head::{check_head, load_head};
use crate::commands::eval::{describe, with_bar};
use crate::commands::{ALL, left_out, open_data, tell_elsewhere};
use crate::error::{CliError, Result};
use crate::files::{Files, Kind};
use crate::flags::QualityFlags;
use crate::model::checkpoint;
use crate::progress;
use crate::terminal;

/// How many of the worst are shown.
const WORST: usize = 20;

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    model: &'a ModelDescription,
    estimate: EstimateSource,
    data: String,
    split: &'a str,
    images: usize,
    duplicates: usize,
    crowds: usize,
    too_small: usize,
    skipped: usize,
    skipped_because: String,
    failed: Vec<String>,
    annotations: &'a [AnnotationQuality],
}

pub(super) fn run(flags: &QualityFlags) -> Result<()> {
    // Everything that can be wrong is looked at before the expensive work starts.
    let checkpoint = checkpoint(&flags.model)?;
    let split = flags.split.as_deref().unwrap_or(ALL);
    let stretch = flags.read.depth.stretch;
    let data = open_data(&flags.input, split, flags.images.as_ref(), stretch)?;
    Files::new()
        .read_data(&data)
        .read_all("the head of --head", &flags.head)
        .read("the checkpoint", checkpoint.path())
        .write("--json", Kind::JsonOrStdout, flags.json.as_deref())
        .write("--report", Kind::Page, flags.report.as_deref())
        .write("--keep", Kind::Json, flags.keep.as_deref())
        .check()?;
    check_keep(flags, &data)?;
    let head = load_head(flags.head.as_deref())?;

    let place = flags.model.options();
    let segmenter = progress::spin("loading the model", || {
        Segmenter::from_checkpoint(&checkpoint, place)
    })?;
    check_head(flags.head.as_deref(), head.as_ref(), &segmenter)?;
    let worst = flags.worst.unwrap_or(WORST);
    let options = AuditOptions {
        limit: flags.limit,
        min_area: flags.min_area.unwrap_or(0),
        worst: if flags.report.is_some() { worst } else { 0 },
        limits: ImageLimits::from(&flags.read.limits),
    };
    let audit = with_bar(&data.name, |progress| {
        audit(&segmenter, head.as_ref(), &data, &options, progress)
    })?;
    let model = describe(&flags.model, checkpoint.path(), &segmenter)?;
    let mut text = audit.to_text(worst);
    if let Some(out) = &flags.keep {
        text += &keep(flags, &data, &audit, out)?;
    }
    let report = Report {
        model: &model,
        estimate: audit.source,
        data: data.root.display().to_string(),
        split,
        images: audit.images,
        duplicates: audit.duplicates(),
        crowds: audit.crowds,
        too_small: audit.too_small,
        skipped: audit.skipped.total(),
        skipped_because: audit.skipped.to_string(),
        failed: audit.skipped.unreadable(),
        annotations: &audit.annotations,
    };
    write(flags, &report, &audit, text)?;
    left_out(&report.failed, "image")
}

fn check_keep(flags: &QualityFlags, data: &DataSet) -> Result<()> {
    let Some(out) = &flags.keep else {
        return Ok(());
    };
    if data.annotations.is_none() {
        return Err(CliError::usage(format!(
            "--keep {}: {} has label maps; only COCO annotations can be written without some",
            out.display(),
            data.root.display()
        )));
    }
    tell_elsewhere("--keep", out, data);
    Ok(())
}

fn keep(flags: &QualityFlags, data: &DataSet, audit: &Audit, out: &Path) -> Result<String> {
    let filter = match (flags.min_quality, flags.drop) {
        (Some(least), _) => Filter::MinQuality(least),
        (None, Some(share)) => Filter::Drop(share),
        (None, None) => return Err(CliError::usage("--keep needs --min-quality or --drop")),
    };
    let suspects = audit.suspects(filter);
    let (kept, dropped) = keep_others(data, &suspects, out).map_err(CliError::failed)?;
    Ok(format!(
        "kept {kept} annotations, left out {dropped}\nwrote {}\n",
        terminal::name(out)
    ))
}

fn write(flags: &QualityFlags, report: &Report<'_>, audit: &Audit, mut text: String) -> Result<()> {
    if let Some(path) = &flags.report {
        let model = format!("{} ({})", report.model.model, report.model.architecture);
        let page = audit.to_html(&model).map_err(CliError::failed)?;
        write_atomic(path, page.as_bytes())?;
    }
    if let Some(path) = &flags.json {
        let mut json = serde_json::to_string_pretty(report).map_err(CliError::failed)?;
        json.push('\n');
        if path == Path::new("-") {
            return terminal::print_raw(json.as_bytes());
        }
        write_atomic(path, json.as_bytes())?;
    }
    for path in [&flags.report, &flags.json].into_iter().flatten() {
        let _ = writeln!(text, "wrote {}", terminal::name(path));
    }
    terminal::print(&text)
}
