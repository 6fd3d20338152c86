//! What can be wrong with a checkpoint.

use std::fmt;
use std::path::PathBuf;

/// An error of a checkpoint file; the message is one line that begins with the file.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be opened, read or written.
    #[error("{}: {}", one_line(path.display()), short(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is no checkpoint, or is damaged.
    #[error("{}: {}", one_line(path.display()), short(reason))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file is a checkpoint of something this version does not run.
    #[error("{}: {}", one_line(path.display()), short(reason))]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: String,
    },
    /// The tensors in the file do not fit the model.
    #[error("{}: does not fit {architecture}: {mismatch}", one_line(path.display()))]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The architecture that was built.
        architecture: String,
        /// What does not fit.
        mismatch: Box<Mismatch>,
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

    /// Puts every list in the order of the keys.
    pub(super) fn sort(&mut self) {
        self.missing.sort();
        self.unused.sort();
        self.wrong_shape.sort_by(|a, b| a.key.cmp(&b.key));
        self.unreadable.sort();
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrong: Vec<String> = self
            .wrong_shape
            .iter()
            .map(|w| {
                let found = cut(format_args!("{:?}", w.found), LONGEST_SHAPE);
                format!("{} (file {found}, model {:?})", short(&w.key), w.expected)
            })
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
    let names: Vec<String> = keys.iter().take(SHOWN).map(short).collect();
    let more = if keys.len() > SHOWN { ", …" } else { "" };
    let noun = if keys.len() == 1 { "key" } else { "keys" };
    format!("{} {noun} {what} ({}{more})", keys.len(), names.join(", "))
}

/// Longest text from a file or a library that a message quotes, in characters.
const LONGEST_QUOTE: usize = 400;
/// The same for a shape, which has four axes at most in a model.
const LONGEST_SHAPE: usize = 100;

/// The text on one line: a file chooses its keys, and must not break or colour our message.
fn one_line(text: impl fmt::Display) -> String {
    let mut line = String::new();
    for c in text.to_string().chars() {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

fn short(text: impl fmt::Display) -> String {
    cut(text, LONGEST_QUOTE)
}

/// As [`one_line`], with at most `longest` characters.
fn cut(text: impl fmt::Display, longest: usize) -> String {
    let mut line = one_line(text);
    if let Some((end, _)) = line.char_indices().nth(longest) {
        line.truncate(end);
        line.push('…');
    }
    line
}
