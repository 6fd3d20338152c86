//! Corrective clicks: at random for training, in the middle of the largest error for evaluation.

use rand::Rng;
use samara::Click;
use samara_image::{DistanceTransform, Mask};

use super::error::PromptError;
use super::first::{centre_of, random_pixel};

/// Where a prediction is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorRegions {
    /// Pixels of the object that the prediction lacks.
    pub false_negative: Mask,
    /// Pixels of the prediction that are not on the object.
    pub false_positive: Mask,
}

/// Where `prediction` differs from `truth`.
///
/// # Errors
/// [`PromptError::Size`] when the sizes differ.
pub fn error_regions(truth: &Mask, prediction: &Mask) -> Result<ErrorRegions, PromptError> {
    Ok(ErrorRegions {
        false_negative: truth.and_not(prediction)?,
        false_positive: prediction.and_not(truth)?,
    })
}

/// A click on any pixel where `prediction` is wrong, positive where it lacks the object. An
/// all-correct prediction yields a negative click on the background, or a positive one where
/// there is no background.
pub(super) fn random_correction(
    truth: &Mask,
    prediction: &Mask,
    rng: &mut impl Rng,
) -> Result<Option<Click>, PromptError> {
    let pixel = random_pixel(&truth.xor(prediction)?, rng)
        .or_else(|| random_pixel(&!truth, rng))
        .or_else(|| random_pixel(truth, rng));
    Ok(pixel.map(|(x, y)| Click {
        at: centre_of((x, y)),
        positive: truth.get(x, y),
    }))
}

/// The next click of an evaluation (RITM's `Clicker`): the pixel that lies deepest in an error
/// region, positive when it is one that the prediction lacks; on equal depth the negative click
/// wins. Without a prediction it is the deepest pixel of the object, as SAM's first click.
///
/// Pixels in `clicked` are not clicked again; `None` when no other pixel is wrong.
///
/// # Errors
/// [`PromptError::Size`] when the sizes differ.
pub fn eval_click(
    truth: &Mask,
    prediction: Option<&Mask>,
    clicked: &[Click],
) -> Result<Option<Click>, PromptError> {
    let unclicked = |x: u32, y: u32| {
        let at = |c: &Click| (c.at.x.floor(), c.at.y.floor());
        !clicked
            .iter()
            .any(|c| at(c) == (f64::from(x), f64::from(y)))
    };
    let mut distances = DistanceTransform::default();
    let mut deepest = |region: &Mask| {
        distances.compute(region);
        distances.deepest(unclicked)
    };
    let (lacking, excess) = match prediction {
        Some(prediction) => {
            let errors = error_regions(truth, prediction)?;
            let lacking = deepest(&errors.false_negative);
            (lacking, deepest(&errors.false_positive))
        }
        None => (deepest(truth), None),
    };
    let depth = |found: Option<(u32, u32, f64)>| found.map_or(0.0, |(_, _, depth)| depth);
    let positive = depth(lacking) > depth(excess);
    let found = if positive { lacking } else { excess };
    Ok(found.map(|(x, y, _)| Click {
        at: centre_of((x, y)),
        positive,
    }))
}

#[cfg(test)]
mod tests {
    use samara::OriginalPx;

    use super::*;

    fn rect(x0: u32, y0: u32, w: u32, h: u32) -> Mask {
        Mask::from_fn(40, 30, |x, y| {
            (x0..x0 + w).contains(&x) && (y0..y0 + h).contains(&y)
        })
    }

    fn click(x: f64, y: f64, positive: bool) -> Click {
        let at = OriginalPx::new(x, y);
        Click { at, positive }
    }

    #[test]
    fn the_first_click_is_the_middle_of_the_object() {
        let next = |truth: &Mask| eval_click(truth, None, &[]).unwrap();
        assert_eq!(next(&rect(10, 5, 7, 7)), Some(click(13.5, 8.5, true)));
        assert_eq!(next(&rect(39, 29, 1, 1)), Some(click(39.5, 29.5, true)));
        // At the edge of the image the outside counts as background.
        assert_eq!(next(&rect(0, 0, 40, 30)), Some(click(14.5, 14.5, true)));
        assert_eq!(next(&Mask::new(40, 30)), None);
    }

    #[test]
    fn later_clicks_go_to_the_deepest_error() {
        let truth = rect(0, 0, 12, 12);
        let next = |prediction: &Mask| eval_click(&truth, Some(prediction), &[]).unwrap();
        assert_eq!(next(&Mask::new(40, 30)), Some(click(5.5, 5.5, true)));
        // 5 columns are missing: 3 deep. 3 are too many: 2 deep.
        assert_eq!(next(&rect(5, 0, 10, 12)), Some(click(2.5, 2.5, true)));
        // 3 are missing, 5 are too many.
        assert_eq!(next(&rect(3, 0, 14, 12)), Some(click(14.5, 2.5, false)));
        // Equal depth.
        assert_eq!(next(&rect(3, 0, 12, 12)), Some(click(13.5, 1.5, false)));
        assert_eq!(next(&truth), None);
        assert!(eval_click(&truth, Some(&Mask::new(30, 40)), &[]).is_err());
    }

    #[test]
    fn no_pixel_is_clicked_twice() {
        let truth = rect(10, 5, 3, 2);
        let mut clicks = Vec::new();
        while let Some(next) = eval_click(&truth, Some(&rect(0, 0, 1, 1)), &clicks).unwrap() {
            assert!(!clicks.contains(&next));
            assert_eq!(next.positive, truth.get(next.at.x as u32, next.at.y as u32));
            clicks.push(next);
        }
        assert_eq!(clicks.len(), 7);
        // A click given by hand lies anywhere in its pixel.
        let truth = rect(10, 5, 3, 3);
        let by_hand = click(11.9, 6.1, true);
        let next = eval_click(&truth, None, &[by_hand]).unwrap();
        assert_eq!(next, Some(click(10.5, 5.5, true)));
    }

    #[test]
    fn error_regions_split_the_difference() {
        let (truth, prediction) = (rect(2, 2, 10, 10), rect(6, 2, 10, 10));
        let errors = error_regions(&truth, &prediction).unwrap();
        assert_eq!(errors.false_negative, rect(2, 2, 4, 10));
        assert_eq!(errors.false_positive, rect(12, 2, 4, 10));
        assert!(error_regions(&truth, &Mask::new(1, 1)).is_err());
    }
}
