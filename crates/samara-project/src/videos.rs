//! The videos of a project, and the objects that go through their frames.

use rusqlite::Row;
use serde::Serialize;

use crate::Result;
use crate::error::ProjectError;
use crate::failure::Failure;
use crate::ids::{ClassId, ObjectId, PictureId, TrackId};
use crate::objects::Object;
use crate::pictures::Picture;
use crate::project::Project;
use crate::tracks::class_of;
use crate::video_file::{VideoFile, frame_id};

/// Most frames of a video: an hour at 30 a second.
const MOST_FRAMES: usize = 108_000;

/// A mask of an object of a video, without its pixels.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Placed {
    /// Which object of the video.
    pub track: TrackId,
    /// In which frame, from 0.
    pub frame: u32,
    /// The object of that frame.
    pub object: ObjectId,
    /// Its class.
    pub class: Option<ClassId>,
    /// Somebody has drawn or corrected it.
    pub is_keyframe: bool,
    /// The object is not in the frame, or hidden: the mask has no pixels.
    pub is_hidden: bool,
    /// The model's estimate of the mask's IoU.
    pub predicted_iou: Option<f32>,
}

impl Placed {
    /// Where an object is that has a track.
    pub fn of(frame: u32, object: &Object) -> Option<Self> {
        let track = object.content.track?;
        Some(Self {
            track: track.id,
            frame,
            object: object.id,
            class: object.content.class,
            is_keyframe: track.is_keyframe,
            is_hidden: object.content.mask.area() == 0,
            predicted_iou: object.content.predicted_iou,
        })
    }

    fn of_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let area: i64 = row.get(5)?;
        Ok(Self {
            track: TrackId(row.get(0)?),
            frame: row.get(1)?,
            object: ObjectId(row.get(2)?),
            class: row.get::<_, Option<i64>>(3)?.map(ClassId),
            is_keyframe: row.get(4)?,
            is_hidden: area == 0,
            predicted_iou: row.get(6)?,
        })
    }
}

impl Picture {
    /// The row of a video.
    fn find_video(transaction: &rusqlite::Transaction<'_>, id: PictureId) -> Result<Self, Failure> {
        let found = Self::find(transaction, id)?;
        match found.frames {
            Some(_) => Ok(found),
            None => Err(ProjectError::Value(format!("picture {id} is no video")).into()),
        }
    }
}

impl Project {
    /// Tells what the file of a video is, when it was opened, and makes its frames known. If there are masks of another
    /// file the video is marked as changed.
    ///
    /// # Errors
    /// There is no such video, or it has no frame or too many.
    pub fn identify_video(&self, id: PictureId, file: &VideoFile) -> Result<Picture> {
        self.write(|transaction| {
            let before = Picture::find_video(transaction, id)?;
            if before.sha256.as_ref() == Some(&file.sha256) {
                let same = "UPDATE picture SET is_changed = 0 WHERE id = ?1";
                transaction.execute(same, [id.0])?;
                return Picture::find(transaction, id);
            }
            if before.objects > 0 {
                let other = "UPDATE picture SET is_changed = 1 WHERE id = ?1";
                transaction.execute(other, [id.0])?;
                return Picture::find(transaction, id);
            }
            if file.width == 0 || file.height == 0 || !(1..=MOST_FRAMES).contains(&file.frames) {
                let why = format!(
                    "a video of {} frames of {}x{} pixels; 1 to {MOST_FRAMES} frames are taken",
                    file.frames, file.width, file.height
                );
                return Err(ProjectError::Value(why).into());
            }
            transaction.execute("DELETE FROM object WHERE owner = ?1", [id.0])?;
            transaction.execute("DELETE FROM action WHERE owner = ?1", [id.0])?;
            transaction.execute("DELETE FROM picture WHERE video = ?1", [id.0])?;
            let VideoFile { sha256, width, height, frames, rate } = file;
            let set = "UPDATE picture SET sha256 = ?2, width = ?3, height = ?4, frames = ?5, rate = ?6, is_changed = 0
                       WHERE id = ?1";
            let count = u32::try_from(*frames).unwrap_or(u32::MAX);
            transaction.execute(set, (id.0, sha256, width, height, count, rate))?;
            let add = "INSERT INTO picture (path, sha256, width, height, video, frame)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let mut add = transaction.prepare(add)?;
            for frame in 0..count {
                // No file can have this path: the video is no folder.
                let path = format!("{}/{frame:05}.png", before.path);
                add.execute((path, frame_id(sha256, frame), width, height, id.0, frame))?;
            }
            Picture::find(transaction, id)
        })
    }

    /// The frames of a video, in their order; none until it was opened.
    ///
    /// # Errors
    /// There is no such video.
    pub fn frames(&self, video: PictureId) -> Result<Vec<PictureId>> {
        self.read(|transaction| {
            Picture::find_video(transaction, video)?;
            let all = "SELECT id FROM picture WHERE video = ?1 ORDER BY frame";
            let mut all = transaction.prepare_cached(all)?;
            let frames = all.query_map([video.0], |row| Ok(PictureId(row.get(0)?)))?;
            Ok(frames.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Where the objects of a video are, by track and frame.
    ///
    /// # Errors
    /// There is no such video.
    pub fn tracks(&self, video: PictureId) -> Result<Vec<Placed>> {
        self.read(|transaction| {
            Picture::find_video(transaction, video)?;
            let all = "SELECT track, frame, object.id, class, is_keyframe, area, predicted_iou
                       FROM object JOIN picture ON picture.id = object.picture
                       WHERE owner = ?1 AND track NOT NULL ORDER BY track, frame";
            let mut all = transaction.prepare_cached(all)?;
            let placed = all.query_map([video.0], Placed::of_row)?;
            Ok(placed.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Whether an object of a video has a mask in any frame.
    ///
    /// # Errors
    /// The file of the project cannot be read.
    pub fn has_track(&self, video: PictureId, track: TrackId) -> Result<bool> {
        self.read(|transaction| Ok(!class_of(transaction, video, track)?.is_empty()))
    }

    /// Whether a mask of one of these classes may be one of a track: a new one, or one of such a class.
    pub(crate) fn takes(
        &self,
        video: PictureId,
        track: TrackId,
        classes: &[Option<ClassId>],
    ) -> Result<bool> {
        self.read(|transaction| {
            let known = class_of(transaction, video, track)?;
            Ok(known.iter().all(|known| classes.contains(known)))
        })
    }
}
