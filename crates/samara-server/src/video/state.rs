//! What is in memory of a session.

use std::ops::ControlFlow;

use samara::{RgbImage, VideoFrame, VideoSession};
use samara_image::FrameSource;

use crate::model::Model;
use crate::owner::Pause;

/// What is in memory of a session.
#[derive(Default)]
pub(super) struct State {
    pub(super) session: Option<VideoSession>,
    pub(super) source: Option<Box<dyn FrameSource>>,
    /// The frame that was embedded last.
    pub(super) frame: Option<VideoFrame>,
    pub(super) unsaved: usize,
}

impl State {
    /// Whether an object would be one too many.
    pub(super) fn has_no_place(&self, object: u32, most: usize) -> bool {
        let others = self
            .session
            .iter()
            .flat_map(VideoSession::objects)
            .filter(|known| *known != object);
        others.count() >= most
    }

    /// Does something with a frame, which is embedded if it is not the last one.
    pub(super) fn with_frame<T>(
        &mut self,
        model: &dyn Model,
        pause: &mut Pause<'_>,
        index: usize,
        image: Option<RgbImage>,
        work: impl FnOnce(&mut VideoSession, &VideoFrame) -> samara::Result<T>,
    ) -> samara::Result<T> {
        if let Some(image) = image {
            let mut between = || pause.take();
            self.frame = Some(model.embed_frame(index, &image, &mut between)?);
        }
        if pause.take() == ControlFlow::Break(()) {
            return Err(samara::Error::Cancelled);
        }
        match (&mut self.session, &self.frame) {
            (Some(session), Some(frame)) => work(session, frame),
            _ => Err(samara::Error::Cancelled),
        }
    }
}
