//! What the server asks of a model.

use std::ops::ControlFlow;

use samara::{
    Candidates, Direction, Embedding, FrameMasks, MaskGenerator, MaskGeneratorOptions, MaskRecord,
    Prompt, Result, RgbImage, Segmenter, VideoFrame, VideoSession,
};

/// Between two stages of long work: go on, or stop. What is more urgent is done meanwhile.
pub(crate) type Between<'a> = &'a mut (dyn FnMut() -> ControlFlow<()> + Send);

/// A model as the server sees it: all that takes time goes through here, on the thread that owns the model.
/// Tests put slow and faulty ones in the place of the real one.
pub(crate) trait Model: Send + Sync {
    /// The weights, and what is known of them.
    fn segmenter(&self) -> &Segmenter;

    /// The embedding of an image.
    fn embed(&self, image: &RgbImage, between: Between<'_>) -> Result<Embedding> {
        self.segmenter().embed_between(image, between)
    }

    /// Answers to prompts on several images.
    fn predict(&self, asked: &[(&Embedding, &[Prompt])]) -> Vec<Result<Vec<Candidates>>> {
        Embedding::predict_each(asked)
    }

    /// All masks of an image. `progress` hears how much is done, from 0 to 1, and can stop it.
    fn generate(
        &self,
        image: &RgbImage,
        embedding: &Embedding,
        options: &MaskGeneratorOptions,
        progress: &mut dyn FnMut(f64) -> ControlFlow<()>,
    ) -> Result<Vec<MaskRecord>> {
        let generator = MaskGenerator::new(self.segmenter(), options.clone())?;
        generator.generate_from(image, embedding, progress)
    }

    /// The embedding of a frame of a video.
    fn embed_frame(
        &self,
        index: usize,
        image: &RgbImage,
        between: Between<'_>,
    ) -> Result<VideoFrame> {
        self.segmenter().embed_frame_between(index, image, between)
    }

    /// The objects of a session in the next frame.
    fn track(
        &self,
        session: &mut VideoSession,
        frame: &VideoFrame,
        direction: Direction,
    ) -> Result<FrameMasks> {
        session.track(frame, direction)
    }
}

impl Model for Segmenter {
    fn segmenter(&self) -> &Segmenter {
        self
    }
}
