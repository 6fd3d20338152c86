//! Objects followed from frame to frame.

use std::collections::BTreeMap;

use rayon::prelude::*;
use samara_image::{Mask, RgbImage};
use samara_model::Model;

use super::bank::{MemoryBank, Output};
use super::carried;
use super::direction::{Direction, ObjectId, Position};
use super::frame::VideoFrame;
use super::object_mask::{FrameMasks, ObjectMask, object_mask};
use super::options::VideoOptions;
use super::remembered::Remembering;
use crate::error::VideoError;
use crate::upsampler::Upsampler;
use crate::{Prompt, Result, Segmenter};

/// Follows objects through the frames of one video, which come one by one: from a file, a folder, or
/// a camera. Frames are not kept, only what is remembered of them.
///
/// ```no_run
/// use samara::{Direction, DeviceKind, Prompt, Segmenter, VideoOptions, VideoSession};
/// use samara::RgbImage;
///
/// # fn camera() -> impl Iterator<Item = RgbImage> { std::iter::empty() }
/// # fn main() -> samara::Result<()> {
/// let segmenter = Segmenter::load("sam2.1_hiera_tiny.pt", DeviceKind::Cpu)?;
/// let mut session = VideoSession::new(&segmenter, VideoOptions::default());
/// for (index, image) in camera().enumerate() {
///     let frame = session.embed(index, &image)?;
///     if index == 0 {
///         session.prompt(&frame, 1, &Prompt::point(520.0, 360.0))?;
///     }
///     for found in session.track(&frame, Direction::Forward)?.objects {
///         println!("{index}: {} pixels", found.mask.area());
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct VideoSession {
    pub(super) segmenter: Segmenter,
    pub(super) options: VideoOptions,
    /// Width and height of the frames, once one was seen.
    pub(super) size: Option<(u32, u32)>,
    /// The frame that was tracked last.
    pub(super) position: Option<Position>,
    pub(super) objects: BTreeMap<ObjectId, MemoryBank>,
}

impl VideoSession {
    /// A session without objects.
    pub fn new(segmenter: &Segmenter, options: VideoOptions) -> Self {
        Self {
            segmenter: segmenter.clone(),
            options,
            size: None,
            position: None,
            objects: BTreeMap::new(),
        }
    }

    /// The model.
    pub fn segmenter(&self) -> &Segmenter {
        &self.segmenter
    }

    /// The options.
    pub fn options(&self) -> &VideoOptions {
        &self.options
    }

    /// The objects that are followed.
    pub fn objects(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.objects.keys().copied()
    }

    /// Width and height of the frames in pixels, once one was seen.
    pub fn size(&self) -> Option<(u32, u32)> {
        self.size
    }

    /// Embeds a frame; see [`Segmenter::embed_frame`].
    ///
    /// # Errors
    /// The image has no pixels, or the device failed.
    pub fn embed(&self, index: usize, image: &RgbImage) -> Result<VideoFrame> {
        self.segmenter.embed_frame(index, image)
    }

    /// Answers a prompt for an object, new or known, on any frame. The prompt replaces an earlier one
    /// for this object on this frame; the mask that the frame had is refined, unless the prompt brings
    /// a mask of its own. A prompt that is only a mask is taken as it is.
    ///
    /// # Errors
    /// The prompt makes no sense for this frame, or the frame is of another video.
    pub fn prompt(
        &mut self,
        frame: &VideoFrame,
        object: ObjectId,
        prompt: &Prompt,
    ) -> Result<ObjectMask> {
        let threads = self.segmenter.threads().clone();
        threads.run(|| self.answer(frame, object, prompt))
    }

    fn answer(
        &mut self,
        frame: &VideoFrame,
        object: ObjectId,
        prompt: &Prompt,
    ) -> Result<ObjectMask> {
        let upsampler = self.enter(frame)?;
        prompt.validate(frame.embedding.frame(), self.segmenter.logits_side())?;
        // An object appears only once its prompt was answered.
        let unknown = MemoryBank::default();
        let bank = self.objects.get(&object).unwrap_or(&unknown);
        let output = self.tracker().answer(bank, frame, prompt)?;
        let mask = upsampler.mask(&output.low_res, 0.0).0;
        let found = object_mask(object, mask, &output);
        let bank = self.objects.entry(object).or_default();
        bank.answer(frame.index, output, &self.options);
        Ok(found)
    }

    /// Finds all objects in a frame, which lies beside the last one in this direction; a frame with a
    /// prompt keeps its mask.
    ///
    /// # Errors
    /// There is no object yet or one without a prompt, the frame is of another video, or the device failed.
    pub fn track(&mut self, frame: &VideoFrame, direction: Direction) -> Result<FrameMasks> {
        let threads = self.segmenter.threads().clone();
        threads.run(|| self.find(frame, direction))
    }

    fn find(&mut self, frame: &VideoFrame, direction: Direction) -> Result<FrameMasks> {
        let upsampler = self.enter(frame)?;
        if self.objects.is_empty() {
            return Err(VideoError::NoObject.into());
        }
        if let Some((&object, _)) = self.objects.iter().find(|(_, bank)| !bank.is_prompted()) {
            return Err(VideoError::NoPrompt(object).into());
        }
        for object in self.objects.keys().copied().collect::<Vec<_>>() {
            self.track_object(object, frame, direction)?;
        }
        self.position = Some(Position {
            frame: frame.index,
            direction,
        });
        let outputs: Vec<(ObjectId, &Output)> = self
            .objects
            .iter()
            .filter_map(|(&object, bank)| Some((object, bank.latest(frame.index)?)))
            .collect();
        let masks: Vec<Mask> = if self.options.non_overlap_masks {
            let logits: Vec<&[f32]> = outputs.iter().map(|(_, o)| &o.low_res[..]).collect();
            upsampler.masks_without_overlap(&logits)
        } else {
            let logits = outputs.par_iter().map(|(_, o)| &o.low_res);
            logits.map(|logits| upsampler.mask(logits, 0.0).0).collect()
        };
        let objects = outputs.iter().zip(masks);
        let objects = objects.map(|(&(object, output), mask)| object_mask(object, mask, output));
        Ok(FrameMasks {
            index: frame.index,
            objects: objects.collect(),
        })
    }

    fn track_object(
        &mut self,
        object: ObjectId,
        frame: &VideoFrame,
        direction: Direction,
    ) -> Result<()> {
        let num_maskmem = match self.segmenter.model() {
            Model::Sam2(sam2) => sam2.num_maskmem(),
            Model::Sam(_) => 1,
        };
        let Some(bank) = self.objects.get_mut(&object) else {
            return Ok(());
        };
        bank.commit(&self.options, num_maskmem);
        let bank = &self.objects[&object];
        let found = if bank.conditioning.contains_key(&frame.index) {
            None
        } else {
            Some(self.tracker().find(bank, frame, direction)?)
        };
        if let Some(bank) = self.objects.get_mut(&object) {
            if let Some(output) = found {
                bank.tracked.insert(frame.index, output);
            }
            bank.visited.insert(frame.index, direction);
            if !self.options.keep_all {
                bank.forget(frame.index);
            }
        }
        Ok(())
    }

    fn tracker(&self) -> Tracker<'_> {
        let options = &self.options;
        match self.segmenter.model() {
            Model::Sam2(sam2) => Tracker::Remembering(Remembering { sam2, options }),
            Model::Sam(_) => Tracker::Carrying,
        }
    }

    /// What is known of an object in a frame: the answer to its prompt there, or what was found last; nothing where the
    /// object was not looked for, or where that is forgotten.
    ///
    /// # Errors
    /// There is no such object.
    pub fn known(&self, frame: usize, object: ObjectId) -> Result<Option<ObjectMask>> {
        let unknown = VideoError::UnknownObject(object);
        let bank = self.objects.get(&object).ok_or(unknown)?;
        let Some((output, (width, height))) = bank.latest(frame).zip(self.size) else {
            return Ok(None);
        };
        let geometry = self.segmenter.frame(width, height)?;
        let upsampler = Upsampler::new(self.segmenter.logits_side(), &geometry)?;
        let mask = upsampler.mask(&output.low_res, 0.0).0;
        Ok(Some(object_mask(object, mask, output)))
    }

    /// Takes the prompts for an object on a frame back. What was found there stays, until the frame is tracked again,
    /// and conditions no other frame.
    ///
    /// # Errors
    /// There is no such object.
    pub fn clear_prompt(&mut self, frame: usize, object: ObjectId) -> Result<()> {
        let unknown = VideoError::UnknownObject(object);
        self.objects
            .get_mut(&object)
            .ok_or(unknown)?
            .clear_prompt(frame);
        Ok(())
    }

    /// The frame that was tracked last, and in which direction.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Forgets an object.
    ///
    /// # Errors
    /// There is no such object.
    pub fn remove(&mut self, object: ObjectId) -> Result<()> {
        match self.objects.remove(&object) {
            Some(_) => Ok(()),
            None => Err(VideoError::UnknownObject(object).into()),
        }
    }

    /// Takes the size of the video from its first frame, and refuses frames of another size.
    fn enter(&mut self, frame: &VideoFrame) -> Result<Upsampler> {
        let geometry = frame.embedding.frame();
        let (width, height) = geometry.original_size();
        let (w, h) = *self.size.get_or_insert((width, height));
        if (w, h) != (width, height) {
            return Err(VideoError::FrameSize {
                index: frame.index,
                frame: (width, height),
                video: (w, h),
            }
            .into());
        }
        if let Some(frames) = self.options.num_frames
            && frame.index >= frames
        {
            return Err(VideoError::NoFrame {
                index: frame.index,
                frames,
            }
            .into());
        }
        Ok(Upsampler::new(self.segmenter.logits_side(), geometry)?)
    }
}

/// How objects are found again.
enum Tracker<'a> {
    Remembering(Remembering<'a>),
    Carrying,
}

impl Tracker<'_> {
    fn answer(&self, bank: &MemoryBank, frame: &VideoFrame, prompt: &Prompt) -> Result<Output> {
        match self {
            Self::Remembering(tracker) => tracker.answer(bank, frame, prompt),
            Self::Carrying => carried::answer(bank, frame, prompt),
        }
    }

    fn find(&self, bank: &MemoryBank, frame: &VideoFrame, direction: Direction) -> Result<Output> {
        match self {
            Self::Remembering(tracker) => tracker.find(bank, frame, direction),
            Self::Carrying => carried::find(bank, frame, direction),
        }
    }
}
