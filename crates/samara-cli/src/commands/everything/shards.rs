//! The shards of a run in its folder: each has a journal and a lock of its own, until a merge makes one journal of
//! them.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use same_file::Handle;

use crate::commands::journal::RunFolder;
use crate::error::{CliError, Result};
use crate::shard::Shard;

/// Holds the journals and the locks.
pub(super) const FOLDER: &str = "manifest.shards";

/// The journal of a shard, relative to the folder of the run.
pub(super) fn journal(shard: Shard) -> String {
    format!("{FOLDER}/{}", file(shard, "jsonl"))
}

fn file(Shard { index, count }: Shard, extension: &str) -> String {
    format!("{index}-of-{count}.{extension}")
}

/// The shards that have a journal, in order. Those of another run, with another number of shards, are refused.
pub(super) fn found(out: &Path, flag: &str) -> Result<Vec<Shard>> {
    let folder = out.join(FOLDER);
    let failed = |e: io::Error| CliError::failed(format!("{}: {e}", folder.display()));
    let mut shards = Vec::new();
    match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(entries) => {
            for entry in entries {
                let name = entry.map_err(failed)?.file_name();
                let name = name.to_string_lossy();
                let stem = name.strip_suffix(".jsonl").unwrap_or_default();
                let shard = stem.replacen("-of-", "/", 1).parse().ok();
                // What has another name is no journal.
                shards.extend(shard.filter(|&shard| file(shard, "jsonl") == name));
            }
        }
    }
    shards.sort();
    let counts: BTreeSet<u32> = shards.iter().map(|shard| shard.count).collect();
    if counts.len() > 1 {
        let counts: Vec<String> = counts.iter().map(u32::to_string).collect();
        return Err(CliError::failed(format!(
            "{flag} {}: runs of {} shards are in it; keep the journals of one of them in {FOLDER}",
            out.display(),
            counts.join(" and of ")
        )));
    }
    Ok(shards)
}

/// Opens the folder of a run for a shard, beside other shards of the run.
pub(super) fn open(out: &Path, shard: Shard) -> Result<(RunFolder, Lock)> {
    let there = found(out, "--out")?;
    if let Some(other) = there.iter().find(|other| other.count != shard.count) {
        let (out, count) = (out.display(), other.count);
        return Err(CliError::failed(format!(
            "--out {out}: there is a run of {count} shards in it, so {shard} is none of them; name another folder"
        )));
    }
    let folder = RunFolder::share(out)?;
    Ok((folder, Lock::acquire(out, shard, "--out")?))
}

/// Refuses a run without shards where shards are.
pub(super) fn refuse(out: &Path) -> Result<()> {
    if found(out, "--out")?.is_empty() {
        return Ok(());
    }
    let out = out.display();
    Err(CliError::failed(format!(
        "--out {out}: there are shards of a run in it; --merge puts them together, or name another folder"
    )))
}

/// Keeps other processes away from a shard, also those of other machines: network disks lock files that are open for
/// writing, and no folders.
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Locks a shard, or says that another process works on it.
    pub(super) fn acquire(out: &Path, shard: Shard, flag: &str) -> Result<Self> {
        let folder = out.join(FOLDER);
        let path = folder.join(file(shard, "lock"));
        let open = || -> io::Result<Option<File>> {
            fs::create_dir_all(&folder)?;
            let file = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            let is_locked = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
            // One that was removed meanwhile keeps nobody away.
            let is_there = Handle::from_file(file.try_clone()?)? == Handle::from_path(&path)?;
            Ok((is_there && !is_locked).then_some(file))
        };
        let file = open().map_err(|e| CliError::failed(format!("{}: {e}", path.display())))?;
        let busy = || {
            let out = out.display();
            CliError::failed(format!(
                "{flag} {out}: another process works on shard {shard}"
            ))
        };
        let file = file.ok_or_else(busy)?;
        Ok(Self { path, _file: file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still locked; a folder with journals stays.
        let _ = fs::remove_file(&self.path);
        let _ = self.path.parent().map(fs::remove_dir);
    }
}
