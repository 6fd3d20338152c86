//! The unfinished file on disk: its bytes, its running hash, and what is known of its source.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::DownloadError;

const PART: &str = ".part";
const SECOND: &str = ".part.new";
const JSON: &str = ".json";

/// Large enough that system calls do not show, small enough for smooth progress.
pub(super) const BLOCK: usize = 256 * 1024;

/// Where the bytes of a part came from, kept beside it to see whether the source has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    pub(super) url: String,
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
    pub(super) total: Option<u64>,
}

impl Origin {
    /// The value for `If-Range`. Weak entity tags do not promise equal bytes and are not allowed.
    pub(super) fn validator(&self) -> Option<&str> {
        let strong = self.etag.as_deref().filter(|etag| !etag.starts_with("W/"));
        strong.or(self.last_modified.as_deref())
    }

    /// Whether both describe the same file, as far as both tell.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        fn differ<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
            matches!((a, b), (Some(a), Some(b)) if a != b)
        }
        if differ(self.total.as_ref(), other.total.as_ref()) {
            return false;
        }
        // The tags of two servers say nothing about each other.
        self.url != other.url
            || !(differ(self.etag.as_ref(), other.etag.as_ref())
                || differ(self.last_modified.as_ref(), other.last_modified.as_ref()))
    }
}

/// The part: a file that only grows, except when it is started afresh.
pub(super) struct Part {
    /// Where it is when it is the part to go on from.
    home: PathBuf,
    path: PathBuf,
    origin_path: PathBuf,
    file: File,
    hasher: Sha256,
    len: u64,
    origin: Option<Origin>,
}

impl Part {
    /// Opens the part of `target`, or makes an empty one. Call [`hash_existing`](Self::hash_existing)
    /// or [`reset`](Self::reset) before anything else.
    pub(super) fn open(target: &Path) -> Result<Self, DownloadError> {
        let home = with_suffix(target, PART);
        let second = with_suffix(target, SECOND);
        let len = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
        // A process that was killed while it fetched the file again: the longer one is of more use.
        if second.exists() {
            if len(&second) > len(&home) {
                replace(&second, &home)
            } else {
                remove(&second).and_then(|()| remove(&with_suffix(&second, JSON)))
            }
            .map_err(|error| DownloadError::file("write", &second, error))?;
        }
        Self::open_at(home.clone(), home)
    }

    /// Opens an empty part beside this one, for a body that begins anew, while this one is kept.
    pub(super) fn second(&self, target: &Path) -> Result<Self, DownloadError> {
        let mut second = Self::open_at(with_suffix(target, SECOND), self.home.clone())?;
        second.reset()?;
        Ok(second)
    }

    fn open_at(path: PathBuf, home: PathBuf) -> Result<Self, DownloadError> {
        let origin_path = with_suffix(&path, JSON);
        let (file, len) = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .and_then(|file| file.metadata().map(|metadata| (file, metadata.len())))
            .map_err(|error| DownloadError::file("write", &path, error))?;
        // A missing or torn sidecar only costs the check that it allows.
        let origin = fs::read(&origin_path)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok());
        Ok(Self {
            home,
            path,
            origin_path,
            file,
            hasher: Sha256::new(),
            len,
            origin,
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Hashes the bytes that are already there, telling `seen` how many so far.
    pub(super) fn hash_existing(&mut self, seen: impl FnMut(u64)) -> Result<(), DownloadError> {
        self.hasher = Sha256::new();
        self.len = self
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_| hash(&mut self.file, &mut self.hasher, seen))
            .map_err(|error| DownloadError::file("read", &self.path, error))?;
        Ok(())
    }

    /// Starts afresh, with nothing.
    pub(super) fn reset(&mut self) -> Result<(), DownloadError> {
        self.origin = None;
        self.len = 0;
        self.hasher = Sha256::new();
        remove(&self.origin_path)
            .and_then(|()| self.file.set_len(0))
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(|error| DownloadError::file("write", &self.path, error))?;
        Ok(())
    }

    /// Notes where the following bytes come from.
    pub(super) fn remember(&mut self, origin: Origin) -> Result<(), DownloadError> {
        serde_json::to_vec(&origin)
            .map_err(io::Error::from)
            .and_then(|json| fs::write(&self.origin_path, json))
            .map_err(|error| DownloadError::file("write", &self.origin_path, error))?;
        self.origin = Some(origin);
        Ok(())
    }

    /// Adds bytes at the end.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), DownloadError> {
        if let Err(error) = self.file.write_all(bytes) {
            // Drop what was written of this block, so that the hash and the file agree.
            let _ = self.file.set_len(self.len);
            return Err(DownloadError::file("write", &self.path, error));
        }
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// What there is, to go [back](Self::rewind) to.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            len: self.len,
            hasher: self.hasher.clone(),
        }
    }

    /// Drops the bytes that came after `mark`.
    pub(super) fn rewind(&mut self, mark: Mark) -> Result<(), DownloadError> {
        self.file
            .set_len(mark.len)
            .and_then(|()| self.file.seek(SeekFrom::Start(mark.len)))
            .map_err(|error| DownloadError::file("write", &self.path, error))?;
        self.len = mark.len;
        self.hasher = mark.hasher;
        Ok(())
    }

    /// Takes the place of the part that was kept beside it.
    pub(super) fn replace(&mut self, kept: Self) -> Result<(), DownloadError> {
        // An open file cannot be renamed over everywhere.
        drop(kept);
        replace(&self.path, &self.home)
            .map_err(|error| DownloadError::file("write", &self.home, error))?;
        self.path.clone_from(&self.home);
        self.origin_path = with_suffix(&self.home, JSON);
        Ok(())
    }

    /// The SHA-256 of the bytes so far, in lower-case hexadecimal digits.
    pub(super) fn sha256(&self) -> String {
        hex::encode(self.hasher.clone().finalize())
    }

    /// Deletes the part.
    pub(super) fn discard(self) -> Result<(), DownloadError> {
        let Self {
            path,
            origin_path,
            file,
            ..
        } = self;
        drop(file);
        remove(&origin_path)
            .and_then(|()| remove(&path))
            .map_err(|error| DownloadError::file("delete", &path, error))
    }

    /// Makes the part the finished file, in one step and for good.
    pub(super) fn finish(self, target: &Path) -> Result<(), DownloadError> {
        let Self {
            path,
            origin_path,
            file,
            ..
        } = self;
        file.sync_all()
            .map_err(|error| DownloadError::file("write", &path, error))?;
        drop(file);
        fs::rename(&path, target).map_err(|error| DownloadError::file("write", target, error))?;
        // The checkpoint is in place: neither of these can take that back.
        let _ = remove(&origin_path);
        let _ = sync_folder(target);
        Ok(())
    }
}

/// A state of a part.
pub(super) struct Mark {
    len: u64,
    hasher: Sha256,
}

/// The SHA-256 of a file, telling `seen` how many bytes were read so far.
pub(super) fn sha256_of(path: &Path, seen: impl FnMut(u64)) -> Result<String, DownloadError> {
    let mut hasher = Sha256::new();
    File::open(path)
        .and_then(|mut file| hash(&mut file, &mut hasher, seen))
        .map_err(|error| DownloadError::file("read", path, error))?;
    Ok(hex::encode(hasher.finalize()))
}

/// Hashes a file to its end, and counts its bytes.
fn hash(file: &mut File, hasher: &mut Sha256, mut seen: impl FnMut(u64)) -> io::Result<u64> {
    let mut block = vec![0; BLOCK];
    let mut done = 0;
    loop {
        match file.read(&mut block) {
            Ok(0) => return Ok(done),
            Ok(n) => {
                hasher.update(&block[..n]);
                done += n as u64;
                seen(done);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Held while a process works on a part. The lock file stays: deleting it would let two processes
/// lock two files of the same name.
pub(super) struct PartLock {
    file: File,
}

impl PartLock {
    pub(super) fn acquire(target: &Path) -> Result<Self, DownloadError> {
        let path = with_suffix(target, ".lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| DownloadError::file("write", &path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(DownloadError::Busy {
                path: target.to_path_buf(),
            }),
            // Some network file systems have no locks; a lone download must still work there.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                Ok(Self { file })
            }
            Err(TryLockError::Error(error)) => Err(DownloadError::file("lock", &path, error)),
        }
    }
}

impl Drop for PartLock {
    fn drop(&mut self) {
        // Closing alone is not enough: a child process that is just being started still holds it.
        let _ = self.file.unlock();
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Puts a part and its sidecar in the place of another.
fn replace(from: &Path, to: &Path) -> io::Result<()> {
    let (from_json, to_json) = (with_suffix(from, JSON), with_suffix(to, JSON));
    // Without a sidecar in between, so that none stands beside a part that it does not describe.
    remove(&to_json)?;
    fs::rename(from, to)?;
    match fs::rename(from_json, to_json) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn sync_folder(target: &Path) -> io::Result<()> {
    target
        .parent()
        .map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(not(unix))]
fn sync_folder(_target: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn origin(url: &str, etag: Option<&str>, total: Option<u64>) -> Origin {
        let etag = etag.map(str::to_owned);
        Origin {
            url: url.to_owned(),
            etag,
            last_modified: None,
            total,
        }
    }

    #[test]
    fn the_hash_survives_a_restart_of_the_program() {
        let dir = tempfile::tempdir().expect("a folder");
        let target = dir.path().join("file");
        let mut part = Part::open(&target).expect("opened");
        part.remember(origin("u", Some("\"1\""), Some(3)))
            .expect("noted");
        part.append(b"ab").expect("written");
        drop(part);

        let mut part = Part::open(&target).expect("opened again");
        let mut seen = 0;
        part.hash_existing(|done| seen = done).expect("read");
        assert_eq!((part.len(), seen), (2, 2));
        assert_eq!(part.origin(), Some(&origin("u", Some("\"1\""), Some(3))));
        part.append(b"c").expect("written");
        assert_eq!(part.sha256(), ABC);
        part.finish(&target).expect("renamed");
        assert_eq!(fs::read(&target).expect("there"), b"abc");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }

    #[test]
    fn a_fresh_start_forgets_everything() {
        let dir = tempfile::tempdir().expect("a folder");
        let target = dir.path().join("file");
        let mut part = Part::open(&target).expect("opened");
        part.remember(origin("u", None, None)).expect("noted");
        part.append(b"xyz").expect("written");
        part.reset().expect("emptied");
        assert_eq!((part.len(), part.origin()), (0, None));
        part.append(b"abc").expect("written");
        assert_eq!(part.sha256(), ABC);
        part.discard().expect("deleted");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
    }

    #[test]
    fn a_torn_sidecar_counts_as_none() {
        let dir = tempfile::tempdir().expect("a folder");
        let target = dir.path().join("file");
        fs::write(dir.path().join("file.part.json"), "{\"url\":").expect("written");
        assert_eq!(Part::open(&target).expect("opened").origin(), None);
    }

    #[test]
    fn only_strong_tags_validate_a_range() {
        let mut origin = origin("u", Some("W/\"1\""), None);
        assert_eq!(origin.validator(), None);
        origin.last_modified = Some("Tue, 04 Apr 2023 00:00:00 GMT".to_owned());
        assert_eq!(origin.validator(), origin.last_modified.as_deref());
        origin.etag = Some("\"1\"".to_owned());
        assert_eq!(origin.validator(), Some("\"1\""));
    }

    #[test]
    fn origins_agree_as_far_as_both_tell() {
        let known = origin("u", Some("\"1\""), Some(3));
        assert!(known.agrees_with(&origin("u", Some("\"1\""), None)));
        assert!(known.agrees_with(&origin("u", None, Some(3))));
        assert!(known.agrees_with(&origin("mirror", Some("\"2\""), Some(3))));
        assert!(!known.agrees_with(&origin("u", Some("\"2\""), Some(3))));
        assert!(!known.agrees_with(&origin("mirror", Some("\"1\""), Some(4))));
    }
}
