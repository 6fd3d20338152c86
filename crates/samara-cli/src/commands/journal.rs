//! A file of JSON lines: what a run is, and what of it is done.
//!
//! The first line says what the run does, and every further line is a piece of finished work. A line
//! is added in one piece with a checksum, so a run that is killed loses at most what it was at, and what a
//! power failure has damaged is found and done again.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Error, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use samara_image::{FolderLock, write_atomic_with};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{CliError, Result};
use crate::files::result_in;
use crate::terminal;

/// How a run begins in a folder that may hold one already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// A folder with a run is refused.
    Anew,
    /// The run that is there goes on.
    Resume,
    /// The run that is there is given up.
    Overwrite,
}

impl Begin {
    pub(crate) fn of(resume: bool, overwrite: bool) -> Self {
        match (resume, overwrite) {
            (true, _) => Self::Resume,
            (_, true) => Self::Overwrite,
            _ => Self::Anew,
        }
    }
}

/// The folder of a run, kept from other processes as long as this lives.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    _lock: FolderLock,
}

impl RunFolder {
    /// Makes the folder if it is not there, and removes what a killed run has left half-written in it. One that
    /// was made and in which nothing was written is removed again.
    ///
    /// # Errors
    /// Another process works there, or the folder cannot be made.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let lock = FolderLock::acquire(path);
        let failed = |e| CliError::failed(format!("--out {}: {e}", path.display()));
        Ok(Self {
            path: path.into(),
            _lock: lock.map_err(failed)?,
        })
    }

    /// The same for one of several processes that work in the folder side by side, and stay away from each other's
    /// files by themselves. Nothing is removed.
    ///
    /// # Errors
    /// A process has the folder to itself, or the folder cannot be made.
    pub(crate) fn share(path: &Path) -> Result<Self> {
        let lock = FolderLock::share(path);
        let failed = |e| CliError::failed(format!("--out {}: {e}", path.display()));
        Ok(Self {
            path: path.into(),
            _lock: lock.map_err(failed)?,
        })
    }

    /// Refuses to replace what no run has written here: nobody said that it may go.
    pub(crate) fn refuse_others<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let mut paths = names.into_iter().map(|name| self.path.join(name));
        match paths.find(|path| path.exists()) {
            Some(path) => Err(CliError::failed(format!(
                "{}: is there already; --overwrite replaces it",
                path.display()
            ))),
            None => Ok(()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a file of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.path.join(name).exists()
    }
}

/// The journal of a run, to be added to.
pub(super) struct Journal<T> {
    path: PathBuf,
    file: File,
    entries: PhantomData<T>,
}

impl<T: Serialize + DeserializeOwned> Journal<T> {
    /// Begins a run with the file `name` in the folder, or resumes the one that is there, without the entries
    /// that `keep` does not want. `run` is what the run does; one that did something else is not resumed.
    pub(super) fn open(
        folder: &RunFolder,
        name: &str,
        run: &Value,
        begin: Begin,
        mut keep: impl FnMut(&T) -> bool,
    ) -> Result<Self> {
        let path = match begin {
            Begin::Overwrite => result_in(&folder.path, name)?,
            Begin::Anew | Begin::Resume => folder.path.join(name),
        };
        let failed = |e: Error| CliError::failed(format!("{}: {e}", path.display()));
        let header = format!("{run}\n");
        let is_there = path.exists();
        if is_there && !path.is_file() {
            let why = format!("{}: is not a regular file", path.display());
            return Err(CliError::failed(why));
        }
        if is_there && begin == Begin::Anew {
            return Err(CliError::failed(format!(
                "--out {}: there is a run in it; --resume continues it, --overwrite begins anew, or name another folder",
                folder.path.display()
            )));
        }
        if is_there && begin == Begin::Resume {
            let mut lines = Lines::<T>::of(&path, run, "--resume")?;
            write_atomic_with(&path, |file| {
                file.write_all(header.as_bytes())?;
                for entry in &mut lines {
                    let entry = entry?;
                    if keep(&entry) {
                        file.write_all(&line(&entry)?)?;
                    }
                }
                Ok(())
            })?;
            if let Some(damaged) = lines.damaged {
                let name = terminal::name(&path);
                let note = format!(
                    "{name}: line {damaged} is damaged; what it and further lines tell is done again"
                );
                terminal::tell("notice", &note);
            }
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

    /// Adds an entry, in one piece, and waits until the disk has it.
    pub(super) fn add(&mut self, entry: &T) -> Result<()> {
        let written = line(entry).and_then(|line| self.file.write_all(&line));
        written
            .and_then(|()| self.file.sync_data())
            .map_err(|e| CliError::failed(format!("{}: {e}", self.path.display())))
    }

    /// All entries so far.
    pub(super) fn entries(&self) -> std::io::Result<Lines<T>> {
        Lines::open(&self.path)
    }
}

/// Writes the whole journal of a run, or nothing: `fill` hands over the entries.
pub(super) fn write_whole<T: Serialize>(
    path: &Path,
    run: &Value,
    fill: impl FnOnce(&mut dyn FnMut(&T) -> Result<()>) -> Result<()>,
) -> Result<()> {
    let mut refused = None;
    let written = write_atomic_with(path, |file| {
        writeln!(file, "{run}")?;
        let mut add = |entry: &T| {
            let line = line(entry).and_then(|line| file.write_all(&line));
            line.map_err(|e| CliError::failed(format!("{}: {e}", path.display())))
        };
        fill(&mut add).map_err(|error| {
            refused = Some(error);
            Error::other("refused")
        })
    });
    refused.map_or(written.map_err(Into::into), Err)
}

/// What stands between the JSON object of an entry and its checksum.
const CHECKSUM: &[u8] = b",\"crc32\":\"";
/// Bytes of that, the eight digits, and the end of the object.
const CHECKED: usize = CHECKSUM.len() + 8 + 2;

/// An entry as a line: a JSON object whose last field is the CRC-32 of what is before that field.
fn line(entry: &impl Serialize) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(entry)?;
    line.pop();
    let sum = crc32fast::hash(&line);
    line.extend(CHECKSUM);
    writeln!(line, "{sum:08x}\"}}")?;
    Ok(line)
}

/// The entry of a line without its line break, if it is what was written.
fn entry<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let (object, end) = line.split_at_checked(line.len().checked_sub(CHECKED)?)?;
    let sum = format!("{:08x}\"}}", crc32fast::hash(object));
    if end.strip_prefix(CHECKSUM)? != sum.as_bytes() {
        return None;
    }
    serde_json::from_slice(&[object, b"}"].concat()).ok()
}

/// Why a run with another header is not resumed.
fn objection(there: &str, here: &Value) -> String {
    let Ok(there) = serde_json::from_str::<Value>(there) else {
        return "the first line is damaged; --overwrite begins anew".into();
    };
    match difference("", &there, here) {
        Some(what) => format!("that run had {what}"),
        None => "that run is of another version".into(),
    }
}

/// The first value that differs, by the names on the way to it.
fn difference(name: &str, there: &Value, here: &Value) -> Option<String> {
    if let (Value::Object(there), Value::Object(here)) = (there, here) {
        let keys = here.keys().chain(there.keys());
        return keys.into_iter().find_map(|key| {
            let inner = format!("{name}{}{key}", if name.is_empty() { "" } else { "." });
            let value =
                |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
            difference(&inner, &value(there), &value(here))
        });
    }
    (there != here).then(|| format!("{name} {there}, and this one has {here}"))
}

/// The entries of a journal up to the first line that is damaged. A last line that was cut off is skipped.
pub(super) struct Lines<T> {
    header: String,
    file: BufReader<File>,
    number: usize,
    /// The number of the line that is damaged.
    damaged: Option<usize>,
    entries: PhantomData<T>,
}

impl<T> Lines<T> {
    /// Those of the run; the journal of another one is refused in the name of `flag`.
    pub(super) fn of(path: &Path, run: &Value, flag: &str) -> Result<Self> {
        let failed = |why: String| CliError::failed(format!("{}: {why}", path.display()));
        let lines = Self::open(path).map_err(|e| failed(e.to_string()))?;
        if lines.header != format!("{run}\n") {
            let why = objection(&lines.header, run);
            return Err(CliError::failed(format!(
                "{flag} {}: {why}",
                path.display()
            )));
        }
        Ok(lines)
    }

    fn open(path: &Path) -> std::io::Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let mut header = Vec::new();
        file.read_until(b'\n', &mut header)?;
        Ok(Self {
            header: String::from_utf8_lossy(&header).into_owned(),
            file,
            number: 1,
            damaged: None,
            entries: PhantomData,
        })
    }
}

impl<T: DeserializeOwned> Iterator for Lines<T> {
    type Item = std::io::Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.damaged.is_some() {
            return None;
        }
        self.number += 1;
        let mut line = Vec::new();
        if let Err(error) = self.file.read_until(b'\n', &mut line) {
            return Some(Err(error));
        }
        let found = entry(line.strip_suffix(b"\n")?);
        if found.is_none() {
            self.damaged = Some(self.number);
        }
        found.map(Ok)
    }
}
