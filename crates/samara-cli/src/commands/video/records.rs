//! What was found, frame by frame.

use std::collections::BTreeMap;
use std::io::{self, Error};
use std::ops::Range;

use samara::FrameMasks;
use samara_image::Rle;
use serde::{Deserialize, Serialize};

use crate::commands::journal::Journal;

/// The masks of a frame: a line of `frames.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FrameRecord {
    pub(super) frame: usize,
    pub(super) objects: Vec<ObjectRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ObjectRecord {
    pub(super) id: u32,
    pub(super) segmentation: Rle,
    pub(super) predicted_iou: f32,
    pub(super) object_score: f32,
    pub(super) occlusion_probability: f32,
}

impl From<&FrameMasks> for FrameRecord {
    fn from(masks: &FrameMasks) -> Self {
        let objects = masks.objects.iter().map(|found| ObjectRecord {
            id: found.object,
            segmentation: found.mask.to_rle(),
            predicted_iou: found.predicted_iou.0,
            object_score: found.object_score,
            occlusion_probability: found.occlusion_probability(),
        });
        Self {
            frame: masks.index,
            objects: objects.collect(),
        }
    }
}

/// The frames of a journal.
pub(super) fn span(journal: &Journal<FrameRecord>) -> io::Result<Range<usize>> {
    let mut span: Option<Range<usize>> = None;
    for record in journal.entries()? {
        let frame = record?.frame;
        let (start, end) = span.map_or((frame, frame + 1), |span| (span.start, span.end));
        span = Some(start.min(frame)..end.max(frame + 1));
    }
    Ok(span.unwrap_or(0..0))
}

/// Hands over the records of a journal in the order of frames. Tracking writes frames in runs that go
/// up or down, so the file is read once for each: to its end for frames that go up, and for those that
/// go down they are held, as run lengths.
pub(super) fn in_order(
    journal: &Journal<FrameRecord>,
    mut each: impl FnMut(&FrameRecord) -> io::Result<()>,
) -> io::Result<()> {
    let mut first = None;
    let mut before = BTreeMap::new();
    for record in journal.entries()? {
        let record = record?;
        if record.frame < *first.get_or_insert(record.frame) {
            before.insert(record.frame, record);
        }
    }
    before.values().try_for_each(&mut each)?;
    let Some(first) = first else {
        return Err(Error::other("no frame was tracked"));
    };
    let mut next = first;
    for record in journal.entries()? {
        let record = record?;
        if record.frame == next {
            each(&record)?;
            next += 1;
        }
    }
    Ok(())
}
