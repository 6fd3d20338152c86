//! A frame of a video as a model sees it.

use std::ops::ControlFlow;

use samara_image::{Frame, RgbImage, resize_bicubic};
use samara_model::{Model, ModelConfig};

use crate::embedding::Embedding;
use crate::{Error, Result, Segmenter};

/// A frame of a video after the image encoder: the expensive step, done once for all objects and
/// prompts. It does not depend on the session's state, so the next frame can be embedded while this one
/// is tracked.
#[derive(Debug, Clone)]
pub struct VideoFrame {
    pub(super) index: usize,
    /// For SAM 2 with features as they are before any memory.
    pub(super) embedding: Embedding,
}

impl VideoFrame {
    /// Number of the frame, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How pixels of the frame and of the model relate.
    pub fn frame(&self) -> &Frame {
        self.embedding.frame()
    }
}

impl Segmenter {
    /// Embeds the `index`th frame of a video. For SAM 2 the image is resized as the official code
    /// does it with frames, which differs a little from how it does it with images.
    ///
    /// # Errors
    /// The image has no pixels, or the device failed.
    pub fn embed_frame(&self, index: usize, image: &RgbImage) -> Result<VideoFrame> {
        self.embed_frame_between(index, image, || ControlFlow::Continue(()))
    }

    /// The same with something to do in between; see [`embed_between`](Self::embed_between).
    ///
    /// # Errors
    /// As [`embed_frame`](Self::embed_frame); [`Error::Cancelled`] when `between` broke off.
    pub fn embed_frame_between(
        &self,
        index: usize,
        image: &RgbImage,
        between: impl FnMut() -> ControlFlow<()> + Send,
    ) -> Result<VideoFrame> {
        let geometry = self.frame(image.width(), image.height())?;
        let features = self.threads().run(|| match (self.model(), self.config()) {
            (Model::Sam2(sam2), ModelConfig::Sam2(_)) => {
                let (width, height) = geometry.content_size();
                let pixels = self.pixels(&resize_bicubic(image, width, height));
                sam2.try_encode_frame(pixels, between)
            }
            (model, _) => model.try_encode_image(self.preprocess(image, &geometry), between),
        });
        let features = features.continue_value().ok_or(Error::Cancelled)?;
        // Frames are not saved, so nothing has to tell one from another.
        let embedding = Embedding::new(self.clone(), geometry, features, String::new());
        Ok(VideoFrame { index, embedding })
    }
}
