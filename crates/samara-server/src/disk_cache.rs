//! Files by key, within a size; the least recently used go first.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use samara_image::write_atomic;

/// A folder of files by key. Every file is whole or not there, whenever the process ends. The time of a file's last
/// change is that of its last use, so the order survives the process.
pub(crate) struct DiskCache {
    folder: PathBuf,
    most_bytes: u64,
    files: Mutex<Files>,
}

#[derive(Default)]
struct Files {
    bytes: u64,
    by_key: HashMap<String, File>,
    /// From the least recently used on.
    by_use: BTreeMap<u64, String>,
    uses: u64,
}

struct File {
    bytes: u64,
    used: u64,
}

impl Files {
    fn add(&mut self, key: String, bytes: u64) {
        self.remove(&key);
        self.uses += 1;
        self.bytes += bytes;
        self.by_use.insert(self.uses, key.clone());
        let used = self.uses;
        self.by_key.insert(key, File { bytes, used });
    }

    fn remove(&mut self, key: &str) -> bool {
        let Some(file) = self.by_key.remove(key) else {
            return false;
        };
        self.bytes -= file.bytes;
        self.by_use.remove(&file.used);
        true
    }
}

impl DiskCache {
    /// Opens the folder, and makes it if it is not there. Files whose names are no keys are others', and left alone.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub(crate) fn open(
        folder: PathBuf,
        most_bytes: u64,
        is_key: fn(&str) -> bool,
    ) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let Ok(key) = entry.file_name().into_string() else {
                continue;
            };
            if metadata.is_file() && is_key(&key) {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push((used, key, metadata.len()));
            }
        }
        found.sort();
        let mut files = Files::default();
        for (_, key, bytes) in found {
            files.add(key, bytes);
        }
        let cache = Self {
            folder,
            most_bytes,
            files: Mutex::new(files),
        };
        cache.shrink();
        Ok(cache)
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, key: &str) -> PathBuf {
        debug_assert!(is_name(key), "{key:?} is no name of a file");
        self.folder.join(key)
    }

    /// The file of a key, which counts as used.
    pub(crate) fn get(&self, key: &str) -> Option<PathBuf> {
        let mut files = self.files();
        let bytes = files.by_key.get(key)?.bytes;
        files.add(key.to_owned(), bytes);
        drop(files);
        let path = self.path(key);
        // A file system that keeps no times forgets the order, no more.
        if let Ok(file) = fs::File::options().write(true).open(&path) {
            let _ = file.set_modified(SystemTime::now());
        }
        Some(path)
    }

    /// Whether there is a file of this key.
    pub(crate) fn contains(&self, key: &str) -> bool {
        self.files().by_key.contains_key(key)
    }

    /// Keeps these bytes, and removes the least recently used files above the size. What is larger than all of it is
    /// not kept.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn put(&self, key: &str, bytes: &[u8]) -> Result<(), samara_image::Error> {
        if bytes.len() as u64 > self.most_bytes {
            return Ok(());
        }
        write_atomic(self.path(key), bytes)?;
        self.files().add(key.to_owned(), bytes.len() as u64);
        self.shrink();
        Ok(())
    }

    /// Removes a file; says whether there was one.
    pub(crate) fn remove(&self, key: &str) -> bool {
        let known = self.files().remove(key);
        if known {
            remove(&self.path(key));
        }
        known
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files().bytes
    }

    /// The keys, those used last first.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.files().by_use.values().rev().cloned().collect()
    }

    fn shrink(&self) {
        let mut files = self.files();
        while files.bytes > self.most_bytes {
            let Some((_, key)) = files.by_use.first_key_value() else {
                return;
            };
            let key = key.clone();
            files.remove(&key);
            remove(&self.path(&key));
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("{}: {error}", path.display());
    }
}

/// Whether a key is the name of a file in the folder, and of nothing else.
fn is_name(key: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !key.is_empty() && !key.starts_with('.') && key.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(folder.path().into(), 10, is_name).unwrap();
        cache.put("a", b"1234").unwrap();
        cache.put("b", b"1234").unwrap();
        assert!(cache.get("a").is_some());
        cache.put("c", b"1234").unwrap();
        assert_eq!(cache.keys(), ["c", "a"]);
        assert!(!folder.path().join("b").exists());
        assert_eq!(cache.bytes(), 8);
        cache.put("large", &[0; 11]).unwrap();
        assert!(!cache.contains("large"));
    }

    #[test]
    fn files_and_their_order_survive() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(folder.path().into(), 100, is_name).unwrap();
        for key in ["a", "b", "c"] {
            cache.put(key, b"1234").unwrap();
            std::thread::sleep(std::time::Duration::from_millis(15));
        }
        cache.get("a").unwrap();
        drop(cache);
        let cache = DiskCache::open(folder.path().into(), 8, is_name).unwrap();
        assert_eq!(cache.keys(), ["a", "c"]);
        assert!(cache.remove("a") && !cache.remove("a"));
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["holiday.jpg", "key"] {
            fs::write(folder.path().join(name), [0; 60]).unwrap();
        }
        let cache = DiskCache::open(folder.path().into(), 50, |name| name == "key").unwrap();
        assert!(cache.keys().is_empty());
        assert!(folder.path().join("holiday.jpg").exists());
    }

    #[test]
    fn a_file_that_is_replaced_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(folder.path().into(), 100, is_name).unwrap();
        cache.put("a", b"1234").unwrap();
        cache.put("a", b"123").unwrap();
        assert_eq!(cache.bytes(), 3);
    }
}
