use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::cache::{CacheError, HOME_VARIABLE};

/// The environment variable that names a mirror: see the [module](super).
pub const BASE_URL_VARIABLE: &str = "SAMARA_BASE_URL";

/// Why a checkpoint could not be downloaded. Each message is one complete line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// There is no folder to download into.
    #[error(transparent)]
    Cache(#[from] CacheError),

    /// [`DownloadOptions::cancelled`](super::DownloadOptions::cancelled) was set.
    #[error("cancelled; the next download goes on from there")]
    Cancelled,

    /// The address of the mirror makes no sense.
    #[error("cannot use {value:?} as the base URL of the checkpoints: {problem}")]
    BaseUrl {
        /// What was given.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// The folder of the checkpoints cannot be written to.
    #[error(
        "cannot write to the checkpoint folder {} ({reason}): set {HOME_VARIABLE} to a folder that \
         can be written to",
        dir.display()
    )]
    Unwritable {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        reason: io::Error,
    },

    /// A file is there under the name of the released one, and it is another one. It was not touched.
    #[error(
        "{} is not the published file ({problem}): move it away, or download over it with --force",
        path.display()
    )]
    NotPublished {
        /// The file.
        path: PathBuf,
        /// What differs.
        problem: String,
    },

    /// Another process is downloading the same file.
    #[error("another process is downloading {}: wait until it is done", path.display())]
    Busy {
        /// The file that the other process will make.
        path: PathBuf,
    },

    /// No connection could be made.
    #[error(
        "cannot reach {host} ({reason}) for {url}: download it elsewhere and \
         give its file, or put it into {}, or set {BASE_URL_VARIABLE} to a mirror",
        dir.display()
    )]
    Unreachable {
        /// The host, with the port if one was given.
        host: String,
        /// The address of the file.
        url: String,
        /// The folder of the checkpoints.
        dir: PathBuf,
        /// What went wrong.
        reason: String,
    },

    /// The server refused.
    #[error("{host} answered {status} ({phrase}) for {url}")]
    Status {
        /// The host, with the port if one was given.
        host: String,
        /// The address of the file.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the status means.
        phrase: &'static str,
    },

    /// The server answered with something that is not the file.
    #[error("{host} gave no usable answer for {url}: {problem}")]
    Response {
        /// The host, with the port if one was given.
        host: String,
        /// The address of the file.
        url: String,
        /// What is wrong with the answer.
        problem: String,
    },

    /// The connection broke again and again. The part is kept.
    #[error(
        "the download of {url} stopped at {done} bytes{} ({reason}): run it again to go on from \
         there",
        total.map_or(String::new(), |total| format!(" of {total}"))
    )]
    Interrupted {
        /// The address of the file.
        url: String,
        /// The bytes on disk.
        done: u64,
        /// The size of the file, where it is known.
        total: Option<u64>,
        /// What went wrong the last time.
        reason: String,
    },

    /// The file has another size than the released one.
    #[error("{url} has {found} bytes instead of {expected}: this is not the released file")]
    Size {
        /// The address of the file.
        url: String,
        /// The released size.
        expected: u64,
        /// The size found; a lower bound if the server did not tell it in advance.
        found: u64,
    },

    /// The file has another hash than the released one. It was deleted.
    #[error(
        "{url} has SHA-256 {found} instead of {expected}: the file was deleted; download it again"
    )]
    Hash {
        /// The address of the file.
        url: String,
        /// The released hash.
        expected: String,
        /// The hash found.
        found: String,
    },

    /// The disk is full. The part is kept.
    #[error(
        "no space left in {} ({reason}): free some, or set {HOME_VARIABLE} to a folder on another \
         disk",
        dir.display()
    )]
    DiskFull {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        reason: io::Error,
    },

    /// A file could not be read or written for another reason.
    #[error("cannot {action} {} ({reason})", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

impl DownloadError {
    /// Sorts an error of the file system by who can do something about it.
    pub(super) fn file(action: &'static str, path: &Path, reason: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let dir = || path.parent().unwrap_or(path).to_path_buf();
        match reason.kind() {
            Kind::StorageFull | Kind::QuotaExceeded => Self::DiskFull { dir: dir(), reason },
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => {
                Self::Unwritable { dir: dir(), reason }
            }
            _ => Self::File {
                action,
                path: path.to_path_buf(),
                reason,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_file_system_name_the_remedy() {
        let path = Path::new("/cache/models/sam.pth.part");
        let cases = [
            (
                io::ErrorKind::StorageFull,
                "no space left in /cache/models (",
            ),
            (
                io::ErrorKind::PermissionDenied,
                "cannot write to the checkpoint folder /cache/models",
            ),
            (
                io::ErrorKind::Other,
                "cannot write /cache/models/sam.pth.part (",
            ),
        ];
        for (kind, beginning) in cases {
            let message = DownloadError::file("write", path, kind.into()).to_string();
            assert!(message.starts_with(beginning), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
