//! What people do, one transaction each, and how it is undone.

use std::time::SystemTime;

use rusqlite::{OptionalExtension, Transaction};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::classes;
use crate::error::ProjectError;
use crate::ids::{ClassId, ObjectId, PictureId};
use crate::objects::{NewObject, Object};
use crate::pictures::{Picture, next_revision};
use crate::project::{Failure, Project};

/// Something that is done to the objects of a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// A new object, on top of the others.
    Add(NewObject),
    /// Another mask, class or attributes of an object.
    Change(ObjectId, NewObject),
    /// An object to another place; the highest lies on top.
    Move(ObjectId, i64),
    /// An object away.
    Remove(ObjectId),
    /// Whether the masks of the picture are as they should be.
    Check(bool),
}

/// What an edit has done: the way there and the way back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Object {
        before: Option<Box<Object>>,
        after: Option<Box<Object>>,
    },
    Checked {
        before: bool,
        after: bool,
    },
}

impl Change {
    fn reversed(self) -> Self {
        match self {
            Self::Object { before, after } => Self::Object {
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
    fn class(&self) -> Option<ClassId> {
        match self {
            Self::Object { after, .. } => after.as_ref()?.content.class,
            Self::Checked { .. } => None,
        }
    }

    fn make(&self, transaction: &Transaction<'_>, picture: &Picture) -> Result<(), Failure> {
        match self {
            Self::Object {
                after: Some(object),
                ..
            } => {
                object.check(transaction, picture)?;
                object.put(transaction, picture.id)
            }
            Self::Object {
                before: Some(object),
                after: None,
            } => {
                let remove = "DELETE FROM object WHERE id = ?1";
                transaction.execute(remove, [object.id.0])?;
                Ok(())
            }
            Self::Object { .. } => Ok(()),
            Self::Checked { after, .. } => {
                let set = "UPDATE picture SET checked = ?2 WHERE id = ?1";
                transaction.execute(set, (picture.id.0, after))?;
                Ok(())
            }
        }
    }
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Action {
    /// Its number; later ones have higher ones.
    pub id: i64,
    /// Who did it.
    pub author: String,
    /// When, in seconds since 1970.
    pub seconds: i64,
    /// It was undone, and can be done again.
    pub is_undone: bool,
}

/// A picture with its objects, all at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Opened {
    /// The picture.
    pub picture: Picture,
    /// Its objects, the lowest first.
    pub objects: Vec<Object>,
    /// Whether there is an action to be undone.
    pub can_undo: bool,
    /// Whether there is one to be done again.
    pub can_redo: bool,
}

/// What a picture is after an edit.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Applied {
    /// The revision that it has now.
    pub revision: u64,
    /// Its objects, the lowest first.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::objects::DrawnObject>))]
    pub objects: Vec<Object>,
    /// Whether its masks are as they should be.
    pub checked: bool,
    /// Whether there is an action to be undone.
    pub can_undo: bool,
    /// Whether there is one to be done again.
    pub can_redo: bool,
}

impl Applied {
    fn of(transaction: &Transaction<'_>, picture: PictureId) -> Result<Self, Failure> {
        let (can_undo, can_redo) = steps(transaction, picture)?;
        Ok(Self {
            revision: next_revision(transaction, picture)?,
            objects: Object::all(transaction, picture)?,
            checked: Picture::find(transaction, picture)?.checked,
            can_undo,
            can_redo,
        })
    }
}

/// Whether something can be undone, and done again.
fn steps(transaction: &Transaction<'_>, picture: PictureId) -> Result<(bool, bool), Failure> {
    let any = "SELECT EXISTS (SELECT 1 FROM action WHERE picture = ?1 AND is_undone = ?2)";
    let mut any = transaction.prepare_cached(any)?;
    let mut any = |undone: bool| any.query_row((picture.0, undone), |row| row.get(0));
    Ok((any(false)?, any(true)?))
}

/// The picture, if it still has the revision that is expected.
fn expected(
    transaction: &Transaction<'_>,
    picture: PictureId,
    expected: Option<u64>,
) -> Result<Picture, Failure> {
    let found = Picture::find(transaction, picture)?;
    match expected.filter(|expected| *expected != found.revision) {
        Some(expected) => {
            let now = found.revision;
            Err(ProjectError::Conflict { expected, now }.into())
        }
        None => Ok(found),
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs().try_into().unwrap_or(i64::MAX))
}

impl Project {
    /// Does all of this to a picture, as one action that is undone as one. With `revision`, only if the picture still
    /// has that one. What was undone before cannot be done again afterwards.
    ///
    /// # Errors
    /// There is no such picture, object or class, a mask does not fit, or somebody else was quicker. Nothing is changed
    /// then.
    pub fn apply(
        &self,
        picture: PictureId,
        author: &str,
        edits: &[Edit],
        revision: Option<u64>,
    ) -> Result<Applied> {
        self.write(|transaction| {
            let found = expected(transaction, picture, revision)?;
            let mut changes = Vec::with_capacity(edits.len());
            for (index, edit) in edits.iter().enumerate() {
                let change = change_of(transaction, &found, author, edit);
                let change = change.and_then(|change| {
                    change.make(transaction, &found)?;
                    Ok(change)
                });
                changes.push(change.map_err(|failure| failure.of_edit(index))?);
            }
            if !changes.is_empty() {
                let forget = "DELETE FROM action WHERE picture = ?1 AND is_undone";
                transaction.execute(forget, [picture.0])?;
                let text = to_text(&changes)?;
                let add = "INSERT INTO action (picture, author, seconds, changes) VALUES (?1, ?2, ?3, ?4)";
                transaction.execute(add, (picture.0, author, now(), text))?;
            }
            Applied::of(transaction, picture)
        })
    }

    /// Takes the last action on a picture back. With `revision`, only if the picture still has that one.
    ///
    /// # Errors
    /// There is nothing to be undone, or somebody else was quicker.
    pub fn undo(&self, picture: PictureId, revision: Option<u64>) -> Result<Applied> {
        const LAST: &str = "SELECT id, changes FROM action WHERE picture = ?1 AND NOT is_undone
                            ORDER BY id DESC LIMIT 1";
        self.step(picture, revision, LAST, true)
    }

    /// Does the action again that was undone last. With `revision`, only if the picture still has that one.
    ///
    /// # Errors
    /// There is nothing to be done again, or somebody else was quicker.
    pub fn redo(&self, picture: PictureId, revision: Option<u64>) -> Result<Applied> {
        const NEXT: &str = "SELECT id, changes FROM action WHERE picture = ?1 AND is_undone
                            ORDER BY id LIMIT 1";
        self.step(picture, revision, NEXT, false)
    }

    fn step(
        &self,
        picture: PictureId,
        revision: Option<u64>,
        which: &str,
        back: bool,
    ) -> Result<Applied> {
        self.write(|transaction| {
            let found = expected(transaction, picture, revision)?;
            let row = transaction.query_row(which, [picture.0], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
            });
            let Some((id, text)) = row.optional()? else {
                return Err(ProjectError::Nothing(if back { "undo" } else { "redo" }).into());
            };
            let mut changes: Vec<Change> = serde_json::from_str(&text).map_err(damaged)?;
            if back {
                changes = changes.into_iter().rev().map(Change::reversed).collect();
            }
            for change in &changes {
                if let Some(class) = change.class() {
                    classes::bring_back(transaction, class)?;
                }
                change.make(transaction, &found)?;
            }
            let set = "UPDATE action SET is_undone = ?2 WHERE id = ?1";
            transaction.execute(set, (id, back))?;
            Applied::of(transaction, picture)
        })
    }

    /// A picture with its objects, all at one moment.
    ///
    /// # Errors
    /// There is no such picture, or the file of the project is damaged.
    pub fn opened(&self, picture: PictureId) -> Result<Opened> {
        self.read(|transaction| {
            let (can_undo, can_redo) = steps(transaction, picture)?;
            Ok(Opened {
                picture: Picture::find(transaction, picture)?,
                objects: Object::all(transaction, picture)?,
                can_undo,
                can_redo,
            })
        })
    }

    /// What was done to a picture, the last first.
    ///
    /// # Errors
    /// There is no such picture.
    pub fn history(&self, picture: PictureId) -> Result<Vec<Action>> {
        self.read(|transaction| {
            Picture::find(transaction, picture)?;
            let all = "SELECT id, author, seconds, is_undone FROM action WHERE picture = ?1 ORDER BY id DESC";
            let mut all = transaction.prepare_cached(all)?;
            let actions = all.query_map([picture.0], |row| {
                Ok(Action {
                    id: row.get(0)?,
                    author: row.get(1)?,
                    seconds: row.get(2)?,
                    is_undone: row.get(3)?,
                })
            })?;
            Ok(actions.collect::<rusqlite::Result<_>>()?)
        })
    }
}

fn damaged(why: serde_json::Error) -> ProjectError {
    ProjectError::damaged("the history", why)
}

fn to_text(changes: &[Change]) -> Result<String, Failure> {
    Ok(serde_json::to_string(changes).map_err(damaged)?)
}

/// Another form of an object.
fn changed(before: Object, change: impl FnOnce(&mut Object)) -> Change {
    let mut after = before.clone();
    change(&mut after);
    Change::Object {
        before: Some(Box::new(before)),
        after: Some(Box::new(after)),
    }
}

fn change_of(
    transaction: &Transaction<'_>,
    picture: &Picture,
    author: &str,
    edit: &Edit,
) -> Result<Change, Failure> {
    let find = |id| Object::find(transaction, picture.id, id);
    Ok(match edit {
        Edit::Add(content) => {
            let next = "UPDATE counter SET objects = objects + 1 RETURNING objects";
            let id = ObjectId(transaction.query_row(next, [], |row| row.get(0))?);
            let top = "SELECT coalesce(max(position), 0) + 1 FROM object WHERE picture = ?1";
            Change::Object {
                before: None,
                after: Some(Box::new(Object {
                    id,
                    position: transaction.query_row(top, [picture.id.0], |row| row.get(0))?,
                    author: author.to_owned(),
                    content: content.clone(),
                })),
            }
        }
        Edit::Change(id, content) => changed(find(*id)?, |object| {
            object.content = content.clone();
        }),
        Edit::Move(id, position) => changed(find(*id)?, |object| object.position = *position),
        Edit::Remove(id) => Change::Object {
            before: Some(Box::new(find(*id)?)),
            after: None,
        },
        Edit::Check(after) => {
            let before = "SELECT checked FROM picture WHERE id = ?1";
            Change::Checked {
                before: transaction.query_row(before, [picture.id.0], |row| row.get(0))?,
                after: *after,
            }
        }
    })
}
