//! `samara models quantize`.

use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use samara::{Int8Model, Int8Options, Int8Report, Int8Stage, RgbImage, SegmenterOptions};
use samara_image::{ReadOptions, has_image_extension};
use walkdir::{DirEntry, WalkDir};

use crate::error::{CliError, Result};
use crate::files::{Files, Kind};
use crate::flags::QuantizeFlags;
use crate::interrupt::Interrupt;
use crate::model::of_name;
use crate::progress::Bar;
use crate::{read, terminal};

/// Writes the model with an encoder in integers.
pub(super) fn run(flags: &QuantizeFlags) -> Result<()> {
    let output = flags.output.as_path();
    let files = |source: &Path| {
        Files::new()
            .read("the checkpoint that is read", source)
            .write("--output", Kind::Model, Some(output))
    };
    files(Path::new(&flags.model)).check()?;
    let checkpoint = of_name(&flags.model)?;
    let paths = spread(&found(&flags.pictures)?, flags.most);
    let files = files(checkpoint.path());
    files.read_all("a picture", &paths).check()?;
    can_be_written(output)?;
    let pictures = read_all(&paths)?;
    let options = Int8Options::default()
        .with_max_error(flags.max_error)
        .with_segmenter(SegmenterOptions::new().with_global_thread_pool());
    let interrupt = Interrupt::listen();
    let bar = Bar::steps(0, 0, "");
    let model = Int8Model::find(&checkpoint, &pictures, &options, |stage, done, of| {
        bar.set_length(of as u64);
        bar.set_message(name(stage));
        bar.set_position(done as u64);
        if interrupt.asked().load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    bar.finish();
    let model = model.map_err(|error| match error {
        samara::Error::Cancelled => interrupt.ended("stopped; nothing was written".into()),
        error => error.into(),
    })?;
    model.save(output)?;
    terminal::print(&summary(model.report(), output))
}

/// Whether a file can be made beside the output, before an hour of work.
fn can_be_written(output: &Path) -> Result<()> {
    let folder = match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let made = tempfile::tempfile_in(folder);
    made.map(drop)
        .map_err(|error| CliError::failed(format!("--output {}: {error}", output.display())))
}

/// The images of folders and files, in the order of their names.
fn found(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for root in paths {
        if !root.exists() {
            let why = format!("{}: no such file or folder", root.display());
            return Err(CliError::failed(why));
        }
        let wanted = |entry: &DirEntry| {
            entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
        };
        let walk = WalkDir::new(root).follow_links(true).sort_by_file_name();
        let before = found.len();
        for entry in walk.into_iter().filter_entry(wanted) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if error.loop_ancestor().is_some() => continue,
                Err(error) => {
                    let path = error.path().unwrap_or(root).display();
                    let why = error
                        .io_error()
                        .map_or_else(String::new, ToString::to_string);
                    return Err(CliError::failed(format!("{path}: {why}")));
                }
            };
            let is_named = entry.depth() == 0;
            if !entry.file_type().is_dir() && (is_named || has_image_extension(entry.path())) {
                found.push(entry.into_path());
            }
        }
        if found.len() == before {
            let why = format!("{}: no picture in this folder", root.display());
            return Err(CliError::failed(why));
        }
    }
    Ok(found)
}

/// At most so many of them, from all over.
fn spread(paths: &[PathBuf], most: usize) -> Vec<PathBuf> {
    let (count, all) = (most.min(paths.len()), paths.len());
    (0..count).map(|i| paths[i * all / count].clone()).collect()
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<RgbImage>> {
    let read = |path: &PathBuf| Ok(read::read(path, &ReadOptions::default())?.image);
    paths.iter().map(read).collect()
}

fn name(stage: Int8Stage) -> &'static str {
    match stage {
        Int8Stage::Pictures => "pictures in fp32",
        Int8Stage::Smoothing => "smoothing",
        Int8Stage::Layers => "layers one by one",
        _ => "checking",
    }
}

fn summary(report: &Int8Report, output: &Path) -> String {
    let Int8Report {
        error,
        error_of_all,
        error_of_bf16,
        pictures,
        smoothing,
        integers,
        ref bf16,
    } = *report;
    let mut text = format!(
        "wrote {}\n  pictures      {pictures}\n  error         {error:.4} of the embedding against fp32; bf16 has \
         {error_of_bf16:.4}, int8 in all layers {error_of_all:.4}\n  smoothing     {smoothing}\n  \
         int8          {integers} weights\n  bf16          {} weights\n",
        terminal::name(output),
        bf16.len(),
    );
    for weight in bf16 {
        let _ = writeln!(text, "    {weight}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_from_all_over() {
        let names = |most| {
            let all: Vec<_> = (0..10).map(|i| PathBuf::from(i.to_string())).collect();
            let some = spread(&all, most);
            some.iter()
                .map(|p| p.display().to_string())
                .collect::<String>()
        };
        assert_eq!(names(3), "036");
        assert_eq!(names(100), "0123456789");
    }
}
