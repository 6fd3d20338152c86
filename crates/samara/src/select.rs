//! Which of the candidates to use.

use std::fmt;
use std::str::FromStr;

use samara_image::{Mask, OriginalBox};

use crate::candidates::{Candidate, Candidates};
use crate::error::{ParseError, SelectError};
use crate::expected_iou::supported;
use crate::granularity::Granularity;
use crate::logits::Logits;
use crate::score::{MatchProbability, PredictedIou};
use crate::{Error, Result};

/// A strategy that turns candidates into one mask.
///
/// As text, which [`FromStr`] reads and [`Display`](fmt::Display) writes: `best`, `learned`, `score`, `largest`,
/// `smallest`, `area=R`, `box=X0,Y0,X1,Y1`, `whole`, `part`, `subpart`, `union`, `intersection`, `weighted`,
/// `vote`. An [`Oracle`](Self::Oracle) is written as `oracle` and not read, as its mask is no text.
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Select {
    /// [`Learned`](Self::Learned) where the model has match probabilities, else [`Score`](Self::Score).
    #[default]
    Best,
    /// Highest expected IoU, by match probability and predicted IoU
    /// ([`Candidates::expected_ious`](crate::Candidates::expected_ious)).
    Learned,
    /// Highest score of the model's own decoder: the choice of the official code.
    Score,
    /// Largest area.
    Largest,
    /// Smallest area that is not empty.
    Smallest,
    /// Area closest to this share of the image, in (0, 1].
    AreaRatio(f64),
    /// Bounding box that overlaps this box most (by IoU), such as that of a detector.
    ForBox(OriginalBox),
    /// This level among the candidates; the nearest one if there is none of this level.
    Granularity(Granularity),
    /// Every pixel of any candidate.
    Union,
    /// The pixels that all candidates share.
    Intersection,
    /// Pixels whose weighted vote exceeds a half, weights being the softmax of the scores.
    Weighted,
    /// Pixels of at least two candidates.
    Vote,
    /// Highest IoU with a known truth: for analysis, not for use.
    Oracle(Mask),
}

/// The outcome of a [`Select`]. [`Prompt::refine`](crate::Prompt::refine) corrects it.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Selection {
    /// The mask in original pixels.
    pub mask: Mask,
    /// The candidate that was chosen; `None` when the mask is made of several.
    pub index: Option<usize>,
    /// The predicted IoU of that candidate.
    pub predicted_iou: Option<PredictedIou>,
    /// The probability that it is what the prompt means.
    pub match_probability: Option<MatchProbability>,
    /// Its logits.
    pub low_res_logits: Option<Logits>,
    /// Why, in one line.
    pub reason: String,
}

impl Select {
    /// Applies the strategy.
    ///
    /// # Errors
    /// There is no candidate, the ratio is not in (0, 1], or the truth has another size.
    pub fn apply(&self, candidates: &[Candidate]) -> Result<Selection> {
        let Some(first) = candidates.first() else {
            return Err(SelectError::NoCandidate.into());
        };
        match self {
            Self::Best => Ok(if let Some(expected) = expected_ious(candidates) {
                learned(candidates, &expected)
            } else {
                let chosen = best(candidates.iter()).unwrap_or(first);
                let reason = format!("highest predicted IoU: {}", scores(candidates));
                one(chosen, &reason)
            }),
            // The only mask is all that can be meant.
            Self::Learned if candidates.len() == 1 => Self::Best.apply(candidates),
            Self::Learned => {
                let expected = expected_ious(candidates).ok_or(SelectError::NoHead)?;
                Ok(learned(candidates, &expected))
            }
            Self::Score => {
                let (chosen, _) = max_by(candidates, |c| f64::from(raw(c)));
                let scores = shown(candidates, |c| format!("{:.3}", c.raw_predicted_iou.0));
                Ok(one(
                    chosen,
                    &format!("highest score of the decoder: {scores}"),
                ))
            }
            Self::Largest => {
                let chosen = candidates.iter().rev().max_by_key(|c| c.mask.area());
                Ok(one(
                    chosen.unwrap_or(first),
                    &format!("largest area: {}", areas(candidates)),
                ))
            }
            Self::Smallest => {
                let filled = candidates.iter().filter(|c| !c.mask.is_empty());
                let chosen = filled.min_by_key(|c| c.mask.area());
                Ok(one(
                    chosen.unwrap_or(first),
                    &format!("smallest area: {}", areas(candidates)),
                ))
            }
            Self::AreaRatio(target) => area_ratio(*target, candidates),
            Self::ForBox(b) => {
                let overlap = |c: &Candidate| box_iou(&c.mask, b);
                let (chosen, iou) = max_by(candidates, overlap);
                let reason = if iou > 0.0 {
                    format!("its box overlaps the given one best (IoU {iou:.2})")
                } else {
                    "no candidate's box overlaps the given one, this is the first".into()
                };
                Ok(one(chosen, &reason))
            }
            Self::Granularity(level) => Ok(granularity(*level, candidates, first)),
            Self::Oracle(truth) => {
                if (truth.width(), truth.height()) != (first.mask.width(), first.mask.height()) {
                    return Err(SelectError::TruthSize {
                        truth: (truth.width(), truth.height()),
                        image: (first.mask.width(), first.mask.height()),
                    }
                    .into());
                }
                let (chosen, iou) = max_by(candidates, |c| c.mask.iou(truth));
                Ok(one(chosen, &format!("closest to the truth (IoU {iou:.3})")))
            }
            Self::Union => Ok(combined(candidates, "union", fold(candidates, Mask::or)?)),
            Self::Intersection => Ok(combined(
                candidates,
                "intersection",
                fold(candidates, Mask::and)?,
            )),
            Self::Vote => Ok(combined(candidates, "at least two", vote(candidates)?)),
            Self::Weighted => weighted(candidates),
        }
    }
}

impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Best => f.pad("best"),
            Self::Learned => f.pad("learned"),
            Self::Score => f.pad("score"),
            Self::Largest => f.pad("largest"),
            Self::Smallest => f.pad("smallest"),
            Self::AreaRatio(ratio) => write!(f, "area={ratio}"),
            Self::ForBox(OriginalBox { min, max }) => {
                write!(f, "box={},{},{},{}", min.x, min.y, max.x, max.y)
            }
            Self::Granularity(level) => level.fmt(f),
            Self::Union => f.pad("union"),
            Self::Intersection => f.pad("intersection"),
            Self::Weighted => f.pad("weighted"),
            Self::Vote => f.pad("vote"),
            Self::Oracle(_) => f.pad("oracle"),
        }
    }
}

impl FromStr for Select {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const NAMES: &str = "one of best, learned, score, whole, part, subpart, largest, smallest, area=R, \
            box=X0,Y0,X1,Y1, union, intersection, weighted, vote";
        if let Ok(level) = text.parse() {
            return Ok(Self::Granularity(level));
        }
        let unknown = |expected: &str| Error::from(ParseError::new("selection", text, expected));
        match text.split_once('=') {
            Some(("area", ratio)) => {
                let share = ratio.trim().parse().ok().filter(|r| *r > 0.0 && *r <= 1.0);
                return share.map(Self::AreaRatio).ok_or_else(|| {
                    unknown("area=R, a share of the image, more than 0 and at most 1")
                });
            }
            Some(("box", corners)) => {
                let corners: Result<Vec<f64>, _> =
                    corners.split(',').map(|v| v.trim().parse()).collect();
                let [x0, y0, x1, y1] = corners.as_deref().unwrap_or_default() else {
                    return Err(unknown("box=X0,Y0,X1,Y1, in original pixels"));
                };
                let bbox = OriginalBox::new(*x0, *y0, *x1, *y1);
                let bbox =
                    bbox.map_err(|error| unknown(&format!("a box with an area; {error}")))?;
                return Ok(Self::ForBox(bbox));
            }
            _ => (),
        }
        Ok(match text {
            "best" => Self::Best,
            "learned" => Self::Learned,
            "score" => Self::Score,
            "largest" => Self::Largest,
            "smallest" => Self::Smallest,
            "union" => Self::Union,
            "intersection" => Self::Intersection,
            "weighted" => Self::Weighted,
            "vote" => Self::Vote,
            _ => return Err(unknown(NAMES)),
        })
    }
}

impl Candidates {
    /// The IoU to expect of every candidate with what was meant, whichever candidate that is; `None` for a
    /// model without match probabilities. Candidate `i` has `Σⱼ pⱼ · qⱼ · IoU(i, j)`, where `p` is the match
    /// probability and `q` the predicted IoU: alike candidates support each other.
    pub fn expected_ious(&self) -> Option<Vec<f32>> {
        expected_ious(self.as_slice())
    }

    /// The candidate that [`Select::Best`] chooses.
    pub fn best(&self) -> &Candidate {
        &self[best_index(self.as_slice())]
    }

    /// That candidate, without the others.
    pub fn into_best(self) -> Candidate {
        let best = best_index(self.as_slice());
        self.into_one(best)
    }

    /// Picks a mask; see [`Select`].
    ///
    /// # Errors
    /// The strategy's parameter makes no sense for this image.
    pub fn select(&self, select: &Select) -> Result<Selection> {
        select.apply(self.as_slice())
    }
}

/// Chooses one candidate.
fn one(candidate: &Candidate, reason: &str) -> Selection {
    Selection {
        mask: candidate.mask.clone(),
        index: Some(candidate.index),
        predicted_iou: Some(candidate.predicted_iou),
        match_probability: candidate.match_probability,
        low_res_logits: Some(candidate.low_res_logits.clone()),
        reason: format!("candidate {}: {reason}", candidate.index),
    }
}

/// The highest predicted IoU, the first of equals. A score that is not a number never wins.
fn best<'a>(candidates: impl DoubleEndedIterator<Item = &'a Candidate>) -> Option<&'a Candidate> {
    candidates.rev().max_by(|a, b| {
        score(a)
            .total_cmp(&score(b))
            .then(raw(a).total_cmp(&raw(b)))
    })
}

/// The predicted IoU; the lowest of all if it is not a number.
fn score(candidate: &Candidate) -> f32 {
    lowest_if_nan(candidate.predicted_iou)
}

/// The raw score, which tells candidates apart where a calibration is flat.
fn raw(candidate: &Candidate) -> f32 {
    lowest_if_nan(candidate.raw_predicted_iou)
}

fn lowest_if_nan(PredictedIou(iou): PredictedIou) -> f32 {
    if iou.is_nan() { f32::NEG_INFINITY } else { iou }
}

/// The first candidate with the highest value, and the value. NaN is lower than all others.
fn max_by(candidates: &[Candidate], value: impl Fn(&Candidate) -> f64) -> (&Candidate, f64) {
    let mut found = (&candidates[0], value(&candidates[0]));
    for candidate in &candidates[1..] {
        let value = value(candidate);
        if value > found.1 || found.1.is_nan() {
            found = (candidate, value);
        }
    }
    found
}

fn area_ratio(target: f64, candidates: &[Candidate]) -> Result<Selection> {
    if !(target > 0.0 && target <= 1.0) {
        return Err(SelectError::AreaRatio(target).into());
    }
    let ratio = |c: &Candidate| {
        c.mask.area() as f64 / (f64::from(c.mask.width()) * f64::from(c.mask.height()))
    };
    let (chosen, _) = max_by(candidates, |c| -(ratio(c) - target).abs());
    let share = ratio(chosen) * 100.0;
    let reason = format!(
        "{share:.1} % of the image, nearest to {:.1} %",
        target * 100.0
    );
    Ok(one(chosen, &reason))
}

fn granularity(level: Granularity, candidates: &[Candidate], first: &Candidate) -> Selection {
    let distance = |c: &&Candidate| (c.granularity as i32 - level as i32).abs();
    // An empty mask is no answer while there is another.
    let filled: Vec<&Candidate> = candidates.iter().filter(|c| !c.mask.is_empty()).collect();
    let nearest = filled.iter().map(distance).min();
    let near = filled
        .iter()
        .copied()
        .filter(|c| Some(distance(c)) == nearest);
    let chosen = best(near.collect::<Vec<_>>().into_iter()).unwrap_or(first);
    let reason = if chosen.granularity == level {
        format!("the {level} with the highest predicted IoU")
    } else {
        format!(
            "no candidate is a {level}, this {} comes nearest",
            chosen.granularity
        )
    };
    one(chosen, &reason)
}

/// A mask that is made of all candidates.
fn combined(candidates: &[Candidate], name: &str, mask: Mask) -> Selection {
    of_several(mask, format!("{name} of {} candidates", candidates.len()))
}

fn of_several(mask: Mask, reason: String) -> Selection {
    Selection {
        mask,
        index: None,
        predicted_iou: None,
        match_probability: None,
        low_res_logits: None,
        reason,
    }
}

/// All masks joined by `op`.
fn fold(
    candidates: &[Candidate],
    op: impl Fn(&Mask, &Mask) -> Result<Mask, samara_image::Error>,
) -> Result<Mask> {
    let first = candidates[0].mask.clone();
    Ok(candidates[1..]
        .iter()
        .try_fold(first, |mask, c| op(&mask, &c.mask))?)
}

/// The pixels of at least two candidates, or those of the only one.
fn vote(candidates: &[Candidate]) -> Result<Mask> {
    let mut once = candidates[0].mask.clone();
    if candidates.len() == 1 {
        return Ok(once);
    }
    let mut twice = Mask::new(once.width(), once.height());
    for candidate in &candidates[1..] {
        twice = twice.or(&once.and(&candidate.mask)?)?;
        once = once.or(&candidate.mask)?;
    }
    Ok(twice)
}

fn weighted(candidates: &[Candidate]) -> Result<Selection> {
    let weights = softmax(candidates);
    let share = |x, y| {
        let members = candidates
            .iter()
            .zip(&weights)
            .filter(|(c, _)| c.mask.get(x, y));
        members.map(|(_, weight)| weight).sum::<f64>()
    };
    let union = fold(candidates, Mask::or)?;
    let mut mask = Mask::new(union.width(), union.height());
    for (x, y) in union.iter_set() {
        mask.set(x, y, share(x, y) > 0.5);
    }
    let shown: Vec<String> = weights.iter().map(|w| format!("{w:.2}")).collect();
    let reason = format!(
        "weighted vote of the candidates with weights {}",
        shown.join(", ")
    );
    Ok(of_several(mask, reason))
}

/// Softmax of the scores. A score that is not a number has no weight, unless all are.
fn softmax(candidates: &[Candidate]) -> Vec<f64> {
    let scores: Vec<f64> = candidates.iter().map(|c| f64::from(score(c))).collect();
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // The difference of two infinities is not a number.
    let exp = |score: &f64| {
        if *score == top {
            1.0
        } else {
            (score - top).exp()
        }
    };
    let total: f64 = scores.iter().map(exp).sum();
    scores.iter().map(|score| exp(score) / total).collect()
}

/// IoU of the mask's tight box with `b`; 0 for an empty mask.
fn box_iou(mask: &Mask, b: &OriginalBox) -> f64 {
    let tight = mask.bbox().map(OriginalBox::from);
    tight.map_or(0.0, |tight| tight.iou(b))
}

/// See [`Candidates::expected_ious`](crate::Candidates::expected_ious).
fn expected_ious(candidates: &[Candidate]) -> Option<Vec<f32>> {
    let weight = |c: &Candidate| Some(c.match_probability?.0 * c.predicted_iou.0);
    let weights: Option<Vec<f32>> = candidates.iter().map(weight).collect();
    let iou = |i: usize, j: usize| candidates[i].mask.iou(&candidates[j].mask) as f32;
    Some(supported(&weights?, iou))
}

/// The position of the candidate that [`Select::Best`] chooses; 0 without any.
fn best_index(candidates: &[Candidate]) -> usize {
    if let Some(expected) = expected_ious(candidates) {
        return first_highest(&expected);
    }
    let chosen = best(candidates.iter());
    chosen.map_or(0, |chosen| {
        let is_it = |c: &Candidate| std::ptr::eq(c, chosen);
        candidates.iter().position(is_it).unwrap_or(0)
    })
}

/// The position of the highest value, the first of equals; NaN is lower than all others.
fn first_highest(values: &[f32]) -> usize {
    let comparable = values.iter().map(|v| lowest_if_nan(PredictedIou(*v)));
    let ordered = comparable.enumerate().rev();
    ordered
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map_or(0, |(position, _)| position)
}

/// The highest expected IoU, the first of equals.
fn learned(candidates: &[Candidate], expected: &[f32]) -> Selection {
    let position = first_highest(expected);
    let (chosen, iou) = (&candidates[position], f64::from(expected[position]));
    let (p, q) = (
        chosen.match_probability.map_or(0.0, |p| p.0),
        chosen.predicted_iou.0,
    );
    let others = iou - f64::from(p * q);
    let reason = format!(
        "highest expected IoU, {iou:.2}: match probability {p:.2} × predicted IoU {q:.2}, and {others:.2} by \
         what it shares with the others",
    );
    one(chosen, &reason)
}

fn scores(candidates: &[Candidate]) -> String {
    shown(candidates, |c| format!("{:.3}", c.predicted_iou.0))
}

fn shown(candidates: &[Candidate], show: impl Fn(&Candidate) -> String) -> String {
    candidates.iter().map(show).collect::<Vec<_>>().join(", ")
}

fn areas(candidates: &[Candidate]) -> String {
    format!(
        "{} pixels",
        shown(candidates, |c| c.mask.area().to_string())
    )
}
