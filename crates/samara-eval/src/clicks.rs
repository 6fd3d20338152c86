//! The first clicks on the objects of an image: the same for every model.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use samara::{Click, Mask};
use samara_image::DistanceTransform;
use sha2::{Digest, Sha256};

use super::error::EvalError;
use super::options::EvalOptions;
use samara_data::SampleObject;
use samara_data::prompts::{DepthWeights, Placement, centre_of, eval_click, random_pixel};

/// What the clicks on an object are drawn from, and nothing else: so they are the same whatever
/// else is evaluated, and in whatever order.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClickSeed<'a> {
    /// The seed of the evaluation.
    pub(super) seed: u64,
    /// Name of the data set.
    pub(super) data_set: &'a str,
    /// Name of the image's file: in label maps, objects are numbered image by image.
    pub(super) image: &'a str,
    /// Identifier of the object.
    pub(super) object: u64,
}

impl ClickSeed<'_> {
    /// The random stream of one click.
    pub(super) fn stream(&self, purpose: &str, number: usize) -> ChaCha8Rng {
        let mut digest = Sha256::new();
        digest.update(self.seed.to_le_bytes());
        for text in [self.data_set, self.image, purpose] {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text);
        }
        digest.update(self.object.to_le_bytes());
        digest.update((number as u64).to_le_bytes());
        ChaCha8Rng::from_seed(digest.finalize().into())
    }
}

/// An object and the first clicks on it, each of which is a prompt of its own. The first of them
/// goes on to further clicks.
pub(super) struct Clicked<'a> {
    pub(super) object: &'a SampleObject,
    pub(super) seed: ClickSeed<'a>,
    pub(super) clicks: Vec<(Placement, Click)>,
}

/// The first clicks on every object, in the same order for all. A mask without pixels has none and
/// is skipped.
pub(super) fn first_clicks<'a>(
    objects: &[&'a SampleObject],
    options: &EvalOptions,
    data_set: &'a str,
    image: &'a str,
) -> Result<Vec<Clicked<'a>>, EvalError> {
    let clicked = |object: &&'a SampleObject| {
        let seed = ClickSeed {
            seed: options.seed,
            data_set,
            image,
            object: object.id,
        };
        let clicks = clicks_on(&object.mask, options, seed)?;
        Ok::<_, EvalError>(Clicked {
            object,
            seed,
            clicks,
        })
    };
    let all = objects.par_iter().map(clicked);
    let mut all = all.collect::<Result<Vec<_>, _>>()?;
    all.retain(|clicked| !clicked.clicks.is_empty());
    Ok(all)
}

fn clicks_on(
    mask: &Mask,
    options: &EvalOptions,
    seed: ClickSeed<'_>,
) -> Result<Vec<(Placement, Click)>, EvalError> {
    let mut clicks = Vec::new();
    let on = |pixel| Click {
        at: centre_of(pixel),
        positive: true,
    };
    for placement in options.placements() {
        let streams =
            (0..options.draws_of(placement)).map(|draw| seed.stream(placement.name(), draw));
        match placement {
            Placement::Center => {
                let deepest = eval_click(mask, None, &[])?;
                clicks.extend(deepest.map(|click| (placement, click)));
            }
            Placement::Uniform => {
                let pixels = streams.filter_map(|mut stream| random_pixel(mask, &mut stream));
                clicks.extend(pixels.map(|pixel| (placement, on(pixel))));
            }
            Placement::Human => {
                let depth = DistanceTransform::new(mask);
                if let Some(weights) = DepthWeights::new(mask, &depth) {
                    let pixels = streams.map(|mut stream| weights.draw(&mut stream));
                    clicks.extend(pixels.map(|pixel| (placement, on(pixel))));
                }
            }
        }
    }
    Ok(clicks)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn object(id: u64, mask: Mask) -> SampleObject {
        SampleObject {
            id,
            mask,
            annotator: None,
            level: None,
        }
    }

    fn disc(radius: u32) -> Mask {
        Mask::from_fn(90, 70, |x, y| {
            x.abs_diff(40).pow(2) + y.abs_diff(30).pow(2) <= radius * radius
        })
    }

    fn clicks(objects: &[&SampleObject], options: &EvalOptions) -> Vec<Vec<(Placement, Click)>> {
        let clicked = first_clicks(objects, options, "set", "a.jpg").unwrap();
        clicked.into_iter().map(|c| c.clicks).collect()
    }

    #[test]
    fn an_object_is_clicked_the_same_whatever_else_is_evaluated() {
        let (one, two) = (object(1, disc(20)), object(2, disc(20)));
        let usual = EvalOptions::default();
        let both = clicks(&[&one, &two], &usual);
        assert_eq!(both[1], clicks(&[&two], &usual)[0]);
        assert_ne!(both[0][1..], both[1][1..], "another object, other clicks");
        let kinds: Vec<&str> = both[0].iter().map(|(place, _)| place.name()).collect();
        let expected = [
            "center", "uniform", "uniform", "uniform", "human", "human", "human",
        ];
        assert_eq!(kinds, expected);
        // More draws and fewer placements leave the others as they are.
        let some = EvalOptions {
            clicks_at: vec![Placement::Human],
            draws: 5,
            ..EvalOptions::default()
        };
        let human = &clicks(&[&one], &some)[0];
        assert_eq!((human.len(), &human[..3]), (5, &both[0][4..]));
        let elsewhere = first_clicks(&[&one], &usual, "set", "b.jpg").unwrap();
        assert_ne!(elsewhere[0].clicks[1..], both[0][1..]);
        let reseeded = EvalOptions {
            seed: 1,
            ..EvalOptions::default()
        };
        let reseeded = &clicks(&[&one], &reseeded)[0];
        assert_eq!(reseeded[0], both[0][0], "the center is not drawn");
        assert_ne!(reseeded[1..], both[0][1..]);
    }

    #[test]
    fn clicks_lie_on_the_object_and_as_deep_as_their_placement_says() {
        let objects: Vec<SampleObject> = (0..300).map(|id| object(id, disc(20))).collect();
        let objects: Vec<&SampleObject> = objects.iter().collect();
        let mut depths: HashMap<Placement, Vec<f64>> = HashMap::new();
        for (placement, click) in clicks(&objects, &EvalOptions::default()).concat() {
            let (x, y) = (click.at.x, click.at.y);
            assert!(click.positive && disc(20).get(x as u32, y as u32));
            let radius = (x - 40.5).hypot(y - 30.5);
            depths.entry(placement).or_default().push(radius);
        }
        let mean = |placement| {
            let radii: &Vec<f64> = &depths[&placement];
            radii.iter().sum::<f64>() / radii.len() as f64
        };
        // In a disc of radius r: 2/3 r, and with the depth as weight 1/2 r.
        assert_eq!(mean(Placement::Center), 0.0);
        assert!((mean(Placement::Uniform) - 13.6).abs() < 0.7);
        assert!((mean(Placement::Human) - 10.2).abs() < 0.7);
    }

    #[test]
    fn what_has_no_pixel_is_not_clicked() {
        let objects = [object(1, Mask::new(9, 9)), object(2, Mask::full(9, 9))];
        let objects: Vec<&SampleObject> = objects.iter().collect();
        let clicked = first_clicks(&objects, &EvalOptions::default(), "set", "a.jpg").unwrap();
        assert_eq!(clicked.len(), 1);
        assert_eq!(clicked[0].object.id, 2);
    }
}
