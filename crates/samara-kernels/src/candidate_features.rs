//! Numbers that describe candidate masks, how they lie to the prompt that they answer and to each other.
//!
//! They are made of what every model of the family gives, logits and a prompt, so a head that reads them
//! serves any of these models.

use std::ops::Range;

use rayon::prelude::*;

use crate::isa::Isa;

/// Numbers that describe a mask alone, and the prompt in it.
pub const OWN: usize = 34;
/// Numbers that describe a mask beside another one.
pub const SHARED: usize = 5;

/// Among the numbers of a mask: the depth of the click against the largest depth.
const DEPTH: usize = 13;
/// Among the numbers of a mask: how far the deepest pixel is from the click.
const DEEPEST: usize = 15;

/// Logits are limited to this, both ways.
const LOGIT_LIMIT: f32 = 10.0;
/// Numbers are limited to this, both ways.
const LIMIT: f32 = 4.0;
/// Distances from the threshold, in logits, at which areas are compared.
const OFFSETS: [f32; 3] = [1.0, 2.0, 4.0];

/// How many numbers describe each of `masks` candidates.
pub const fn numbers(masks: usize) -> usize {
    OWN + SHARED * masks
}

/// A grid of logits: `side` × `side` values, of which the image covers the first `columns` and `rows`; the
/// rest is padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogitGrid {
    /// Values along a side.
    pub side: usize,
    /// Columns that the image covers, at least one.
    pub columns: usize,
    /// Rows that the image covers, at least one.
    pub rows: usize,
}

/// What a user pointed at, x before y, in logit pixels. Points may lie outside of the image.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PromptGeometry<'a> {
    /// Clicks on the object.
    pub positive: Vec<[f32; 2]>,
    /// Clicks on what is not the object.
    pub negative: Vec<[f32; 2]>,
    /// A box: left, top, right, bottom.
    pub bbox: Option<[f32; 4]>,
    /// Logits of a mask, `side` × `side`.
    pub mask: Option<&'a [f32]>,
}

impl PromptGeometry<'_> {
    /// The point that distances are measured from: the first positive click, the middle of the box, or, with
    /// neither, nothing.
    fn at(&self) -> Option<[f32; 2]> {
        let middle = |[x0, y0, x1, y1]: [f32; 4]| [f32::midpoint(x0, x1), f32::midpoint(y0, y1)];
        self.positive.first().copied().or(self.bbox.map(middle))
    }
}

/// Describes candidate masks, logits on `grid`, that answer `prompt`. For every mask
/// [`OWN`] numbers, then [`SHARED`] for every candidate, itself among them; all within ±4.
///
/// Of the mask, in this order: area as a share of the image (its root) and as a logarithm; stability at ±1, ±2
/// and ±4 logits; mean logit inside and outside; its box (width, height, how much of it is filled, aspect);
/// length of the outline and mean step of the logits across it. Of the click: its depth in the mask against the largest
/// depth, the largest depth, distance to the deepest pixel, depth as a logarithm, distance to the centre of
/// mass (straight and along both axes) and to the middle of the box, the logit there. Of its pieces: their
/// number, the share of the mask in the largest one and in that of the click; the share of the image's top,
/// bottom and sides that it touches. Of the rest of the prompt: the share of positive and of negative clicks inside,
/// whether and by what IoU its box matches that of the prompt, the IoU with the mask of the prompt, and the number of
/// clicks as a logarithm.
///
/// Beside another mask: their IoU, the share that lies in the other one, the ratio of areas, and for the other one
/// the depth of the click and the distance of the deepest pixel. Distances are in units of the root of the area.
///
/// # Panics
/// If there are not `side`² logits for every mask and the prompt's mask, or the grid has no columns or rows.
pub fn candidate_features(
    candidates: &[&[f32]],
    grid: LogitGrid,
    prompt: &PromptGeometry<'_>,
) -> Vec<f32> {
    assert!((1..=grid.side).contains(&grid.columns) && (1..=grid.side).contains(&grid.rows));
    let given = prompt.mask.map(|logits| Mask::of(logits, grid));
    let look = |logits: &&[f32]| {
        let mask = Mask::of(logits, grid);
        let own = mask.own(prompt, given.as_ref());
        (mask, own)
    };
    let (masks, own): (Vec<Mask>, Vec<_>) = candidates.par_iter().map(look).unzip();
    let mut all = Vec::with_capacity(masks.len() * numbers(masks.len()));
    for (mask, alone) in masks.iter().zip(&own) {
        all.extend(alone);
        let others = masks.iter().zip(&own);
        all.extend(others.flat_map(|(other, own)| mask.beside(other, own)));
    }
    for value in &mut all {
        *value = within(*value, LIMIT);
    }
    all
}

/// Limits a value to ±`limit`. NaN becomes the lower one, other than with `clamp`.
fn within(value: f32, limit: f32) -> f32 {
    value.max(-limit).min(limit)
}

/// A candidate without padding: limited logits, and which of them are above 0.
struct Mask {
    columns: usize,
    rows: usize,
    logits: Vec<f32>,
    inside: Vec<bool>,
    sums: Sums,
    area: f32,
    window: Window,
}

/// The columns and rows from the first to the last pixel inside; empty ranges without any.
struct Window {
    columns: Range<usize>,
    rows: Range<usize>,
}

impl Mask {
    fn of(logits: &[f32], grid: LogitGrid) -> Self {
        assert_eq!(logits.len(), grid.side * grid.side);
        let rows = logits.chunks_exact(grid.side).take(grid.rows);
        let pixels = grid.columns * grid.rows;
        let (mut limited, mut inside) = (vec![0.0; pixels], vec![false; pixels]);
        let mut sums = Sums::default();
        let to = limited.chunks_exact_mut(grid.columns);
        let to = to.zip(inside.chunks_exact_mut(grid.columns));
        let mut window = Window {
            columns: grid.columns..0,
            rows: grid.rows..0,
        };
        for (y, (row, (limited, inside))) in rows.zip(to).enumerate() {
            Isa::best().run(
                #[inline(always)]
                |_| sums.add(&row[..grid.columns], limited, inside),
            );
            let (first, last) = (
                inside.iter().position(|&inside| inside),
                inside.iter().rposition(|&inside| inside),
            );
            if let (Some(first), Some(last)) = (first, last) {
                let Window { columns, rows } = &mut window;
                *columns = columns.start.min(first)..columns.end.max(last + 1);
                *rows = rows.start.min(y)..y + 1;
            }
        }
        if window.rows.is_empty() {
            window = Window {
                columns: 0..0,
                rows: 0..0,
            };
        }
        Self {
            columns: grid.columns,
            rows: grid.rows,
            logits: limited,
            inside,
            area: sums.inside(),
            sums,
            window,
        }
    }

    /// The part of every row of the window that lies in it.
    fn seen_rows(&self) -> impl Iterator<Item = &[bool]> {
        let rows = self.inside.chunks_exact(self.columns);
        let rows = rows
            .skip(self.window.rows.start)
            .take(self.window.rows.len());
        rows.map(|row| &row[self.window.columns.clone()])
    }

    /// The root of the area, the unit of distances.
    fn length(&self) -> f32 {
        (self.area + 1.0).sqrt()
    }

    fn own(&self, prompt: &PromptGeometry<'_>, given: Option<&Self>) -> [f32; OWN] {
        let pixels = (self.columns * self.rows) as f32;
        let [one, two, four] = self.sums.stability();
        let (all, positive) = (self.sums.all(), self.sums.positive());
        let (outline, steps) = self.outline();
        let depths = self.depths();
        let at = prompt.at().unwrap_or(depths.deepest_at);
        let extent = self.extent(at);
        let [width, height] = extent.size;
        let length = self.length();

        let depth = self.depth_at(&depths, at);
        let deepest = depths.deepest;
        let far = |[x, y]: [f32; 2]| (x - at[0]).hypot(y - at[1]) / length;
        let off = |axis: usize| (extent.mass[axis] - at[axis]).abs() / extent.size[axis] * 2.0;
        let pieces = self.pieces(at);
        let [top, bottom, sides] = self.borders();
        let hit = |clicks: &[[f32; 2]]| {
            let inside = count(clicks.iter().map(|&click| self.inside[self.pixel(click)]));
            inside / clicks.len().max(1) as f32
        };
        let boxed = prompt.bbox.map_or(0.0, |bbox| extent.box_iou(bbox));
        let masked = given.map_or(0.0, |given| self.iou(given));
        let clicks = (prompt.positive.len() + prompt.negative.len()) as f32;
        [
            (self.area / pixels).sqrt(),
            (self.area + 1.0).ln() / 5.0 - 1.0,
            one,
            two,
            four,
            positive / (self.area + 1.0) / 5.0 - 1.0,
            (positive - all) / (pixels - self.area + 1.0) / 5.0 - 1.0,
            width / self.columns as f32,
            height / self.rows as f32,
            self.area / (width * height),
            (width / height).ln(),
            outline / length / 4.0 - 1.0,
            steps / (outline + 1.0) / 5.0,
            depth / (deepest + 1e-3),
            4.0 * deepest / length - 1.0,
            far(depths.deepest_at),
            (depth + 0.5).ln() / 2.0,
            far(extent.mass),
            off(0),
            off(1),
            far(extent.middle),
            self.logits[self.pixel(at)] / 5.0,
            (pieces.count + 1.0).ln() / 2.0,
            pieces.largest,
            pieces.clicked,
            top,
            bottom,
            sides,
            hit(&prompt.positive),
            hit(&prompt.negative),
            f32::from(u8::from(prompt.bbox.is_some())),
            boxed,
            masked,
            (clicks + 1.0).ln() / 2.0,
        ]
    }

    /// Beside another mask, of which these are its own numbers.
    fn beside(&self, other: &Self, own: &[f32; OWN]) -> [f32; SHARED] {
        let both = self.both(other);
        [
            both / (self.area + other.area - both + 1.0),
            both / (self.area + 1.0),
            ((other.area + 1.0) / (self.area + 1.0)).ln() / 2.0,
            own[DEPTH],
            own[DEEPEST],
        ]
    }

    /// Pixels that are in both masks.
    fn both(&self, other: &Self) -> f32 {
        let both = self.inside.iter().zip(&other.inside);
        count(both.map(|(a, b)| a & b))
    }

    fn iou(&self, other: &Self) -> f32 {
        let both = self.both(other);
        both / (self.area + other.area - both + 1.0)
    }

    /// Pairs of neighbours with the outline between them, and the sum of the steps of the logits there.
    fn outline(&self) -> (f32, f32) {
        let Window { columns, rows } = &self.window;
        // One pixel more on every side, so that each crossing has both of its pixels.
        let columns = columns.start.saturating_sub(1)..(columns.end + 1).min(self.columns);
        let rows = rows.start.saturating_sub(1)..(rows.end + 1).min(self.rows);
        let row = |y: usize| &self.logits[y * self.columns..][columns.clone()];
        let mut crossings = Crossings::default();
        Isa::best().run(
            #[inline(always)]
            |_| {
                for y in rows.clone() {
                    let here = row(y);
                    crossings.add(&here[..here.len() - 1], &here[1..]);
                    if y + 1 < rows.end {
                        crossings.add(here, row(y + 1));
                    }
                }
            },
        );
        (
            crossings.pairs.iter().sum::<u32>() as f32,
            crossings.steps.iter().sum(),
        )
    }

    fn extent(&self, at: [f32; 2]) -> Extent {
        let mut extent = Extent {
            size: [1.0; 2],
            middle: at,
            mass: at,
        };
        let Window { columns, rows } = &self.window;
        if columns.is_empty() {
            return extent;
        }
        let (mut in_columns, mut in_rows) = (vec![0_u32; columns.len()], vec![0; rows.len()]);
        for (row, in_row) in self.seen_rows().zip(&mut in_rows) {
            for (&inside, in_column) in row.iter().zip(&mut in_columns) {
                *in_column += u32::from(inside);
                *in_row += u32::from(inside);
            }
        }
        for (axis, (range, sums)) in [(columns, in_columns), (rows, in_rows)].iter().enumerate() {
            let (first, last) = (range.start as f32, range.end as f32);
            let moment = |(i, &sum): (usize, &u32)| (first + i as f32 + 0.5) * sum as f32;
            extent.size[axis] = last - first;
            extent.middle[axis] = f32::midpoint(first, last);
            extent.mass[axis] = sums.iter().enumerate().map(moment).sum::<f32>() / self.area;
        }
        extent
    }

    /// Index of the pixel that is nearest to a point.
    fn pixel(&self, [x, y]: [f32; 2]) -> usize {
        let place = |v: f32, count: usize| (v.max(0.0) as usize).min(count - 1);
        place(y, self.rows) * self.columns + place(x, self.columns)
    }

    /// Shares of the image's top row, bottom row and outer columns that lie inside.
    fn borders(&self) -> [f32; 3] {
        let share = |pixels: f32, all: usize| pixels / all as f32;
        let (first, last) = (
            &self.inside[..self.columns],
            &self.inside[(self.rows - 1) * self.columns..],
        );
        let rows = self.inside.chunks_exact(self.columns);
        let sides: f32 = rows
            .map(|row| count([row[0], row[self.columns - 1]].into_iter()))
            .sum();
        [
            share(count(first.iter().copied()), self.columns),
            share(count(last.iter().copied()), self.columns),
            share(sides, 2 * self.rows),
        ]
    }

    /// Distances of the pixels in the window to the outside; beyond the edge of the image is outside. Distances
    /// are those of a chamfer transform (Borgefors 1986) with steps of 1 and √2, at most 8 % too long.
    fn depths(&self) -> Depths {
        // With a border, so that every pixel has all its neighbours.
        let width = self.window.columns.len() + 2;
        let mut at = vec![0.0_f32; width * (self.window.rows.len() + 2)];
        for (row, depths) in self.seen_rows().zip(at.chunks_exact_mut(width).skip(1)) {
            for (depth, &inside) in depths[1..].iter_mut().zip(row) {
                *depth = if inside { f32::MAX } else { 0.0 };
            }
        }
        let last = self.window.rows.len();
        for y in 1..=last {
            let (above, here) = at.split_at_mut(y * width);
            let here = &mut here[..width];
            come_near(here, &above[(y - 1) * width..]);
            for x in 1..width - 1 {
                here[x] = here[x].min(here[x - 1] + 1.0);
            }
        }
        for y in (1..=last).rev() {
            let (here, below) = at.split_at_mut((y + 1) * width);
            let here = &mut here[y * width..];
            come_near(here, &below[..width]);
            for x in (1..width - 1).rev() {
                here[x] = here[x].min(here[x + 1] + 1.0);
            }
        }
        let mut depths = Depths {
            width,
            at: Vec::new(),
            deepest: 0.0,
            deepest_at: [self.columns as f32 / 2.0, self.rows as f32 / 2.0],
        };
        for (y, row) in at.chunks_exact(width).enumerate() {
            let most = row.iter().copied().fold(0.0, f32::max);
            if most > depths.deepest {
                let x = row.iter().position(|&depth| depth == most).unwrap_or(1);
                depths.deepest = most;
                depths.deepest_at = [
                    (self.window.columns.start + x) as f32 - 0.5,
                    (self.window.rows.start + y) as f32 - 0.5,
                ];
            }
        }
        depths.at = at;
        depths
    }

    /// The depth of the pixel nearest to a point; 0 outside.
    fn depth_at(&self, depths: &Depths, at: [f32; 2]) -> f32 {
        let pixel = self.pixel(at);
        if !self.inside[pixel] {
            return 0.0;
        }
        let x = pixel % self.columns - self.window.columns.start + 1;
        let y = pixel / self.columns - self.window.rows.start + 1;
        depths.at[y * depths.width + x]
    }

    /// Pieces of pixels that touch along an edge, found run by run.
    fn pieces(&self, at: [f32; 2]) -> Pieces {
        let mut forest = Forest::default();
        let mut above: Vec<Run> = Vec::new();
        let mut here: Vec<Run> = Vec::new();
        let pixel = self.pixel(at);
        let clicked_at = [
            (pixel % self.columns).checked_sub(self.window.columns.start),
            (pixel / self.columns).checked_sub(self.window.rows.start),
        ];
        let mut clicked = None;
        for (y, row) in self.seen_rows().enumerate() {
            here.clear();
            let mut x = 0;
            while x < row.len() {
                if !row[x] {
                    x += 1;
                    continue;
                }
                let start = x;
                x += row[x..]
                    .iter()
                    .position(|&inside| !inside)
                    .unwrap_or(row.len() - x);
                let piece = forest.add(x - start);
                for run in above.iter().filter(|run| run.start < x && start < run.end) {
                    forest.join(run.piece, piece);
                }
                if clicked_at[1] == Some(y) && clicked_at[0].is_some_and(|at| start <= at && at < x)
                {
                    clicked = Some(piece);
                }
                here.push(Run {
                    start,
                    end: x,
                    piece,
                });
            }
            std::mem::swap(&mut above, &mut here);
        }
        let share = |area: usize| area as f32 / self.area.max(1.0);
        let clicked = clicked.map(|piece| forest.root(piece));
        Pieces {
            count: forest.roots().count() as f32,
            largest: share(forest.roots().max().unwrap_or(0)),
            clicked: clicked.map_or(0.0, |root| share(forest.area[root])),
        }
    }
}

/// How many values are summed side by side.
const LANES: usize = 16;

/// Sums over the limited logits of a mask.
#[derive(Default)]
struct Sums {
    all: [f32; LANES],
    positive: [f32; LANES],
    inside: [u32; LANES],
    /// How many are above +offset and above −offset, for each of [`OFFSETS`].
    above: [[[u32; LANES]; 2]; 3],
}

impl Sums {
    /// Adds a row, and writes its limited logits and which of them are above 0.
    #[inline(always)]
    fn add(&mut self, row: &[f32], limited: &mut [f32], inside: &mut [bool]) {
        let (chunks, rest) = row.as_chunks::<LANES>();
        let done = row.len() - rest.len();
        let to = limited
            .chunks_exact_mut(LANES)
            .zip(inside.chunks_exact_mut(LANES));
        for (chunk, (limited, inside)) in chunks.iter().zip(to) {
            self.add_lanes(chunk, limited, inside);
        }
        self.add_lanes(rest, &mut limited[done..], &mut inside[done..]);
    }

    #[inline(always)]
    fn add_lanes(&mut self, row: &[f32], limited: &mut [f32], inside: &mut [bool]) {
        for (lane, &logit) in row.iter().enumerate() {
            let logit = within(logit, LOGIT_LIMIT);
            limited[lane] = logit;
            inside[lane] = logit > 0.0;
            self.all[lane] += logit;
            self.positive[lane] += logit.max(0.0);
            self.inside[lane] += u32::from(logit > 0.0);
            for (above, offset) in self.above.iter_mut().zip(OFFSETS) {
                above[0][lane] += u32::from(logit > offset);
                above[1][lane] += u32::from(logit > -offset);
            }
        }
    }

    fn all(&self) -> f32 {
        self.all.iter().sum()
    }

    fn positive(&self) -> f32 {
        self.positive.iter().sum()
    }

    fn inside(&self) -> f32 {
        self.inside.iter().sum::<u32>() as f32
    }

    /// Area above +offset by that above −offset, for each of [`OFFSETS`].
    fn stability(&self) -> [f32; 3] {
        self.above.map(|sums| {
            let [above, below] = sums.map(|lanes| lanes.iter().sum::<u32>() as f32 + 1.0);
            above / below
        })
    }
}

/// Pairs of neighbours of which one is inside, and the sum of the steps between them.
#[derive(Default)]
struct Crossings {
    pairs: [u32; LANES],
    steps: [f32; LANES],
}

impl Crossings {
    #[inline(always)]
    fn add(&mut self, a: &[f32], b: &[f32]) {
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (a, b) in a.iter().zip(b) {
            self.add_lanes(a, b);
        }
        self.add_lanes(a_rest, b_rest);
    }

    #[inline(always)]
    fn add_lanes(&mut self, a: &[f32], b: &[f32]) {
        for (lane, (&a, &b)) in a.iter().zip(b).enumerate() {
            let crossed = (a > 0.0) != (b > 0.0);
            self.pairs[lane] += u32::from(crossed);
            self.steps[lane] += if crossed { (a - b).abs() } else { 0.0 };
        }
    }
}

/// A run of pixels inside, in one row.
struct Run {
    start: usize,
    end: usize,
    piece: usize,
}

/// The pieces of a mask.
struct Pieces {
    count: f32,
    /// Share of the mask in the largest one.
    largest: f32,
    /// Share of the mask in that of the click.
    clicked: f32,
}

/// Disjoint sets of runs with their areas.
#[derive(Default)]
struct Forest {
    parent: Vec<usize>,
    area: Vec<usize>,
}

impl Forest {
    fn add(&mut self, area: usize) -> usize {
        self.parent.push(self.parent.len());
        self.area.push(area);
        self.parent.len() - 1
    }

    fn root(&mut self, mut i: usize) -> usize {
        while self.parent[i] != i {
            self.parent[i] = self.parent[self.parent[i]];
            i = self.parent[i];
        }
        i
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            self.parent[b] = a;
            self.area[a] += self.area[b];
        }
    }

    /// Areas of the sets.
    fn roots(&self) -> impl Iterator<Item = usize> {
        let sets = self.parent.iter().enumerate().zip(&self.area);
        sets.filter(|((i, parent), _)| i == *parent)
            .map(|(_, &area)| area)
    }
}

/// Lowers distances to those over a pixel of the row beside, given with its border.
fn come_near(here: &mut [f32], beside: &[f32]) {
    let three = beside.windows(3);
    for (depth, near) in here[1..].iter_mut().zip(three) {
        let slanted = near[0].min(near[2]) + std::f32::consts::SQRT_2;
        *depth = depth.min(near[1] + 1.0).min(slanted);
    }
}

/// Distances to the outside.
struct Depths {
    /// Of every pixel of the window, with a border of one pixel.
    at: Vec<f32>,
    /// Of the window with its border.
    width: usize,
    deepest: f32,
    /// The first pixel with it, row by row; the middle of the image in an empty mask.
    deepest_at: [f32; 2],
}

/// Where a mask lies, x before y. An empty one lies at the click.
struct Extent {
    size: [f32; 2],
    middle: [f32; 2],
    mass: [f32; 2],
}

impl Extent {
    fn box_iou(&self, [x0, y0, x1, y1]: [f32; 4]) -> f32 {
        let overlap = |axis: usize, low: f32, high: f32| {
            let half = self.size[axis] / 2.0;
            let (from, to) = (self.middle[axis] - half, self.middle[axis] + half);
            (to.min(high) - from.max(low)).max(0.0)
        };
        let both = overlap(0, x0, x1) * overlap(1, y0, y1);
        let all = self.size[0] * self.size[1] + (x1 - x0) * (y1 - y0) - both;
        both / all.max(1e-6)
    }
}

fn count(values: impl Iterator<Item = bool>) -> f32 {
    values.map(u32::from).sum::<u32>() as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIDE: usize = 24;
    /// Without padding.
    const FULL: LogitGrid = grid(SIDE, SIDE);

    const fn grid(columns: usize, rows: usize) -> LogitGrid {
        LogitGrid {
            side: SIDE,
            columns,
            rows,
        }
    }

    /// Logits of a rectangle: 3 inside, −6 outside.
    fn rect(x0: usize, y0: usize, w: usize, h: usize) -> Vec<f32> {
        let pixels = (0..SIDE * SIDE).map(|i| (i % SIDE, i / SIDE));
        pixels
            .map(|(x, y)| {
                let inside = (x0..x0 + w).contains(&x) && (y0..y0 + h).contains(&y);
                if inside { 3.0 } else { -6.0 }
            })
            .collect()
    }

    fn click(x: f32, y: f32) -> PromptGeometry<'static> {
        PromptGeometry {
            positive: vec![[x, y]],
            ..PromptGeometry::default()
        }
    }

    fn near(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (i, (a, b)) in found.iter().zip(expected).enumerate() {
            assert!((a - b).abs() < 1e-4, "number {i}: {a}, not {b}");
        }
    }

    #[test]
    fn a_rectangle_is_what_it_is() {
        let found = candidate_features(&[&rect(4, 6, 9, 5)], FULL, &click(6.5, 8.5));
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
            2.0_f32.ln() / 2.0,
            1.0,
            1.0,
            0.0,
            0.0,
            0.0,
            1.0,
            0.0,
            0.0,
            0.0,
            0.0,
            2.0_f32.ln() / 2.0,
        ];
        near(&found[..OWN], &expected);
        let alone = [45.0 / 46.0, 45.0 / 46.0, 0.0, 3.0 / 3.001, 0.0];
        near(&found[OWN..], &alone);
    }

    #[test]
    fn padding_is_not_looked_at() {
        let wide = rect(4, 6, 20, 18);
        let found = candidate_features(&[&wide], grid(16, 12), &click(6.5, 8.5));
        // The same as where nothing lies in the padding, and with the image's own edges.
        let own = candidate_features(&[&rect(4, 6, 12, 6)], grid(16, 12), &click(6.5, 8.5));
        near(&found, &own);
        let [top, bottom, sides] = [found[25], found[26], found[27]];
        near(&[top, bottom, sides], &[0.0, 12.0 / 16.0, 6.0 / 24.0]);
        near(&found[..1], &[(72.0_f32 / 192.0).sqrt()]);
    }

    #[test]
    fn pieces_are_counted_and_weighed() {
        let mut two = rect(2, 2, 4, 4);
        for (to, from) in two.iter_mut().zip(rect(10, 10, 8, 2)) {
            *to = to.max(from);
        }
        // A U of one piece whose arms meet in the last row.
        for (x, y) in [
            (14, 2),
            (14, 3),
            (16, 2),
            (16, 3),
            (14, 4),
            (15, 4),
            (16, 4),
        ] {
            two[y * SIDE + x] = 3.0;
        }
        let found = candidate_features(&[&two], FULL, &click(3.5, 3.5));
        near(
            &found[22..25],
            &[4.0_f32.ln() / 2.0, 16.0 / 39.0, 16.0 / 39.0],
        );
        let beside = candidate_features(&[&two], FULL, &click(20.5, 20.5));
        near(&beside[22..25], &[4.0_f32.ln() / 2.0, 16.0 / 39.0, 0.0]);
        let on_the_u = candidate_features(&[&two], FULL, &click(16.5, 2.5));
        near(&on_the_u[24..25], &[7.0 / 39.0]);
    }

    #[test]
    fn the_whole_prompt_is_told() {
        let mask = rect(4, 4, 8, 8);
        let given = rect(4, 4, 8, 4);
        let prompt = PromptGeometry {
            positive: vec![[5.0, 5.0], [20.0, 20.0]],
            negative: vec![[6.0, 6.0], [0.0, 0.0], [-4.0, 99.0]],
            bbox: Some([4.0, 4.0, 12.0, 20.0]),
            mask: Some(&given),
        };
        let found = candidate_features(&[&mask], FULL, &prompt);
        let clicks = 6.0_f32.ln() / 2.0;
        near(
            &found[28..OWN],
            &[0.5, 1.0 / 3.0, 1.0, 0.5, 32.0 / 65.0, clicks],
        );
        // Without a click distances are measured from the middle of the box.
        let boxed = PromptGeometry {
            bbox: Some([4.0, 4.0, 12.0, 12.0]),
            ..PromptGeometry::default()
        };
        let found = candidate_features(&[&mask], FULL, &boxed);
        near(&[found[17], found[31]], &[0.0, 1.0]);
    }

    #[test]
    fn masks_are_compared_with_each_other() {
        let (large, small) = (rect(4, 4, 10, 10), rect(4, 4, 5, 10));
        let found = candidate_features(&[&large, &small], FULL, &click(5.5, 9.5));
        let (first, second) = found.split_at(numbers(2));
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
    fn depth_ends_at_the_edge_of_the_image() {
        let full = vec![2.0; SIDE * SIDE];
        let found = candidate_features(&[&full], FULL, &click(0.5, 0.5));
        let deepest = (found[14] + 1.0) / 4.0 * 577.0_f32.sqrt();
        assert!((deepest - 12.0).abs() < 1e-3, "{deepest}");
        let depth = found[DEPTH];
        assert!((depth - 1.0 / 12.001).abs() < 1e-3, "{depth}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_logits_and_prompts_give_numbers(
            logits in proptest::collection::vec(any::<f32>(), 3 * 64),
            points in proptest::collection::vec([any::<f32>(), any::<f32>()], 0..4),
            bbox in proptest::option::of([any::<f32>(), any::<f32>(), any::<f32>(), any::<f32>()]),
            (columns, rows) in (1_usize..=8, 1_usize..=8),
        ) {
            let (positive, negative) = points.split_at(points.len() / 2);
            let prompt = PromptGeometry {
                positive: positive.into(),
                negative: negative.into(),
                bbox,
                mask: Some(&logits[..64]),
            };
            let masks: Vec<&[f32]> = logits.chunks_exact(64).collect();
            let found = candidate_features(&masks, LogitGrid { side: 8, columns, rows }, &prompt);
            prop_assert_eq!(found.len(), 3 * numbers(3));
            prop_assert!(found.iter().all(|v| v.abs() <= LIMIT), "{:?}", found);
        }

        #[test]
        fn a_transposed_image_has_width_for_height(
            logits in proptest::collection::vec(-9.0_f32..9.0, 144),
            x in 0.0_f32..12.0,
            y in 0.0_f32..12.0,
        ) {
            let transposed: Vec<f32> = (0..144).map(|i| logits[i % 12 * 12 + i / 12]).collect();
            let grid = LogitGrid { side: 12, columns: 12, rows: 12 };
            let found = candidate_features(&[&logits], grid, &click(x, y));
            let mut other = candidate_features(&[&transposed], grid, &click(y, x));
            other.swap(7, 8);
            other[10] = -other[10];
            other.swap(18, 19);
            for (i, (a, b)) in found.iter().zip(other).enumerate() {
                // Of several deepest pixels the first one row by row is taken; top and bottom become sides.
                let differs = i == DEEPEST || i == OWN + SHARED - 1 || (25..28).contains(&i);
                prop_assert!(differs || (a - b).abs() < 1e-3, "number {}: {} {}", i, a, b);
            }
        }
    }
}
