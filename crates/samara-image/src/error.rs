//! Errors, split by who must act.

use std::io;
use std::path::Path;

/// What can go wrong with an image or a mask.
///
/// Every message is one line and names the file or the parameter it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused: missing file, folder instead of file, no permission, full disk.
    #[error("{name}: {what}")]
    Io {
        /// The path as the caller gave it.
        name: String,
        /// What was attempted and why it failed.
        what: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is there but its content is not a whole, valid image.
    #[error("{name}: {what}")]
    Decoding {
        /// The file, or the name given for the bytes.
        name: String,
        /// What is wrong with the content.
        what: String,
    },
    /// The image is valid so far but larger than the [`ImageLimits`](crate::ImageLimits) allow.
    #[error("{name}: {what}")]
    Limits {
        /// The file, or the name given for the bytes.
        name: String,
        /// The size, the limit, and which limit to raise.
        what: String,
    },
    /// A format or variant that this crate does not read or write.
    #[error("{name}: {what}")]
    Unsupported {
        /// The file, or the name given for the bytes.
        name: String,
        /// What is not supported, and what is.
        what: String,
    },
    /// A value handed in by the caller is unusable.
    #[error("{parameter}: {what}")]
    Parameter {
        /// The parameter, field or key.
        parameter: String,
        /// What is wrong with its value.
        what: String,
    },
}

impl Error {
    /// What is wrong, without the name of the file or parameter.
    pub fn reason(&self) -> &str {
        let (Self::Io { what, .. }
        | Self::Decoding { what, .. }
        | Self::Limits { what, .. }
        | Self::Unsupported { what, .. }
        | Self::Parameter { what, .. }) = self;
        what
    }

    pub(crate) fn io(path: &Path, doing: &str, source: io::Error) -> Self {
        let what = match source.kind() {
            io::ErrorKind::NotFound => format!("{doing}: no such file or folder"),
            io::ErrorKind::PermissionDenied => format!("{doing}: permission denied"),
            io::ErrorKind::IsADirectory => format!("{doing}: is a folder, not a file"),
            io::ErrorKind::NotADirectory => format!("{doing}: a part of the path is not a folder"),
            io::ErrorKind::StorageFull => format!("{doing}: no space left on the disk"),
            io::ErrorKind::ReadOnlyFilesystem => format!("{doing}: the file system is read-only"),
            _ => format!("{doing}: {source}"),
        };
        let name = one_line(&path.to_string_lossy());
        Self::Io { name, what, source }
    }

    pub(crate) fn decoding(name: &str, what: impl Into<String>) -> Self {
        Self::Decoding {
            name: one_line(name),
            what: what.into(),
        }
    }

    pub(crate) fn limits(name: &str, what: impl Into<String>) -> Self {
        Self::Limits {
            name: one_line(name),
            what: what.into(),
        }
    }

    pub(crate) fn unsupported(name: &str, what: impl Into<String>) -> Self {
        Self::Unsupported {
            name: one_line(name),
            what: what.into(),
        }
    }

    /// An error about a value that the caller handed in.
    pub fn parameter(parameter: &str, what: impl Into<String>) -> Self {
        Self::Parameter {
            parameter: parameter.to_owned(),
            what: what.into(),
        }
    }
}

/// A name or a text of a file with what acts on a terminal escaped, to be shown in one line: control characters,
/// line breaks, and characters that turn the direction of what follows.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}
