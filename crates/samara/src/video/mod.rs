//! Following objects through a video.

mod bank;
mod carried;
mod error;
mod frame;
mod propagate;
mod remembered;
mod saved;

use std::collections::BTreeMap;

use rayon::prelude::*;
use samara_image::Mask;
use samara_model::Model;
use serde::{Deserialize, Serialize};

pub use error::VideoError;
pub use frame::VideoFrame;
pub use propagate::Progress;

use crate::candidates::PredictedIou;
use crate::logits::Upsampler;
use crate::setters::setters;
use crate::{Logits, Prompt, Result, Segmenter};
use bank::{MemoryBank, Output};
use remembered::Remembering;

/// The caller's name of an object, the same in all frames; a palette image holds it as it is.
pub type ObjectId = u32;

/// The way through the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To frames of higher numbers.
    Forward,
    /// To frames of lower numbers.
    Backward,
}

impl Direction {
    /// The frame that came `steps` before `frame`, if there is one.
    fn before(self, frame: usize, steps: usize) -> Option<usize> {
        match self {
            Self::Forward => frame.checked_sub(steps),
            Self::Backward => Some(frame + steps),
        }
    }

    /// How many steps it is from a frame that came before, or 0.
    fn distance(self, from: usize, to: usize) -> Option<usize> {
        match self {
            Self::Forward => to.checked_sub(from),
            Self::Backward => from.checked_sub(to),
        }
    }
}

/// Where tracking is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Number of the frame, from 0.
    pub frame: usize,
    /// The way through the frames.
    pub direction: Direction,
}

/// Options of a [`VideoSession`]; those of the official predictor under their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[non_exhaustive]
pub struct VideoOptions {
    /// Frames of the video, if that is known: object pointers of a video of fewer than 16 frames are
    /// dated otherwise.
    pub num_frames: Option<usize>,
    /// A pixel belongs to one object at most, the one with the highest logit.
    pub non_overlap_masks: bool,
    /// Holes of at most so many cells of the mask logits are filled.
    pub fill_hole_area: u64,
    /// A correction on a frame that was tracked makes it a conditioning frame. The official code has
    /// this off, and loses the correction when tracking passes the frame again.
    pub add_all_frames_to_correct_as_cond: bool,
    /// A prompt drops what is remembered of the frames around it.
    pub clear_non_cond_mem_around_input: bool,
    /// Keeps what is remembered of all frames, some 800 kB for each and every object, so that frames
    /// long past can be corrected in the light of their neighbours. Otherwise 16 frames
    /// around the last one and around every prompt are kept.
    pub keep_all: bool,
}

impl VideoOptions {
    setters! {
        /// Sets [`num_frames`](Self::num_frames).
        with_num_frames(frames: usize) => num_frames = Some(frames);
        /// Sets [`non_overlap_masks`](Self::non_overlap_masks).
        with_non_overlap_masks(on: bool) => non_overlap_masks = on;
        /// Sets [`fill_hole_area`](Self::fill_hole_area).
        with_fill_hole_area(pixels: u64) => fill_hole_area = pixels;
        /// Sets [`add_all_frames_to_correct_as_cond`](Self::add_all_frames_to_correct_as_cond).
        with_all_corrections_as_cond(on: bool) => add_all_frames_to_correct_as_cond = on;
        /// Sets [`clear_non_cond_mem_around_input`](Self::clear_non_cond_mem_around_input).
        with_memory_cleared_around_input(on: bool) => clear_non_cond_mem_around_input = on;
        /// Sets [`keep_all`](Self::keep_all).
        with_all_kept(on: bool) => keep_all = on;
    }
}

impl Default for VideoOptions {
    fn default() -> Self {
        Self {
            num_frames: None,
            non_overlap_masks: false,
            fill_hole_area: 8,
            add_all_frames_to_correct_as_cond: true,
            clear_non_cond_mem_around_input: false,
            keep_all: false,
        }
    }
}

/// An object in a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectMask {
    /// Which object.
    pub object: ObjectId,
    /// Where it is, in original pixels; empty when it is not there.
    pub mask: Mask,
    /// The model's estimate of the mask's IoU; 1 for a mask that was a prompt.
    pub predicted_iou: PredictedIou,
    /// Logit of the object being in the frame: it is there if this is positive.
    pub object_score: f32,
    /// The logits from which the mask was made.
    pub low_res_logits: Logits,
}

impl ObjectMask {
    /// Whether the object is in the frame.
    pub fn is_present(&self) -> bool {
        self.object_score > 0.0
    }

    /// Probability that the object is hidden or out of the frame, from the object score.
    pub fn occlusion_probability(&self) -> f32 {
        1.0 / (1.0 + self.object_score.exp())
    }
}

/// All objects in a frame, by their ids.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameMasks {
    /// Number of the frame, from 0.
    pub index: usize,
    /// The objects.
    pub objects: Vec<ObjectMask>,
}

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
    segmenter: Segmenter,
    options: VideoOptions,
    /// Width and height of the frames, once one was seen.
    size: Option<(u32, u32)>,
    /// The frame that was tracked last.
    position: Option<Position>,
    objects: BTreeMap<ObjectId, MemoryBank>,
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
    /// There is no object yet, the frame is of another video, or the device failed.
    pub fn track(&mut self, frame: &VideoFrame, direction: Direction) -> Result<FrameMasks> {
        let threads = self.segmenter.threads().clone();
        threads.run(|| self.find(frame, direction))
    }

    fn find(&mut self, frame: &VideoFrame, direction: Direction) -> Result<FrameMasks> {
        let upsampler = self.enter(frame)?;
        if self.objects.is_empty() {
            return Err(VideoError::NoObject.into());
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

fn object_mask(object: ObjectId, mask: Mask, output: &Output) -> ObjectMask {
    let side = output.low_res.len().isqrt();
    ObjectMask {
        object,
        mask,
        predicted_iou: PredictedIou(output.iou),
        object_score: output.object_score,
        low_res_logits: Logits::from_decoder(side, output.low_res.clone()),
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
