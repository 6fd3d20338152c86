//! The evaluation of one image: SAM's protocol of clicks, all objects of a step decoded together.

use std::time::Instant;

use rayon::prelude::*;
use samara::image::{BOUNDARY_RATIO, OriginalPx, boundary_iou};
use samara::{Candidates, Click, Embedding, Logits, Mask, Prompt, Select};

use super::error::EvalError;
use super::gallery::{Gallery, picture};
use super::metrics::MAX_CLICKS;
use super::outcome::{BestAnnotator, Case, ObjectOutcome, Scored};
use super::{EvalOptions, Timing};
use crate::data::{Sample, SampleObject};
use crate::prompts::eval_click;

/// Objects that are taken through all clicks together: bounds the logits that are kept, a quarter
/// of a megabyte an object and mask token.
const OBJECTS_AT_ONCE: usize = 64;
/// The highest quality of `NoC`; further clicks are spared once it is reached.
const HIGHEST_NOC: f64 = 0.9;
/// After as many clicks the boundary is measured again.
const BOUNDARY_CLICK: usize = 5;

/// One image with its embedding.
pub(super) struct ImageProtocol<'a> {
    pub(super) embedding: &'a Embedding,
    pub(super) sample: &'a Sample,
    pub(super) options: &'a EvalOptions,
    /// Position of the image among the evaluated ones.
    pub(super) image: usize,
}

/// An object on its way through the clicks.
struct Target<'a> {
    object: &'a SampleObject,
    clicks: Vec<Click>,
    /// The current mask, and its logits, which are fed back.
    mask: Mask,
    logits: Logits,
    /// The mask of the first click.
    first_mask: Mask,
    outcome: ObjectOutcome,
}

impl ImageProtocol<'_> {
    /// Takes `objects` through all prompts. Best and worst answers are offered to `gallery` under
    /// the name `path`.
    pub(super) fn run(
        &self,
        objects: &[&SampleObject],
        path: &str,
        gallery: &mut Gallery,
        timing: &mut Timing,
    ) -> Result<Vec<ObjectOutcome>, EvalError> {
        let mut outcomes = Vec::with_capacity(objects.len());
        let mut shown = Vec::new();
        for chunk in objects.chunks(OBJECTS_AT_ONCE) {
            let mut targets = self.first_click(chunk, timing)?;
            let most = if self.options.noc {
                MAX_CLICKS
            } else {
                self.options.clicks
            };
            for click in 2..=most {
                self.next_click(click, &mut targets, timing)?;
            }
            self.boxes(&mut targets, timing)?;
            let by_iou = |a: &&Target<'_>, b: &&Target<'_>| {
                let iou = |t: &Target<'_>| t.outcome.automatic_iou();
                iou(a).total_cmp(&iou(b))
            };
            let extremes = [
                targets.iter().min_by(by_iou),
                targets.iter().rev().max_by(by_iou),
            ];
            shown.extend(extremes.into_iter().flatten().map(Shown::new));
            outcomes.extend(targets.into_iter().map(|target| target.outcome));
        }
        self.show(&shown, path, gallery)?;
        Ok(outcomes)
    }

    /// The first click: three candidates, of which the one with the highest predicted IoU goes on.
    fn first_click<'o>(
        &self,
        objects: &[&'o SampleObject],
        timing: &mut Timing,
    ) -> Result<Vec<Target<'o>>, EvalError> {
        let clicks = timed(&mut timing.scoring, || {
            let clicks = objects.par_iter().map(|o| eval_click(&o.mask, None, &[]));
            clicks.collect::<Result<Vec<_>, _>>()
        })?;
        // A mask without pixels has no click.
        let clicked = objects.iter().zip(clicks);
        let clicked: Vec<(&SampleObject, Click)> = clicked
            .filter_map(|(o, click)| Some((*o, click?)))
            .collect();
        let prompt = |&(_, click): &(_, Click)| Prompt::new().and_click(click);
        let prompts: Vec<Prompt> = clicked.iter().map(prompt).collect();
        let answers = self.answer(&prompts, timing)?;
        timed(&mut timing.scoring, || {
            let pairs = clicked.into_par_iter().zip(answers);
            pairs
                .map(|((object, click), answer)| self.target(object, click, &answer))
                .collect()
        })
    }

    fn target<'o>(
        &self,
        object: &'o SampleObject,
        click: Click,
        answer: &Candidates,
    ) -> Result<Target<'o>, EvalError> {
        let selection = answer.select(&Select::Best)?;
        let automatic = selection.index.unwrap_or(0);
        let candidates: Vec<Scored> = answer
            .iter()
            .map(|c| Scored::new(c, &object.mask))
            .collect();
        let best_annotator = object
            .annotator
            .map(|_| self.best_annotator(click.at, answer, automatic));
        let mask = selection.mask;
        Ok(Target {
            object,
            clicks: vec![click],
            logits: answer.as_slice()[automatic].low_res_logits.clone(),
            first_mask: mask.clone(),
            outcome: ObjectOutcome {
                image: self.image,
                id: object.id,
                ious: vec![candidates[automatic].iou],
                automatic,
                calibrated: None,
                single: Vec::new(),
                boxed: candidates[automatic],
                boundary_first: boundary_iou(&mask, &object.mask, BOUNDARY_RATIO)
                    .map_err(samara::Error::from)?,
                boundary_fifth: None,
                best_annotator,
                candidates,
            },
            mask,
        })
    }

    /// The best match with any mask of the image that contains the click.
    fn best_annotator(
        &self,
        at: OriginalPx,
        answer: &Candidates,
        automatic: usize,
    ) -> BestAnnotator {
        let (x, y) = (at.x as u32, at.y as u32);
        let truths = self.sample.objects.iter().map(|o| &o.mask);
        let truths: Vec<&Mask> = truths.filter(|mask| mask.get(x, y)).collect();
        let best = |mask: &Mask| truths.iter().map(|t| t.iou(mask)).fold(0.0, f64::max);
        let ious: Vec<f64> = answer.iter().map(|c| best(&c.mask)).collect();
        BestAnnotator {
            automatic: ious[automatic],
            oracle: ious.into_iter().fold(0.0, f64::max),
        }
    }

    /// One more click in the error region of every object, with the logits so far as mask prompt.
    fn next_click(
        &self,
        number: usize,
        targets: &mut [Target<'_>],
        timing: &mut Timing,
    ) -> Result<(), EvalError> {
        let clicks = timed(&mut timing.scoring, || {
            let next = targets.par_iter().map(|target| {
                if target.is_done(number, self.options.clicks) {
                    return Ok(None);
                }
                eval_click(&target.object.mask, Some(&target.mask), &target.clicks)
            });
            next.collect::<Result<Vec<_>, _>>()
        })?;
        let mut active: Vec<&mut Target<'_>> = Vec::new();
        for (target, click) in targets.iter_mut().zip(clicks) {
            if let Some(click) = click {
                target.clicks.push(click);
                active.push(target);
            }
        }
        let prompts: Vec<Prompt> = active.iter().map(|t| t.refinement()).collect();
        let answers = self.answer(&prompts, timing)?;
        timed(&mut timing.scoring, || {
            let pairs = active.into_par_iter().zip(answers);
            pairs.for_each(|(target, answer)| target.take(&answer));
        });
        if number == BOUNDARY_CLICK {
            let boundary = |target: &mut Target<'_>| {
                let iou = boundary_iou(&target.mask, &target.object.mask, BOUNDARY_RATIO)?;
                target.outcome.boundary_fifth = Some(iou);
                Ok(())
            };
            timed(&mut timing.scoring, || {
                targets.par_iter_mut().try_for_each(boundary)
            })
            .map_err(samara::Error::Image)?;
        }
        Ok(())
    }

    /// The tight box of every object, one mask, as the official evaluation asks.
    fn boxes(&self, targets: &mut [Target<'_>], timing: &mut Timing) -> Result<(), EvalError> {
        let prompts: Vec<Prompt> = targets
            .iter()
            .map(|target| tight_box(&target.object.mask))
            .collect::<Result<_, EvalError>>()?;
        let answers = self.answer(&prompts, timing)?;
        timed(&mut timing.scoring, || {
            for (target, answer) in targets.iter_mut().zip(&answers) {
                if let Some(c) = answer.iter().next() {
                    target.outcome.boxed = Scored::new(c, &target.object.mask);
                }
            }
        });
        Ok(())
    }

    fn answer(
        &self,
        prompts: &[Prompt],
        timing: &mut Timing,
    ) -> Result<Vec<Candidates>, EvalError> {
        timing.prompts += prompts.len();
        let tokens = timed(&mut timing.decode, || self.embedding.decode(prompts))?;
        timed(&mut timing.masks, || {
            let pairs = tokens.into_iter().zip(prompts);
            let answers = pairs.map(|(t, p)| Ok(self.embedding.candidates(t, p)?));
            answers.collect()
        })
    }

    /// Offers the worst and the best of the image.
    fn show(
        &self,
        shown: &[Shown<'_>],
        path: &str,
        gallery: &mut Gallery,
    ) -> Result<(), EvalError> {
        let case = |s: &Shown<'_>| -> Result<Case, EvalError> {
            let at = s.click.at;
            let jpeg = picture(&self.sample.image, &s.object.mask, &s.mask, Some(at))
                .map_err(samara::Error::Image)?;
            Ok(Case {
                image: path.to_owned(),
                object: s.object.id,
                click: [at.x, at.y],
                iou: s.scored.iou,
                predicted_iou: s.scored.predicted,
                jpeg,
            })
        };
        let by_iou = |a: &&Shown<'_>, b: &&Shown<'_>| a.scored.iou.total_cmp(&b.scored.iou);
        if let Some(worst) = shown.iter().min_by(by_iou) {
            gallery.offer_worst(worst.scored.iou, || case(worst))?;
        }
        if let Some(best) = shown.iter().rev().max_by(by_iou) {
            gallery.offer_best(best.scored.iou, || case(best))?;
        }
        Ok(())
    }
}

impl Target<'_> {
    /// `NoC` wants clicks beyond `clicks` only until its highest quality is reached.
    fn is_done(&self, number: usize, clicks: usize) -> bool {
        let ious = &self.outcome.ious;
        number > clicks && ious.iter().any(|&iou| iou >= HIGHEST_NOC)
    }

    /// All clicks so far on top of the previous logits, one mask.
    fn refinement(&self) -> Prompt {
        let clicks = self.clicks.iter().copied();
        clicks
            .fold(Prompt::new(), Prompt::and_click)
            .and_refine(&self.logits)
            .single()
    }

    /// Goes on with the answer to a further click.
    fn take(&mut self, answer: &Candidates) {
        let Some(c) = answer.iter().next() else {
            return;
        };
        let scored = Scored::new(c, &self.object.mask);
        self.outcome.ious.push(scored.iou);
        self.outcome.single.push(scored);
        self.mask = c.mask.clone();
        self.logits = c.low_res_logits.clone();
    }
}

/// What a picture of an object needs.
struct Shown<'a> {
    object: &'a SampleObject,
    click: Click,
    mask: Mask,
    scored: Scored,
}

impl<'a> Shown<'a> {
    fn new(target: &Target<'a>) -> Self {
        let outcome = &target.outcome;
        Self {
            object: target.object,
            click: target.clicks[0],
            mask: target.first_mask.clone(),
            scored: outcome.candidates[outcome.automatic],
        }
    }
}

fn tight_box(mask: &Mask) -> Result<Prompt, EvalError> {
    let [x, y, w, h] = mask.bbox().map_or([0; 4], |b| b.xywh()).map(f64::from);
    Ok(Prompt::bbox(x, y, x + w, y + h)?.single())
}

/// Runs `work` and adds the seconds it took.
pub(super) fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *seconds += start.elapsed().as_secs_f64();
    result
}
