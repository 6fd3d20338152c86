//! Objects that a tool follows frame by frame, which keeps nothing but a small state.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use moka::sync::Cache;
use samara::{Direction, Mask, OriginalBox, Prompt, VideoOptions, VideoSession};
use samara_image::BBox;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Problem, Result};
use crate::images::{Image, ImageId};

/// Where a track is; the tool gives it back with the next frame.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct TrackState {
    track: Uuid,
    /// How many frames it has seen.
    pub(crate) frames: usize,
}

/// Tracks that CVAT follows, by what it was given as their state.
pub(crate) struct Tracks(Cache<Uuid, Arc<Mutex<Track>>>);

/// CVAT gives back no state that is older.
const KEPT: Duration = Duration::from_hours(8);
const MOST_TRACKS: u64 = 256;

/// One object.
pub(crate) struct Track {
    session: VideoSession,
    bbox: [f64; 4],
    frames: usize,
    /// The last frame: CVAT may ask of it twice.
    image: ImageId,
}

impl Tracks {
    pub(crate) fn new() -> Self {
        let cache = Cache::builder()
            .max_capacity(MOST_TRACKS)
            .time_to_idle(KEPT);
        Self(cache.build())
    }
}

/// The single object of a session.
const OBJECT: u32 = 1;

fn corners_of(mask: &Mask, before: [f64; 4]) -> [f64; 4] {
    // The tool has no word for an object that is gone.
    mask.bbox().as_ref().map_or(before, |bbox: &BBox| {
        let [x, y, w, h] = bbox.xywh().map(f64::from);
        [x, y, x + w, y + h]
    })
}

impl Tracks {
    pub(crate) fn find(&self, state: TrackState) -> Result<Arc<Mutex<Track>>> {
        let gone = || {
            let detail = "this track is no longer known; start tracking again";
            Problem::new(StatusCode::GONE, detail).about("states")
        };
        self.0.get(&state.track).ok_or_else(gone)
    }

    pub(crate) fn begin(
        &self,
        segmenter: &samara::Segmenter,
        frame: Option<&samara::VideoFrame>,
        [x0, y0, x1, y1]: [f64; 4],
        image: &Image,
    ) -> Result<([f64; 4], TrackState)> {
        let frame = frame.ok_or_else(|| Problem::internal("the frame is missing"))?;
        let mut session = VideoSession::new(segmenter, VideoOptions::default());
        let bbox = OriginalBox::new(x0, y0, x1, y1).map_err(|e| Problem::field("shapes", e))?;
        let found = session.prompt(frame, OBJECT, &Prompt::new().with_box(bbox))?;
        session.track(frame, Direction::Forward)?;
        let state = TrackState {
            track: Uuid::new_v4(),
            frames: 1,
        };
        let bbox = corners_of(&found.mask, [x0, y0, x1, y1]);
        let track = Track {
            session,
            bbox,
            frames: 1,
            image: image.info.id.clone(),
        };
        self.0.insert(state.track, Arc::new(Mutex::new(track)));
        Ok((bbox, state))
    }
}

impl Track {
    pub(crate) fn is_repeated(&self, state: TrackState, image: &Image) -> bool {
        state.frames + 1 == self.frames && self.image == image.info.id
    }

    pub(crate) fn go_on(
        &mut self,
        frame: Option<&samara::VideoFrame>,
        state: TrackState,
        image: &Image,
    ) -> Result<([f64; 4], TrackState)> {
        if !self.is_repeated(state, image) {
            if state.frames != self.frames {
                let detail = "this track has gone on since; start tracking again";
                return Err(Problem::conflict(detail).about("states"));
            }
            let frame = frame.ok_or_else(|| Problem::internal("the frame is missing"))?;
            let found = self.session.track(frame, Direction::Forward)?;
            if let Some(object) = found.objects.first().filter(|object| object.is_present()) {
                self.bbox = corners_of(&object.mask, self.bbox);
            }
            self.frames += 1;
            self.image = image.info.id.clone();
        }
        let frames = state.frames + 1;
        Ok((self.bbox, TrackState { frames, ..state }))
    }
}
