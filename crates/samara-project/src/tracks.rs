//! The masks of an object of a video.

use rusqlite::Transaction;

use crate::failure::Failure;
use crate::ids::{ClassId, ObjectId, PictureId, TrackId};
use crate::objects::Object;

/// The class of an object of a video, which is that of all its masks; nothing if it has none.
pub(crate) fn class_of(
    transaction: &Transaction<'_>,
    video: PictureId,
    track: TrackId,
) -> Result<Vec<Option<ClassId>>, Failure> {
    let find = "SELECT class FROM object WHERE owner = ?1 AND track = ?2 LIMIT 1";
    let mut find = transaction.prepare_cached(find)?;
    let class = find.query_map((video.0, track.0), |row| {
        Ok(row.get::<_, Option<i64>>(0)?.map(ClassId))
    })?;
    Ok(class.collect::<rusqlite::Result<_>>()?)
}

/// The masks of an object of a video, in the order of the frames.
pub(crate) fn of_track(
    transaction: &Transaction<'_>,
    video: PictureId,
    track: TrackId,
) -> Result<Vec<(PictureId, Object)>, Failure> {
    let all = "SELECT picture, id FROM object WHERE owner = ?1 AND track = ?2 ORDER BY picture";
    let mut all = transaction.prepare_cached(all)?;
    let places = all.query_map((video.0, track.0), |row| {
        Ok((PictureId(row.get(0)?), ObjectId(row.get(1)?)))
    })?;
    let places = places.collect::<rusqlite::Result<Vec<_>>>()?;
    let object = |(at, id)| Ok((at, Object::find(transaction, at, id)?));
    places.into_iter().map(object).collect()
}
