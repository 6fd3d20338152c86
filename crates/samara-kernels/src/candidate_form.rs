//! What candidate masks look like, and how they lie to each other and to the click that they answer.
//!
//! A score that is to say how well a mask matches what a user meant is told little by a decoder's
//! tokens, and much by the masks themselves: whether the click lies where a user would have put it,
//! in the depth of the mask; whether the candidates agree; whether the outline is firm.

/// Numbers that describe a mask alone, and the click in it.
pub const OWN: usize = 22;
/// Numbers that describe a mask beside another one.
pub const SHARED: usize = 5;

/// Among the numbers of a mask: the depth of the click against the largest one.
const DEPTH: usize = 13;
/// Among the numbers of a mask: how far the deepest cell is from the click.
const DEEPEST: usize = 15;

/// Logits beyond this, both ways, count as this.
const END: f32 = 10.0;
/// No number goes beyond this, both ways.
const LIMIT: f32 = 4.0;
/// Distances from the threshold, in logits, at which areas are compared.
const OFFSETS: [f32; 3] = [1.0, 2.0, 4.0];

/// How many numbers describe each of `masks` candidates.
pub const fn numbers(masks: usize) -> usize {
    OWN + SHARED * masks
}

/// Describes candidate masks of `side` × `side` logits each, one after the other, that answer a click
/// `at` (x, y) in cells, which may lie outside. For every mask [`OWN`] numbers, then [`SHARED`] for
/// every candidate, itself among them; all within ±4.
///
/// Of the mask: area (as a length and as a logarithm), stability at ±1, ±2 and ±4 logits, mean logit
/// inside and outside, its box (width, height, how much of it is filled, aspect), length and steepness
/// of the outline. Of the click: its depth in the mask against the largest depth, that depth, how far
/// away the deepest cell is, the depth itself, how far the centre of mass is (also along both axes) and
/// the middle of the box, the logit there. Beside another mask: their IoU, the share that lies in the
/// other, the ratio of areas, and how the click lies in the other one: its depth against the largest
/// there, how far away the deepest cell is. Where the click is amid one mask, it speaks against the
/// others. Lengths are in units of the root of the area.
///
/// # Panics
/// If there are not `side`² logits for every mask, or none at all.
pub fn candidate_form(logits: &[f32], side: usize, at: [f32; 2]) -> Vec<f32> {
    assert!(side > 0 && logits.len().is_multiple_of(side * side));
    let masks: Vec<Mask> = logits
        .chunks_exact(side * side)
        .map(|logits| Mask::of(logits, side))
        .collect();
    let own: Vec<_> = masks.iter().map(|mask| mask.own(at)).collect();
    let mut all = Vec::with_capacity(masks.len() * numbers(masks.len()));
    for (mask, numbers) in masks.iter().zip(&own) {
        all.extend(numbers);
        for (other, numbers) in masks.iter().zip(&own) {
            all.extend(mask.beside(other));
            all.extend([numbers[DEPTH], numbers[DEEPEST]]);
        }
    }
    for value in &mut all {
        *value = within(*value, LIMIT);
    }
    all
}

/// Limits a value to ±`end`. What is not a number becomes the lower one, other than with `clamp`.
fn within(value: f32, end: f32) -> f32 {
    value.max(-end).min(end)
}

/// A candidate: logits with an end, and which of them are above 0.
struct Mask {
    side: usize,
    logits: Vec<f32>,
    inside: Vec<bool>,
    area: f32,
}

impl Mask {
    fn of(logits: &[f32], side: usize) -> Self {
        // What is not a number is outside.
        let logits: Vec<f32> = logits.iter().map(|&l| within(l, END)).collect();
        let inside: Vec<bool> = logits.iter().map(|&l| l > 0.0).collect();
        let area = count(inside.iter().copied());
        Self {
            side,
            logits,
            inside,
            area,
        }
    }

    /// The root of the area, the unit of lengths.
    fn length(&self) -> f32 {
        (self.area + 1.0).sqrt()
    }

    fn own(&self, at: [f32; 2]) -> [f32; OWN] {
        let cells = (self.side * self.side) as f32;
        let above = |offset: f32| count(self.logits.iter().map(|&l| l > offset)) + 1.0;
        let [one, two, four] = OFFSETS.map(|offset| above(offset) / above(-offset));
        let all: f32 = self.logits.iter().sum();
        let within: f32 = self.logits.iter().map(|l| l.max(0.0)).sum();
        let (outline, steps) = self.outline();
        let extent = self.extent(at);
        let [width, height] = extent.size;
        let length = self.length();

        let (depth, deepest, deepest_at) = self.depths(at);
        let far = |[x, y]: [f32; 2]| (x - at[0]).hypot(y - at[1]) / length;
        let off = |axis: usize| (extent.mass[axis] - at[axis]).abs() / extent.size[axis] * 2.0;
        let here = self.cell(at);
        [
            (self.area / cells).sqrt(),
            (self.area + 1.0).ln() / 5.0 - 1.0,
            one,
            two,
            four,
            within / (self.area + 1.0) / 5.0 - 1.0,
            (within - all) / (cells - self.area + 1.0) / 5.0 - 1.0,
            width / self.side as f32,
            height / self.side as f32,
            self.area / (width * height),
            (width / height).ln(),
            outline / length / 4.0 - 1.0,
            steps / (outline + 1.0) / 5.0,
            depth / (deepest + 1e-3),
            4.0 * deepest / length - 1.0,
            far(deepest_at),
            (depth + 0.5).ln() / 2.0,
            far(extent.mass),
            off(0),
            off(1),
            far(extent.middle),
            self.logits[here] / 5.0,
        ]
    }

    fn beside(&self, other: &Self) -> [f32; 3] {
        let both = self.inside.iter().zip(&other.inside);
        let both = count(both.map(|(a, b)| a & b));
        [
            both / (self.area + other.area - both + 1.0),
            both / (self.area + 1.0),
            ((other.area + 1.0) / (self.area + 1.0)).ln() / 2.0,
        ]
    }

    /// Pairs of neighbours with the outline between them, and the sum of the steps of the logits there.
    fn outline(&self) -> (f32, f32) {
        let (mut pairs, mut steps) = (0.0, 0.0);
        let mut add = |a: f32, b: f32| {
            let crossed = f32::from(u8::from((a > 0.0) != (b > 0.0)));
            pairs += crossed;
            steps += crossed * (a - b).abs();
        };
        for row in self.logits.chunks_exact(self.side) {
            row.iter().zip(&row[1..]).for_each(|(&a, &b)| add(a, b));
        }
        let below = &self.logits[self.side..];
        let pairs_down = self.logits.iter().zip(below);
        pairs_down.for_each(|(&a, &b)| add(a, b));
        (pairs, steps)
    }

    fn extent(&self, at: [f32; 2]) -> Extent {
        let side = self.side;
        let (mut columns, mut rows) = (vec![0.0_f32; side], vec![0.0_f32; side]);
        for (row, sum) in self.inside.chunks_exact(side).zip(&mut rows) {
            for (&inside, column) in row.iter().zip(&mut columns) {
                let one = f32::from(u8::from(inside));
                *column += one;
                *sum += one;
            }
        }
        let mut extent = Extent {
            size: [1.0; 2],
            middle: at,
            mass: at,
        };
        for (axis, sums) in [columns, rows].iter().enumerate() {
            let first = sums.iter().position(|&sum| sum > 0.0);
            let last = sums.iter().rposition(|&sum| sum > 0.0);
            let (Some(first), Some(last)) = (first, last) else {
                continue;
            };
            let (first, last) = (first as f32, last as f32 + 1.0);
            let moment = |(i, sum): (usize, &f32)| (i as f32 + 0.5) * sum;
            extent.size[axis] = last - first;
            extent.middle[axis] = f32::midpoint(first, last);
            extent.mass[axis] = sums.iter().enumerate().map(moment).sum::<f32>() / self.area;
        }
        extent
    }

    /// Index of the cell that is nearest to a point.
    fn cell(&self, [x, y]: [f32; 2]) -> usize {
        let place = |v: f32| (v.max(0.0) as usize).min(self.side - 1);
        place(y) * self.side + place(x)
    }

    /// Distance to the outside at a point, the largest one, and where that is. Beyond the edge is
    /// outside. Distances are those of a chamfer transform (Borgefors 1986) with steps of 1 and √2, at
    /// most 8 % too long.
    fn depths(&self, at: [f32; 2]) -> (f32, f32, [f32; 2]) {
        use std::f32::consts::SQRT_2;
        let width = self.side + 2;
        // With a border, so that every cell has all its neighbours.
        let mut depth = vec![0.0_f32; width * width];
        for (y, row) in self.inside.chunks_exact(self.side).enumerate() {
            let line = &mut depth[(y + 1) * width + 1..][..self.side];
            for (depth, &inside) in line.iter_mut().zip(row) {
                *depth = if inside { f32::MAX } else { 0.0 };
            }
        }
        for i in width + 1..width * (width - 1) - 1 {
            let straight = depth[i - 1].min(depth[i - width]) + 1.0;
            let slanted = depth[i - width - 1].min(depth[i - width + 1]) + SQRT_2;
            depth[i] = depth[i].min(straight).min(slanted);
        }
        for i in (width + 1..width * (width - 1) - 1).rev() {
            let straight = depth[i + 1].min(depth[i + width]) + 1.0;
            let slanted = depth[i + width + 1].min(depth[i + width - 1]) + SQRT_2;
            depth[i] = depth[i].min(straight).min(slanted);
        }
        let (mut deepest, mut place) = (0.0, at);
        for (y, line) in depth.chunks_exact(width).enumerate() {
            for (x, &depth) in line.iter().enumerate() {
                if depth > deepest {
                    (deepest, place) = (depth, [x as f32 - 0.5, y as f32 - 0.5]);
                }
            }
        }
        let here = self.cell(at);
        let here = (here / self.side + 1) * width + here % self.side + 1;
        (depth[here], deepest, place)
    }
}

/// Where a mask lies, x before y, in cells. One without cells lies at the click.
struct Extent {
    size: [f32; 2],
    middle: [f32; 2],
    mass: [f32; 2],
}

fn count(values: impl Iterator<Item = bool>) -> f32 {
    values.map(u32::from).sum::<u32>() as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIDE: usize = 24;

    /// Logits of a rectangle: 3 inside, −6 outside.
    fn rect(x0: usize, y0: usize, w: usize, h: usize) -> Vec<f32> {
        let cells = (0..SIDE * SIDE).map(|i| (i % SIDE, i / SIDE));
        cells
            .map(|(x, y)| {
                let inside = (x0..x0 + w).contains(&x) && (y0..y0 + h).contains(&y);
                if inside { 3.0 } else { -6.0 }
            })
            .collect()
    }

    fn near(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (i, (a, b)) in found.iter().zip(expected).enumerate() {
            assert!((a - b).abs() < 1e-4, "number {i}: {a}, not {b}");
        }
    }

    #[test]
    fn a_rectangle_is_what_it_is() {
        let form = candidate_form(&rect(4, 6, 9, 5), SIDE, [6.5, 8.5]);
        let length = 46.0_f32.sqrt();
        let expected = [
            (45.0_f32 / 576.0).sqrt(),
            46.0_f32.ln() / 5.0 - 1.0,
            1.0,
            1.0,
            1.0 / 46.0,
            135.0 / 46.0 / 5.0 - 1.0,
            531.0 * 6.0 / 532.0 / 5.0 - 1.0,
            9.0 / 24.0,
            5.0 / 24.0,
            1.0,
            (9.0_f32 / 5.0).ln(),
            28.0 / length / 4.0 - 1.0,
            28.0 * 9.0 / 29.0 / 5.0,
            3.0 / 3.001,
            12.0 / length - 1.0,
            0.0,
            3.5_f32.ln() / 2.0,
            2.0 / length,
            2.0 / 9.0 * 2.0,
            0.0,
            2.0 / length,
            0.6,
        ];
        near(&form[..OWN], &expected);
        near(
            &form[OWN..],
            &[45.0 / 46.0, 45.0 / 46.0, 0.0, 3.0 / 3.001, 0.0],
        );
    }

    #[test]
    fn masks_are_compared_with_each_other() {
        let logits = [rect(4, 4, 10, 10), rect(4, 4, 5, 10)].concat();
        let form = candidate_form(&logits, SIDE, [5.5, 9.5]);
        let (first, second) = form.split_at(numbers(2));
        let ratio = (101.0_f32 / 51.0).ln() / 2.0;
        let both = 50.0 / 101.0;
        near(
            &first[OWN + SHARED..],
            &[both, both, -ratio, second[DEPTH], second[DEEPEST]],
        );
        near(
            &second[OWN..OWN + SHARED],
            &[both, 50.0 / 51.0, ratio, first[DEPTH], first[DEEPEST]],
        );
        // The click is at the depth of the smaller one.
        assert!(
            first[DEPTH] < 0.5 && second[DEPTH] > 0.6,
            "{first:?} {second:?}"
        );
    }

    #[test]
    fn depth_ends_at_the_edge_of_the_picture() {
        let full = vec![2.0; SIDE * SIDE];
        let form = candidate_form(&full, SIDE, [0.5, 0.5]);
        let deepest = (form[14] + 1.0) / 4.0 * 577.0_f32.sqrt();
        assert!((deepest - 12.0).abs() < 1e-3, "{deepest}");
        let depth = form[DEPTH];
        assert!((depth - 1.0 / 12.001).abs() < 1e-3, "{depth}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_logits_and_clicks_give_numbers(
            logits in proptest::collection::vec(any::<f32>(), 3 * 64),
            x in any::<f32>(),
            y in -9.0_f32..20.0,
        ) {
            let form = candidate_form(&logits, 8, [x, y]);
            prop_assert_eq!(form.len(), 3 * numbers(3));
            prop_assert!(form.iter().all(|v| v.abs() <= LIMIT), "{:?}", form);
        }

        #[test]
        fn a_turned_picture_has_width_for_height(
            logits in proptest::collection::vec(-9.0_f32..9.0, 144),
            x in 0.0_f32..12.0,
            y in 0.0_f32..12.0,
        ) {
            let turned: Vec<f32> = (0..144).map(|i| logits[i % 12 * 12 + i / 12]).collect();
            let form = candidate_form(&logits, 12, [x, y]);
            let mut other = candidate_form(&turned, 12, [y, x]);
            other.swap(7, 8);
            other[10] = -other[10];
            other.swap(18, 19);
            for (i, (a, b)) in form.iter().zip(other).enumerate() {
                // Of several deepest cells the first in the order of the rows is taken.
                let deepest = i == DEEPEST || i == OWN + SHARED - 1;
                prop_assert!(deepest || (a - b).abs() < 1e-3, "number {}: {} {}", i, a, b);
            }
        }
    }
}
