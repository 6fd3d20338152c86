//! `samara models`.

mod quantize;

use std::fmt::Write;
use std::path::Path;

use indicatif::HumanBytes;
use samara::checkpoint::cache::ModelCache;
use samara::checkpoint::download::{DownloadOptions, Stage, download};
use samara::checkpoint::registry::{Release, find, releases};
use samara::checkpoint::{CheckpointInfo, Naming, StorageType};
use serde_json::json;

use crate::error::{CliError, Result};
use crate::files::{Files, Kind};
use crate::flags::{DtypeFlag, ModelsCommand};
use crate::model::of_name;
use crate::progress::{self, Bar};
use crate::terminal;

/// Runs a `models` sub-command.
pub(crate) fn run(command: ModelsCommand) -> Result<()> {
    match command {
        ModelsCommand::List { json } => list(json),
        ModelsCommand::Info { model, json } => info(&model, json),
        ModelsCommand::Download {
            name,
            base_url,
            force,
        } => fetch(&name, base_url, force),
        ModelsCommand::Convert {
            input,
            output,
            dtype,
            input_side,
            unchecked_weights,
        } => convert(&input, &output, dtype, input_side, unchecked_weights),
        ModelsCommand::Quantize(flags) => quantize::run(&flags),
    }
}

fn list(as_json: bool) -> Result<()> {
    let cache = ModelCache::locate().map_err(CliError::failed)?;
    if as_json {
        let record = |r: &Release| {
            json!({
                "name": r.name, "family": r.family.to_string(), "size": r.size,
                "parameters": r.parameters, "licence": r.licence, "url": r.url(),
                "sha256": r.sha256, "path": cache.find(r),
                "description": r.description,
            })
        };
        let records: Vec<_> = releases().iter().map(record).collect();
        return terminal::print_raw(format!("{:#}\n", json!(records)).as_bytes());
    }
    let mut text = String::from("name              download    parameters  licence     state\n");
    #[cfg(feature = "embedded")]
    let _ = writeln!(
        text,
        "{:<16}  {:>10}  {:>8.1} M  {:<10}  the default, part of this program",
        samara::EMBEDDED_MODEL,
        "",
        embedded_parameters()? / 1e6,
        "see card"
    );
    for r in releases() {
        let state = if cache.contains(r) {
            "on this machine"
        } else {
            ""
        };
        let size = r
            .size
            .map_or_else(String::new, |size| HumanBytes(size).to_string());
        let millions = r.parameters as f64 / 1e6;
        let line = format!(
            "{:<16}  {size:>10}  {millions:>8.1} M  {:<10}  {state}",
            r.name, r.licence
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let _ = writeln!(text, "cache: {}", terminal::name(cache.dir()));
    terminal::print(&text)
}

#[cfg(feature = "embedded")]
fn embedded_parameters() -> Result<f64> {
    let info = samara::embedded_checkpoint()?.info();
    Ok(info.map_err(CliError::failed)?.parameters as f64)
}

fn info(model: &str, as_json: bool) -> Result<()> {
    let checkpoint = of_name(model)?;
    let info = checkpoint.info().map_err(CliError::failed)?;
    let path = checkpoint.path();
    let naming = match info.naming {
        Naming::Official => "official",
        Naming::Transformers => "transformers",
    };
    let format = format!("{:?}", info.format).to_lowercase();
    if as_json {
        let record = json!({
            "path": path, "architecture": info.architecture, "format": format, "naming": naming,
            "prefix": info.prefix, "other_weights": info.other_weights,
            "tensors": info.tensors, "values": info.parameters, "dtypes": info.dtypes,
            "heads": info.heads, "metadata": info.metadata,
        });
        return terminal::print_raw(format!("{record:#}\n").as_bytes());
    }
    let mut text = format!(
        "{}\n  architecture  {}\n  format        {format}, {naming} names\n  \
         tensors       {} with {} values, stored as {}\n",
        terminal::name(path),
        info.architecture,
        info.tensors,
        info.parameters,
        info.dtypes.join(", ")
    );
    if !info.prefix.is_empty() || !info.other_weights.is_empty() {
        let _ = writeln!(text, "  weights       {}", taken(&info));
    }
    if !info.heads.is_empty() {
        let _ = writeln!(text, "  heads         {}", info.heads.join(", "));
    }
    for (key, value) in &info.metadata {
        let _ = writeln!(text, "  {key}  {value}");
    }
    terminal::print(&text)
}

/// Which of the weights in a file are used: `those under ema., not those under model.`.
fn taken(info: &CheckpointInfo) -> String {
    let under = |prefix: &String| match prefix.as_str() {
        "" => "those under no further name".to_owned(),
        prefix => format!("those under {prefix}"),
    };
    let others: Vec<String> = info.other_weights.iter().map(under).collect();
    match &others[..] {
        [] => under(&info.prefix),
        others => format!("{}, not {}", under(&info.prefix), others.join(", ")),
    }
}

fn fetch(name: &str, base_url: Option<String>, force: bool) -> Result<()> {
    let release = find(name).map_err(CliError::usage)?;
    let options = DownloadOptions {
        base_url,
        force,
        ..DownloadOptions::default()
    };
    let bar = Bar::bytes(release.size.unwrap_or(0), release.name);
    let mut outcome = "already there";
    let path = download(release, &options, &mut |progress| {
        if let Some(total) = progress.total {
            bar.set_length(total);
        }
        bar.set_position(progress.done);
        match progress.stage {
            Stage::Checking => bar.set_message(format!("{}: checking", release.name)),
            Stage::Waiting => {
                bar.set_message(format!("{}: connection lost, waiting", release.name));
            }
            Stage::Verified => outcome = "SHA-256 verified",
            Stage::Unverified => outcome = "not verified: its SHA-256 is not known",
            _ => bar.set_message(release.name),
        }
    });
    bar.finish();
    let path = path.map_err(CliError::failed)?;
    terminal::print(&format!(
        "{} ({outcome}, {})\n",
        path.display(),
        release.licence
    ))
}

fn convert(
    input: &Path,
    output: &Path,
    dtype: Option<DtypeFlag>,
    input_side: Option<usize>,
    unchecked_weights: bool,
) -> Result<()> {
    let files = |source: &Path| {
        Files::new()
            .read("the checkpoint that is read", source)
            .write("OUTPUT", Kind::Model, Some(output))
    };
    files(input).check()?;
    let storage = dtype.map(|dtype| match dtype {
        DtypeFlag::F32 => StorageType::F32,
        DtypeFlag::F16 => StorageType::F16,
        DtypeFlag::Bf16 => StorageType::BF16,
        DtypeFlag::I8 => StorageType::I8,
    });
    let mut checkpoint = of_name(&input.to_string_lossy())?;
    files(checkpoint.path()).check()?;
    if unchecked_weights {
        checkpoint = checkpoint.with_unchecked_weights();
    }
    if let Some(side) = input_side {
        let resized = checkpoint.with_input_side(side);
        checkpoint = resized.map_err(|e| CliError::usage(format!("--input-side {side}: {e}")))?;
    }
    let converted = progress::spin("converting", || checkpoint.convert(output, storage));
    converted.map_err(CliError::failed)?;
    terminal::print(&format!("wrote {}\n", terminal::name(output)))
}
