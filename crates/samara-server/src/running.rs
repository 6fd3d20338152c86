//! Work on an embedding, while it lasts.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use samara::{Embedding, RgbImage};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::Problem;

/// How far it is, and what has come of it.
#[derive(Clone)]
pub(crate) enum Progress {
    Queued,
    Running,
    Ready(Arc<Embedding>),
    Failed(Problem),
}

impl Progress {
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Ready(_) | Self::Failed(_))
    }
}

/// An embedding on its way.
pub(crate) struct Running {
    pub(crate) progress: watch::Sender<Progress>,
    /// Requests that wait for it.
    pub(crate) wanted: AtomicUsize,
    /// It was asked for ahead, and is wanted though nobody waits.
    pub(crate) ahead: AtomicBool,
    pub(crate) cancelled: CancellationToken,
    /// What is left to be done, until a thread takes it: it may wait in the queue twice, at two urgencies. Pixels that
    /// nobody else keeps are decoded once more when their turn comes, as many may wait.
    pub(crate) work: Mutex<Option<Weak<RgbImage>>>,
}

impl Running {
    pub(crate) fn new(pixels: &Weak<RgbImage>, ahead: bool) -> Self {
        Self {
            progress: watch::Sender::new(Progress::Queued),
            wanted: AtomicUsize::new(0),
            ahead: AtomicBool::new(ahead),
            cancelled: CancellationToken::new(),
            work: Mutex::new(Some(Weak::clone(pixels))),
        }
    }

    /// Nobody wants it any more but those who wait.
    pub(crate) fn forget_ahead(&self) {
        self.ahead.store(false, Ordering::Release);
        if self.wanted.load(Ordering::Acquire) == 0 {
            self.cancelled.cancel();
        }
    }
}

/// One who waits; when all have gone, the work is cancelled.
pub(crate) struct Waits<'a> {
    running: &'a Running,
}

impl<'a> Waits<'a> {
    pub(crate) fn new(running: &'a Running) -> Self {
        running.wanted.fetch_add(1, Ordering::AcqRel);
        Self { running }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let last = self.running.wanted.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && !self.running.ahead.load(Ordering::Acquire) {
            self.running.cancelled.cancel();
        }
    }
}
