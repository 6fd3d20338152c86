//! What people do, one transaction each, and how it is undone.

use std::collections::BTreeMap;
use std::time::SystemTime;

use rusqlite::{OptionalExtension, Transaction};
use serde::Serialize;

use crate::Result;
use crate::changes::Change;
use crate::classes;
use crate::error::ProjectError;
use crate::failure::Failure;
use crate::ids::{ObjectId, PictureId, TrackId};
use crate::objects::{NewObject, Object, Track};
use crate::pictures::{Picture, next_revision};
use crate::project::Project;
use crate::tracks::{class_of, of_track};

/// Something that is done to the objects of a picture.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// A new object, on top of the others. In a frame it is a new object of the video, unless it names its track, whose
    /// class it gets.
    Add(NewObject),
    /// Another mask, class or attributes of an object. In a frame it stays in its track unless it names one, and a class
    /// is that of the whole track.
    Change(ObjectId, NewObject),
    /// An object to another place, of 2^53 at most from 0; the highest lies on top.
    Move(ObjectId, i64),
    /// An object away; of a track, its mask in this frame.
    Remove(ObjectId),
    /// An object of a video away, with its masks in all frames.
    RemoveTrack(TrackId),
    /// Whether the masks of the picture, or of the whole video, are as they should be.
    Check(bool),
}

/// Places of objects are whole numbers that JSON keeps everywhere.
const MOST_POSITION: u64 = 1 << 53;

/// Which action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActionId(i64);

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

/// What a picture is after an edit.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Applied {
    /// The picture. Undoing in a frame may change others of the video: then one of these.
    pub picture: PictureId,
    /// The revision that it has now.
    pub revision: u64,
    /// Its objects, the lowest first.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::objects::DrawnObject>))]
    pub objects: Vec<Object>,
    /// Whether its masks are as they should be.
    pub checked: bool,
    /// Whether there is an action to be undone.
    pub can_undo: bool,
    /// Who has done it.
    pub last_author: Option<String>,
    /// Whether there is one to be done again.
    pub can_redo: bool,
}

impl Applied {
    fn of(transaction: &Transaction<'_>, id: PictureId) -> Result<Self, Failure> {
        let picture = Picture::find(transaction, id)?;
        let (last_author, can_redo) = steps(transaction, picture.owner())?;
        Ok(Self {
            picture: id,
            revision: picture.revision,
            objects: Object::all(transaction, id)?,
            checked: picture.checked,
            can_undo: last_author.is_some(),
            last_author,
            can_redo,
        })
    }
}

/// Who has done what would be undone, and whether something can be done again.
pub(crate) fn steps(
    transaction: &Transaction<'_>,
    owner: PictureId,
) -> Result<(Option<String>, bool), Failure> {
    let last =
        "SELECT author FROM action WHERE owner = ?1 AND NOT is_undone ORDER BY id DESC LIMIT 1";
    let mut last = transaction.prepare_cached(last)?;
    let author = last.query_row([owner.0], |row| row.get(0)).optional()?;
    let any = "SELECT EXISTS (SELECT 1 FROM action WHERE owner = ?1 AND is_undone)";
    let mut any = transaction.prepare_cached(any)?;
    Ok((author, any.query_row([owner.0], |row| row.get(0))?))
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

/// Pictures that change together, each of which gets a new revision at the end.
#[derive(Default)]
struct Changing(BTreeMap<PictureId, Picture>);

impl Changing {
    fn make(
        &mut self,
        transaction: &Transaction<'_>,
        id: PictureId,
        change: &Change,
    ) -> Result<(), Failure> {
        let picture = match self.0.entry(id) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                new.insert(Picture::find(transaction, id)?)
            }
        };
        change.make(transaction, picture)
    }

    fn finish(self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let mut owners = Vec::new();
        for picture in self.0.values() {
            next_revision(transaction, picture.id)?;
            owners.extend(picture.video);
        }
        owners.sort_unstable();
        owners.dedup();
        for owner in owners {
            next_revision(transaction, owner)?;
        }
        Ok(())
    }
}

impl Project {
    /// Does all of this to a picture, as one action that is undone as one. With `revision`, only if the picture still
    /// has that one. What was undone before cannot be done again afterwards. Without edits nothing happens.
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
            edit(transaction, &found, author, edits, None)?;
            Applied::of(transaction, picture)
        })
    }

    /// Does all of this to a frame of a video as a part of an action that goes on over several, if it was the last one
    /// that was done to the video; otherwise as a new one. Answers which action it is.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn apply_to_frame(
        &self,
        frame: PictureId,
        author: &str,
        edits: &[Edit],
        action: Option<ActionId>,
    ) -> Result<Option<ActionId>> {
        self.write(|transaction| {
            let found = Picture::find(transaction, frame)?;
            edit(transaction, &found, author, edits, action)
        })
    }

    /// Takes the last action on a picture back. With `revision`, only if the picture still has that one.
    ///
    /// # Errors
    /// There is nothing to be undone, or somebody else was quicker.
    pub fn undo(&self, picture: PictureId, revision: Option<u64>) -> Result<Applied> {
        const LAST: &str =
            "SELECT id FROM action WHERE owner = ?1 AND NOT is_undone ORDER BY id DESC LIMIT 1";
        self.step(picture, revision, LAST, true)
    }

    /// Does the action again that was undone last. With `revision`, only if the picture still has that one.
    ///
    /// # Errors
    /// There is nothing to be done again, or somebody else was quicker.
    pub fn redo(&self, picture: PictureId, revision: Option<u64>) -> Result<Applied> {
        const NEXT: &str =
            "SELECT id FROM action WHERE owner = ?1 AND is_undone ORDER BY id LIMIT 1";
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
            let action = transaction.query_row(which, [found.owner().0], |row| row.get(0));
            let Some(action) = action.optional()? else {
                return Err(ProjectError::Nothing(if back { "undo" } else { "redo" }).into());
            };
            let mut changes = changes_of(transaction, action)?;
            if back {
                changes.reverse();
            }
            let mut changing = Changing::default();
            for (at, change) in changes {
                let change = if back { change.reversed() } else { change };
                if let Some(class) = change.class() {
                    classes::bring_back(transaction, class)?;
                }
                changing.make(transaction, at, &change)?;
            }
            let set = "UPDATE action SET is_undone = ?2 WHERE id = ?1";
            transaction.execute(set, (action, back))?;
            let is_here = changing.0.contains_key(&picture);
            let other = changing.0.keys().next().copied().filter(|_| !is_here);
            changing.finish(transaction)?;
            Applied::of(transaction, other.unwrap_or(picture))
        })
    }

    /// What was done to a picture, or to a video with all its frames, the last first.
    ///
    /// # Errors
    /// There is no such picture.
    pub fn history(&self, picture: PictureId) -> Result<Vec<Action>> {
        self.read(|transaction| {
            let owner = Picture::find(transaction, picture)?.owner();
            let all = "SELECT id, author, seconds, is_undone FROM action WHERE owner = ?1 ORDER BY id DESC";
            let mut all = transaction.prepare_cached(all)?;
            let actions = all.query_map([owner.0], |row| {
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

fn changes_of(
    transaction: &Transaction<'_>,
    action: i64,
) -> Result<Vec<(PictureId, Change)>, Failure> {
    let all = "SELECT picture, change FROM change WHERE action = ?1 ORDER BY id";
    let mut all = transaction.prepare_cached(all)?;
    let mut rows = all.query([action])?;
    let mut changes = Vec::new();
    while let Some(row) = rows.next()? {
        let change: String = row.get(1)?;
        let change = serde_json::from_str(&change).map_err(damaged)?;
        changes.push((PictureId(row.get(0)?), change));
    }
    Ok(changes)
}

/// Makes edits, and records them as a new action or as a part of one that goes on.
fn edit(
    transaction: &Transaction<'_>,
    picture: &Picture,
    author: &str,
    edits: &[Edit],
    goes_on: Option<ActionId>,
) -> Result<Option<ActionId>, Failure> {
    if edits.is_empty() {
        return Ok(goes_on);
    }
    let is_of_frames = |edit: &Edit| !matches!(edit, Edit::Check(_) | Edit::RemoveTrack(_));
    if picture.frames.is_some()
        && let Some(index) = edits.iter().position(is_of_frames)
    {
        let why = format!("picture {} is a video; its frames have masks", picture.id);
        return Err(Failure::from(ProjectError::Value(why)).of_edit(index));
    }
    let action = begin(transaction, picture.owner(), author, goes_on)?;
    let mut changing = Changing::default();
    let add = "INSERT INTO change (action, picture, change) VALUES (?1, ?2, ?3)";
    let mut add = transaction.prepare_cached(add)?;
    for (index, edit) in edits.iter().enumerate() {
        let mut made = || -> Result<(), Failure> {
            for (at, change) in changes_by(transaction, picture, author, edit)? {
                changing.make(transaction, at, &change)?;
                let text = serde_json::to_string(&change).map_err(damaged)?;
                add.execute((action.0, at.0, text))?;
            }
            Ok(())
        };
        made().map_err(|failure| failure.of_edit(index))?;
    }
    changing.finish(transaction)?;
    Ok(Some(action))
}

/// The action to which changes belong from now on.
fn begin(
    transaction: &Transaction<'_>,
    owner: PictureId,
    author: &str,
    goes_on: Option<ActionId>,
) -> Result<ActionId, Failure> {
    if let Some(action) = goes_on {
        let last = "SELECT id FROM action WHERE owner = ?1 ORDER BY id DESC LIMIT 1";
        let is_last = transaction.query_row(last, [owner.0], |row| row.get(0));
        let undone = "SELECT is_undone FROM action WHERE id = ?1";
        if is_last.optional()? == Some(action.0)
            && !transaction.query_row(undone, [action.0], |row| row.get::<_, bool>(0))?
        {
            return Ok(action);
        }
    }
    let forget = "DELETE FROM action WHERE owner = ?1 AND is_undone";
    transaction.execute(forget, [owner.0])?;
    let add = "INSERT INTO action (owner, author, seconds) VALUES (?1, ?2, ?3)";
    transaction.execute(add, (owner.0, author, now()))?;
    Ok(ActionId(transaction.last_insert_rowid()))
}

/// What an edit changes, and in which pictures.
fn changes_by(
    transaction: &Transaction<'_>,
    picture: &Picture,
    author: &str,
    edit: &Edit,
) -> Result<Vec<(PictureId, Change)>, Failure> {
    let here = |change| Ok(vec![(picture.id, change)]);
    let find = |id| Object::find(transaction, picture.id, id);
    match edit {
        Edit::Add(content) => here(Change::added(new_object(
            transaction,
            picture,
            author,
            content,
        )?)),
        Edit::Change(id, content) => {
            let before = find(*id)?.content;
            let mut after = content.clone();
            after.track = after.track.or_else(|| {
                let is_drawn = before.mask != after.mask;
                before.track.map(|track| Track {
                    is_keyframe: track.is_keyframe || is_drawn,
                    ..track
                })
            });
            let mut changes = Vec::new();
            if let Some(track) = before.track.filter(|_| before.class != after.class) {
                for (at, other) in of_track(transaction, picture.owner(), track.id)? {
                    if other.id != *id {
                        let before = other.content;
                        let mut content = before.clone();
                        content.class = after.class;
                        changes.push((at, Change::content(other.id, before, content)));
                    }
                }
            }
            changes.push((picture.id, Change::content(*id, before, after)));
            Ok(changes)
        }
        Edit::Move(id, position) => {
            if position.unsigned_abs() > MOST_POSITION {
                let why = format!("an object lies at most {MOST_POSITION} from 0");
                return Err(ProjectError::Value(why).into());
            }
            here(Change::Position {
                id: *id,
                before: position_of(transaction, picture.id, *id)?,
                after: *position,
            })
        }
        Edit::Remove(id) => here(Change::removed(find(*id)?)),
        Edit::RemoveTrack(track) => {
            let all = of_track(transaction, picture.owner(), *track)?;
            if all.is_empty() {
                return Err(ProjectError::UnknownTrack(*track).into());
            }
            let removed = all.into_iter();
            Ok(removed.map(|(at, o)| (at, Change::removed(o))).collect())
        }
        Edit::Check(after) => here(Change::Checked {
            before: picture.checked,
            after: *after,
        }),
    }
}

fn new_object(
    transaction: &Transaction<'_>,
    picture: &Picture,
    author: &str,
    content: &NewObject,
) -> Result<Object, Failure> {
    let mut content = content.clone();
    if let (Some(video), Some(track)) = (picture.video, content.track) {
        if let Some(class) = class_of(transaction, video, track.id)?.first() {
            content.class = *class;
        }
    } else if let Some(video) = picture.video {
        let next = "SELECT coalesce(max(track), 0) + 1 FROM object WHERE owner = ?1";
        let id = transaction.query_row(next, [video.0], |row| row.get(0))?;
        content.track = Some(Track {
            id: TrackId(id),
            is_keyframe: true,
        });
    }
    let next = "UPDATE counter SET objects = objects + 1 RETURNING objects";
    let id = transaction.query_row(next, [], |row| row.get(0))?;
    let top = "SELECT coalesce(max(position), 0) + 1 FROM object WHERE picture = ?1";
    Ok(Object {
        id: ObjectId(id),
        position: transaction.query_row(top, [picture.id.0], |row| row.get(0))?,
        author: author.to_owned(),
        content,
    })
}

fn position_of(
    transaction: &Transaction<'_>,
    picture: PictureId,
    id: ObjectId,
) -> Result<i64, Failure> {
    let find = "SELECT position FROM object WHERE picture = ?1 AND id = ?2";
    let mut find = transaction.prepare_cached(find)?;
    let found = find.query_row((picture.0, id.0), |row| row.get(0));
    crate::failure::found(found, || ProjectError::UnknownObject(id))
}
