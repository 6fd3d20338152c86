//! Fetching released checkpoints over HTTP, resumably and verified.
//!
//! The bytes go into `<file>.part` beside the final file, and `<file>.part.json` notes the entity
//! tag and the size that the server gave. However a download ends, the next one goes on from
//! there: it asks for the rest with `Range` and `If-Range`, and starts afresh if the server sends
//! everything or its file has changed. The finished file is compared with the released size and
//! SHA-256, flushed to disk, and renamed, so a file under its final name is complete. A lock on
//! `<file>.lock` keeps a second process away.
//!
//! # Mirrors
//!
//! [`DownloadOptions::base_url`], or else the variable `SAMARA_BASE_URL`, replaces the scheme, the
//! host and the directory of the official address: everything before the last `/`. With
//! `SAMARA_BASE_URL=https://mirror.example/sam`, `sam-vit-b` is fetched from
//! `https://mirror.example/sam/sam_vit_b_01ec64.pth`. The same base serves all models, and their
//! sizes and hashes hold for it too.
//!
//! Proxies are taken from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.

mod error;
mod http;
mod part;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::{Agent, Body};

pub use self::error::{BASE_URL_VARIABLE, DownloadError};
pub use self::http::Timeouts;
use self::http::{Failure, Reply, Source};
use self::part::{BLOCK, Part, PartLock};
use crate::checkpoint::cache::ModelCache;
use crate::checkpoint::registry::Release;

/// How to download.
#[derive(Clone, Debug)]
pub struct DownloadOptions {
    /// A mirror: see the [module](self). `None`: `SAMARA_BASE_URL`, or else the official source.
    pub base_url: Option<String>,
    /// The folder to download into. `None`: [`ModelCache::locate`].
    pub cache_dir: Option<PathBuf>,
    /// Download even if the file is present, and from the start.
    pub force: bool,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// How often to try again, without progress in between, when the connection breaks.
    pub retries: u32,
    /// The pause before the first of these retries; each further one waits twice as long.
    pub retry_delay: Duration,
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
        }
    }
}

/// What a download is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Reading the part that an earlier run has left.
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

/// Makes sure that the file of a release is in the cache, and returns its path.
///
/// A file of the right size is taken as it is, unless [`DownloadOptions::force`] is set;
/// `progress` is then never called. Otherwise the last call says whether the file could be
/// verified.
///
/// # Errors
/// [`DownloadError`], in one line. Except where the file turned out to be a wrong one, the part is
/// kept, and the next call continues from there.
pub fn download(
    release: &Release,
    options: &DownloadOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, DownloadError> {
    let cache = match &options.cache_dir {
        Some(dir) => ModelCache::at(dir),
        None => ModelCache::locate()?,
    };
    let present = || cache.find(release).filter(|_| !options.force);
    if let Some(path) = present() {
        return Ok(path);
    }
    let source = source(release, options)?;
    std::fs::create_dir_all(cache.dir()).map_err(|reason| DownloadError::Unwritable {
        dir: cache.dir().to_path_buf(),
        reason,
    })?;
    let target = cache.path(release);
    let _lock = PartLock::acquire(&target)?;
    // Another process may have finished between the first look and the lock.
    if let Some(path) = present() {
        return Ok(path);
    }
    let agent = http::agent(&source, options.timeouts);
    let part = Part::open(&target)?;
    let mut transfer = Transfer {
        release,
        options,
        source,
        agent,
        dir: cache.dir(),
        part,
        total: release.size,
        received: false,
        progress,
    };
    match transfer.check_part().and_then(|()| transfer.fetch()) {
        Ok(()) => transfer.finish(&target)?,
        Err(error) => {
            transfer.abandon();
            return Err(error);
        }
    }
    Ok(target)
}

fn source(release: &Release, options: &DownloadOptions) -> Result<Source, DownloadError> {
    let variable = || {
        std::env::var(BASE_URL_VARIABLE)
            .ok()
            .filter(|value| !value.is_empty())
    };
    let Some(base) = options.base_url.clone().or_else(variable) else {
        return Ok(Source::new(release.url()));
    };
    match http::check_base_url(&base) {
        Ok(()) => Ok(Source::new(release.url_at(&base))),
        Err(problem) => Err(DownloadError::BaseUrl {
            value: http::without_credentials(&base),
            problem,
        }),
    }
}

/// Why an attempt did not bring the whole file.
enum Fault {
    /// Nothing can be done.
    Final(DownloadError),
    /// Another attempt may do better; the error is for when there have been enough.
    Passing(DownloadError),
    /// The part is not of the file that the server has.
    Stale,
}

impl From<DownloadError> for Fault {
    fn from(error: DownloadError) -> Self {
        Self::Final(error)
    }
}

/// This many new bytes show that a bad connection is still worth trying.
const WORTHWHILE: u64 = 1024 * 1024;

/// No pause between retries is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

struct Transfer<'a> {
    release: &'a Release,
    options: &'a DownloadOptions,
    source: Source,
    agent: Agent,
    dir: &'a Path,
    part: Part,
    total: Option<u64>,
    /// Whether the server has sent anything yet.
    received: bool,
    progress: &'a mut dyn FnMut(Progress),
}

impl Transfer<'_> {
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
                    std::thread::sleep(pause(self.options.retry_delay, failures));
                }
                Fault::Stale if failures > self.options.retries => {
                    return Err(self.nonsense("its file changes all the time"));
                }
                Fault::Stale => {
                    self.part.reset()?;
                    self.total = self.release.size;
                }
            }
        }
        Ok(())
    }

    /// One request, and its body to the end.
    fn attempt(&mut self) -> Result<(), Fault> {
        let offset = self.part.len();
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
            206 | 416 if offset > 0 => return Err(Fault::Stale),
            status => return Err(self.status_fault(status, reply.phrase)),
        }
        let found = reply.origin.total;
        if let (Some(expected), Some(found)) = (self.release.size, found)
            && expected != found
        {
            return Err(self.wrong_size(expected, found).into());
        }
        // Only now: the page of a captive portal must not cost a part of gigabytes.
        if reply.status == 200 {
            self.part.reset()?;
        }
        self.total = self.release.size.or(found);
        if self
            .part
            .origin()
            .is_none_or(|origin| origin.url != self.source.url)
        {
            self.part.remember(reply.origin)?;
        }
        self.receive(reply.body)
    }

    fn continues(&self, reply: &Reply, offset: u64) -> bool {
        offset > 0
            && reply.start == Some(offset)
            && self
                .part
                .origin()
                .is_none_or(|origin| origin.agrees_with(&reply.origin))
    }

    fn receive(&mut self, body: Body) -> Result<(), Fault> {
        let mut reader = body.into_reader();
        let mut block = vec![0; BLOCK];
        self.report(Stage::Fetching);
        loop {
            let n = match reader.read(&mut block) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.interrupted(http::read_failure(error))),
            };
            let found = self.part.len() + n as u64;
            if let Some(total) = self.total.filter(|total| found > *total) {
                self.part.reset()?;
                return Err(self.wrong_size(total, found).into());
            }
            self.part.append(&block[..n])?;
            self.report(Stage::Fetching);
        }
        match self.total {
            Some(total) if self.part.len() < total => {
                Err(self.interrupted("the connection was closed too early".to_owned()))
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

    fn finish(self, target: &Path) -> Result<(), DownloadError> {
        let found = self.part.sha256();
        let done = self.part.len();
        let stage = match self.release.sha256 {
            None => Stage::Unverified,
            Some(expected) if expected.eq_ignore_ascii_case(&found) => Stage::Verified,
            Some(expected) => {
                self.part.discard()?;
                let url = self.source.url;
                return Err(DownloadError::Hash {
                    url,
                    expected: expected.to_owned(),
                    found,
                });
            }
        };
        self.part.finish(target)?;
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
            dir: self.dir.to_path_buf(),
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
