//! What annotation tools speak, so that they need no plugin.

pub(crate) mod brush_rle;
pub(crate) mod cvat;
pub(crate) mod label_studio;
mod labeling_config;
pub(crate) mod x_anylabeling;
pub(crate) mod x_anylabeling_video;

use samara::{Candidates, Mask, Select, Selection};
use samara_image::Polygon;

use crate::error::{Problem, Result};
use crate::prompts::PromptRequest;

/// The mask that a tool which takes one is given.
fn best(candidates: &Candidates) -> Result<Selection> {
    Ok(candidates.select(&Select::Best)?)
}

/// How sure a tool is told that the model is.
fn score(chosen: &Selection) -> f32 {
    let iou = chosen.predicted_iou.map_or(1.0, |iou| iou.0);
    iou.clamp(0.0, 1.0)
}

/// The parts of a mask without those that are much smaller than the others, as X-AnyLabeling's own server leaves them
/// out: specks beside an object are no objects.
fn large_parts(mask: &Mask) -> Vec<Polygon> {
    let mut parts = mask.to_polygons();
    let mean = parts.iter().map(Polygon::area).sum::<f64>() / parts.len() as f64;
    parts.retain(|part| part.area() >= 0.2 * mean);
    parts
}

/// A share of a side as pixels. What a tool rounds to the border is on the last pixel; what lies further outside was
/// not meant as a share.
fn pixel(share: f64, side: f64) -> Result<f64> {
    const ROUNDED: f64 = 1e-3;
    if (-ROUNDED..=1.0 + ROUNDED).contains(&share) {
        return Ok((share * side).clamp(0.0, side - 1e-3));
    }
    let detail = format!("{} percent of the image: 0 to 100 are in it", share * 100.0);
    Err(Problem::field("", detail))
}

/// Prompts of points and boxes: one object, or one for each box if there are several, with the points that lie in it;
/// points outside of all of them are of one more.
fn objects(points: &[[f64; 3]], boxes: &[[f64; 4]]) -> Vec<PromptRequest> {
    if boxes.len() < 2 {
        return vec![PromptRequest::new(points.to_vec(), boxes.first().copied())];
    }
    let is_in = |[x, y, _]: [f64; 3], [x0, y0, x1, y1]: [f64; 4]| {
        (x0.min(x1)..=x0.max(x1)).contains(&x) && (y0.min(y1)..=y0.max(y1)).contains(&y)
    };
    let points = || points.iter().copied();
    let of_box = |bbox: &[f64; 4]| {
        let own = points().filter(|&point| is_in(point, *bbox));
        PromptRequest::new(own.collect(), Some(*bbox))
    };
    let outside = points().filter(|&point| boxes.iter().all(|&bbox| !is_in(point, bbox)));
    let outside: Vec<[f64; 3]> = outside.collect();
    let clicked = outside.iter().any(|&[_, _, label]| label == 1.0);
    let rest = clicked.then(|| PromptRequest::new(outside, None));
    boxes.iter().map(of_box).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_border_is_in_the_image() {
        assert_eq!(pixel(0.5, 80.0).unwrap(), 40.0);
        assert!((79.0..80.0).contains(&pixel(1.0, 80.0).unwrap()));
        assert_eq!(pixel(-1e-6, 80.0).unwrap(), 0.0);
        for outside in [1.5, -0.4, f64::NAN, 1e306] {
            pixel(outside, 80.0).unwrap_err();
        }
    }

    #[test]
    fn nothing_that_was_drawn_is_dropped() {
        let boxes = [[0.0, 0.0, 9.0, 9.0], [30.0, 30.0, 20.0, 20.0]];
        let points = [[5.0, 5.0, 1.0], [25.0, 25.0, 0.0], [50.0, 5.0, 1.0]];
        assert_eq!(objects(&points, &[]).len(), 1);
        assert_eq!(objects(&points, &boxes[..1]).len(), 1);
        assert_eq!(objects(&points, &boxes).len(), 3);
        assert_eq!(objects(&points[..2], &boxes).len(), 2);
    }
}
