//! Why a transaction ends without effect.

use std::path::Path;

use rusqlite::{ErrorCode, OptionalExtension};

use crate::error::ProjectError;

/// Why a transaction ends without effect.
pub(crate) enum Failure {
    Project(ProjectError),
    Sql(rusqlite::Error),
    /// The file is none of a project, or is not what it was.
    File(String),
}

impl Failure {
    /// The failure of one of several edits.
    pub(crate) fn of_edit(self, index: usize) -> Self {
        match self {
            Self::Project(error) => Self::Project(ProjectError::Edit {
                index,
                error: Box::new(error),
            }),
            other => other,
        }
    }

    /// The error that names the file.
    pub(crate) fn of_file(self, path: &Path) -> ProjectError {
        match self {
            Self::Project(error) => error,
            Self::Sql(error) => named(path, &error),
            Self::File(why) => ProjectError::File {
                path: path.to_path_buf(),
                why,
            },
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
