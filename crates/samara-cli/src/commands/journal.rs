//! A file of JSON lines: what a run is, and what of it is done.
//!
//! The first line says what the run does, and every further line is a piece of finished work. A line
//! is added in one piece, so a run that is killed loses at most what it was at.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Error, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use samara_image::write_atomic_with;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{CliError, Result};

/// The journal of a run, to be added to.
pub(super) struct Journal<T> {
    path: PathBuf,
    file: File,
    entries: PhantomData<T>,
}

impl<T: Serialize + DeserializeOwned> Journal<T> {
    /// Begins a run with the file `name` in the folder `out`, or resumes the one that is there,
    /// without the entries that `keep` does not want. `run` is what the run does; one that did
    /// something else is not gone on with.
    pub(super) fn open(
        out: &Path,
        name: &str,
        run: &Value,
        resume: bool,
        mut keep: impl FnMut(&T) -> bool,
    ) -> Result<Self> {
        let path = out.join(name);
        let failed = |e: Error| CliError::failed(format!("{}: {e}", path.display()));
        let header = format!("{run}\n");
        if path.exists() {
            if !resume {
                return Err(CliError::failed(format!(
                    "--out {}: there is a run in it; continue it with --resume, or name another folder",
                    out.display()
                )));
            }
            let lines = Lines::<T>::open(&path).map_err(failed)?;
            if lines.header != header {
                return Err(CliError::failed(format!(
                    "--resume {}: that run has another model, other inputs or other options",
                    path.display()
                )));
            }
            write_atomic_with(&path, |file| {
                file.write_all(header.as_bytes())?;
                for entry in lines {
                    let entry = entry?;
                    if keep(&entry) {
                        write_line(file, &entry)?;
                    }
                }
                Ok(())
            })?;
        } else {
            write_atomic_with(&path, |file| file.write_all(header.as_bytes()))?;
        }
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.map_err(failed)?;
        let entries = PhantomData;
        Ok(Self {
            path,
            file,
            entries,
        })
    }

    /// Adds an entry, in one piece.
    pub(super) fn add(&mut self, entry: &T) -> Result<()> {
        let mut line = Vec::new();
        let written = write_line(&mut line, entry).and_then(|()| self.file.write_all(&line));
        written.map_err(|e| CliError::failed(format!("{}: {e}", self.path.display())))
    }

    /// All entries so far.
    pub(super) fn entries(&self) -> std::io::Result<Lines<T>> {
        Lines::open(&self.path)
    }
}

fn write_line(file: &mut dyn Write, entry: &impl Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *file, entry)?;
    file.write_all(b"\n")
}

/// The entries of a journal. A last line that was cut off is skipped.
pub(super) struct Lines<T> {
    header: String,
    file: BufReader<File>,
    entries: PhantomData<T>,
}

impl<T> Lines<T> {
    fn open(path: &Path) -> std::io::Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let mut header = String::new();
        file.read_line(&mut header)?;
        let entries = PhantomData;
        Ok(Self {
            header,
            file,
            entries,
        })
    }
}

impl<T: DeserializeOwned> Iterator for Lines<T> {
    type Item = std::io::Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        match self.file.read_until(b'\n', &mut line) {
            Err(error) => Some(Err(error)),
            Ok(_) if !line.ends_with(b"\n") => None,
            Ok(_) => Some(serde_json::from_slice(&line).map_err(Error::other)),
        }
    }
}
