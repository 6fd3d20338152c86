//! The checkpoints of a run: folders of files with their checksums.
//!
//! A checkpoint is written under another name and renamed when the disk has it, so a process that is killed at any
//! moment leaves the previous one. `SHA256SUMS` holds the checksums of its files, in the format of the program
//! `sha256sum`, so that what a failing disk or a power failure has changed is noticed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::TrainError;

/// Checkpoints that are kept.
const KEEP: usize = 2;
const PREFIX: &str = "checkpoint-";
const SUMS: &str = "SHA256SUMS";

/// The weights that learn.
pub(crate) const WEIGHTS: &str = "weights.safetensors";
/// Their average, if there is one.
pub(crate) const AVERAGE: &str = "average.safetensors";
/// The state of the optimizer.
pub(crate) const OPTIMIZER: &str = "optimizer.bin";

/// The files of the last checkpoint that is whole.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) model: PathBuf,
    pub(crate) average: Option<PathBuf>,
    pub(crate) step: u64,
    pub(crate) optimizer: Vec<u8>,
    /// What is wrong with later ones, a line for each.
    pub(crate) damaged: Vec<String>,
}

/// Reads the last checkpoint that is whole; `None` where there is none at all.
///
/// # Errors
/// All of them are damaged, or the folder cannot be read.
pub(crate) fn last(path: &Path) -> Result<Option<Saved>, TrainError> {
    let failed = |e: io::Error| TrainError::file(path, &e);
    let mut all = checkpoints(path).map_err(failed)?;
    let mut damaged = Vec::new();
    while let Some((step, folder)) = all.pop() {
        let why = match check(&folder) {
            Ok(()) => {
                let average = folder.join(AVERAGE);
                let optimizer = folder.join(OPTIMIZER);
                let read = fs::read(&optimizer);
                return Ok(Some(Saved {
                    model: folder.join(WEIGHTS),
                    average: average.exists().then_some(average),
                    step,
                    optimizer: read.map_err(|e| TrainError::file(optimizer, &e))?,
                    damaged,
                }));
            }
            Err(why) => why,
        };
        damaged.push(format!("{} is damaged: {why}", folder.display()));
    }
    match damaged.into_iter().next() {
        None => Ok(None),
        Some(first) => {
            let why = format!(
                "no checkpoint of this run is whole ({first}); remove the folder to begin anew"
            );
            Err(TrainError::file(path, &why))
        }
    }
}

/// Writes the checkpoint of `step`, whose files `fill` writes, and removes old ones.
pub(crate) fn save(
    path: &Path,
    step: u64,
    fill: impl FnOnce(&Path) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    let target = path.join(format!("{PREFIX}{step:08}"));
    if target.exists() {
        return Ok(());
    }
    samara_image::write_folder_atomic::<TrainError>(&target, |folder| {
        fill(folder)?;
        let failed = |e: io::Error| TrainError::file(&target, &e);
        let sums = sums(folder).map_err(failed)?;
        // The last of them, so that the names of all are on the disk when it is.
        samara_image::write_atomic(folder.join(SUMS), sums.as_bytes())?;
        Ok(())
    })?;
    let failed = |e: io::Error| TrainError::file(&target, &e);
    let all = checkpoints(path).map_err(failed)?;
    for (_, old) in all.iter().rev().skip(KEEP) {
        fs::remove_dir_all(old).map_err(failed)?;
    }
    Ok(())
}

/// Removes the checkpoints of later steps than `step`, which are damaged.
pub(crate) fn remove_after(path: &Path, step: u64) -> io::Result<()> {
    for (of, folder) in checkpoints(path)? {
        if of > step {
            fs::remove_dir_all(folder)?;
        }
    }
    Ok(())
}

/// All checkpoints by step.
fn checkpoints(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let step = name.and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
        found.extend(step.map(|step| (step, path)));
    }
    found.sort();
    Ok(found)
}

/// The checksums of the files in a folder, as `sha256sum` writes them.
fn sums(folder: &Path) -> io::Result<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        lines.push((name.into_owned(), sha256(&path)?));
    }
    lines.sort();
    let lines = lines.iter().map(|(name, sum)| format!("{sum}  {name}\n"));
    Ok(lines.collect())
}

/// Whether the files of a checkpoint are those that were written; or what is wrong with them.
fn check(folder: &Path) -> Result<(), String> {
    let read = fs::read_to_string(folder.join(SUMS));
    let sums = read.map_err(|e| format!("{SUMS}: {e}"))?;
    let mut seen = Vec::new();
    for line in sums.lines() {
        let known = line.split_once("  ").filter(|(sum, _)| sum.len() == 64);
        let (sum, name) = known.ok_or_else(|| format!("{SUMS} has a line that makes no sense"))?;
        let found = sha256(&folder.join(name)).map_err(|e| format!("{name}: {e}"))?;
        if found != sum {
            return Err(format!("the checksum of {name} is another"));
        }
        seen.push(name);
    }
    let missing = |name: &&str| !seen.contains(name);
    match [WEIGHTS, OPTIMIZER].iter().copied().find(missing) {
        Some(name) => Err(format!("{SUMS} does not name {name}")),
        None if folder.join(AVERAGE).exists() && missing(&AVERAGE) => {
            Err(format!("{SUMS} does not name {AVERAGE}"))
        }
        None => Ok(()),
    }
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut sum = Sha256::new();
    let mut file = File::open(path)?;
    io::copy(&mut file, &mut Hashing(&mut sum))?;
    Ok(hex::encode(sum.finalize()))
}

struct Hashing<'a>(&'a mut Sha256);

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(folder: &Path) -> Result<(), TrainError> {
        for name in [WEIGHTS, AVERAGE, OPTIMIZER] {
            let content = name.repeat(40);
            samara_image::write_atomic(folder.join(name), content.as_bytes())?;
        }
        Ok(())
    }

    #[test]
    fn the_last_two_are_kept_and_parts_are_not_seen() {
        let folder = tempfile::tempdir().unwrap();
        for step in [5, 10, 15] {
            save(folder.path(), step, fill).unwrap();
        }
        let failed = save(folder.path(), 20, |_| Err(TrainError::State("no".into())));
        assert!(failed.is_err());
        let steps = || {
            let all = checkpoints(folder.path()).unwrap();
            all.into_iter().map(|(step, _)| step)
        };
        assert!(steps().eq([10, 15]));
        let saved = last(folder.path()).unwrap().unwrap();
        assert_eq!((saved.step, saved.average.is_some()), (15, true));
        assert!(saved.damaged.is_empty());
        save(folder.path(), 20, fill).unwrap();
        assert!(steps().eq([15, 20]), "the failed attempt is not in the way");
        remove_after(folder.path(), 15).unwrap();
        assert!(steps().eq([15]));
    }

    #[test]
    fn the_checksums_are_those_of_sha256sum() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b"), "abc").unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        let expected = "\
            e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a\n\
            ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  b\n";
        assert_eq!(sums(folder.path()).unwrap(), expected);
    }

    #[test]
    fn whatever_is_damaged_the_one_before_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), 5, fill).unwrap();
        save(folder.path(), 10, fill).unwrap();
        let newest = folder.path().join("checkpoint-00000010");
        for name in [WEIGHTS, AVERAGE, OPTIMIZER, SUMS] {
            let path = newest.join(name);
            let whole = fs::read(&path).unwrap();
            let mut damages: Vec<Vec<u8>> = (0..whole.len())
                .step_by(7)
                .map(|at| whole[..at].to_vec())
                .collect();
            damages.push(vec![0; whole.len()]);
            damages.extend((0..whole.len()).step_by(11).map(|at| {
                let mut flipped = whole.clone();
                flipped[at] ^= 0x10;
                flipped
            }));
            for damaged in damages {
                fs::write(&path, &damaged).unwrap();
                let saved = last(folder.path()).unwrap().unwrap();
                assert_eq!((saved.step, saved.damaged.len()), (5, 1), "{name}");
                let line = &saved.damaged[0];
                let names = line.contains("checkpoint-00000010 is damaged: ");
                assert!(names && line.contains(name) || name == SUMS, "{line}");
                assert!(!line.contains('\n'), "{line}");
            }
            fs::remove_file(&path).unwrap();
            assert_eq!(last(folder.path()).unwrap().unwrap().step, 5, "{name}");
            fs::write(&path, &whole).unwrap();
            assert_eq!(last(folder.path()).unwrap().unwrap().step, 10);
        }
        // And when none is whole, that is an error.
        fs::write(newest.join(WEIGHTS), "").unwrap();
        fs::write(
            folder.path().join("checkpoint-00000005").join(OPTIMIZER),
            "",
        )
        .unwrap();
        let error = last(folder.path()).unwrap_err().to_string();
        for word in [
            "no checkpoint of this run is whole",
            "checkpoint-00000010",
            WEIGHTS,
        ] {
            assert!(error.contains(word) && !error.contains('\n'), "{error}");
        }
    }
}
