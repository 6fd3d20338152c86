//! A second look: a small object is answered again from a crop around it.
//!
//! A model sees every image at the size of its input, so an object of a few pixels covers a few
//! cells of its grid. Embedding a crop around the first answer costs as much as embedding the
//! image, and shows the object larger. What the second look is asked for, and what of it is
//! believed, was measured: see `docs/zoom.md`.

mod last_view;
mod mapping;
mod region;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use samara_image::{Mask, OriginalBox, OriginalPx, RgbImage, crop_image};

use crate::candidates::{Candidate, Candidates};
use crate::embedding::Embedding;
use crate::error::{DeviceError, OptionError, ParseError, PromptError};
use crate::logits::Logits;
use crate::prompt::Prompt;
use crate::select::Select;
use crate::{Error, Result};

pub(crate) use last_view::LastView;
use mapping::{Part, prompt_into, resample};
pub use region::PixelRect;
use region::Target;

/// Side of the crop by the longest side of what is looked at; less where that is too large a share
/// of the image, but never less than the second.
const CONTEXT: f64 = 7.0;
const LEAST_CONTEXT: f64 = 4.0;
/// A crop of more than this share of the image shows hardly more than the image.
const LARGEST_SHARE: f64 = 0.5;
/// Crops are at least so many pixels long: more enlarged, an image has nothing more to show.
const SHORTEST: f64 = 64.0;
/// Of the context, what a crop that is there already must still show around the object.
const CONTEXT_OF_KEPT: f64 = 2.5;
/// By how much a crop that is there already may be larger than the one that was wanted.
const LARGER_KEPT: f64 = 1.5;
/// Masks that overlap less than this are not the same object: the first look knew more of what is
/// around it, and is believed.
const SAME_OBJECT: f64 = 0.5;

/// Whether, and how closely, small objects are looked at again; see
/// [`Embedding::predict_zoomed`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
#[non_exhaustive]
pub enum Zoom {
    /// The answer from the whole image.
    #[default]
    Off,
    /// Where the answer covers little of the image, once more from a crop around it.
    Auto,
    /// Always once more, from a crop whose side is the longest side of the image divided by this
    /// factor, or as long as the answer and the prompt are; more than 1 and at most
    /// [`Zoom::MOST`].
    Factor(f64),
}

impl Zoom {
    /// The largest factor.
    pub const MOST: f64 = 64.0;

    /// The factor is one. A value can be made without [`FromStr`].
    fn check(self) -> Result<Self> {
        match self {
            Self::Factor(factor) if !(factor > 1.0 && factor <= Self::MOST) => {
                let why = format!(
                    "{factor}: a factor is more than 1 and at most {}",
                    Self::MOST
                );
                Err(OptionError::new("zoom", why).into())
            }
            other => Ok(other),
        }
    }
}

impl fmt::Display for Zoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.pad("off"),
            Self::Auto => f.pad("auto"),
            Self::Factor(factor) => factor.fmt(f),
        }
    }
}

impl FromStr for Zoom {
    type Err = Error;

    /// `off`, `auto` or a factor.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "off" => Ok(Self::Off),
            "auto" => Ok(Self::Auto),
            _ => {
                let expected = "off, auto or a factor of more than 1";
                let factor = text.parse();
                let factor = factor.map_err(|_| ParseError::new("zoom", text, expected))?;
                Self::Factor(factor).check()
            }
        }
    }
}

/// What is to be looked at, and the crop that shows it.
struct Wish {
    target: Target,
    rect: PixelRect,
    /// No larger one will do.
    exact: bool,
}

/// The pixel that a click lies in.
fn pixel_of(at: OriginalPx) -> OriginalBox {
    let min = OriginalPx::new(at.x.floor(), at.y.floor());
    OriginalBox {
        min,
        max: OriginalPx::new(min.x + 1.0, min.y + 1.0),
    }
}

/// The question to the second look: this candidate's object, drawn once more. Its box holds the
/// answer to the object, its logits say which one of those that the prompt can mean.
fn refinement(prompt: &Prompt, candidate: &Candidate) -> Prompt {
    let mut refined = prompt
        .clone()
        .with_mask(candidate.low_res_logits.clone())
        .with_single_mask();
    refined.bbox = refined
        .bbox
        .or(candidate.mask.bbox().map(OriginalBox::from));
    refined
}

/// Whether a mask reaches an edge of the part that is none of the image: the object may go on.
fn is_cut(mask: &Mask, part: PixelRect, (width, height): (u32, u32)) -> bool {
    mask.bbox().is_some_and(|b| {
        (b.x <= part.x && part.x > 0)
            || (b.y <= part.y && part.y > 0)
            || (b.x + b.width >= part.x + part.width && part.x + part.width < width)
            || (b.y + b.height >= part.y + part.height && part.y + part.height < height)
    })
}

/// The second answer, if the same object is chosen from both. What the crop cuts off is taken from the
/// first answer, unless that would be chosen then.
fn instead(first: &Candidates, second: Candidates, rect: PixelRect) -> Result<Option<Candidates>> {
    let before = first.select(&Select::Best)?.mask;
    let chosen = second.select(&Select::Best)?;
    let size = (before.width(), before.height());
    if before.iou(&chosen.mask) <= SAME_OBJECT || is_cut(&chosen.mask, rect, size) {
        return Ok(None);
    }
    let mut uncut: Vec<(usize, Candidate)> = Vec::new();
    for cut in second.iter().filter(|c| is_cut(&c.mask, rect, size)) {
        let iou = |c: &&Candidate| c.mask.iou(&cut.mask);
        let nearest = first.iter().max_by(|a, b| iou(a).total_cmp(&iou(b)));
        uncut.extend(nearest.map(|c| (cut.index, c.clone())));
    }
    let answer = second.replaced(uncut);
    let same = answer.select(&Select::Best)?.index == chosen.index;
    Ok(same.then_some(answer))
}

impl Embedding {
    /// Answers one prompt, and has the candidates drawn again from a crop of the image as [`Zoom`]
    /// says. The crop lies around the mask that [`Select::Best`] takes from the first answer, joined
    /// with the prompt's box and its clicks on the object.
    ///
    /// What both looks choose must be the same object, an IoU above a half, or the first is believed,
    /// which knows what is around it:
    ///
    /// - Clicks alone can mean several objects, and are asked in the crop anew. If the same object is
    ///   chosen as before, that is the answer, scores included. Masks that the crop cuts off are those of
    ///   the first look.
    /// - Otherwise, and for prompts with a box or a mask or for a single mask, every candidate in the
    ///   crop is drawn once more there, asked for by the prompt, its box and its logits. Mask, stability
    ///   and logits take the place of the first ones if they are of the same object and not cut off;
    ///   scores and [`Candidates::tokens`] stay.
    ///
    /// All is given back in pixels of the whole image, logits in its frame.
    ///
    /// A crop costs an embedding. The last one is kept, and used again for prompts at the same
    /// place, by clones of this embedding too.
    ///
    /// # Errors
    /// As [`Embedding::predict`]; [`PromptError::OtherImage`], or [`OptionError`] for a factor
    /// out of range.
    pub fn predict_zoomed(
        &self,
        image: &RgbImage,
        prompt: &Prompt,
        zoom: Zoom,
    ) -> Result<Candidates> {
        self.check_zoom(image, zoom)?;
        let first = self.predict(prompt)?;
        let again = || self.again(image, prompt, first, zoom);
        self.segmenter().threads().run(again)
    }

    /// The second half of [`Embedding::predict_zoomed`]: looks again where the first answer to the
    /// prompt lies, and gives that answer back where it does not pay.
    ///
    /// # Errors
    /// As [`Embedding::predict_zoomed`].
    pub fn second_look(
        &self,
        image: &RgbImage,
        prompt: &Prompt,
        first: Candidates,
        zoom: Zoom,
    ) -> Result<Candidates> {
        self.check_zoom(image, zoom)?;
        let again = || self.again(image, prompt, first, zoom);
        self.segmenter().threads().run(again)
    }

    /// Answers one prompt from this part of the image alone, in pixels of the whole image. Clicks
    /// outside of the part are left out.
    ///
    /// # Errors
    /// As [`Embedding::predict_zoomed`]; [`PromptError::PartOutside`]; [`PromptError::NothingInside`].
    pub fn predict_within(
        &self,
        image: &RgbImage,
        prompt: &Prompt,
        part: PixelRect,
    ) -> Result<Candidates> {
        self.check_image(image)?;
        prompt.validate(self.frame(), self.segmenter().logits_side())?;
        let whole = PixelRect::whole(self.frame().original_size());
        if part.width == 0 || part.height == 0 || !whole.covers(&part) {
            return Err(PromptError::PartOutside {
                part,
                width: whole.width,
                height: whole.height,
            }
            .into());
        }
        if part == whole {
            return self.predict(prompt);
        }
        let closer = self.closer(image, part, |kept| *kept == part)?.1;
        let moved = self.moved(part, &closer, prompt);
        if moved.is_empty() {
            return Err(PromptError::NothingInside(part).into());
        }
        let look = || self.answers_there(part, &closer, &[moved]);
        let mut answers = self.segmenter().threads().run(look)?;
        let answer = answers.pop();
        answer.ok_or_else(|| DeviceError::NoAnswer.into())
    }

    fn check_zoom(&self, image: &RgbImage, zoom: Zoom) -> Result<()> {
        zoom.check()?;
        if zoom == Zoom::Off {
            return Ok(());
        }
        self.check_image(image)
    }

    pub(crate) fn check_image(&self, image: &RgbImage) -> Result<()> {
        if self.is_of(image) {
            return Ok(());
        }
        Err(PromptError::OtherImage {
            image: image.dimensions(),
            embedded: self.frame().original_size(),
        }
        .into())
    }

    fn again(
        &self,
        image: &RgbImage,
        prompt: &Prompt,
        first: Candidates,
        zoom: Zoom,
    ) -> Result<Candidates> {
        let Some(wish) = self.wish(prompt, &first, zoom)? else {
            return Ok(first);
        };
        let (rect, closer) = self.view(image, &wish)?;
        let moved = self.moved(rect, &closer, prompt);
        // Clicks beside the object may all lie beyond the crop.
        if prompt.is_ambiguous() && !moved.is_empty() {
            let second = self.answers_there(rect, &closer, &[moved])?.pop();
            if let Some(second) = second
                && let Some(answer) = instead(&first, second, rect)?
            {
                return Ok(answer);
            }
        }
        self.redrawn(prompt, first, rect, &closer)
    }

    /// The first answer with its candidates drawn once more, where they are the same object again.
    fn redrawn(
        &self,
        prompt: &Prompt,
        first: Candidates,
        rect: PixelRect,
        closer: &Self,
    ) -> Result<Candidates> {
        let size = self.frame().original_size();
        let inside = |c: &&Candidate| {
            let tight = c.mask.bbox();
            tight.is_some_and(|b| rect.covers(&PixelRect::from(b)))
        };
        let seen: Vec<&Candidate> = first.iter().filter(inside).collect();
        let prompts = seen.iter().map(|c| refinement(prompt, c));
        let prompts: Vec<Prompt> = prompts.map(|p| self.moved(rect, closer, &p)).collect();
        let answers = self.answers_there(rect, closer, &prompts)?;
        let mut again: Vec<(usize, Candidate)> = Vec::new();
        for (candidate, answer) in seen.into_iter().zip(answers) {
            let same = answer.into_iter().next();
            let same = same.filter(|c| c.mask.iou(&candidate.mask) > SAME_OBJECT);
            let same = same.filter(|c| !is_cut(&c.mask, rect, size));
            again.extend(same.map(|c| (candidate.index, c)));
        }
        if again.is_empty() {
            return Ok(first);
        }
        Ok(first.replaced(again).seen_at(rect))
    }

    /// The prompt as it is to the crop.
    fn moved(&self, rect: PixelRect, closer: &Self, prompt: &Prompt) -> Prompt {
        let frame = closer.frame();
        let part = Part { rect, frame };
        let side = self.segmenter().logits_side();
        prompt_into(prompt, Part::whole(self.frame()), part, side)
    }

    /// What the crop says to prompts that were moved into it, in the image.
    fn answers_there(
        &self,
        rect: PixelRect,
        closer: &Self,
        moved: &[Prompt],
    ) -> Result<Vec<Candidates>> {
        let (whole, frame) = (Part::whole(self.frame()), closer.frame());
        let part = Part { rect, frame };
        let size = self.frame().original_size();
        let place = |logits: &Logits| resample(logits, part, whole);
        let answers = closer.predict_batch(moved)?.into_iter();
        Ok(answers
            .map(|answer| answer.seen_in(rect, size, place))
            .collect())
    }

    /// Where to look again; `None` where it does not pay.
    fn wish(&self, prompt: &Prompt, first: &Candidates, zoom: Zoom) -> Result<Option<Wish>> {
        let size = self.frame().original_size();
        let longest = f64::from(size.0.max(size.1));
        if zoom == Zoom::Off {
            return Ok(None);
        }
        let mask = first.select(&Select::Best)?.mask;
        let clicks = prompt.clicks().iter().filter(|click| click.positive);
        let boxes = clicks.map(|click| pixel_of(click.at));
        let boxes = boxes.chain(prompt.box_prompt().copied());
        let Some(tight) = mask.bbox() else {
            return Ok(None);
        };
        let boxes = boxes.chain([tight.into()]);
        let Some(target) = Target::joined(boxes, size) else {
            return Ok(None);
        };
        let side = match zoom {
            Zoom::Factor(factor) => longest / factor,
            _ => (CONTEXT * target.longest())
                .min(LARGEST_SHARE * longest)
                .max(SHORTEST),
        };
        let rect = target.square(side, size);
        let pays = match zoom {
            Zoom::Factor(_) => rect != PixelRect::whole(size),
            _ => side <= LARGEST_SHARE * longest && side >= LEAST_CONTEXT * target.longest(),
        };
        let exact = matches!(zoom, Zoom::Factor(_));
        Ok(pays.then_some(Wish {
            target,
            rect,
            exact,
        }))
    }

    /// The crop that was wished for, or the last one if it shows that.
    fn view(&self, image: &RgbImage, wish: &Wish) -> Result<(PixelRect, Embedding)> {
        let size = self.frame().original_size();
        let needed = wish
            .target
            .square(CONTEXT_OF_KEPT * wish.target.longest(), size);
        let most = f64::from(wish.rect.longest()) * if wish.exact { 1.0 } else { LARGER_KEPT };
        let suits = |kept: &PixelRect| kept.covers(&needed) && f64::from(kept.longest()) <= most;
        self.closer(image, wish.rect, suits)
    }

    /// The crop that was looked at last, if it suits, or this one.
    fn closer(
        &self,
        image: &RgbImage,
        rect: PixelRect,
        suits: impl Fn(&PixelRect) -> bool,
    ) -> Result<(PixelRect, Self)> {
        if let Some(kept) = self.last_view.suitable(suits) {
            return Ok(kept);
        }
        let crop = crop_image(image, rect.x, rect.y, rect.width, rect.height);
        let closer = self.segmenter().embed(&crop)?;
        self.last_view.with(|views| {
            views.last = Some((rect, closer.clone()));
            views.embedded += 1;
        });
        Ok((rect, closer))
    }
}
