//! `manifest.jsonl`: which images of a run are done, one line each. A line is added when all results
//! of the image are in place.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::commands::journal::Journal;
use crate::error::Result;

const FILE: &str = "manifest.jsonl";

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

    fn digest(name: &str) -> [u8; 16] {
        let mut digest = [0; 16];
        digest.copy_from_slice(&Sha256::digest(name)[..16]);
        digest
    }
}

/// Begins a run in the folder `out`, or resumes the one that is there; see [`Journal::open`]. What
/// failed is tried again.
pub(super) fn open(out: &Path, run: &Value, resume: bool) -> Result<(Manifest, Done)> {
    let mut done = Done::default();
    let manifest = Journal::open(out, FILE, run, resume, |entry: &Entry| {
        let is_done = matches!(entry.outcome, Outcome::Done { .. });
        if is_done {
            done.0.insert(Done::digest(&entry.image));
        }
        is_done
    })?;
    Ok((manifest, done))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn done(image: &str) -> Entry {
        let outcome = Outcome::Done {
            width: 4,
            height: 3,
            masks: 2,
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

    #[test]
    fn a_run_goes_on_without_what_failed_or_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let run = json!({"model": "lite"});
        let (mut manifest, known) = open(folder.path(), &run, false).unwrap();
        assert!(!known.contains("a.png"));
        for entry in [done("a.png"), failed("b.png"), done("c.png")] {
            manifest.add(&entry).unwrap();
        }
        let path = folder.path().join(FILE);
        let mut text = std::fs::read(&path).unwrap();
        text.extend(br#"{"image":"d.png","wid"#);
        std::fs::write(&path, text).unwrap();

        assert!(open(folder.path(), &run, false).is_err());
        assert!(open(folder.path(), &json!({"model": "sam"}), true).is_err());
        let (mut manifest, known) = open(folder.path(), &run, true).unwrap();
        let names = ["a.png", "b.png", "c.png", "d.png"];
        assert_eq!(names.map(|n| known.contains(n)), [true, false, true, false]);
        manifest.add(&done("b.png")).unwrap();
        let entries: Vec<Entry> = manifest.entries().unwrap().map(Result::unwrap).collect();
        assert_eq!(entries, [done("a.png"), done("c.png"), done("b.png")]);
    }

    #[test]
    fn a_damaged_line_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let run = json!({});
        let text = "{}\n{\"image\":\"a\n{\"image\":\"b\",\"error\":\"x\"}\n";
        std::fs::write(folder.path().join(FILE), text).unwrap();
        assert!(open(folder.path(), &run, true).is_err());
    }
}
