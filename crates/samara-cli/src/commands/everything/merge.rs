//! `--merge`: the journals of all shards become one, and the images one COCO file, as a run without shards writes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use samara_image::number::counted;
use serde_json::Value;

use super::inputs::Inputs;
use super::manifest::{self, Done, Entry, Outcome};
use super::results::Results;
use super::tally::Tally;
use super::{coco, shards};
use crate::commands::journal::{Lines, RunFolder, write_whole};
use crate::error::{CliError, Result};
use crate::files::result_in;
use crate::shard::Shard;

/// Where the journals go once they are merged: a name that is cleared away should the process be killed.
const MERGED: &str = ".samara-shards.tmp";
/// Most shards that a message names.
const NAMED: usize = 5;

/// Merges the shards in the folder `out`. A run that is killed is simply run again: the journals of the shards are
/// there until everything is written, and what `manifest.jsonl` has beside them stays in it.
pub(super) fn merge(
    out: &Path,
    run: &Value,
    results: &Results,
    inputs: &Inputs,
    overwrite: bool,
) -> Result<Tally> {
    let shards = shards::found(out, "--merge")?;
    let has_whole = out.join(manifest::FILE).exists();
    let failed = |why: &str| CliError::failed(format!("--merge {}: {why}", out.display()));
    match shards.first() {
        Some(first) => refuse_missing(&shards, first.count).map_err(|why| failed(&why))?,
        None if has_whole => {}
        None => return Err(failed("there are no shards in it")),
    }
    let lock = |&shard| shards::Lock::acquire(out, shard, "--merge");
    let locks = shards.iter().map(lock).collect::<Result<Vec<_>>>()?;
    let folder = RunFolder::open(out)?;
    let mut sources = Vec::new();
    for shard in shards {
        sources.push(Source::open(out, run, Some(shard))?);
    }
    if has_whole && !overwrite {
        sources.push(Source::open(out, run, None)?);
    } else if !overwrite {
        folder.refuse_others(results.shared())?;
    }
    let mut tally = Tally::default();
    let path = result_in(out, manifest::FILE)?;
    write_whole(&path, run, |add| {
        let mut add = |entry: &Entry| {
            tally.add(&entry.outcome);
            add(entry)
        };
        let left = collect(&mut sources, results, inputs, &mut add)?;
        left.map_or(Ok(()), |why| Err(failed(&why)))
    })?;
    if let Some(name) = results.shared() {
        let entries = Lines::of(&path, run, "--merge")?;
        coco::write(&result_in(out, name)?, results, entries)?;
    }
    drop((sources, locks));
    let (from, to) = (out.join(shards::FOLDER), out.join(MERGED));
    let named = |e| CliError::failed(format!("{}: {e}", from.display()));
    if from.exists() {
        fs::rename(&from, &to).map_err(named)?;
        fs::remove_dir_all(&to).map_err(named)?;
    }
    Ok(tally)
}

/// Says which shards have no journal.
fn refuse_missing(shards: &[Shard], count: u32) -> Result<(), String> {
    let missing = count as usize - shards.len();
    if missing == 0 {
        return Ok(());
    }
    let there = |shard: &Shard| shards.binary_search(shard).is_ok();
    let named: Vec<String> = Shard::all(count)
        .filter(|shard| !there(shard))
        .take(NAMED)
        .map(|shard| shard.to_string())
        .collect();
    let more = match missing.saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let s = if missing == 1 { "" } else { "s" };
    Err(format!(
        "without shard{s} {}{more}; the same command with --shard {} instead of --merge begins it",
        named.join(", "),
        named[0]
    ))
}

/// Hands over all entries: those of the images in their order, then those of images that are no longer there. Gives
/// what is left to do, if something is.
fn collect(
    sources: &mut [Source],
    results: &Results,
    inputs: &Inputs,
    add: &mut dyn FnMut(&Entry) -> Result<()>,
) -> Result<Option<String>> {
    let count = sources.iter().find_map(|source| Some(source.shard?.count));
    let mut left: BTreeMap<Option<Shard>, usize> = BTreeMap::new();
    let mut taken = Done::default();
    let is_there = |entry: &Entry| match entry.outcome {
        Outcome::Done { .. } => results.are_there(&entry.image),
        Outcome::Failed { .. } => true,
    };
    for input in inputs.iter() {
        let shard = count.map(|count| Shard::of(&input.name, count));
        let mut entry = None;
        for source in sources.iter_mut() {
            if entry.is_none() && (source.shard == shard || source.shard.is_none()) {
                entry = source.take(&input.name)?;
            }
        }
        match entry.filter(is_there) {
            Some(entry) => {
                taken.insert(&entry.image);
                add(&entry)?;
            }
            None => *left.entry(shard).or_default() += 1,
        }
    }
    if !left.is_empty() {
        return Ok(Some(unfinished(&left)));
    }
    for source in sources {
        while let Some(entry) = source.next()? {
            if taken.contains(&entry.image) {
                source.refuse_twice(&entry.image)?;
            } else if matches!(entry.outcome, Outcome::Done { .. }) && is_there(&entry) {
                taken.insert(&entry.image);
                add(&entry)?;
            }
        }
    }
    Ok(None)
}

/// Says how much is left, and what to do.
fn unfinished(left: &BTreeMap<Option<Shard>, usize>) -> String {
    let part = |(shard, &count): (&Option<Shard>, &usize)| {
        let whose = shard.map_or(String::new(), |shard| format!(" of shard {shard}"));
        format!("{}{whose}", counted(count, "image"))
    };
    let mut parts: Vec<String> = left.iter().take(NAMED).map(part).collect();
    if left.len() > NAMED {
        parts.push(format!("and more of {} further shards", left.len() - NAMED));
    }
    let first = left.keys().flatten().next();
    let flag = first.map_or(String::new(), |shard| format!("--shard {shard} "));
    format!(
        "not done yet: {}; the same command with {flag}--resume instead of --merge goes on",
        parts.join(", ")
    )
}

/// A journal that is read along with the images. Both are in the same order but for images that were tried again, so
/// hardly any entry has to wait.
struct Source {
    path: String,
    /// None for the journal without shards.
    shard: Option<Shard>,
    lines: Lines<Entry>,
    waiting: BTreeMap<String, Outcome>,
}

impl Source {
    fn open(out: &Path, run: &Value, shard: Option<Shard>) -> Result<Self> {
        let path = out.join(manifest::file(shard));
        Ok(Self {
            lines: Lines::of(&path, &manifest::header(run, shard), "--merge")?,
            path: path.display().to_string(),
            shard,
            waiting: BTreeMap::new(),
        })
    }

    /// The entry of an image.
    fn take(&mut self, image: &str) -> Result<Option<Entry>> {
        if let Some((image, outcome)) = self.waiting.remove_entry(image) {
            return Ok(Some(Entry { image, outcome }));
        }
        while let Some(entry) = self.read()? {
            if entry.image == image {
                return Ok(Some(entry));
            }
            if self.waiting.contains_key(&entry.image) {
                self.refuse_twice(&entry.image)?;
            }
            self.waiting.insert(entry.image, entry.outcome);
        }
        Ok(None)
    }

    /// The next of the entries that were not taken.
    fn next(&mut self) -> Result<Option<Entry>> {
        match self.waiting.pop_first() {
            Some((image, outcome)) => Ok(Some(Entry { image, outcome })),
            None => self.read(),
        }
    }

    fn read(&mut self) -> Result<Option<Entry>> {
        let failed = |why: String| CliError::failed(format!("{}: {why}", self.path));
        let entry = self.lines.next().transpose();
        let entry = entry.map_err(|e| failed(e.to_string()))?;
        match (&entry, self.shard) {
            (Some(Entry { image, .. }), Some(shard)) if !shard.has(image) => Err(failed(format!(
                "has {image}, which is of shard {}",
                Shard::of(image, shard.count)
            ))),
            _ => Ok(entry),
        }
    }

    /// In a shard an image is done once. The journal without shards has what an earlier merge put into it.
    fn refuse_twice(&self, image: &str) -> Result<()> {
        match self.shard {
            Some(_) => Err(CliError::failed(format!(
                "{}: has {image} twice",
                self.path
            ))),
            None => Ok(()),
        }
    }
}
