//! Fetching released checkpoints over HTTP, resumably and verified.
//!
//! The bytes go into `<file>.part` beside the final file, and `<file>.part.json` notes the entity
//! tag and the size that the server gave. However a download ends, the next one goes on from
//! there: it asks for the rest with `Range` and `If-Range`. A server that sends everything instead
//! fills `<file>.part.new`, and the part is kept until that is complete and verified, or longer; a
//! part is dropped at once only where the server says that its file has changed. The finished file
//! is compared with the released size and SHA-256, flushed to disk, and renamed, so a file under its
//! final name is complete. A lock on `<file>.lock` keeps a second process away.
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
mod options;
mod part;
mod transfer;

use std::path::{Path, PathBuf};

pub use self::error::{BASE_URL_VARIABLE, DownloadError};
use self::http::Source;
pub use self::http::Timeouts;
pub use self::options::{DownloadOptions, Progress, Stage};
use self::part::PartLock;
use self::transfer::Transfer;
use crate::checkpoint::cache::ModelCache;
use crate::checkpoint::registry::Release;

/// Makes sure that the file of a release is in the cache, and returns its path.
///
/// A file that is there is taken if its size and SHA-256 are the released ones, as far as they are
/// known; another one is refused, and not touched unless [`DownloadOptions::force`] is set. `progress`
/// is called with [`Stage::Checking`] only then. Otherwise the last call says whether the file could
/// be verified.
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
    let target = cache.path(release);
    if !options.force && is_present(release, &target, progress)? {
        return Ok(target);
    }
    let source = source(release, options)?;
    std::fs::create_dir_all(cache.dir()).map_err(|reason| DownloadError::Unwritable {
        dir: cache.dir().to_path_buf(),
        reason,
    })?;
    let _lock = PartLock::acquire(&target)?;
    // Another process may have finished between the first look and the lock.
    if !options.force && is_present(release, &target, progress)? {
        return Ok(target);
    }
    Transfer::new(release, options, source, &target, progress)?.run()?;
    Ok(target)
}

/// Whether the file of a release is there. Another file in its place is an error: it is the user's.
fn is_present(
    release: &Release,
    path: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<bool, DownloadError> {
    let len = match path.metadata() {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(_) => return Err(not_published(path, "it is no file".to_owned())),
        // Whatever keeps it from being seen is told when the folder is made.
        Err(_) => return Ok(false),
    };
    let size = release.size.unwrap_or(len.max(1));
    if len != size {
        let problem = match release.size {
            Some(size) => format!("it has {len} bytes instead of {size}"),
            None => "it is empty".to_owned(),
        };
        return Err(not_published(path, problem));
    }
    let Some(expected) = release.sha256 else {
        return Ok(true);
    };
    let found = part::sha256_of(path, |done| {
        progress(Progress {
            stage: Stage::Checking,
            done,
            total: Some(len),
        });
    })?;
    if expected.eq_ignore_ascii_case(&found) {
        return Ok(true);
    }
    let problem = format!("its SHA-256 is {found} instead of {expected}");
    Err(not_published(path, problem))
}

fn not_published(path: &Path, problem: String) -> DownloadError {
    DownloadError::NotPublished {
        path: path.to_path_buf(),
        problem,
    }
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
