//! The evaluation of one image by one model: first clicks, further clicks and boxes, all objects of a
//! step decoded together.

use std::time::Instant;

use rayon::prelude::*;
use samara::{Candidates, Click, Embedding, Logits, Mask, Prompt, Select, Zoom};
use samara_image::{BOUNDARY_RATIO, OriginalPx, boundary_iou};

use super::clicks::Clicked;
use super::error::EvalError;
use super::gallery::{Gallery, mask_pair};
use super::metrics::MAX_CLICKS;
use super::options::EvalOptions;
use super::outcome::{BestAnnotator, Case, FirstClick, ObjectOutcome, Scored};
use super::timing::Timing;
use samara_data::prompts::{Placement, PromptError, correction_at};
use samara_data::{Sample, SampleObject};

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
    /// Of this model: not all of an evaluation zoom.
    pub(super) zoom: Zoom,
    /// Position of the image among the evaluated ones.
    pub(super) image: usize,
}

/// An object on its way through the clicks.
struct Target<'a> {
    clicked: &'a Clicked<'a>,
    clicks: Vec<Click>,
    /// The current mask, and its logits, which are fed back.
    mask: Mask,
    logits: Logits,
    /// The mask of the first click.
    first_mask: Mask,
    outcome: ObjectOutcome,
}

impl ImageProtocol<'_> {
    /// Takes `objects` through all prompts. Best and worst answers to leading clicks are offered to
    /// `gallery` under the name `path`.
    pub(super) fn run(
        &self,
        objects: &[Clicked<'_>],
        path: &str,
        gallery: &mut Gallery,
        timing: &mut Timing,
    ) -> Result<Vec<ObjectOutcome>, EvalError> {
        let mut outcomes = Vec::with_capacity(objects.len());
        let mut shown = Vec::new();
        for chunk in objects.chunks(OBJECTS_AT_ONCE) {
            let mut targets = self.leading_clicks(chunk, timing)?;
            let first = chunk.iter().map(|clicked| clicked.clicks.len()).max();
            for number in 1..first.unwrap_or(0) {
                self.other_clicks(number, &mut targets, timing)?;
            }
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
                let iou = |t: &Target<'_>| t.outcome.leading().chosen().iou;
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

    /// The first clicks that go on: three candidates each, of which the chosen one is refined.
    fn leading_clicks<'o>(
        &self,
        objects: &'o [Clicked<'o>],
        timing: &mut Timing,
    ) -> Result<Vec<Target<'o>>, EvalError> {
        let clicked = objects
            .iter()
            .filter_map(|o| Some((o, o.clicks.first()?.1)));
        let clicked: Vec<(&Clicked<'o>, Click)> = clicked.collect();
        let prompt = |&(_, click): &(_, Click)| Prompt::new().with_click(click);
        let prompts: Vec<Prompt> = clicked.iter().map(prompt).collect();
        let answers = self.answer(prompts, timing)?;
        timed(&mut timing.scoring, || {
            let pairs = clicked.into_par_iter().zip(answers);
            pairs
                .map(|((clicked, click), answer)| self.target(clicked, click, &answer))
                .collect()
        })
    }

    /// The `number`th of the first clicks, which ends with its answer.
    fn other_clicks(
        &self,
        number: usize,
        targets: &mut [Target<'_>],
        timing: &mut Timing,
    ) -> Result<(), EvalError> {
        let targets = targets.iter_mut();
        let mut active: Vec<&mut Target<'_>> = targets
            .filter(|target| target.clicked.clicks.len() > number)
            .collect();
        let prompt = |t: &&mut Target<'_>| Prompt::new().with_click(t.clicked.clicks[number].1);
        let prompts: Vec<Prompt> = active.iter().map(prompt).collect();
        let answers = self.answer(prompts, timing)?;
        timed(&mut timing.scoring, || {
            let pairs = active.par_iter_mut().zip(answers);
            pairs.try_for_each(|(target, answer)| {
                let (first, _) = self.first_click(target.clicked, number, &answer)?;
                target.outcome.first.push(first);
                Ok(())
            })
        })
    }

    fn target<'o>(
        &self,
        clicked: &'o Clicked<'o>,
        click: Click,
        answer: &Candidates,
    ) -> Result<Target<'o>, EvalError> {
        let (first, mask) = self.first_click(clicked, 0, answer)?;
        Ok(Target {
            clicked,
            clicks: vec![click],
            logits: answer.as_slice()[first.chosen].low_res_logits.clone(),
            first_mask: mask.clone(),
            outcome: ObjectOutcome {
                image: self.image,
                id: clicked.object.id,
                ious: vec![first.chosen().iou],
                single: Vec::new(),
                boxed: *first.chosen(),
                boundary_fifth: None,
                first: vec![first],
            },
            mask,
        })
    }

    /// Measures the answer to the `number`th of the first clicks; with the chosen mask.
    fn first_click(
        &self,
        clicked: &Clicked<'_>,
        number: usize,
        answer: &Candidates,
    ) -> Result<(FirstClick, Mask), EvalError> {
        let object = clicked.object;
        let (placement, click) = clicked.clicks[number];
        let selection = answer.select(&Select::Best)?;
        let chosen = selection.index.unwrap_or(0);
        let candidates = answer.iter().map(|c| Scored::new(c, &object.mask));
        let boundary = boundary_iou(&selection.mask, &object.mask, BOUNDARY_RATIO);
        let first = FirstClick {
            placement,
            at: click.at,
            candidates: candidates.collect(),
            chosen,
            boundary: boundary.map_err(samara::Error::from)?,
            best_annotator: object
                .annotator
                .map(|_| self.best_annotator(click.at, answer, chosen)),
        };
        Ok((first, selection.mask))
    }

    /// The best match with any mask of the image that contains the click.
    fn best_annotator(&self, at: OriginalPx, answer: &Candidates, chosen: usize) -> BestAnnotator {
        let (x, y) = (at.x as u32, at.y as u32);
        let truths = self.sample.objects.iter().map(|o| &o.mask);
        let truths: Vec<&Mask> = truths.filter(|mask| mask.get(x, y)).collect();
        let best = |mask: &Mask| truths.iter().map(|t| t.iou(mask)).fold(0.0, f64::max);
        let ious: Vec<f64> = answer.iter().map(|c| best(&c.mask)).collect();
        BestAnnotator {
            chosen: ious[chosen],
            any: ious.into_iter().fold(0.0, f64::max),
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
                target.correction(number, self.options.further_clicks_at)
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
        let answers = self.answer(prompts, timing)?;
        timed(&mut timing.scoring, || {
            let pairs = active.into_par_iter().zip(answers);
            pairs.for_each(|(target, answer)| target.take(&answer));
        });
        if number == BOUNDARY_CLICK {
            let boundary = |target: &mut Target<'_>| {
                let iou = boundary_iou(&target.mask, target.truth(), BOUNDARY_RATIO)?;
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
            .map(|target| tight_box(target.truth()))
            .collect::<Result<_, EvalError>>()?;
        let answers = self.answer(prompts, timing)?;
        timed(&mut timing.scoring, || {
            for (target, answer) in targets.iter_mut().zip(&answers) {
                if let Some(c) = answer.iter().next() {
                    target.outcome.boxed = Scored::new(c, &target.clicked.object.mask);
                }
            }
        });
        Ok(())
    }

    fn answer(
        &self,
        prompts: Vec<Prompt>,
        timing: &mut Timing,
    ) -> Result<Vec<Candidates>, EvalError> {
        let intent = self.options.intent;
        let prompts = prompts.into_iter().map(|p| p.with_intent(intent));
        let prompts: Vec<Prompt> = prompts.collect();
        timing.prompts += prompts.len();
        let tokens = timed(&mut timing.decode, || self.embedding.decode(&prompts))?;
        timed(&mut timing.masks, || {
            let pairs = tokens.into_iter().zip(&prompts);
            let answers = pairs.map(|(t, p)| {
                let first = self.embedding.candidates(t, p)?;
                let image = &self.sample.image;
                Ok(self.embedding.second_look(image, p, first, self.zoom)?)
            });
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
            let jpeg = mask_pair(&self.sample.image, &s.object.mask, &s.mask, Some(at))
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
    fn truth(&self) -> &Mask {
        &self.clicked.object.mask
    }

    /// The click with this number, into an error of the current mask.
    fn correction(&self, number: usize, at: Placement) -> Result<Option<Click>, PromptError> {
        let mut stream = self.clicked.seed.stream("further", number);
        correction_at(at, self.truth(), &self.mask, &self.clicks, &mut stream)
    }

    /// `NoC` wants clicks beyond `clicks` only until its highest quality is reached.
    fn is_done(&self, number: usize, clicks: usize) -> bool {
        let ious = &self.outcome.ious;
        number > clicks && ious.iter().any(|&iou| iou >= HIGHEST_NOC)
    }

    /// All clicks so far on top of the previous logits, one mask.
    fn refinement(&self) -> Prompt {
        let clicks = self.clicks.iter().copied();
        clicks
            .fold(Prompt::new(), Prompt::with_click)
            .with_mask(self.logits.clone())
            .with_single_mask()
    }

    /// Goes on with the answer to a further click.
    fn take(&mut self, answer: &Candidates) {
        let Some(c) = answer.iter().next() else {
            return;
        };
        let scored = Scored::new(c, self.truth());
        self.outcome.ious.push(scored.iou);
        self.outcome.single.push(scored);
        self.mask = c.mask.clone();
        self.logits = c.low_res_logits.clone();
    }
}

/// What an image of an object needs.
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
            object: target.clicked.object,
            click: target.clicks[0],
            mask: target.first_mask.clone(),
            scored: *outcome.leading().chosen(),
        }
    }
}

fn tight_box(mask: &Mask) -> Result<Prompt, EvalError> {
    let [x, y, w, h] = mask.bbox().map_or([0; 4], |b| b.xywh()).map(f64::from);
    Ok(Prompt::bbox(x, y, x + w, y + h)?.with_single_mask())
}

/// Runs `work` and adds the seconds it took.
pub(super) fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *seconds += start.elapsed().as_secs_f64();
    result
}
