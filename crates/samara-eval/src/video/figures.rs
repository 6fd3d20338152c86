//! Figures of tracking, and how they are shown.

use std::fmt::Write;

use samara_image::{Mask, contour_f_measure};
use serde::Serialize;

/// How the frames of an object become its figures, and which objects count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VideoProtocol {
    /// As the evaluation of DAVIS 2017 (`davis2017-evaluation`, semi-supervised): the objects of
    /// the first annotation, over all annotations but the first and the last one. Numbers that no
    /// pixel of the first annotation has are no objects here.
    Davis,
    /// As the evaluator of SA-V (`sav_dataset/sav_evaluator.py`), which is `vos-benchmark`: all
    /// objects, each over its annotations but the first and the last one, and of these from the
    /// one on in which annotation or prediction shows it. An object that none of these annotations
    /// shows does not count.
    Sav,
}

/// A measure over the frames of an object, or the mean of that over objects; 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Measure {
    /// Mean over frames.
    pub mean: f64,
    /// Share of frames with more than 0.5.
    pub recall: f64,
    /// Mean of the first quarter of the frames less that of the last one, −1 to 1; as DAVIS 2017
    /// defines it, quarters share the frames between them.
    pub decay: f64,
}

/// J and F of objects: J is [`Mask::iou`], F [`contour_f_measure`]; 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct VideoFigures {
    /// The mean of both.
    pub j_and_f: f64,
    /// Region similarity.
    pub j: Measure,
    /// Contour accuracy.
    pub f: Measure,
}

/// Whether it is known in which frames an object is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Presence {
    /// Annotated frames, without the first and the last one.
    pub frames: usize,
    /// Frames in which presence or absence was known.
    pub right: usize,
    /// Frames without the object.
    pub hidden: usize,
    /// Frames without the object in which that was known.
    pub hidden_found: usize,
}

/// An object.
#[derive(Debug, Clone, Serialize)]
pub struct ObjectFigures {
    /// Its number in palette images, or the name of its folder.
    pub name: String,
    /// The frame whose annotation was the prompt.
    pub prompt_frame: String,
    /// Frames that count.
    pub frames: usize,
    /// The figures.
    #[serde(flatten)]
    pub figures: VideoFigures,
    /// Presence, from the object score; of given predictions, from whether the mask is empty.
    pub presence: Presence,
    /// The first mask copied into all frames.
    pub copy: VideoFigures,
    /// Presence of the copy.
    pub copy_presence: Presence,
}

/// A sequence.
#[derive(Debug, Clone, Serialize)]
pub struct SequenceFigures {
    /// Its name.
    pub name: String,
    /// Means over its objects.
    #[serde(flatten)]
    pub figures: VideoFigures,
    /// The same of the first mask copied into all frames.
    pub copy: VideoFigures,
    /// Its objects.
    pub objects: Vec<ObjectFigures>,
}

/// What a data set gave.
#[derive(Debug, Clone, Serialize)]
pub struct VideoReport {
    /// Name of the data set.
    pub name: String,
    /// What counts.
    pub protocol: VideoProtocol,
    /// Objects of all sequences.
    pub objects: usize,
    /// Objects without a frame that counts.
    pub left_out: usize,
    /// Means over the objects of all sequences.
    pub figures: VideoFigures,
    /// Presence, of all objects together.
    pub presence: Presence,
    /// The same of the first mask copied into all frames: what tracking has to beat.
    pub copy: VideoFigures,
    /// Presence of the copy: the share of frames with the object.
    pub copy_presence: Presence,
    /// Frames that the model went through, and seconds for one of them with all its objects.
    pub tracked_frames: usize,
    /// See `tracked_frames`; `None` for given predictions.
    pub seconds_per_frame: Option<f64>,
    /// The sequences.
    pub sequences: Vec<SequenceFigures>,
    /// Sequences of which something could not be read, and what.
    pub failed: Vec<FailedSequence>,
}

/// A sequence that could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedSequence {
    /// Its name.
    pub name: String,
    /// Why, in one line that names the file.
    pub error: String,
}

/// Values of the frames of an object, as they come.
#[derive(Default)]
pub(super) struct Score {
    seen: bool,
    shown: bool,
    j: Vec<f64>,
    f: Vec<f64>,
    presence: Presence,
}

impl Score {
    pub(super) fn add(
        &mut self,
        protocol: VideoProtocol,
        prediction: &Mask,
        present: bool,
        truth: &Mask,
    ) {
        let there = !truth.is_empty();
        self.shown |= there;
        self.seen |= there || !prediction.is_empty();
        self.presence.frames += 1;
        self.presence.right += usize::from(there == present);
        self.presence.hidden += usize::from(!there);
        self.presence.hidden_found += usize::from(!there && !present);
        if self.seen || protocol == VideoProtocol::Davis {
            self.j.push(prediction.iou(truth));
            self.f.push(contour_f_measure(prediction, truth));
        }
    }

    /// The figures; `None` for an object that does not count.
    pub(super) fn figures(&self, protocol: VideoProtocol) -> Option<(VideoFigures, Presence)> {
        if self.j.is_empty() || (protocol == VideoProtocol::Sav && !self.shown) {
            return None;
        }
        let (j, f) = (Measure::of(&self.j), Measure::of(&self.f));
        Some((VideoFigures::of(j, f), self.presence))
    }

    pub(super) fn frames(&self) -> usize {
        self.j.len()
    }
}

impl Measure {
    fn of(values: &[f64]) -> Self {
        // Where quarters begin and end, of frames counted from 0, rounded as DAVIS does it.
        let bound =
            |i: usize| ((values.len() - 1) as f64 * i as f64 / 4.0 + 1e-10).round() as usize;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let above = values.iter().filter(|&&value| value > 0.5).count();
        Self {
            mean: mean(values),
            recall: above as f64 / values.len() as f64,
            decay: mean(&values[bound(0)..=bound(1)]) - mean(&values[bound(3)..=bound(4)]),
        }
    }
}

impl VideoFigures {
    fn of(j: Measure, f: Measure) -> Self {
        Self {
            j_and_f: f64::midpoint(j.mean, f.mean),
            j,
            f,
        }
    }

    /// The mean; zeros of nothing.
    pub(super) fn mean<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let all: Vec<&Self> = all.collect();
        let count = all.len().max(1) as f64;
        let mean = |of: fn(&Self) -> f64| all.iter().map(|v| of(v)).sum::<f64>() / count;
        let j = Measure {
            mean: mean(|v| v.j.mean),
            recall: mean(|v| v.j.recall),
            decay: mean(|v| v.j.decay),
        };
        let f = Measure {
            mean: mean(|v| v.f.mean),
            recall: mean(|v| v.f.recall),
            decay: mean(|v| v.f.decay),
        };
        Self::of(j, f)
    }
}

impl Presence {
    /// Share of the frames in which presence or absence was known, 0 to 1; 1 without frames.
    pub fn accuracy(&self) -> f64 {
        if self.frames == 0 {
            return 1.0;
        }
        self.right as f64 / self.frames as f64
    }

    pub(super) fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        all.fold(Self::default(), |sum, part| Self {
            frames: sum.frames + part.frames,
            right: sum.right + part.right,
            hidden: sum.hidden + part.hidden,
            hidden_found: sum.hidden_found + part.hidden_found,
        })
    }
}

impl VideoReport {
    /// The figures for people: a line for each sequence and some for all of them.
    pub fn to_text(&self) -> String {
        let percent = |share: f64| 100.0 * share;
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let mut text = format!(
            "{}: {}, {}",
            self.name,
            count(self.sequences.len(), "sequence"),
            count(self.objects, "object"),
        );
        if let Some(seconds) = self.seconds_per_frame {
            let frames = count(self.tracked_frames, "frame");
            let _ = write!(text, ", {frames}, {seconds:.2} s each");
        }
        let names = self.sequences.iter().map(|s| s.name.chars().count());
        let width = names.max().unwrap_or(0).max("sequence".len());
        let _ = writeln!(
            text,
            "\n  {:width$}  objects    J&F      J      F  copied J&F",
            "sequence"
        );
        let mut row = |name: &str, objects: usize, figures: &VideoFigures, copy: &VideoFigures| {
            let (j, f) = (percent(figures.j.mean), percent(figures.f.mean));
            let (both, copy) = (percent(figures.j_and_f), percent(copy.j_and_f));
            let line = format!("{objects:7}  {both:5.1}  {j:5.1}  {f:5.1}  {copy:10.1}");
            let _ = writeln!(text, "  {name:width$}  {line}");
        };
        for s in &self.sequences {
            row(&s.name, s.objects.len(), &s.figures, &s.copy);
        }
        row("all", self.objects, &self.figures, &self.copy);
        for (name, of) in [("J", self.figures.j), ("F", self.figures.f)] {
            let (mean, recall, decay) = (percent(of.mean), percent(of.recall), percent(of.decay));
            let line = format!("mean {mean:.1} %, recall {recall:.1} %, decay {decay:.1} %");
            let _ = writeln!(text, "  {name}: {line}");
        }
        let Presence {
            frames,
            hidden,
            hidden_found,
            ..
        } = self.presence;
        let _ = writeln!(
            text,
            "  in the frame or not: right in {:.1} % of {frames} annotations (always in it: {:.1} %); \
             {hidden_found} of {hidden} absences found",
            percent(self.presence.accuracy()),
            percent(self.copy_presence.accuracy()),
        );
        if self.left_out > 0 {
            let objects = count(self.left_out, "object");
            let _ = writeln!(
                text,
                "  skipped: {objects} without an annotation that counts"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_recall_and_decay_are_those_of_davis() {
        // numpy: linspace(1, 6, 5) rounds to 1, 2, 4, 5, 6: the quarters are 0..=1 and 4..=5.
        let measure = Measure::of(&[1.0, 0.8, 0.5, 0.4, 0.6, 0.2]);
        assert!((measure.mean - 3.5 / 6.0).abs() < 1e-12);
        assert!((measure.recall - 0.5).abs() < 1e-12);
        assert!((measure.decay - 0.5).abs() < 1e-12);
        let one = Measure::of(&[0.7]);
        assert_eq!((one.mean, one.recall, one.decay), (0.7, 1.0, 0.0));
    }

    #[test]
    fn sav_counts_from_where_the_object_is_seen() {
        let (disc, empty) = (Mask::from_fn(9, 9, |x, y| x > 2 && y > 3), Mask::new(9, 9));
        let score = |protocol, truths: &[&Mask]| {
            let mut score = Score::default();
            for truth in truths {
                score.add(protocol, &empty, false, truth);
            }
            let figures = score.figures(protocol).map(|(figures, _)| figures.j.mean);
            (score.frames(), figures)
        };
        let truths = [&empty, &disc, &empty];
        assert_eq!(score(VideoProtocol::Sav, &truths), (2, Some(0.5)));
        assert_eq!(score(VideoProtocol::Davis, &truths), (3, Some(2.0 / 3.0)));
        assert_eq!(score(VideoProtocol::Sav, &[&empty]), (0, None));
    }
}
