//! The file of a project.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior};

use crate::Result;
use crate::error::ProjectError;

/// The name of the file in the folder of the pictures.
pub const FILE_NAME: &str = "samara.project";

/// By which SQLite files of ours are known: "SMRA".
const APPLICATION: i32 = 0x534d_5241;
/// The version of the tables below.
const VERSION: i32 = 1;
/// How long another program that writes is waited for.
const BUSY: Duration = Duration::from_secs(5);

const TABLES: &str = "
CREATE TABLE picture (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    bytes INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    sha256 TEXT,
    width INTEGER NOT NULL DEFAULT 0,
    height INTEGER NOT NULL DEFAULT 0,
    checked INTEGER NOT NULL DEFAULT 0,
    is_gone INTEGER NOT NULL DEFAULT 0,
    is_changed INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 0
) STRICT;
-- Classes that are removed stay: an object that comes back may have one.
CREATE TABLE class (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    colour TEXT NOT NULL,
    position INTEGER NOT NULL,
    is_removed INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX class_of_name ON class (name) WHERE NOT is_removed;
CREATE TABLE object (
    id INTEGER PRIMARY KEY,
    picture INTEGER NOT NULL REFERENCES picture (id),
    class INTEGER REFERENCES class (id),
    position INTEGER NOT NULL,
    predicted_iou REAL,
    -- The object as JSON; the columns before it are what is looked for.
    record TEXT NOT NULL
) STRICT;
-- Numbers of objects are used once, also over those that are removed: their history brings them back.
CREATE TABLE counter (objects INTEGER NOT NULL) STRICT;
INSERT INTO counter VALUES (0);
CREATE INDEX object_of_picture ON object (picture, position, class, predicted_iou);
CREATE INDEX object_of_class ON object (class);
CREATE TABLE action (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    picture INTEGER NOT NULL REFERENCES picture (id),
    author TEXT NOT NULL,
    seconds INTEGER NOT NULL,
    changes TEXT NOT NULL,
    is_undone INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX action_of_picture ON action (picture, id);
";

/// The masks of a folder of pictures. Several threads, and several programs, may work on one at once.
#[derive(Debug)]
pub struct Project {
    connection: Mutex<Connection>,
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
        let connection = Connection::open(&path).map_err(|e| named(&path, &e))?;
        let project = Self {
            connection: Mutex::new(connection),
            folder,
            path,
        };
        project.prepare()?;
        Ok(project)
    }

    fn prepare(&self) -> Result<()> {
        let mut connection = self.connection();
        let mut ready = || -> rusqlite::Result<Option<String>> {
            connection.busy_timeout(BUSY)?;
            // Of a kill nothing is lost, of a power cut nothing that was told to be kept.
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "foreign_keys", true)?;
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let pragma = |name: &str| transaction.pragma_query_value(None, name, |row| row.get(0));
            let (application, version): (i32, i32) =
                (pragma("application_id")?, pragma("user_version")?);
            let count = "SELECT count(*) FROM sqlite_schema";
            let is_new = transaction.query_row(count, [], |row| row.get::<_, i64>(0))? == 0;
            if is_new && application == 0 {
                transaction.execute_batch(TABLES)?;
                transaction.pragma_update(None, "application_id", APPLICATION)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
            } else if application != APPLICATION {
                return Ok(Some("is no project of Samara".into()));
            } else if version != VERSION {
                let why = format!("is of version {version}; this program knows {VERSION}");
                return Ok(Some(why));
            }
            transaction.commit()?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            Ok(None)
        };
        match ready().map_err(|e| named(&self.path, &e))? {
            None => Ok(()),
            Some(why) => Err(ProjectError::File {
                path: self.path.clone(),
                why,
            }),
        }
    }

    /// The folder of the pictures.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A number that changes whenever another connection, such as that of another program, has changed the file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn version(&self) -> Result<i64> {
        let version = self
            .connection()
            .pragma_query_value(None, "data_version", |row| row.get(0));
        version.map_err(|e| named(&self.path, &e))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
        let mut connection = self.connection();
        let done = || {
            let transaction = connection.transaction_with_behavior(behavior)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        done().map_err(|failure| match failure {
            Failure::Project(error) => error,
            Failure::Sql(error) => named(&self.path, &error),
        })
    }
}

/// Why a transaction ends without effect.
pub(crate) enum Failure {
    Project(ProjectError),
    Sql(rusqlite::Error),
}

impl Failure {
    /// The failure of one of several edits.
    pub(crate) fn of_edit(self, index: usize) -> Self {
        match self {
            Self::Project(error) => Self::Project(ProjectError::Edit {
                index,
                error: Box::new(error),
            }),
            sql @ Self::Sql(_) => sql,
        }
    }
}

impl From<ProjectError> for Failure {
    fn from(error: ProjectError) -> Self {
        Self::Project(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// A row that is expected to be there.
pub(crate) fn found<T>(
    row: rusqlite::Result<T>,
    missing: impl FnOnce() -> ProjectError,
) -> Result<T, Failure> {
    row.optional()?.ok_or_else(|| missing().into())
}

fn named(path: &Path, error: &rusqlite::Error) -> ProjectError {
    let path = path.to_path_buf();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ProjectError::Full { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ProjectError::Busy { path },
        code => ProjectError::File {
            path,
            why: match code {
                Some(ErrorCode::NotADatabase) => "is no project of Samara".into(),
                Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                    "cannot be written there".into()
                }
                _ => error.to_string(),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use samara_image::Mask;

    use super::*;
    use crate::{Edit, NewObject};

    #[test]
    fn a_full_disk_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.png"), "").unwrap();
        let project = Project::open(folder.path()).unwrap();
        project.scan().unwrap();
        let picture = project.pictures().unwrap()[0].id;
        project.identify(picture, "a", 300, 300).unwrap();
        let noise = Mask::from_fn(300, 300, |x, y| (x * y) % 7 < 3);
        let add = [Edit::Add(NewObject::new(noise.to_rle()))];
        project.apply(picture, "me", &add, None).unwrap();
        let pages: i64 = {
            let connection = project.connection();
            let pages = connection.pragma_query_value(None, "page_count", |row| row.get(0));
            let pages = pages.unwrap();
            connection
                .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
                .unwrap();
            pages
        };
        assert!(pages > 1);
        let error = project.apply(picture, "me", &add, None).unwrap_err();
        assert!(matches!(error, ProjectError::Full { .. }), "{error}");
        assert_eq!(project.objects(picture).unwrap().len(), 1);
        assert_eq!(project.history(picture).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_project_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        std::fs::write(
            &path,
            "notes of somebody else, long enough to be read as a header of a file",
        )
        .unwrap();
        let error = Project::open(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("is no project of Samara"), "{error}");
        assert!(std::fs::read(&path).unwrap().starts_with(b"notes"));
        std::fs::remove_file(&path).unwrap();
        Connection::open(&path)
            .unwrap()
            .execute_batch("CREATE TABLE other (a INTEGER)")
            .unwrap();
        Project::open(folder.path()).unwrap_err();
    }
}
