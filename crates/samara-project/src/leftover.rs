//! A journal that lies beside the file of a project and is not of it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::failure::Failure;

/// Moves the journal beside a file away if it is that of another file, such as of one in whose place a copy was put:
/// alone the file is whole and of the application, and with it not. Nothing is deleted.
pub(crate) fn set_aside(path: &Path, application: i32) -> Result<(), Failure> {
    let has_content = |path: &Path| path.metadata().is_ok_and(|metadata| metadata.len() > 0);
    let journal = beside(path, "-wal");
    if !has_content(&journal) || !has_content(path) {
        return Ok(());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let both = Connection::open_with_flags(path, flags)?;
    // What was read is not written to the file.
    both.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    both.busy_timeout(Duration::ZERO)?;
    // Nobody else opens it until this is done; it fails where another program has it open, whose journal it is.
    both.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    if is_whole(&both, application).unwrap_or_else(|error| !is_damage(&error))
        || !is_whole_alone(path, application)
    {
        return Ok(());
    }
    let moved = move_away(&journal).or_else(|_| {
        // Not every system moves files that are open.
        drop(both);
        move_away(&journal)
    });
    moved.map_err(|error| {
        Failure::File(format!(
            "the -wal beside it is of another file, and cannot be moved away: {error}"
        ))
    })
}

/// Whether it is of the application, and nothing in it contradicts the rest.
fn is_whole(connection: &Connection, application: i32) -> rusqlite::Result<bool> {
    let its: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let said: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    let points_nowhere = connection.prepare("PRAGMA foreign_key_check")?.exists([])?;
    Ok(its == application && said == "ok" && !points_nowhere)
}

/// Whether an error is about what is in the file.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode as E;
    match error.sqlite_error_code() {
        Some(code) => matches!(code, E::DatabaseCorrupt | E::NotADatabase | E::Unknown),
        None => true,
    }
}

/// The same of the file without its journal, which is neither read nor written.
fn is_whole_alone(path: &Path, application: i32) -> bool {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let alone = || {
        let alone = Connection::open_with_flags(uri(path)?, flags).ok()?;
        is_whole(&alone, application).ok()
    };
    alone().unwrap_or(false)
}

/// A file as SQLite opens it when nobody writes to it.
fn uri(path: &Path) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    let path = path.to_str()?.replace('\\', "/");
    let mut uri = String::from(if path.starts_with('/') {
        "file://"
    } else {
        "file:///"
    });
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-:".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    Some(uri + "?immutable=1")
}

/// Gives a file the first name with a number that is free.
fn move_away(path: &Path) -> io::Result<()> {
    let names = (1_u32..).map(|number| beside(path, &format!(".{number}")));
    let free = names
        .into_iter()
        .find(|name| name.symlink_metadata().is_err());
    free.map_or(Ok(()), |free| fs::rename(path, free))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}
