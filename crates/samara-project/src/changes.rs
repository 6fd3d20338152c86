//! What an edit changes: the way there and the way back.

use std::collections::BTreeMap;

use rusqlite::Transaction;
use samara_image::Rle;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::Failure;
use crate::ids::{ClassId, ObjectId, PictureId};
use crate::objects::{NewObject, Object, Track};
use crate::pictures::Picture;

/// What an edit has changed in a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    /// An object has come, or gone.
    Object {
        before: Option<Box<Object>>,
        after: Option<Box<Object>>,
    },
    Content {
        id: ObjectId,
        before: Box<Content>,
        after: Box<Content>,
    },
    Position {
        id: ObjectId,
        before: i64,
        after: i64,
    },
    Checked {
        before: bool,
        after: bool,
    },
}

/// What is said of an object, without its mask where that stays the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Content {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mask: Option<Rle>,
    class: Option<ClassId>,
    predicted_iou: Option<f32>,
    prompt: Option<Value>,
    attributes: BTreeMap<String, String>,
    track: Option<Track>,
}

impl Content {
    fn of(object: NewObject, with_mask: bool) -> Self {
        Self {
            mask: with_mask.then_some(object.mask),
            class: object.class,
            predicted_iou: object.predicted_iou,
            prompt: object.prompt,
            attributes: object.attributes,
            track: object.track,
        }
    }

    fn set(&self, object: &mut NewObject) {
        let Self {
            mask,
            class,
            predicted_iou,
            prompt,
            attributes,
            track,
        } = self.clone();
        if let Some(mask) = mask {
            object.mask = mask;
        }
        object.class = class;
        object.predicted_iou = predicted_iou;
        object.prompt = prompt;
        object.attributes = attributes;
        object.track = track;
    }
}

impl Change {
    pub(crate) fn added(object: Object) -> Self {
        Self::Object {
            before: None,
            after: Some(Box::new(object)),
        }
    }

    pub(crate) fn removed(object: Object) -> Self {
        Self::Object {
            before: Some(Box::new(object)),
            after: None,
        }
    }

    pub(crate) fn content(id: ObjectId, before: NewObject, after: NewObject) -> Self {
        let is_other = before.mask != after.mask;
        Self::Content {
            id,
            before: Box::new(Content::of(before, is_other)),
            after: Box::new(Content::of(after, is_other)),
        }
    }

    pub(crate) fn reversed(self) -> Self {
        match self {
            Self::Object { before, after } => Self::Object {
                before: after,
                after: before,
            },
            Self::Content { id, before, after } => Self::Content {
                id,
                before: after,
                after: before,
            },
            Self::Position { id, before, after } => Self::Position {
                id,
                before: after,
                after: before,
            },
            Self::Checked { before, after } => Self::Checked {
                before: after,
                after: before,
            },
        }
    }

    /// The class of the object that it makes.
    pub(crate) fn class(&self) -> Option<ClassId> {
        match self {
            Self::Object { after, .. } => after.as_ref()?.content.class,
            Self::Content { after, .. } => after.class,
            Self::Position { .. } | Self::Checked { .. } => None,
        }
    }

    pub(crate) fn make(
        &self,
        transaction: &Transaction<'_>,
        picture: &Picture,
    ) -> Result<(), Failure> {
        match self {
            Self::Object {
                after: Some(object),
                ..
            } => {
                object.check(transaction, picture)?;
                object.put(transaction, picture)
            }
            Self::Object { before, .. } => match before {
                Some(object) => remove(transaction, object.id),
                None => Ok(()),
            },
            Self::Content { id, after, .. } => {
                let mut object = Object::find(transaction, picture.id, *id)?;
                after.set(&mut object.content);
                object.check(transaction, picture)?;
                object.put(transaction, picture)
            }
            Self::Position { id, after, .. } => {
                let set = "UPDATE object SET position = ?2 WHERE id = ?1";
                transaction.prepare_cached(set)?.execute((id.0, after))?;
                Ok(())
            }
            Self::Checked { after, .. } => check(transaction, picture.owner(), *after),
        }
    }
}

fn remove(transaction: &Transaction<'_>, id: ObjectId) -> Result<(), Failure> {
    let remove = "DELETE FROM object WHERE id = ?1";
    transaction.prepare_cached(remove)?.execute([id.0])?;
    Ok(())
}

fn check(transaction: &Transaction<'_>, owner: PictureId, checked: bool) -> Result<(), Failure> {
    let set = "UPDATE picture SET checked = ?2 WHERE id = ?1";
    transaction.execute(set, (owner.0, checked))?;
    Ok(())
}
