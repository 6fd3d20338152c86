//! A folder that is complete or absent.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::{Builder, TempDir};
use walkdir::{DirEntry, WalkDir};

use crate::Result;
use crate::error::ProjectError;

/// How folders that are being filled are called, as `samara_image` calls files.
const PREFIX: &str = ".samara-";
const SUFFIX: &str = ".tmp";
/// After this time without a change nobody fills a folder any more.
const LEFT: Duration = Duration::from_hours(24);

/// A folder that is being filled, under another name beside the place where it goes. Without
/// [`finish`](Self::finish) nothing is left of it.
pub(crate) struct NewFolder {
    temporary: TempDir,
    path: PathBuf,
}

impl NewFolder {
    /// One that becomes `path`, where nothing is yet, outside of the folder of the pictures.
    pub(crate) fn new(path: &Path, pictures: &Path) -> Result<Self> {
        let refuse = |why: &str| {
            Err(ProjectError::Format {
                path: path.to_path_buf(),
                why: why.into(),
            })
        };
        if path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        if path.file_name().is_none() {
            return refuse("is no name of a folder");
        }
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let parent = parent.canonicalize().map_err(|e| failed(path, e))?;
        let pictures = pictures.canonicalize().map_err(|e| failed(pictures, e))?;
        if parent.starts_with(&pictures) {
            return refuse(
                "lies in the folder of the project, to whose pictures it would add; choose a place outside of it",
            );
        }
        clear(&parent);
        let mut builder = Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        let temporary = builder.tempdir_in(&parent).map_err(|e| failed(path, e))?;
        Ok(Self {
            temporary,
            path: path.to_path_buf(),
        })
    }

    /// Where it is until it is finished.
    pub(crate) fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// An error of the file system, said of the place where the folder goes.
    pub(crate) fn failed(&self, error: io::Error) -> ProjectError {
        failed(&self.path, error)
    }

    /// Gives it its name, when the disk has all that is in it.
    pub(crate) fn finish(self) -> Result<()> {
        let sync = |path: &Path| fs::File::open(path).and_then(|file| file.sync_all());
        for entry in WalkDir::new(self.path()) {
            let entry = entry.map_err(|e| self.failed(e.into()))?;
            let synced = sync(entry.path());
            // Not every system can be asked to wait for a folder.
            if entry.file_type().is_file() {
                synced.map_err(|e| self.failed(e))?;
            }
        }
        if self.path.symlink_metadata().is_ok() {
            return Err(exists(&self.path));
        }
        fs::rename(self.path(), &self.path).map_err(|e| match e.kind() {
            // Somebody else has been quicker.
            io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => exists(&self.path),
            _ => self.failed(e),
        })?;
        let _ = self.temporary.keep();
        if let Some(parent) = self.path.parent() {
            let _ = sync(parent);
        }
        Ok(())
    }
}

/// Removes what exports that were killed have left in a folder, a day after the last of it was written.
fn clear(parent: &Path) {
    let is_ours = |name: &str| {
        let name = name.strip_prefix(PREFIX);
        name.is_some_and(|name| name.ends_with(SUFFIX))
    };
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir())
            && is_ours(&entry.file_name().to_string_lossy())
    });
    for folder in folders {
        let is_old = |entry: walkdir::Result<DirEntry>| {
            let written = entry.ok()?.metadata().ok()?.modified().ok()?;
            Some(written.elapsed().ok()? > LEFT)
        };
        if WalkDir::new(folder.path())
            .into_iter()
            .all(|entry| is_old(entry) == Some(true))
        {
            // It is in nobody's way if it stays.
            let _ = fs::remove_dir_all(folder.path());
        }
    }
}

fn exists(path: &Path) -> ProjectError {
    let path = path.to_path_buf();
    ProjectError::Exists { path }
}

fn failed(path: &Path, source: io::Error) -> ProjectError {
    let path = path.to_path_buf();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ProjectError::Full { path },
        _ => ProjectError::Folder { path, source },
    }
}
