//! What can be wrong with a checkpoint.

use std::fmt;
use std::path::PathBuf;

/// An error of a checkpoint file; the message is one line that begins with the file.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is no checkpoint, or is damaged.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file is a checkpoint of something this version does not run.
    #[error("{}: {reason}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: String,
    },
    /// The tensors in the file do not fit the model.
    #[error("{}: does not fit {architecture}: {mismatch}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The architecture that was built.
        architecture: String,
        /// What does not fit.
        mismatch: Mismatch,
    },
}

/// A tensor whose shape is not what the model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongShape {
    /// Key of the tensor.
    pub key: String,
    /// Shape that the model needs.
    pub expected: Vec<usize>,
    /// Shape in the file.
    pub found: Vec<usize>,
}

/// How the tensors of a file differ from what a model needs. Keys are official names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// Needed, but not in the file.
    pub missing: Vec<String>,
    /// In the file, but not needed.
    pub unused: Vec<String>,
    /// In both, with different shapes.
    pub wrong_shape: Vec<WrongShape>,
    /// In both, but not readable: damaged data or a type that is not floating point.
    pub unreadable: Vec<String>,
}

impl Mismatch {
    /// True when everything fits.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
            && self.unused.is_empty()
            && self.wrong_shape.is_empty()
            && self.unreadable.is_empty()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrong: Vec<String> = self
            .wrong_shape
            .iter()
            .map(|w| format!("{} (file {:?}, model {:?})", w.key, w.found, w.expected))
            .collect();
        let parts: Vec<String> = [
            ("unreadable", &self.unreadable),
            ("of the wrong shape", &wrong),
            ("missing", &self.missing),
            ("not used", &self.unused),
        ]
        .into_iter()
        .filter(|(_, keys)| !keys.is_empty())
        .map(|(what, keys)| describe(what, keys))
        .collect();
        f.write_str(&parts.join("; "))
    }
}

/// "2 keys missing (a, b)", with at most three names.
fn describe(what: &str, keys: &[String]) -> String {
    const SHOWN: usize = 3;
    let names = keys.iter().take(SHOWN).map(String::as_str);
    let names = names.collect::<Vec<_>>().join(", ");
    let more = if keys.len() > SHOWN { ", …" } else { "" };
    let noun = if keys.len() == 1 { "key" } else { "keys" };
    format!("{} {noun} {what} ({names}{more})", keys.len())
}
