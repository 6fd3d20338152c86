//! How to download, and how far that is.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::http::Timeouts;

/// How to download.
#[derive(Clone, Debug)]
pub struct DownloadOptions {
    /// A mirror: see the [module](super). `None`: `SAMARA_BASE_URL`, or else the official source.
    pub base_url: Option<String>,
    /// The folder to download into. `None`: [`ModelCache::locate`](crate::checkpoint::cache::ModelCache::locate).
    pub cache_dir: Option<PathBuf>,
    /// Download even if the file is present, and from the start.
    pub force: bool,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// How often to try again, without progress in between, when the connection breaks.
    pub retries: u32,
    /// The pause before the first of these retries; each further one waits twice as long.
    pub retry_delay: Duration,
    /// Ends the download once it is true, such as from the function that hears of the progress. The part is kept.
    pub cancelled: Arc<AtomicBool>,
}

impl Default for DownloadOptions {
    fn default() -> Self {
        Self {
            base_url: None,
            cache_dir: None,
            force: false,
            timeouts: Timeouts::default(),
            retries: 4,
            retry_delay: Duration::from_secs(1),
            cancelled: Arc::default(),
        }
    }
}

/// What a download is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Reading the file that is there, or the part that an earlier run has left.
    Checking,
    /// Receiving the file.
    Fetching,
    /// Waiting to try again after the connection broke.
    Waiting,
    /// Done: the file has the released hash.
    Verified,
    /// Done, but the hash of this release is not known, so the file could not be verified.
    Unverified,
}

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// The bytes of the file that are on disk, or that are read so far when checking. It can fall
    /// back to 0 when the file has to be fetched afresh.
    pub done: u64,
    /// The size of the file, where it is known.
    pub total: Option<u64>,
}
