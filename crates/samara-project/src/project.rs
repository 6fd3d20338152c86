//! The file of a project.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Transaction, TransactionBehavior};

use crate::Result;
use crate::database::{Database, Version};
use crate::failure::Failure;

/// The name of the file in the folder of the pictures.
pub const FILE_NAME: &str = "samara.project";

/// The masks of a folder of pictures. Several threads, and several programs, may work on one at once.
#[derive(Debug)]
pub struct Project {
    database: Mutex<Database>,
    folder: PathBuf,
    path: PathBuf,
}

impl Project {
    /// Opens the project of a folder of pictures, and makes it if there is none.
    ///
    /// # Errors
    /// The file cannot be made, or is none of a project.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref().to_path_buf();
        let path = folder.join(FILE_NAME);
        let database = Database::open(&path).map_err(|failure| failure.of_file(&path))?;
        Ok(Self {
            database: Mutex::new(database),
            folder,
            path,
        })
    }

    /// The folder of the pictures.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is another one whenever another connection, such as that of another program, has changed the file, or
    /// another file was put in its place.
    ///
    /// # Errors
    /// The file cannot be read, or has gone.
    pub fn version(&self) -> Result<Version> {
        let version = self.database().version();
        version.map_err(|failure| failure.of_file(&self.path))
    }

    pub(crate) fn database(&self) -> MutexGuard<'_, Database> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads, all of it at one moment.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T> {
        self.within(TransactionBehavior::Deferred, read)
    }

    /// Writes all of it, or nothing.
    pub(crate) fn write<T>(
        &self,
        write: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T> {
        self.within(TransactionBehavior::Immediate, write)
    }

    fn within<T>(
        &self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T> {
        let done = self.database().within(behavior, work);
        done.map_err(|failure| failure.of_file(&self.path))
    }
}
