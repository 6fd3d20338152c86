//! Tracking against annotated videos: objects are followed from their first annotation.

mod data;
mod figures;

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use samara::{
    Direction, FrameMasks, ImageLimits, ObjectId, Prompt, Segmenter, VideoOptions, VideoSession,
};
use samara_image::{FrameSource, Mask, Rle, open_video};

use super::error::EvalError;
use super::evaluate::spread;
use data::{Annotations, Track, fault, image, mask_of, read_map, union};
use figures::Score;

pub use data::{VideoDataSet, VideoSequence};
pub use figures::{
    FailedSequence, Measure, ObjectFigures, Presence, SequenceFigures, VideoFigures, VideoProtocol,
    VideoReport,
};

/// What is evaluated.
#[derive(Debug, Clone, Copy)]
pub enum VideoSubject<'a> {
    /// A model: the annotation of an object's first frame is the prompt, and the object is followed
    /// forward from there. The objects of palette images do not overlap, as in the official
    /// inference.
    Model(&'a Segmenter),
    /// Masks that are there already, in this folder: `SEQ/*.png` as object maps with the numbers of
    /// the annotations, or `SEQ/OBJ/*.png` where the annotations are so. Every annotation that
    /// counts has its file; what else is in the folder does not matter.
    Predictions(&'a Path),
}

/// Options of [`evaluate_video`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VideoEvalOptions {
    /// What counts; without it, that of SA-V where objects have images of their own, otherwise
    /// that of DAVIS.
    pub protocol: Option<VideoProtocol>,
    /// At most so many sequences, evenly spread.
    pub limit: Option<usize>,
}

/// The mask of an object in a frame, and whether the object counts as present.
struct Found {
    mask: Rle,
    present: bool,
}

/// The masks of an object by the names of their frames; it is not in frames that are missing.
type Prediction = HashMap<String, Found>;

/// Told of the frames that are done; can stop the evaluation.
type Tick<'a> = &'a mut dyn FnMut(usize) -> ControlFlow<()>;

/// Evaluates tracking by J, F and presence, beside the first mask copied into all frames.
///
/// The figures of given predictions equal those of the official evaluators; [`VideoProtocol`] says
/// which. `progress` hears of frames (done, all; of sequences for given predictions) and can stop
/// the evaluation.
///
/// A sequence with an annotation, frame or prediction that is missing, damaged or of another size, or with
/// an empty first annotation, is left out and named in [`VideoReport::failed`].
///
/// # Errors
/// Nothing is left to evaluate, which is what is wrong with the first sequence if all failed; the device
/// failed, or `progress` said so.
pub fn evaluate_video(
    subject: VideoSubject<'_>,
    data: &VideoDataSet,
    options: &VideoEvalOptions,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<VideoReport, EvalError> {
    let sequences = spread(data.sequences.iter().collect(), options.limit);
    // What cannot be counted is told when it is read.
    let steps = |sequence: &&VideoSequence| match subject {
        VideoSubject::Model(_) => sequence.count().unwrap_or(1),
        VideoSubject::Predictions(_) => 1,
    };
    let steps: Vec<usize> = sequences.iter().map(steps).collect();
    let all = steps.iter().sum();
    let mut run = Run {
        subject,
        options,
        limits: ImageLimits::default(),
        seconds: 0.0,
        frames: 0,
        left_out: 0,
        protocol: None,
    };
    let mut done = 0;
    let (mut figures, mut failed) = (Vec::new(), Vec::new());
    for (sequence, steps) in sequences.iter().zip(steps) {
        let mut tick = |frames: usize| progress(done + frames.min(steps), all);
        match run.sequence(sequence, &mut tick) {
            Ok(found) => figures.extend(found),
            Err(error) if error.is_of_data() => failed.push((sequence, error)),
            Err(error) => return Err(error),
        }
        done += steps;
    }
    let _ = progress(all, all);
    if failed.len() == sequences.len() && !failed.is_empty() {
        return Err(failed.swap_remove(0).1);
    }
    let failed = failed.into_iter().map(|(sequence, error)| FailedSequence {
        name: sequence.name.clone(),
        error: error.to_string(),
    });
    run.report(data, figures, failed.collect())
}

/// An evaluation while it goes on.
struct Run<'a> {
    subject: VideoSubject<'a>,
    options: &'a VideoEvalOptions,
    limits: ImageLimits,
    seconds: f64,
    frames: usize,
    left_out: usize,
    protocol: Option<VideoProtocol>,
}

impl Run<'_> {
    /// The figures of a sequence, if anything in it counts.
    fn sequence(
        &mut self,
        sequence: &VideoSequence,
        tick: Tick<'_>,
    ) -> Result<Option<SequenceFigures>, EvalError> {
        if tick(0).is_break() {
            return Err(EvalError::Cancelled);
        }
        let mut annotations = sequence.load(&self.limits)?;
        let protocol = *self.protocol.get_or_insert(match self.options.protocol {
            Some(protocol) => protocol,
            None if annotations.per_object => VideoProtocol::Sav,
            None => VideoProtocol::Davis,
        });
        if protocol == VideoProtocol::Davis && !annotations.per_object {
            annotations.tracks.retain(|track| track.prompt == 0);
        }
        let predictions = match self.subject {
            VideoSubject::Model(segmenter) => {
                let tracked = follow(segmenter, sequence, &annotations, &self.limits, tick)?;
                self.seconds += tracked.time.as_secs_f64();
                self.frames += tracked.frames;
                tracked.predictions
            }
            VideoSubject::Predictions(folder) => {
                read(&folder.join(&sequence.name), &annotations, &self.limits)?
            }
        };
        let tracks = annotations.tracks.par_iter().zip(&predictions);
        let objects = tracks.map(|(track, found)| score(track, found, annotations.size, protocol));
        let objects: Vec<Option<ObjectFigures>> = objects.collect::<Result<_, _>>()?;
        self.left_out += objects.iter().filter(|object| object.is_none()).count();
        let objects: Vec<ObjectFigures> = objects.into_iter().flatten().collect();
        Ok((!objects.is_empty()).then(|| SequenceFigures {
            name: sequence.name.clone(),
            figures: VideoFigures::mean(objects.iter().map(|o| &o.figures)),
            copy: VideoFigures::mean(objects.iter().map(|o| &o.copy)),
            objects,
        }))
    }

    fn report(
        self,
        data: &VideoDataSet,
        sequences: Vec<SequenceFigures>,
        failed: Vec<FailedSequence>,
    ) -> Result<VideoReport, EvalError> {
        let objects = || sequences.iter().flat_map(|sequence| &sequence.objects);
        let (Some(protocol), Some(_)) = (self.protocol, objects().next()) else {
            return Err(EvalError::Empty {
                name: data.name.clone(),
                reason: "no object has an annotation between its first and its last one".into(),
            });
        };
        let seconds = (self.frames > 0).then(|| self.seconds / self.frames as f64);
        Ok(VideoReport {
            name: data.name.clone(),
            protocol,
            objects: objects().count(),
            left_out: self.left_out,
            figures: VideoFigures::mean(objects().map(|o| &o.figures)),
            presence: Presence::sum(objects().map(|o| &o.presence)),
            copy: VideoFigures::mean(objects().map(|o| &o.copy)),
            copy_presence: Presence::sum(objects().map(|o| &o.copy_presence)),
            tracked_frames: self.frames,
            seconds_per_frame: seconds,
            sequences,
            failed,
        })
    }
}

/// Compares what was found of an object, and its first mask, with its annotations.
fn score(
    track: &Track,
    found: &Prediction,
    size: (u32, u32),
    protocol: VideoProtocol,
) -> Result<Option<ObjectFigures>, EvalError> {
    let (prompt_frame, first) = track.prompt(size)?;
    let nothing = Mask::new(size.0, size.1);
    let (mut scored, mut copied) = (Score::default(), Score::default());
    for (at, (name, truth)) in track.scored().iter().enumerate() {
        let truth = mask_of(truth.as_ref(), size)?;
        let found = found.get(name);
        let mask = mask_of(found.map(|found| &found.mask), size)?;
        scored.add(protocol, &mask, found.is_some_and(|f| f.present), &truth);
        // The first annotation does not count: these begin with the second one.
        let begun = at + 1 >= track.prompt;
        let copy = if begun { &first } else { &nothing };
        copied.add(protocol, copy, begun, &truth);
    }
    let figures = scored.figures(protocol).zip(copied.figures(protocol));
    let object = |((figures, presence), (copy, copy_presence))| ObjectFigures {
        name: track.name.clone(),
        prompt_frame: prompt_frame.to_owned(),
        frames: scored.frames(),
        figures,
        presence,
        copy,
        copy_presence,
    };
    Ok(figures.map(object))
}

/// Reads the masks of a sequence that count.
fn read(
    folder: &Path,
    annotations: &Annotations,
    limits: &ImageLimits,
) -> Result<Vec<Prediction>, EvalError> {
    let mut maps: HashMap<&str, BTreeMap<u32, Rle>> = HashMap::new();
    let mut predictions = Vec::new();
    for track in &annotations.tracks {
        let own = folder.join(&track.name);
        let own = (annotations.per_object && own.is_dir()).then_some(own);
        let mut prediction = Prediction::new();
        for (name, _) in track.scored() {
            let size = &mut Some(annotations.size);
            let mask = if let Some(own) = &own {
                union(read_map(&own.join(format!("{name}.png")), limits, size)?)?
            } else {
                if !maps.contains_key(&name[..]) {
                    let map = read_map(&folder.join(format!("{name}.png")), limits, size)?;
                    maps.insert(name, map);
                }
                let label = track.name.parse::<u32>().ok().filter(|&label| label > 0);
                let Some(label) = label else {
                    let what = format!(
                        "an object map cannot show the object '{0}': a folder {0} is needed",
                        track.name
                    );
                    return Err(fault(folder, what));
                };
                maps[&name[..]].get(&label).cloned()
            };
            if let Some(mask) = mask {
                let present = true;
                prediction.insert(name.clone(), Found { mask, present });
            }
        }
        predictions.push(prediction);
    }
    Ok(predictions)
}

/// What a model found in a sequence.
struct Tracked {
    predictions: Vec<Prediction>,
    frames: usize,
    time: Duration,
}

/// Follows the objects of a sequence, each from its first annotation on.
fn follow(
    segmenter: &Segmenter,
    sequence: &VideoSequence,
    annotations: &Annotations,
    limits: &ImageLimits,
    tick: Tick<'_>,
) -> Result<Tracked, EvalError> {
    let mut source = open_video(&sequence.frames, limits).map_err(image)?;
    let plan = Plan::new(sequence, annotations, &*source)?;
    let mut options = VideoOptions::default();
    options.num_frames = source.len_hint();
    options.non_overlap_masks = !annotations.per_object;
    let mut session = VideoSession::new(segmenter, options);
    let mut predictions: Vec<Prediction> = Vec::new();
    predictions.resize_with(annotations.tracks.len(), Prediction::new);
    let (mut frames, mut stopped) = (0, false);
    let start = Instant::now();
    let ends = plan.starts.keys().skip(1).map(|next| next - 1);
    let ends = ends.chain([plan.last]);
    for ((&first, tracks), last) in plan.starts.iter().zip(ends) {
        let image = source.read(first).map_err(image)?;
        let image = image.ok_or_else(|| fault(&sequence.frames, "a frame is gone"))?;
        let frame = session.embed(first, &image)?;
        for &track in tracks {
            let (_, mask) = annotations.tracks[track].prompt(annotations.size)?;
            session.prompt(&frame, id(track), &Prompt::mask(mask))?;
        }
        let note = |_: &VideoSession, masks: FrameMasks| {
            frames += 1;
            if let Some(name) = plan.annotated.get(&masks.index) {
                for object in masks.objects {
                    let found = Found {
                        present: object.is_present(),
                        mask: object.mask.to_rle(),
                    };
                    predictions[object.object as usize - 1].insert(name.clone(), found);
                }
            }
            stopped = tick(masks.index + 1).is_break();
            if stopped {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        session.propagate(&mut *source, first..=last, Direction::Forward, note)?;
        if stopped {
            return Err(EvalError::Cancelled);
        }
    }
    Ok(Tracked {
        predictions,
        frames,
        time: start.elapsed(),
    })
}

/// The number of an object in a session.
fn id(track: usize) -> ObjectId {
    track as ObjectId + 1
}

/// Numbers of frames in which something is to be done.
struct Plan {
    /// Objects by the frame that shows them first.
    starts: BTreeMap<usize, Vec<usize>>,
    /// Names of annotations by frame.
    annotated: HashMap<usize, String>,
    /// The last annotated frame.
    last: usize,
}

impl Plan {
    fn new(
        sequence: &VideoSequence,
        annotations: &Annotations,
        source: &dyn FrameSource,
    ) -> Result<Self, EvalError> {
        let (width, height) = source.size();
        if annotations.size != (width, height) {
            let what = format!(
                "{}×{} pixels, the frames have {width}×{height}",
                annotations.size.0, annotations.size.1
            );
            return Err(fault(&sequence.annotations, what));
        }
        let names = (0..source.len_hint().unwrap_or(0)).map(|i| (source.frame_name(i), i));
        let names: HashMap<String, usize> = names.collect();
        let index = |track: &Track, name: &str| {
            let file = if annotations.per_object {
                sequence.annotations.join(&track.name)
            } else {
                sequence.annotations.clone()
            };
            let file = file.join(format!("{name}.png"));
            let found = names.get(name).copied();
            found.ok_or_else(|| fault(&file, "the sequence has no frame of this name"))
        };
        let mut plan = Self {
            starts: BTreeMap::new(),
            annotated: HashMap::new(),
            last: 0,
        };
        for (number, track) in annotations.tracks.iter().enumerate() {
            for (at, (name, _)) in track.frames.iter().enumerate() {
                let frame = index(track, name)?;
                if at == track.prompt {
                    plan.starts.entry(frame).or_default().push(number);
                }
                plan.last = plan.last.max(frame);
                plan.annotated.insert(frame, name.clone());
            }
        }
        Ok(plan)
    }
}
