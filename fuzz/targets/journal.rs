//! Journals of runs: manifests and frames of videos.
#![no_main]
#![allow(
    dead_code,
    reason = "not all of a file of the command line is used here"
)]

#[path = "../../crates/samara-cli/src/files.rs"]
mod files;
#[path = "../../crates/samara-cli/src/commands/journal.rs"]
mod journal;

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use journal::{Begin, Journal, RunFolder};
use samara_fuzz::cli::{error, terminal};
use samara_fuzz::told;
use samara_image::Rle;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Serialize, Deserialize)]
struct Entry {
    frame: usize,
    image: Option<String>,
    #[serde(default)]
    objects: Vec<Object>,
}

#[derive(Serialize, Deserialize)]
struct Object {
    id: u32,
    segmentation: Rle,
}

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = samara_fuzz::folder().join(format!("samara-fuzz-{}.run", std::process::id()));
    fs::create_dir_all(&folder).expect("the folder for files is writable");
    folder
});

fn resume(bytes: &[u8]) {
    fs::write(FOLDER.join("a.jsonl"), bytes).expect("the folder for files is writable");
    let folder = RunFolder::open(&FOLDER).expect("nobody else works there");
    let run = json!({"model": "lite", "options": {"points": 32}});
    let keep = |entry: &Entry| entry.image.is_none();
    if let Some(journal) = told(Journal::open(&folder, "a.jsonl", &run, Begin::Resume, keep)) {
        let entries = journal.entries().expect("it was just written");
        for entry in entries {
            assert!(entry.expect("it was just checked").image.is_none());
        }
    }
}

/// The lines after the first with the checksums that they should have.
fn checked(bytes: &[u8]) -> Vec<u8> {
    const FIELD: &[u8] = b",\"crc32\":\"";
    let mut lines: Vec<Vec<u8>> = bytes.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
    for line in lines.iter_mut().skip(1) {
        let Some(at) = line.windows(FIELD.len()).rposition(|w| w == FIELD) else {
            continue;
        };
        line.truncate(at);
        let sum = crc32fast::hash(line);
        line.extend(FIELD);
        line.extend(format!("{sum:08x}\"}}").bytes());
    }
    lines.join(&b'\n')
}

samara_fuzz::target!(|bytes| {
    resume(bytes);
    let checked = checked(bytes);
    if checked != bytes {
        resume(&checked);
    }
});
