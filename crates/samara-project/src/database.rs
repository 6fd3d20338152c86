//! The connection to the file of a project.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::failure::Failure;
use crate::leftover;

/// By which SQLite files of ours are known: "SMRA".
const APPLICATION: i32 = 0x534d_5241;
/// The version of [`TABLES`].
const VERSION: i32 = 2;
const TABLES: &str = include_str!("tables.sql");
/// How long another program that writes is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// What is another one whenever another connection has changed the file of a project, or another file was put in its
/// place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    files: u64,
    data: i64,
}

/// A file as its folder shows it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stamp {
    /// The device and the number of the file on it.
    file: (u64, u64),
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn at(path: &Path) -> io::Result<Self> {
        let metadata = path.metadata()?;
        Ok(Self {
            file: number(&metadata),
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }
}

#[cfg(unix)]
fn number(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn number(_: &Metadata) -> (u64, u64) {
    // There a file that is open can be neither removed nor replaced.
    (0, 0)
}

/// The file of a project that is open. Between two transactions all of it lies in that one file: a copy of it is whole,
/// and a copy that is put in its place is noticed and taken, never mixed with what was there.
#[derive(Debug)]
pub(crate) struct Database {
    path: PathBuf,
    /// `None` as long as there is another file in its place that cannot be used.
    connection: Option<Connection>,
    seen: Stamp,
    /// What SQLite knew of changes of others when the file was seen.
    data: i64,
    /// How many files there were in this place.
    files: u64,
}

impl Database {
    /// Opens the file of a project, and makes it if there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let is_locked = |metadata: Metadata| metadata.permissions().readonly();
        if path.metadata().is_ok_and(is_locked) {
            // SQLite would leave files beside it.
            return Err(Failure::File("is read-only".into()));
        }
        leftover::set_aside(path, APPLICATION)?;
        let mut connection = Connection::open(path)?;
        prepare(&mut connection, true)?;
        let data = data_version(&connection)?;
        Ok(Self {
            seen: Stamp::at(path).map_err(|error| gone(&error))?,
            path: path.to_path_buf(),
            connection: Some(connection),
            data,
            files: 1,
        })
    }

    pub(crate) fn version(&mut self) -> Result<Version, Failure> {
        let data = data_version(self.connection()?)?;
        Ok(Version {
            files: self.files,
            data,
        })
    }

    /// Does all of a transaction, or nothing.
    pub(crate) fn within<T>(
        &mut self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let connection = self.connection()?;
        let transaction = connection.transaction_with_behavior(behavior)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        if matches!(behavior, TransactionBehavior::Immediate) {
            // It is kept whether or not this succeeds.
            let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            if let Ok(seen) = Stamp::at(&self.path) {
                self.seen = seen;
            }
        }
        Ok(done)
    }

    /// The connection to the file that is there now.
    fn connection(&mut self) -> Result<&mut Connection, Failure> {
        let now = Stamp::at(&self.path).map_err(|error| gone(&error))?;
        if let Some(connection) = &self.connection
            && now != self.seen
        {
            let data = data_version(connection)?;
            if now.file == self.seen.file && data != self.data {
                // Another program has written to it.
                (self.seen, self.data) = (now, data);
            } else if let Some(old) = self.connection.take() {
                // What is left of the old file must not be written to this one.
                old.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            }
        }
        if self.connection.is_none() {
            leftover::set_aside(&self.path, APPLICATION)?;
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let mut connection = Connection::open_with_flags(&self.path, flags)?;
            prepare(&mut connection, false)?;
            self.data = data_version(&connection)?;
            self.seen = Stamp::at(&self.path).map_err(|error| gone(&error))?;
            self.files += 1;
            self.connection = Some(connection);
        }
        let missing = || Failure::File("cannot be opened".into());
        self.connection.as_mut().ok_or_else(missing)
    }
}

fn gone(error: &io::Error) -> Failure {
    Failure::File(match error.kind() {
        io::ErrorKind::NotFound => {
            "has gone while it was open; nothing was changed. Put it back, or start again for a new one"
                .into()
        }
        _ => error.to_string(),
    })
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "data_version", |row| row.get(0))
}

/// Makes sure that it is a project; an empty file becomes one if it `may_be_new`.
fn prepare(connection: &mut Connection, may_be_new: bool) -> Result<(), Failure> {
    connection.busy_timeout(BUSY)?;
    // Of a kill nothing is lost, of a power cut nothing that was told to be kept.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // It is done after each transaction.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let pragma = |name: &str| transaction.pragma_query_value(None, name, |row| row.get(0));
    let (application, version): (i32, i32) = (pragma("application_id")?, pragma("user_version")?);
    let count = "SELECT count(*) FROM sqlite_schema";
    let is_empty = transaction.query_row(count, [], |row| row.get::<_, i64>(0))? == 0;
    if is_empty && application == 0 && may_be_new {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    } else if application != APPLICATION {
        return Err(Failure::File("is no project of Samara".into()));
    } else if version != VERSION {
        let why = format!("is of version {version}; this program knows {VERSION}");
        return Err(Failure::File(why));
    }
    transaction.commit()?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use samara_image::Mask;

    use super::*;
    use crate::{Edit, FILE_NAME, NewObject, PictureId, Project, ProjectError};

    /// A project of one picture, the file of the project, and an edit that adds an object.
    fn project(folder: &Path) -> (Project, PathBuf, PictureId, [Edit; 1]) {
        fs::write(folder.join("a.png"), "").unwrap();
        let project = Project::open(folder).unwrap();
        project.scan().unwrap();
        let picture = project.pictures().unwrap()[0].id;
        project.identify(picture, "a", 300, 300).unwrap();
        let noise = Mask::from_fn(300, 300, |x, y| (x * y) % 7 < 3);
        let add = [Edit::Add(NewObject::new(noise.to_rle()))];
        (project, folder.join(FILE_NAME), picture, add)
    }

    #[test]
    fn a_full_disk_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (project, _, picture, add) = project(folder.path());
        project.apply(picture, "me", &add, None).unwrap();
        project.limit_to_its_size();
        let error = project.apply(picture, "me", &add, None).unwrap_err();
        assert!(matches!(error, ProjectError::Full { .. }), "{error}");
        assert_eq!(project.objects(picture).unwrap().len(), 1);
        assert_eq!(project.history(picture).unwrap().len(), 1);
    }

    impl Project {
        /// As if the disk were full.
        fn limit_to_its_size(&self) {
            let mut database = self.database();
            let connection = database.connection().unwrap_or_else(|_| unreachable!());
            let pages: i64 = connection
                .pragma_query_value(None, "page_count", |row| row.get(0))
                .unwrap();
            connection
                .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
                .unwrap();
        }
    }

    #[test]
    fn what_is_no_project_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let notes = "notes of somebody else, long enough to be read as a header of a file";
        fs::write(&path, notes).unwrap();
        let error = Project::open(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("is no project of Samara"), "{error}");
        assert!(fs::read(&path).unwrap().starts_with(b"notes"));
        fs::remove_file(&path).unwrap();
        Connection::open(&path)
            .unwrap()
            .execute_batch("CREATE TABLE other (a INTEGER)")
            .unwrap();
        Project::open(folder.path()).unwrap_err();
    }

    #[test]
    fn a_copy_of_the_file_is_whole_and_can_be_put_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let (project, path, picture, add) = project(folder.path());
        project.apply(picture, "me", &add, None).unwrap();
        let copy = folder.path().join("copy");
        fs::copy(&path, &copy).unwrap();
        for replace in [
            |from: &Path, to: &Path| fs::copy(from, to).map(drop),
            |from: &Path, to: &Path| {
                let beside = to.with_extension("new");
                fs::copy(from, &beside)?;
                fs::rename(beside, to)
            },
        ] {
            let before = project.version().unwrap();
            for _ in 0..3 {
                project.apply(picture, "me", &add, None).unwrap();
            }
            assert_eq!(project.version().unwrap(), before);
            replace(&copy, &path).unwrap();
            assert_eq!(project.objects(picture).unwrap().len(), 1);
            assert_ne!(project.version().unwrap(), before);
            project.apply(picture, "me", &add, None).unwrap();
            assert_eq!(project.objects(picture).unwrap().len(), 2);
            project.undo(picture, None).unwrap();
        }
        drop(project);
        let again = Project::open(folder.path()).unwrap();
        assert_eq!(again.objects(picture).unwrap().len(), 1);
    }

    #[test]
    fn nothing_is_written_where_the_file_has_gone_or_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let (project, path, picture, add) = project(folder.path());
        project.apply(picture, "me", &add, None).unwrap();
        let away = folder.path().join("away");
        fs::rename(&path, &away).unwrap();
        let error = project.apply(picture, "me", &add, None).unwrap_err();
        assert!(error.to_string().contains("has gone while"), "{error}");
        project.version().unwrap_err();
        assert!(!path.exists());
        for other in ["", "something else of more than sixteen bytes"] {
            fs::write(&path, other).unwrap();
            project.apply(picture, "me", &add, None).unwrap_err();
            project.objects(picture).unwrap_err();
            assert_eq!(fs::read_to_string(&path).unwrap(), other);
        }
        fs::rename(&away, &path).unwrap();
        project.apply(picture, "me", &add, None).unwrap();
        assert_eq!(project.objects(picture).unwrap().len(), 2);
    }

    #[test]
    fn two_programs_see_what_the_other_writes() {
        let folder = tempfile::tempdir().unwrap();
        let (project, _, picture, add) = project(folder.path());
        let other = Project::open(folder.path()).unwrap();
        let before = project.version().unwrap();
        for count in 1..4 {
            other.apply(picture, "other", &add, None).unwrap();
            project.apply(picture, "me", &add, None).unwrap();
            assert_eq!(project.objects(picture).unwrap().len(), 2 * count);
        }
        assert_ne!(project.version().unwrap(), before);
        assert_eq!(project.version().unwrap().files, 1);
    }

    #[test]
    fn a_file_that_may_not_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (project, path, ..) = project(folder.path());
        drop(project);
        let mut permissions = path.metadata().unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions).unwrap();
        let error = Project::open(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("samara.project: is read-only"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
