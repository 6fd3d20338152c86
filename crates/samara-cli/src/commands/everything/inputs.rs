//! Which images to work on, and what their results are called.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use samara_image::has_image_extension;
use walkdir::{DirEntry, WalkDir};

use super::{manifest, shards};
use crate::error::{CliError, Result};
use crate::files::resolved;
use crate::shard::Shard;

/// An image.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) path: PathBuf,
    /// Its results are called so, relative to the output folder: `folder/photo.jpg`.
    pub(super) name: String,
}

/// Images and folders, walked in the order of their names without holding a list of them.
pub(super) struct Inputs {
    roots: Vec<Root>,
    /// The folder of the results, which are not images to work on.
    out: PathBuf,
    shard: Option<Shard>,
}

struct Root {
    path: PathBuf,
    /// What its names begin with.
    prefix: PathBuf,
}

impl Inputs {
    /// Looks at what was named; nothing in folders is touched yet.
    pub(super) fn new(paths: &[PathBuf], out: &Path) -> Result<Self> {
        let mut known: HashMap<PathBuf, &Path> = HashMap::new();
        let mut roots = Vec::new();
        for path in paths {
            if !path.exists() {
                return Err(CliError::failed(format!(
                    "{}: no such file or folder",
                    path.display()
                )));
            }
            // The name alone, also of `.` and `photos/..`.
            let full = path
                .canonicalize()
                .map_err(|e| CliError::failed(format!("{}: {e}", path.display())))?;
            let own = PathBuf::from(full.file_name().unwrap_or_default());
            let prefix = if paths.len() == 1 && path.is_dir() {
                PathBuf::new()
            } else {
                own
            };
            if full.is_dir() && resolved(&out.join(&prefix)) == full {
                return Err(CliError::usage(format!(
                    "--out {}: the results would lie among the images of {}; write to another folder",
                    out.display(),
                    path.display()
                )));
            }
            if let Some(other) = known.insert(prefix.clone(), path) {
                return Err(CliError::usage(format!(
                    "{} and {} have the same name, so their results would too",
                    other.display(),
                    path.display()
                )));
            }
            roots.push(Root {
                path: path.clone(),
                prefix,
            });
        }
        let out = out.to_path_buf();
        let shard = None;
        Ok(Self { roots, out, shard })
    }

    /// Only the images of a shard.
    pub(super) fn of(self, shard: Option<Shard>) -> Self {
        Self { shard, ..self }
    }

    /// The one image, if it is one and no folder.
    pub(super) fn single(&self) -> Option<Input> {
        match &self.roots[..] {
            [root] if !root.path.is_dir() => Some(root.file()),
            _ => None,
        }
    }

    /// The images that were named one by one.
    pub(super) fn files(&self) -> impl Iterator<Item = Input> + '_ {
        let files = self.roots.iter().filter(|root| !root.path.is_dir());
        files.map(Root::file)
    }

    /// All images, or those of the shard. A folder that cannot be read is among them, and fails as an image.
    pub(super) fn iter(&self) -> impl Iterator<Item = Input> + '_ {
        let out = self.out.canonicalize().ok();
        self.roots
            .iter()
            .flat_map(move |root| root.walk(out.clone()))
            .filter(|input| self.shard.is_none_or(|shard| shard.has(&input.name)))
    }
}

impl Root {
    fn file(&self) -> Input {
        Input {
            path: self.path.clone(),
            name: slashes(&self.prefix),
        }
    }

    fn walk(&self, out: Option<PathBuf>) -> Box<dyn Iterator<Item = Input> + '_> {
        if !self.path.is_dir() {
            return Box::new(std::iter::once(self.file()));
        }
        let wanted = move |entry: &DirEntry| {
            let hidden = entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with('.');
            // The results of this run, and those of another one, are no images to work on.
            let results = entry.file_type().is_dir()
                && entry.depth() > 0
                && (entry.path().join(manifest::FILE).is_file()
                    || entry.path().join(shards::FOLDER).is_dir()
                    || out.as_ref().is_some_and(|out| {
                        entry.path().canonicalize().is_ok_and(|path| path == *out)
                    }));
            !hidden && !results
        };
        let walk = WalkDir::new(&self.path)
            .follow_links(true)
            .sort_by_file_name();
        let found = walk.into_iter().filter_entry(wanted).filter_map(|entry| {
            let path = match entry {
                Ok(entry) if is_image(&entry) => entry.into_path(),
                Ok(_) => return None,
                // What a link to a folder above leads to is walked already.
                Err(error) if error.loop_ancestor().is_some() => return None,
                Err(error) => error.path()?.to_path_buf(),
            };
            let inside = path.strip_prefix(&self.path).ok()?;
            Some(Input {
                name: slashes(&self.prefix.join(inside)),
                path,
            })
        });
        Box::new(found)
    }
}

fn is_image(entry: &DirEntry) -> bool {
    // What is no file, such as a pipe, is told when it is read.
    !entry.file_type().is_dir() && has_image_extension(entry.path())
}

/// The same name on every platform. Bytes that are no text stay apart, as `\xFF`.
fn slashes(path: &Path) -> String {
    let part = |part: &OsStr| -> String {
        let chunks = part.as_encoded_bytes().utf8_chunks();
        let text = chunks.map(|chunk| {
            let bytes = chunk.invalid().iter().map(|byte| format!("\\x{byte:02X}"));
            chunk.valid().to_owned() + &bytes.collect::<String>()
        });
        text.collect()
    };
    path.iter().map(part).collect::<Vec<_>>().join("/")
}
