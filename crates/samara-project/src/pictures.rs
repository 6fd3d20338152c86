//! The pictures of a project.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rusqlite::{Row, Transaction};
use samara_image::{has_image_extension, one_line};
use serde::Serialize;
use walkdir::{DirEntry, WalkDir};

use crate::Result;
use crate::error::ProjectError;
use crate::failure::{Failure, found};
use crate::ids::{ClassId, PictureId};
use crate::project::Project;
use crate::video_file::is_video;

/// A picture of a project.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Picture {
    /// Which.
    pub id: PictureId,
    /// Below the folder, with `/` between names.
    pub path: String,
    /// SHA-256 of the file, in hexadecimal, once it was opened.
    pub sha256: Option<String>,
    /// In pixels, after EXIF orientation; 0 until it was opened.
    pub width: u32,
    /// In pixels, after EXIF orientation; 0 until it was opened.
    pub height: u32,
    /// Somebody has said that its masks are as they should be.
    pub checked: bool,
    /// The file is not there any more. What was drawn is kept.
    pub is_gone: bool,
    /// The file is another one than that on which the masks were drawn.
    pub is_changed: bool,
    /// How many masks it has.
    pub objects: u64,
    /// The classes of its masks, each once, in the order of their numbers.
    pub classes: Vec<ClassId>,
    /// The lowest predicted IoU of its masks; `None` where none has one.
    pub lowest_iou: Option<f32>,
    /// Grows with every change; that of a video also with changes of its frames.
    pub revision: u64,
    /// Of a video: how many frames it has, 0 until it was opened; `None` for a picture.
    pub frames: Option<u32>,
    /// Of a video: frames per second, if that is known.
    pub rate: Option<f64>,
    /// Of a frame: the video.
    pub video: Option<PictureId>,
    /// Of a frame: which, from 0.
    pub frame: Option<u32>,
}

/// Numbers with commas between them.
fn numbers(text: Option<String>) -> Vec<ClassId> {
    let text = text.unwrap_or_default();
    let numbers = text.split(',').filter_map(|number| number.parse().ok());
    numbers.map(ClassId).collect()
}

/// A frame is checked, gone or another one with its video; a video has the objects of its frames.
const PICTURE: &str =
    "SELECT its.id, its.path, its.sha256, its.width, its.height, its.revision, its.frames, its.rate, its.video,
        its.frame, owner.checked, owner.is_gone, owner.is_changed,
    (SELECT count(*) FROM object WHERE (picture = its.id OR owner = its.id) AND area > 0),
    (SELECT group_concat(class) FROM
        (SELECT DISTINCT class FROM object WHERE (picture = its.id OR owner = its.id) AND class NOT NULL
            ORDER BY class)),
    (SELECT min(predicted_iou) FROM object WHERE (picture = its.id OR owner = its.id) AND area > 0)
    FROM picture AS its JOIN picture AS owner ON owner.id = coalesce(its.video, its.id)";

impl Picture {
    fn of_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: PictureId(row.get(0)?),
            path: row.get(1)?,
            sha256: row.get(2)?,
            width: row.get(3)?,
            height: row.get(4)?,
            revision: row.get(5)?,
            frames: row.get(6)?,
            rate: row.get(7)?,
            video: row.get::<_, Option<i64>>(8)?.map(PictureId),
            frame: row.get(9)?,
            checked: row.get(10)?,
            is_gone: row.get(11)?,
            is_changed: row.get(12)?,
            objects: row.get(13)?,
            classes: numbers(row.get(14)?),
            lowest_iou: row.get(15)?,
        })
    }

    /// What is checked, gone and undone as one: a video with all its frames, or a picture.
    pub(crate) fn owner(&self) -> PictureId {
        self.video.unwrap_or(self.id)
    }

    pub(crate) fn where_(
        transaction: &Transaction<'_>,
        which: &str,
        values: impl rusqlite::Params,
    ) -> Result<Vec<Self>, Failure> {
        let mut all = transaction.prepare_cached(&format!("{PICTURE} WHERE {which}"))?;
        let pictures = all.query_map(values, Self::of_row)?;
        Ok(pictures.collect::<rusqlite::Result<_>>()?)
    }

    /// The row of a picture.
    pub(crate) fn find(transaction: &Transaction<'_>, id: PictureId) -> Result<Self, Failure> {
        let found = Self::where_(transaction, "its.id = ?1", [id.0])?;
        let missing = || ProjectError::UnknownPicture(id).into();
        found.into_iter().next().ok_or_else(missing)
    }
}

/// What a look at the folder has found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Scanned {
    /// Pictures that were not known.
    pub new: usize,
    /// Pictures whose file is not there any more.
    pub gone: usize,
    /// Pictures whose file was written since.
    pub written: usize,
    /// Folders that cannot be read, a line each; pictures in them are as they were.
    pub unreadable: Vec<String>,
}

/// A file as the folder shows it.
#[derive(Debug, PartialEq)]
struct Seen {
    bytes: i64,
    /// Milliseconds since 1970.
    modified: i64,
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with('.')
}

/// What is in a folder.
struct Look {
    /// By their paths below it.
    files: HashMap<String, Seen>,
    /// Folders that cannot be read, and why.
    unreadable: Vec<(PathBuf, String)>,
}

fn look(folder: &Path) -> Result<Look> {
    let mut seen = HashMap::new();
    let mut unreadable = Vec::new();
    let entries = WalkDir::new(folder).into_iter();
    for entry in entries.filter_entry(|entry| !is_hidden(entry)) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_path_buf();
                let source = std::io::Error::from(error);
                if path == folder {
                    return Err(ProjectError::Folder { path, source });
                }
                if source.kind() != ErrorKind::NotFound {
                    unreadable.push((path, source.to_string()));
                }
                continue;
            }
        };
        let path = entry.path();
        if !entry.file_type().is_file() || !(has_image_extension(path) || is_video(path)) {
            continue;
        }
        let Ok(below) = entry.path().strip_prefix(folder) else {
            continue;
        };
        let names: Vec<_> = below.iter().map(|name| name.to_string_lossy()).collect();
        let Ok(file) = entry.metadata() else {
            // It has gone since.
            continue;
        };
        let modified = file.modified().ok();
        let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let file = Seen {
            bytes: file.len().try_into().unwrap_or(i64::MAX),
            modified: modified.map_or(0, |since| since.as_millis().try_into().unwrap_or(i64::MAX)),
        };
        seen.insert(names.join("/"), file);
    }
    Ok(Look {
        files: seen,
        unreadable,
    })
}

impl Project {
    /// Looks which pictures are in the folder and in those below; hidden ones are left out. What was drawn on a picture
    /// is kept whatever becomes of its file.
    ///
    /// # Errors
    /// The folder cannot be read, or the file of the project not written.
    pub fn scan(&self) -> Result<Scanned> {
        // A folder that has gone has taken the file along.
        self.version()?;
        let Look {
            files: mut seen,
            unreadable,
        } = look(self.folder())?;
        let is_unknown = |path: &str| {
            let path = self.folder().join(path);
            unreadable.iter().any(|(above, _)| path.starts_with(above))
        };
        self.write(|transaction| {
            let line =
                |(path, why): &(PathBuf, String)| one_line(&format!("{}: {why}", path.display()));
            let mut scanned = Scanned {
                unreadable: unreadable.iter().map(line).collect(),
                ..Scanned::default()
            };
            let known = "SELECT id, path, bytes, modified FROM picture WHERE video IS NULL";
            let mut known = transaction.prepare(known)?;
            let rows = known.query_map([], |row| {
                let file = Seen {
                    bytes: row.get(2)?,
                    modified: row.get(3)?,
                };
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, file))
            })?;
            let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            for (id, path, before) in rows {
                let now = seen.remove(&path);
                if now.is_none() && is_unknown(&path) {
                    continue;
                }
                scanned.gone += usize::from(now.is_none());
                let set = "UPDATE picture SET is_gone = ?2 WHERE id = ?1";
                transaction.execute(set, (id, now.is_none()))?;
                if let Some(now) = now.filter(|now| *now != before) {
                    scanned.written += 1;
                    let set = "UPDATE picture SET bytes = ?2, modified = ?3 WHERE id = ?1";
                    transaction.execute(set, (id, now.bytes, now.modified))?;
                }
            }
            scanned.new = seen.len();
            let mut new: Vec<(String, Seen)> = seen.into_iter().collect();
            new.sort_by(|a, b| a.0.cmp(&b.0));
            for (path, file) in new {
                let frames = is_video(Path::new(&path)).then_some(0);
                let add =
                    "INSERT INTO picture (path, bytes, modified, frames) VALUES (?1, ?2, ?3, ?4)";
                transaction.execute(add, (path, file.bytes, file.modified, frames))?;
            }
            Ok(scanned)
        })
    }

    /// All pictures and videos, by their path.
    ///
    /// # Errors
    /// The file of the project cannot be read.
    pub fn pictures(&self) -> Result<Vec<Picture>> {
        self.read(|transaction| {
            Picture::where_(transaction, "its.video IS NULL ORDER BY its.path", [])
        })
    }

    /// Whatever can have masks: pictures, and frames of videos.
    pub(crate) fn pictures_and_frames(&self) -> Result<Vec<Picture>> {
        self.read(|transaction| {
            Picture::where_(transaction, "its.frames IS NULL ORDER BY its.path", [])
        })
    }

    /// A picture.
    ///
    /// # Errors
    /// There is no such picture.
    pub fn picture(&self, id: PictureId) -> Result<Picture> {
        self.read(|transaction| Picture::find(transaction, id))
    }

    /// Tells what the file of a picture is, when it was opened: SHA-256 in hexadecimal, and its size in pixels. If there
    /// are masks of another file the picture is marked as changed.
    ///
    /// # Errors
    /// There is no such picture, or it has no pixels.
    pub fn identify(
        &self,
        id: PictureId,
        sha256: &str,
        width: u32,
        height: u32,
    ) -> Result<Picture> {
        self.write(|transaction| {
            if width == 0 || height == 0 {
                return Err(ProjectError::Value("a picture without pixels".into()).into());
            }
            let before = Picture::find(transaction, id)?;
            let is_other = before.sha256.as_ref().is_some_and(|known| known != sha256);
            if is_other && before.objects > 0 {
                let set = "UPDATE picture SET is_changed = 1 WHERE id = ?1";
                transaction.execute(set, [id.0])?;
            } else {
                if (before.width, before.height) != (width, height) {
                    // Masks of another size cannot come back.
                    transaction.execute("DELETE FROM action WHERE owner = ?1", [id.0])?;
                }
                let set = "UPDATE picture SET sha256 = ?2, width = ?3, height = ?4, is_changed = 0 WHERE id = ?1";
                transaction.execute(set, (id.0, sha256, width, height))?;
            }
            Picture::find(transaction, id)
        })
    }
}

/// The revision of a picture that is being changed, from now on.
pub(crate) fn next_revision(transaction: &Transaction<'_>, id: PictureId) -> Result<u64, Failure> {
    let next = "UPDATE picture SET revision = revision + 1 WHERE id = ?1 RETURNING revision";
    let row = transaction.query_row(next, [id.0], |row| row.get(0));
    found(row, || ProjectError::UnknownPicture(id))
}
