//! `manifest.jsonl`: what a run is, and what of it is done.
//!
//! The first line says what the run does, and every further line stands for one picture. A line is
//! added when all results of the picture are in place, so a run that is killed loses at most the
//! picture it was at.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Error, Write};
use std::path::{Path, PathBuf};

use samara::image::write_atomic_with;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{CliError, Result};

const FILE: &str = "manifest.jsonl";

/// What became of a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Name of the picture, as its results'.
    pub(super) image: String,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Outcome {
    Done {
        width: u32,
        height: u32,
        /// How many masks it has.
        masks: usize,
    },
    Failed {
        error: String,
    },
}

/// The manifest of a run, to be added to.
pub(super) struct Manifest {
    path: PathBuf,
    file: File,
}

/// The pictures that were done before: 16 bytes for each, however long the names are.
#[derive(Default)]
pub(super) struct Done(HashSet<[u8; 16]>);

impl Done {
    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains(&Self::digest(name))
    }

    fn digest(name: &str) -> [u8; 16] {
        let mut digest = [0; 16];
        digest.copy_from_slice(&Sha256::digest(name)[..16]);
        digest
    }
}

impl Manifest {
    /// Begins a run in the folder `out`, or goes on with the one that is there. `run` is what the
    /// run does; one that did something else is not gone on with.
    pub(super) fn open(out: &Path, run: &Value, resume: bool) -> Result<(Self, Done)> {
        let path = out.join(FILE);
        let failed = |e: Error| CliError::failed(format!("{}: {e}", path.display()));
        let mut done = Done::default();
        let header = format!("{run}\n");
        if path.exists() {
            if !resume {
                return Err(CliError::failed(format!(
                    "--out {}: there is a run in it; go on with it by --resume, or name another folder",
                    out.display()
                )));
            }
            let lines = Lines::open(&path).map_err(failed)?;
            if lines.header != header {
                return Err(CliError::failed(format!(
                    "--resume {}: that run has another model, other options or formats",
                    path.display()
                )));
            }
            write_atomic_with(&path, |file| {
                file.write_all(header.as_bytes())?;
                for entry in lines {
                    let entry = entry?;
                    // What failed is tried again.
                    if matches!(entry.outcome, Outcome::Done { .. }) {
                        done.0.insert(Done::digest(&entry.image));
                        write_line(file, &entry)?;
                    }
                }
                Ok(())
            })?;
        } else {
            write_atomic_with(&path, |file| file.write_all(header.as_bytes()))?;
        }
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(failed)?;
        Ok((Self { path, file }, done))
    }

    /// Adds a picture, in one piece.
    pub(super) fn add(&mut self, entry: &Entry) -> Result<()> {
        let mut line = Vec::new();
        let written = write_line(&mut line, entry).and_then(|()| self.file.write_all(&line));
        written.map_err(|e| CliError::failed(format!("{}: {e}", self.path.display())))
    }

    /// All pictures so far.
    pub(super) fn entries(&self) -> std::io::Result<Lines> {
        Lines::open(&self.path)
    }
}

fn write_line(file: &mut dyn Write, entry: &Entry) -> std::io::Result<()> {
    serde_json::to_writer(&mut *file, entry)?;
    file.write_all(b"\n")
}

/// The pictures of a manifest. A last line that was cut off is left out.
pub(super) struct Lines {
    header: String,
    file: BufReader<File>,
}

impl Lines {
    fn open(path: &Path) -> std::io::Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let mut header = String::new();
        file.read_line(&mut header)?;
        Ok(Self { header, file })
    }
}

impl Iterator for Lines {
    type Item = std::io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        match self.file.read_until(b'\n', &mut line) {
            Err(error) => Some(Err(error)),
            Ok(_) if !line.ends_with(b"\n") => None,
            Ok(_) => Some(serde_json::from_slice(&line).map_err(Error::other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn done(image: &str) -> Entry {
        let outcome = Outcome::Done {
            width: 4,
            height: 3,
            masks: 2,
        };
        Entry {
            image: image.into(),
            outcome,
        }
    }

    fn failed(image: &str) -> Entry {
        let outcome = Outcome::Failed {
            error: "cut".into(),
        };
        Entry {
            image: image.into(),
            outcome,
        }
    }

    #[test]
    fn a_run_goes_on_without_what_failed_or_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let run = json!({"model": "lite"});
        let (mut manifest, known) = Manifest::open(folder.path(), &run, false).unwrap();
        assert!(!known.contains("a.png"));
        for entry in [done("a.png"), failed("b.png"), done("c.png")] {
            manifest.add(&entry).unwrap();
        }
        let path = folder.path().join(FILE);
        let mut text = std::fs::read(&path).unwrap();
        text.extend(br#"{"image":"d.png","wid"#);
        std::fs::write(&path, text).unwrap();

        assert!(Manifest::open(folder.path(), &run, false).is_err());
        assert!(Manifest::open(folder.path(), &json!({"model": "sam"}), true).is_err());
        let (mut manifest, known) = Manifest::open(folder.path(), &run, true).unwrap();
        let names = ["a.png", "b.png", "c.png", "d.png"];
        assert_eq!(names.map(|n| known.contains(n)), [true, false, true, false]);
        manifest.add(&done("b.png")).unwrap();
        let entries: Vec<Entry> = manifest.entries().unwrap().map(Result::unwrap).collect();
        assert_eq!(entries, [done("a.png"), done("c.png"), done("b.png")]);
    }

    #[test]
    fn a_damaged_line_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let run = json!({});
        let text = "{}\n{\"image\":\"a\n{\"image\":\"b\",\"error\":\"x\"}\n";
        std::fs::write(folder.path().join(FILE), text).unwrap();
        assert!(Manifest::open(folder.path(), &run, true).is_err());
    }
}
