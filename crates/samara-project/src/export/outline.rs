//! Outlines of masks where a format has polygons without holes, or only one.

use std::collections::HashMap;

use samara_image::{Mask, Polygon, Ring};

/// Corners of a closed line.
pub(crate) type Corners = Vec<[f64; 2]>;

/// At most about so many pairs of corners are compared for an object; of long lines only some corners are.
const PAIRS: usize = 1 << 26;

/// The outlines of the parts of a mask, at most `tolerance` pixels from its edge.
pub(crate) fn parts(mask: &Mask, tolerance: f64) -> Vec<Polygon> {
    let mut parts = mask.to_polygons();
    if tolerance > 0.0 {
        parts
            .iter_mut()
            .for_each(|part| *part = part.simplify(tolerance));
    }
    parts
}

/// A part as one closed line: its holes are joined to it.
pub(crate) fn with_holes(part: &Polygon) -> Corners {
    joined(std::iter::once(&part.outer).chain(&part.holes).map(corners))
}

/// All parts as one closed line.
pub(crate) fn as_one(parts: &[Polygon]) -> Corners {
    joined(parts.iter().map(with_holes))
}

/// The corners of a ring.
pub(crate) fn corners(ring: &Ring) -> Corners {
    ring.points.iter().map(|p| [p.x, p.y]).collect()
}

/// Closed lines joined to one by cuts of no width, which are gone along twice: filled by the even-odd rule, it covers
/// what they do.
///
/// Source: `merge_multi_segment` of Ultralytics, which joins the parts of COCO's objects.
fn joined(lines: impl Iterator<Item = Corners>) -> Corners {
    let lines: Vec<Corners> = lines.filter(|line| !line.is_empty()).collect();
    let pairs = PAIRS / lines.len().max(1);
    // Where each line but the first hangs: at a corner of one before, by a corner of its own.
    let mut hanging: HashMap<Place, Vec<Place>> = HashMap::new();
    let mut placed: Vec<Place> = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        if let Some((at, from)) = nearest(&lines, &placed, line, pairs) {
            hanging.entry(at).or_default().push((number, from));
        }
        placed.extend((0..line.len()).map(|corner| (number, corner)));
    }
    let mut all = Corners::new();
    let mut walks: Vec<Walk> = lines
        .first()
        .map(|_| Walk::new((0, 0)))
        .into_iter()
        .collect();
    while let Some(walk) = walks.last_mut() {
        let line = &lines[walk.line];
        if walk.steps == line.len() {
            // Back over the cut.
            let end = line[walk.start];
            walks.pop();
            if let Some(before) = walks.last() {
                all.extend([end, lines[before.line][before.corner(&lines)]]);
            }
            continue;
        }
        let corner = walk.corner(&lines);
        if walk.cuts == 0 {
            all.push(line[corner]);
        }
        let cuts = hanging
            .get(&(walk.line, corner))
            .map_or(&[][..], Vec::as_slice);
        if let Some(next) = cuts.get(walk.cuts) {
            walk.cuts += 1;
            walks.push(Walk::new(*next));
        } else {
            walk.steps += 1;
            walk.cuts = 0;
        }
    }
    all
}

/// A line, and a corner of it.
type Place = (usize, usize);

/// A way around a line.
struct Walk {
    line: usize,
    start: usize,
    steps: usize,
    /// How many lines that hang at this corner are done.
    cuts: usize,
}

impl Walk {
    fn new((line, start): Place) -> Self {
        Self {
            line,
            start,
            steps: 0,
            cuts: 0,
        }
    }

    fn corner(&self, lines: &[Corners]) -> usize {
        (self.start + self.steps) % lines[self.line].len()
    }
}

/// Which corner that is placed and which of a line are near to each other: the nearest, if there are at most so many
/// pairs.
fn nearest(
    lines: &[Corners],
    placed: &[Place],
    line: &Corners,
    pairs: usize,
) -> Option<(Place, usize)> {
    let step = (placed.len() * line.len()).div_ceil(pairs.max(1)).max(1);
    let mut best = f64::INFINITY;
    let mut found = None;
    for &(number, corner) in placed.iter().step_by(step) {
        let p = lines[number][corner];
        for (from, q) in line.iter().enumerate() {
            let distance = (p[0] - q[0]).powi(2) + (p[1] - q[1]).powi(2);
            if distance < best {
                best = distance;
                found = Some(((number, corner), from));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use samara_image::coco_polygons_to_mask;

    use super::*;

    #[test]
    fn one_line_covers_holes_and_parts() {
        // Islands in holes, parts that touch by corners, and very many of both.
        let shapes: [fn(u32, u32) -> bool; 3] = [
            |x, y| x.abs_diff(20).max(y.abs_diff(20)) % 6 < 3,
            |x, y| (x + y) % 2 == 0,
            |x, y| (x * 7919 + y * 104_729 + x * y) % 7 < 3,
        ];
        for shape in shapes {
            let mask = Mask::from_fn(43, 41, shape);
            let parts = parts(&mask, 0.0);
            let line = as_one(&parts).into_flattened();
            assert_eq!(coco_polygons_to_mask(&[line], 43, 41).unwrap(), mask);
            let lines: Vec<Vec<f64>> = parts
                .iter()
                .map(|part| with_holes(part).into_flattened())
                .collect();
            assert_eq!(coco_polygons_to_mask(&lines, 43, 41).unwrap(), mask);
        }
        assert_eq!(as_one(&[]), Corners::new());
    }

    #[test]
    fn a_mask_of_noise_does_not_take_for_ever() {
        let mut state = 1_u32;
        let mask = Mask::from_fn(1500, 1500, |_, _| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.is_multiple_of(3)
        });
        assert!(as_one(&parts(&mask, 0.0)).len() > 2_000_000);
    }
}
