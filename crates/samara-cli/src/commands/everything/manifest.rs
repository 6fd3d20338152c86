//! `manifest.jsonl`: which images of a run are done, one line each. A line is added when all results
//! of the image are in place. A shard has a journal of its own.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::shards;
use crate::commands::journal::{Begin, Journal, Lines, RunFolder};
use crate::error::{CliError, Result};
use crate::shard::Shard;

pub(super) const FILE: &str = "manifest.jsonl";

/// What became of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Name of the image, as its results'.
    pub(super) image: String,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Outcome {
    Done {
        width: u32,
        height: u32,
        /// How many masks it has.
        masks: usize,
        /// How the image may not be what its author sees.
        #[serde(default)]
        warnings: Vec<String>,
    },
    Failed {
        error: String,
    },
}

/// The manifest of a run, to be added to.
pub(super) type Manifest = Journal<Entry>;

/// The images that were done before: 16 bytes for each, however long the names are.
#[derive(Default)]
pub(super) struct Done(HashSet<[u8; 16]>);

impl Done {
    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains(&Self::digest(name))
    }

    /// Whether it was not there before.
    pub(super) fn insert(&mut self, name: &str) -> bool {
        self.0.insert(Self::digest(name))
    }

    fn digest(name: &str) -> [u8; 16] {
        let mut digest = [0; 16];
        digest.copy_from_slice(&Sha256::digest(name)[..16]);
        digest
    }
}

/// The journal, relative to the folder of the run.
pub(super) fn file(shard: Option<Shard>) -> String {
    shard.map_or(FILE.into(), shards::journal)
}

/// The first line of the journal.
pub(super) fn header(run: &Value, shard: Option<Shard>) -> Value {
    let mut header = run.clone();
    if let Some(shard) = shard {
        header["shard"] = shard.to_string().into();
    }
    header
}

/// Refuses to work beside shards of another run, which would be noticed when all is done.
pub(super) fn refuse_other_runs(out: &Path, run: &Value, shard: Shard) -> Result<()> {
    for other in shards::found(out, "--out")? {
        if other != shard {
            let path = out.join(shards::journal(other));
            Lines::<Entry>::of(&path, &header(run, Some(other)), "--out")?;
        }
    }
    Ok(())
}

/// Begins a run in the folder `out`, or resumes the one that is there; see [`Journal::open`]. What
/// failed, or has lost its results, is tried again.
pub(super) fn open(
    folder: &RunFolder,
    run: &Value,
    shard: Option<Shard>,
    begin: Begin,
    are_there: impl Fn(&str) -> bool,
) -> Result<(Manifest, Done)> {
    let mut done = Done::default();
    let mut is_done = |entry: &Entry| {
        let is_done = matches!(entry.outcome, Outcome::Done { .. }) && are_there(&entry.image);
        // A line that comes twice counts once.
        is_done && done.insert(&entry.image)
    };
    if shard.is_some() && folder.has(FILE) {
        // A shard goes on where one run, or a merge, ended.
        let whole = folder.path().join(FILE);
        if begin != Begin::Resume {
            return Err(CliError::failed(format!(
                "{}: a run without shards is there; --resume continues it, or name another folder",
                whole.display()
            )));
        }
        for entry in Lines::of(&whole, run, "--resume")? {
            is_done(&entry.map_err(|e| CliError::failed(format!("{}: {e}", whole.display())))?);
        }
    }
    let manifest = Journal::open(folder, &file(shard), &header(run, shard), begin, is_done)?;
    Ok((manifest, done))
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    fn done(image: &str) -> Entry {
        let outcome = Outcome::Done {
            width: 4,
            height: 3,
            masks: 2,
            warnings: Vec::new(),
        };
        Entry {
            image: image.into(),
            outcome,
        }
    }

    fn failed(image: &str) -> Entry {
        let outcome = Outcome::Failed {
            error: "cut".into(),
        };
        Entry {
            image: image.into(),
            outcome,
        }
    }

    /// Opens the manifest in a folder, and says whether that went well.
    fn opened(folder: &tempfile::TempDir, run: &Value, begin: Begin) -> Result<(Manifest, Done)> {
        let folder = RunFolder::open(folder.path()).unwrap();
        open(&folder, run, None, begin, |_| true)
    }

    #[test]
    fn a_run_resumes_without_what_failed_or_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let run = json!({"model": "lite", "options": {"points": 32}});
        let (mut manifest, known) = opened(&folder, &run, Begin::Anew).unwrap();
        assert!(!known.contains("a.png"));
        for entry in [done("a.png"), failed("b.png"), done("c.png")] {
            manifest.add(&entry).unwrap();
        }
        let path = folder.path().join(FILE);
        let mut text = std::fs::read(&path).unwrap();
        text.extend(br#"{"image":"d.png","wid"#);
        std::fs::write(&path, text).unwrap();

        assert!(opened(&folder, &run, Begin::Anew).is_err());
        let other = json!({"model": "lite", "options": {"points": 16}});
        let Err(error) = opened(&folder, &other, Begin::Resume) else {
            panic!("other options");
        };
        let why = "that run had options.points 32, and this one has 16";
        assert!(error.line().ends_with(why), "{}", error.line());
        let (mut manifest, known) = opened(&folder, &run, Begin::Resume).unwrap();
        let names = ["a.png", "b.png", "c.png", "d.png"];
        assert_eq!(names.map(|n| known.contains(n)), [true, false, true, false]);
        manifest.add(&done("b.png")).unwrap();
        let entries: Vec<Entry> = manifest.entries().unwrap().map(Result::unwrap).collect();
        assert_eq!(entries, [done("a.png"), done("c.png"), done("b.png")]);
        let (_, known) = opened(&folder, &other, Begin::Overwrite).unwrap();
        assert!(!known.contains("a.png"));
    }

    #[test]
    fn what_a_power_failure_leaves_is_done_again() {
        let run = json!({});
        let written = {
            let folder = tempfile::tempdir().unwrap();
            let (mut manifest, _) = opened(&folder, &run, Begin::Anew).unwrap();
            for name in ["a.png", "b.png", "c.png"] {
                manifest.add(&done(name)).unwrap();
            }
            std::fs::read(folder.path().join(FILE)).unwrap()
        };
        let ends: Vec<usize> = (0..written.len())
            .filter(|&i| written[i] == b'\n')
            .collect();
        for at in ends[0] + 1..written.len() {
            let mut zeroed = written.clone();
            zeroed[at..].fill(0);
            let mut wrong = written.clone();
            wrong[at] ^= 4;
            for damaged in [&written[..at], &zeroed, &wrong] {
                let folder = tempfile::tempdir().unwrap();
                std::fs::write(folder.path().join(FILE), damaged).unwrap();
                let (_, known) = opened(&folder, &run, Begin::Resume).unwrap();
                let whole = ends[1..].iter().filter(|&&end| end < at).count();
                let found = ["a.png", "b.png", "c.png"].map(|name| known.contains(name));
                assert_eq!(found, [whole > 0, whole > 1, whole > 2], "{at}");
            }
        }
    }

    #[test]
    fn two_processes_do_not_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunFolder::open(folder.path()).unwrap();
        let second = RunFolder::open(folder.path()).map_err(|e| e.line());
        assert!(second.is_err_and(|e| e.ends_with("another process works there")));
        drop(first);
        assert!(RunFolder::open(folder.path()).is_ok());
    }
}
