//! The folder of a run, for one process at a time.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::save::is_unfinished;

/// Keeps other processes away from a folder as long as it lives.
///
/// What was made for a run that then wrote nothing is removed when it ends.
#[derive(Debug)]
pub struct FolderLock {
    /// The folders that were not there, the innermost first.
    made: Vec<PathBuf>,
    /// A file system without locks is no reason not to work.
    _lock: Option<File>,
}

impl FolderLock {
    /// Makes the folder if it is not there, locks it, and removes what a killed process has left half-written
    /// in it and in its folders, but for those in which another process works.
    ///
    /// # Errors
    /// Another process works there ([`io::ErrorKind::ResourceBusy`]), or the folder cannot be made.
    pub fn acquire(path: &Path) -> io::Result<Self> {
        let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let made: Vec<_> = path
            .ancestors()
            .take_while(missing)
            .map(Path::to_path_buf)
            .collect();
        fs::create_dir_all(path)?;
        let lock = locked(path, File::try_lock)?;
        // Removes what was made if that fails.
        let folder = Self { made, _lock: lock };
        remove_unfinished(path)?;
        Ok(folder)
    }

    /// Makes the folder if it is not there, for one of several processes that work in it side by side; those that
    /// [acquire](Self::acquire) it are kept away. Nothing is removed: it may be another's.
    ///
    /// # Errors
    /// A process has acquired it ([`io::ErrorKind::ResourceBusy`]), or the folder cannot be made.
    pub fn share(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self {
            made: Vec::new(),
            _lock: locked(path, File::try_lock_shared)?,
        })
    }
}

/// The folder with a lock, or nothing where there are no locks.
fn locked(
    path: &Path,
    lock: impl Fn(&File) -> Result<(), TryLockError>,
) -> io::Result<Option<File>> {
    let folder = File::open(path).ok();
    if let Some(folder) = &folder
        && matches!(lock(folder), Err(TryLockError::WouldBlock))
    {
        let why = "another process works there";
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
    }
    Ok(folder)
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        for folder in &self.made {
            // A folder that is not empty stays.
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
}

/// Whether another process has locked the folder.
fn is_at_work(folder: &Path) -> bool {
    let lock = File::open(folder).map(|folder| folder.try_lock());
    matches!(lock, Ok(Err(TryLockError::WouldBlock)))
}

/// Links are not followed, and folders in which another process works are left alone.
fn remove_unfinished(folder: &Path) -> io::Result<()> {
    let named =
        |path: &Path, e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let is_folder = entry.file_type()?.is_dir();
        match (is_unfinished(&path), is_folder) {
            (true, true) => fs::remove_dir_all(&path).map_err(|e| named(&path, e))?,
            (true, false) => fs::remove_file(&path).map_err(|e| named(&path, e))?,
            (false, true) if is_at_work(&path) => {}
            // Of a folder that cannot be read nothing is known to be left.
            (false, true) => match remove_unfinished(&path) {
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
                _ => {}
            },
            (false, false) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::acquire(folder.path()).unwrap();
        let error = FolderLock::acquire(folder.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        drop(first);
        FolderLock::acquire(folder.path()).unwrap();
        assert!(folder.path().exists(), "it was there before");
    }

    #[test]
    fn several_that_share_keep_others_away() {
        let folder = tempfile::tempdir().unwrap();
        let written = folder.path().join(".samara-a.tmp");
        fs::write(&written, "x").unwrap();
        let both = [(); 2].map(|()| FolderLock::share(folder.path()).unwrap());
        assert!(written.exists(), "it may be that of the other one");
        let error = FolderLock::acquire(folder.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        drop(both);
        let alone = FolderLock::acquire(folder.path()).unwrap();
        assert!(!written.exists());
        let error = FolderLock::share(folder.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        drop(alone);
    }

    #[test]
    fn what_was_half_written_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("inner/.samara-b.tmp/deep")).unwrap();
        fs::create_dir(at("other")).unwrap();
        for name in [
            ".samara-a.tmp",
            "inner/.samara-b.tmp/deep/c",
            "inner/kept",
            "a.tmp",
        ] {
            fs::write(at(name), "x").unwrap();
        }
        fs::write(at("other/.samara-b.tmp"), "x").unwrap();
        drop(FolderLock::acquire(folder.path()).unwrap());
        for (name, left) in [
            (".samara-a.tmp", false),
            ("inner/.samara-b.tmp", false),
            ("other/.samara-b.tmp", false),
            ("inner/kept", true),
            ("a.tmp", true),
        ] {
            assert_eq!(at(name).exists(), left, "{name}");
        }
    }

    #[test]
    fn another_run_in_a_folder_inside_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let inner = FolderLock::acquire(&folder.path().join("inner")).unwrap();
        let written = folder.path().join("inner/.samara-a.tmp");
        fs::write(&written, "x").unwrap();
        let outer = FolderLock::acquire(folder.path()).unwrap();
        assert!(written.exists());
        drop((inner, outer));
        drop(FolderLock::acquire(folder.path()).unwrap());
        assert!(!written.exists());
    }

    #[test]
    fn folders_that_were_made_for_nothing_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/c");
        drop(FolderLock::acquire(&path).unwrap());
        assert!(!folder.path().join("a").exists());
        let lock = FolderLock::acquire(&path).unwrap();
        fs::write(folder.path().join("a/b/file"), "").unwrap();
        drop(lock);
        assert!(!path.exists() && folder.path().join("a/b/file").exists());
        let lock = FolderLock::acquire(&path).unwrap();
        fs::write(path.join("file"), "").unwrap();
        drop(lock);
        assert!(path.join("file").exists());
    }
}
