//! The way of a file from its server to its place.

use std::io::{self, Read as _};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ureq::{Agent, Body};

use super::error::DownloadError;
use super::http::{self, Failure, Reply, Source};
use super::options::{DownloadOptions, Progress, Stage};
use super::part::{self, BLOCK, Part};
use crate::checkpoint::registry::Release;

/// Why an attempt did not bring the whole file.
enum Fault {
    /// Nothing can be done.
    Final(DownloadError),
    /// Another attempt may do better; the error is for when there have been enough.
    Passing(DownloadError),
    /// The server cannot go on from the part: only the whole file is of use.
    NoRange,
}

impl From<DownloadError> for Fault {
    fn from(error: DownloadError) -> Self {
        Self::Final(error)
    }
}

/// Why the body of an answer did not bring the whole file.
enum Problem {
    Interrupted(String),
    TooLong { total: u64, found: u64 },
    File(DownloadError),
}

impl From<DownloadError> for Problem {
    fn from(error: DownloadError) -> Self {
        Self::File(error)
    }
}

/// This many new bytes show that a bad connection is still worth trying.
const WORTHWHILE: u64 = 1024 * 1024;

/// No pause between retries is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub(super) struct Transfer<'a> {
    release: &'a Release,
    options: &'a DownloadOptions,
    source: Source,
    agent: Agent,
    target: &'a Path,
    part: Part,
    /// The part to go on from, while the server sends the whole file into `part`.
    kept: Option<Part>,
    /// Whether to ask for the whole file although there is a part.
    whole: bool,
    total: Option<u64>,
    /// Whether the server has sent anything yet.
    received: bool,
    progress: &'a mut dyn FnMut(Progress),
}

impl<'a> Transfer<'a> {
    /// Opens the part of `target`, whose lock is held.
    pub(super) fn new(
        release: &'a Release,
        options: &'a DownloadOptions,
        source: Source,
        target: &'a Path,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Result<Self, DownloadError> {
        Ok(Self {
            release,
            options,
            agent: http::agent(&source, options.timeouts),
            source,
            target,
            part: Part::open(target)?,
            kept: None,
            whole: false,
            total: release.size,
            received: false,
            progress,
        })
    }

    /// Makes `target` out of what is there and what the server sends.
    pub(super) fn run(mut self) -> Result<(), DownloadError> {
        match self.check_part().and_then(|()| self.fetch()) {
            Ok(()) => self.finish(),
            Err(error) => {
                self.abandon();
                Err(error)
            }
        }
    }

    fn report(&mut self, stage: Stage) {
        (self.progress)(Progress {
            stage,
            done: self.part.len(),
            total: self.total,
        });
    }

    /// Takes over the part of an earlier run, if it can be trusted to be of the same file.
    fn check_part(&mut self) -> Result<(), DownloadError> {
        let origin = self.part.origin();
        let same_url = origin.is_some_and(|origin| origin.url == self.source.url);
        let total = origin.and_then(|origin| origin.total);
        // Without a hash, only the tag of the server can tell that the two halves fit.
        let trusted = self.release.sha256.is_some()
            || (same_url && origin.is_some_and(|origin| origin.validator().is_some()));
        let too_long = self
            .total
            .or(total)
            .is_some_and(|total| self.part.len() > total);
        if self.part.len() == 0 || self.options.force || !trusted || too_long {
            return self.part.reset();
        }
        self.total = self.total.or(total);
        let total = self.total;
        let progress = &mut *self.progress;
        self.part.hash_existing(|done| {
            progress(Progress {
                stage: Stage::Checking,
                done,
                total,
            });
        })
    }

    fn fetch(&mut self) -> Result<(), DownloadError> {
        let mut failures = 0;
        let mut best = self.part.len();
        while self.total.is_none_or(|total| self.part.len() < total) {
            let fault = match self.attempt() {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            if self.part.len() >= best + WORTHWHILE {
                best = self.part.len();
                failures = 0;
            }
            failures += 1;
            match fault {
                Fault::Final(error) => return Err(error),
                Fault::Passing(error) if failures > self.options.retries => return Err(error),
                Fault::Passing(_) => {
                    self.report(Stage::Waiting);
                    if self.options.cancelled.load(Ordering::Relaxed) {
                        return Err(DownloadError::Cancelled);
                    }
                    std::thread::sleep(pause(self.options.retry_delay, failures));
                }
                Fault::NoRange if failures > self.options.retries => {
                    return Err(self.nonsense("its file changes all the time"));
                }
                Fault::NoRange => {
                    self.whole = true;
                    self.total = self.release.size;
                }
            }
        }
        Ok(())
    }

    /// One request, and its body to the end.
    fn attempt(&mut self) -> Result<(), Fault> {
        let offset = if std::mem::take(&mut self.whole) {
            0
        } else {
            self.part.len()
        };
        let same_url = |origin: &&part::Origin| origin.url == self.source.url;
        let validator = self
            .part
            .origin()
            .filter(same_url)
            .and_then(part::Origin::validator);
        let reply = http::get(&self.agent, &self.source.url, offset, validator)
            .map_err(|error| self.request_fault(error.into()))?;
        self.received = true;
        if let (200 | 206, Some(encoding)) = (reply.status, &reply.encoding) {
            return Err(self
                .nonsense(&format!("it is encoded as {encoding}"))
                .into());
        }
        match reply.status {
            200 => {}
            206 if self.continues(&reply, offset) => {}
            206 | 416 if offset > 0 => return Err(Fault::NoRange),
            status => return Err(self.status_fault(status, reply.phrase)),
        }
        let found = reply.origin.total;
        if let (Some(expected), Some(found)) = (self.release.size, found)
            && expected != found
        {
            return Err(self.wrong_size(expected, found).into());
        }
        let can_be_checked = self.release.size.is_some() || self.release.sha256.is_some();
        if !reply.has_end && found.is_none() && !can_be_checked {
            let problem = "it does not say how long the file is, and its hash is not known";
            return Err(self.nonsense(problem).into());
        }
        if reply.status == 200 {
            self.begin_anew(&reply)?;
        }
        self.total = self.release.size.or(found);
        if self
            .part
            .origin()
            .is_none_or(|origin| origin.url != self.source.url)
        {
            self.part.remember(reply.origin)?;
        }
        match self.receive(reply.body) {
            Ok(()) => Ok(()),
            Err(problem) => {
                // What is kept is known before the error tells how much that is.
                self.settle()?;
                Err(match problem {
                    Problem::Interrupted(reason) => self.interrupted(reason),
                    Problem::TooLong { total, found } => self.wrong_size(total, found).into(),
                    Problem::File(error) => error.into(),
                })
            }
        }
    }

    fn continues(&self, reply: &Reply, offset: u64) -> bool {
        offset > 0
            && reply.start == Some(offset)
            && self
                .part
                .origin()
                .is_none_or(|origin| origin.agrees_with(&reply.origin))
    }

    /// The whole file comes. A part that may still be good is kept meanwhile: the page of a captive
    /// portal, or a connection that breaks again, must not cost gigabytes.
    fn begin_anew(&mut self, reply: &Reply) -> Result<(), DownloadError> {
        let changed = reply.origin.total.is_some()
            && self
                .part
                .origin()
                .is_some_and(|origin| !origin.agrees_with(&reply.origin));
        if self.part.len() == 0 || changed {
            return self.part.reset();
        }
        let second = self.part.second(self.target)?;
        self.kept = Some(std::mem::replace(&mut self.part, second));
        Ok(())
    }

    /// After a whole file that did not come to its end: goes on from the longer one of it and the part
    /// that was kept.
    fn settle(&mut self) -> Result<(), DownloadError> {
        let Some(kept) = self.kept.take() else {
            return Ok(());
        };
        if self.part.len() > kept.len() {
            return self.part.replace(kept);
        }
        std::mem::replace(&mut self.part, kept).discard()
    }

    fn receive(&mut self, body: Body) -> Result<(), Problem> {
        let mut reader = body.into_reader();
        let mut block = vec![0; BLOCK];
        let before = self.part.mark();
        self.report(Stage::Fetching);
        loop {
            let n = match reader.read(&mut block) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Problem::Interrupted(http::read_failure(error))),
            };
            let found = self.part.len() + n as u64;
            if let Some(total) = self.total.filter(|total| found > *total) {
                self.part.rewind(before)?;
                return Err(Problem::TooLong { total, found });
            }
            self.part.append(&block[..n])?;
            self.report(Stage::Fetching);
            if self.options.cancelled.load(Ordering::Relaxed) {
                return Err(DownloadError::Cancelled.into());
            }
        }
        match self.total {
            Some(total) if self.part.len() < total => {
                let reason = "the connection was closed too early".to_owned();
                Err(Problem::Interrupted(reason))
            }
            _ => Ok(()),
        }
    }

    /// Leaves a part only if there is something in it to go on from.
    fn abandon(self) {
        if self.part.len() == 0 {
            // There is an error to report already, and an empty file does no harm.
            let _ = self.part.discard();
        }
    }

    fn finish(self) -> Result<(), DownloadError> {
        let found = self.part.sha256();
        let done = self.part.len();
        let stage = match self.release.sha256 {
            None => Stage::Unverified,
            Some(expected) if expected.eq_ignore_ascii_case(&found) => Stage::Verified,
            Some(expected) => {
                // A part that was kept beside it stays.
                self.part.discard()?;
                let url = self.source.url;
                return Err(DownloadError::Hash {
                    url,
                    expected: expected.to_owned(),
                    found,
                });
            }
        };
        self.part.finish(self.target)?;
        if let Some(kept) = self.kept {
            // The checkpoint is in place, which a part left over does not take back.
            let _ = kept.discard();
        }
        (self.progress)(Progress {
            stage,
            done,
            total: Some(done),
        });
        Ok(())
    }

    fn request_fault(&self, failure: Failure) -> Fault {
        match failure {
            Failure::Unreachable(reason) if self.received => self.interrupted(reason),
            Failure::Unreachable(reason) => Fault::Final(self.unreachable(reason)),
            Failure::Broken(reason) if self.received => self.interrupted(reason),
            Failure::Broken(reason) => Fault::Passing(self.unreachable(reason)),
            Failure::Nonsense(problem) => Fault::Final(self.nonsense(&problem)),
        }
    }

    fn status_fault(&self, status: u16, phrase: &'static str) -> Fault {
        let Source { url, host } = self.source.clone();
        let error = DownloadError::Status {
            host,
            url,
            status,
            phrase,
        };
        match status {
            408 | 429 | 500 | 502 | 503 | 504 => Fault::Passing(error),
            _ => Fault::Final(error),
        }
    }

    fn interrupted(&self, reason: String) -> Fault {
        Fault::Passing(DownloadError::Interrupted {
            url: self.source.url.clone(),
            done: self.part.len(),
            total: self.total,
            reason,
        })
    }

    fn unreachable(&self, reason: String) -> DownloadError {
        let reason = match http::proxy(&self.agent, &self.source) {
            Some(proxy) => format!("{reason}, through the proxy {proxy}"),
            None => reason,
        };
        let Source { url, host } = self.source.clone();
        DownloadError::Unreachable {
            host,
            url,
            dir: self.target.parent().unwrap_or(self.target).to_path_buf(),
            reason,
        }
    }

    fn nonsense(&self, problem: &str) -> DownloadError {
        let Source { url, host } = self.source.clone();
        DownloadError::Response {
            host,
            url,
            problem: problem.to_owned(),
        }
    }

    fn wrong_size(&self, expected: u64, found: u64) -> DownloadError {
        DownloadError::Size {
            url: self.source.url.clone(),
            expected,
            found,
        }
    }
}

fn pause(first: Duration, failures: u32) -> Duration {
    let factor = 1_u32
        .checked_shl(failures.saturating_sub(1))
        .unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let second = Duration::from_secs(1);
        let pauses: Vec<u64> = [1, 2, 3, 4, 5, 6, 7, 100]
            .map(|n| pause(second, n).as_secs())
            .into();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
    }
}
