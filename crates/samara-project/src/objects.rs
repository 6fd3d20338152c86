//! The masks of a picture.

use std::collections::BTreeMap;

use rusqlite::{Row, Transaction};
use samara_image::Rle;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Result;
use crate::classes;
use crate::error::ProjectError;
use crate::failure::Failure;
use crate::ids::{ClassId, ObjectId, PictureId, TrackId};
use crate::pictures::Picture;
use crate::project::Project;

/// Most bytes of the JSON of an object's prompt, and of its attributes, that a program should keep.
pub const MOST_WORDS: usize = 64 << 10;

/// What is said of an object that is drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewObject {
    /// The mask, of the size of the picture.
    #[cfg_attr(feature = "openapi", schema(value_type = CocoMask))]
    pub mask: Rle,
    /// What it is; `None` until somebody has said so.
    #[serde(default)]
    pub class: Option<ClassId>,
    /// The model's estimate of the mask's IoU with what it depicts, from 0 to 1; `None` for one that was drawn by hand.
    #[serde(default)]
    pub predicted_iou: Option<f32>,
    /// Clicks and boxes that the mask answers, so that they can be corrected: of any form.
    #[serde(default)]
    pub prompt: Option<Value>,
    /// Further words about it, by their names.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// In a frame of a video: which of its objects this is.
    #[serde(default)]
    pub track: Option<Track>,
}

/// An object of a video, in one of its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Track {
    /// Which object of the video. It has one mask at most in a frame; one without pixels says that it is hidden there.
    pub id: TrackId,
    /// Somebody has drawn or corrected the mask; others come from propagation.
    pub is_keyframe: bool,
}

impl NewObject {
    /// A mask of which nothing more is known.
    pub fn new(mask: Rle) -> Self {
        Self {
            mask,
            class: None,
            predicted_iou: None,
            prompt: None,
            attributes: BTreeMap::new(),
            track: None,
        }
    }

    /// Refuses what cannot be kept, or not read again.
    fn check(&self) -> Result<(), ProjectError> {
        let why = if self.predicted_iou.is_some_and(|iou| !iou.is_finite()) {
            "a predicted IoU is a number"
        } else if self
            .prompt
            .as_ref()
            .is_some_and(|json| !is_within(json, MOST_DEPTH))
        {
            "a prompt is nested at most 32 deep"
        } else {
            return Ok(());
        };
        Err(ProjectError::Value(why.into()))
    }
}

/// How deep the JSON of a prompt may be nested.
const MOST_DEPTH: usize = 32;

fn is_within(json: &Value, depth: usize) -> bool {
    match json {
        Value::Array(values) => depth > 0 && values.iter().all(|json| is_within(json, depth - 1)),
        Value::Object(values) => {
            depth > 0 && values.values().all(|json| is_within(json, depth - 1))
        }
        _ => true,
    }
}

/// How a mask is written.
#[cfg(feature = "openapi")]
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "a description")]
struct CocoMask {
    /// Height, then width.
    size: [u32; 2],
    /// The compressed string of `pycocotools`.
    counts: String,
}

/// A name that stands for no other type in descriptions.
#[cfg(feature = "openapi")]
pub(crate) type DrawnObject = Object;

/// An object of a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = DrawnObject))]
pub struct Object {
    /// Which.
    pub id: ObjectId,
    /// Its place among the objects of the picture; the highest lies on top.
    pub position: i64,
    /// Who has drawn it.
    pub author: String,
    /// What is said of it.
    #[serde(flatten)]
    pub content: NewObject,
}

fn damaged(why: serde_json::Error) -> ProjectError {
    ProjectError::damaged("an object", why)
}

impl Object {
    fn of_row(row: &Row<'_>) -> Result<Self, Failure> {
        let record: String = row.get(3)?;
        Ok(Self {
            id: ObjectId(row.get(0)?),
            position: row.get(1)?,
            author: row.get(2)?,
            content: serde_json::from_str(&record).map_err(damaged)?,
        })
    }

    /// The objects of a picture, the lowest first.
    pub(crate) fn all(
        transaction: &Transaction<'_>,
        picture: PictureId,
    ) -> Result<Vec<Self>, Failure> {
        let all = "SELECT id, position, author, record FROM object WHERE picture = ?1 ORDER BY position, id";
        let mut all = transaction.prepare_cached(all)?;
        let mut rows = all.query([picture.0])?;
        let mut objects = Vec::new();
        while let Some(row) = rows.next()? {
            objects.push(Self::of_row(row)?);
        }
        Ok(objects)
    }

    /// One of a picture.
    pub(crate) fn find(
        transaction: &Transaction<'_>,
        picture: PictureId,
        id: ObjectId,
    ) -> Result<Self, Failure> {
        let find = "SELECT id, position, author, record FROM object WHERE picture = ?1 AND id = ?2";
        let mut find = transaction.prepare_cached(find)?;
        let mut rows = find.query((picture.0, id.0))?;
        match rows.next()? {
            Some(row) => Self::of_row(row),
            None => Err(ProjectError::UnknownObject(id).into()),
        }
    }

    /// Refuses what does not fit the picture, or names a class that is not there.
    pub(crate) fn check(
        &self,
        transaction: &Transaction<'_>,
        picture: &Picture,
    ) -> Result<(), Failure> {
        if picture.width == 0 {
            let why = "the picture was not opened yet, and its size is not known".into();
            return Err(ProjectError::Value(why).into());
        }
        let [height, width] = self.content.mask.size;
        if (width, height) != (picture.width, picture.height) {
            let size = ProjectError::Size {
                mask: (width, height),
                picture: (picture.width, picture.height),
            };
            return Err(size.into());
        }
        self.content.check()?;
        if let Some(track) = self.content.track {
            self.check_track(transaction, picture, track.id)?;
        }
        match self.content.class {
            Some(class) => classes::find(transaction, class).map(drop),
            None => Ok(()),
        }
    }

    fn check_track(
        &self,
        transaction: &Transaction<'_>,
        picture: &Picture,
        track: TrackId,
    ) -> Result<(), Failure> {
        let why = if picture.video.is_none() {
            "only frames of videos have tracks".to_owned()
        } else if !track.is_valid() {
            "tracks have numbers from 1 to 65535".to_owned()
        } else {
            let other = "SELECT EXISTS
                (SELECT 1 FROM object WHERE picture = ?1 AND track = ?2 AND id <> ?3)";
            let mut other = transaction.prepare_cached(other)?;
            if !other.query_row((picture.id.0, track.0, self.id.0), |row| row.get(0))? {
                return Ok(());
            }
            format!("track {track} has a mask in this frame already")
        };
        Err(ProjectError::Value(why).into())
    }

    /// Writes it, in the place of what it was.
    pub(crate) fn put(
        &self,
        transaction: &Transaction<'_>,
        picture: &Picture,
    ) -> Result<(), Failure> {
        let content = &self.content;
        let record = serde_json::to_string(content).map_err(damaged)?;
        let put =
            "INSERT OR REPLACE INTO object (id, picture, owner, class, position, author, predicted_iou, area, track,
                 is_keyframe, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        let mut put = transaction.prepare_cached(put)?;
        put.execute((
            self.id.0,
            picture.id.0,
            picture.owner().0,
            content.class.map(|class| class.0),
            self.position,
            &self.author,
            content.predicted_iou,
            content.mask.area().try_into().unwrap_or(i64::MAX),
            content.track.map(|track| track.id.0),
            content.track.is_some_and(|track| track.is_keyframe),
            record,
        ))?;
        Ok(())
    }
}

impl Project {
    /// The objects of a picture, the lowest first.
    ///
    /// # Errors
    /// There is no such picture, or the file of the project is damaged.
    pub fn objects(&self, picture: PictureId) -> Result<Vec<Object>> {
        self.read(|transaction| {
            Picture::find(transaction, picture)?;
            Object::all(transaction, picture)
        })
    }
}
