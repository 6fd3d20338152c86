//! Tracing the pixel edges of a mask.

use crate::bits;
use crate::components::{Connectivity, Labels};
use crate::mask::Mask;

/// The outlines of one 4-connected component, as corners of pixel edges.
pub(crate) struct Outline {
    /// Clockwise on the screen.
    pub(crate) outer: Vec<(u32, u32)>,
    /// Counter-clockwise on the screen.
    pub(crate) holes: Vec<Vec<(u32, u32)>>,
}

/// The outlines of a mask, one for each 4-connected component.
///
/// Walks along pixel edges with the mask on the right. Where two set pixels touch only by a corner
/// the walk stays with its own pixel, so rings may touch themselves at a point but never cross.
pub(crate) fn outlines(mask: &Mask) -> Vec<Outline> {
    let labels = Labels::new(mask, Connectivity::Four);
    let empty = || Outline {
        outer: Vec::new(),
        holes: Vec::new(),
    };
    let mut found: Vec<Outline> = std::iter::repeat_with(empty).take(labels.count()).collect();
    // Every ring, hole or not, has an edge with its set pixel below.
    let mut to_visit = top_edges(mask);
    for y in 0..mask.height() {
        while let Some(x) = { bits::ones(to_visit.row(y)).next() } {
            let ring = walk(mask, &mut to_visit, (x, y));
            let Some(outline) = labels.at(x, y).and_then(|label| found.get_mut(label)) else {
                continue;
            };
            if outline.outer.is_empty() {
                outline.outer = ring;
            } else {
                outline.holes.push(ring);
            }
        }
    }
    found
}

/// The set pixels with no set pixel above.
fn top_edges(mask: &Mask) -> Mask {
    let mut edges = mask.clone();
    for y in 1..mask.height() {
        for (edge, above) in edges.row_mut(y).iter_mut().zip(mask.row(y - 1)) {
            *edge &= !above;
        }
    }
    edges
}

#[derive(Clone, Copy, PartialEq)]
enum Heading {
    East,
    South,
    West,
    North,
}

impl Heading {
    fn right(self) -> Self {
        match self {
            Self::East => Self::South,
            Self::South => Self::West,
            Self::West => Self::North,
            Self::North => Self::East,
        }
    }

    fn left(self) -> Self {
        self.right().right().right()
    }

    fn step(self, (x, y): (u32, u32)) -> (u32, u32) {
        match self {
            Self::East => (x + 1, y),
            Self::South => (x, y + 1),
            Self::West => (x - 1, y),
            Self::North => (x, y - 1),
        }
    }

    /// Whether the pixels ahead on the left and on the right of the corner are set.
    fn ahead(self, mask: &Mask, (x, y): (u32, u32)) -> (bool, bool) {
        // Wrapping below zero lands outside of the mask, where nothing is set.
        let (west, north) = (x.wrapping_sub(1), y.wrapping_sub(1));
        match self {
            Self::East => (mask.get(x, north), mask.get(x, y)),
            Self::South => (mask.get(x, y), mask.get(west, y)),
            Self::West => (mask.get(west, y), mask.get(west, north)),
            Self::North => (mask.get(west, north), mask.get(x, north)),
        }
    }
}

/// One ring, from the left end of a top edge back to it. Raster order makes the start a corner.
fn walk(mask: &Mask, to_visit: &mut Mask, start: (u32, u32)) -> Vec<(u32, u32)> {
    let mut ring = vec![start];
    let (mut at, mut heading) = (start, Heading::East);
    loop {
        if heading == Heading::East {
            to_visit.set(at.0, at.1, false);
        }
        at = heading.step(at);
        let turned = match heading.ahead(mask, at) {
            (_, false) => heading.right(),
            (true, true) => heading.left(),
            (false, true) => heading,
        };
        if at == start && turned == Heading::East {
            return ring;
        }
        if turned != heading {
            ring.push(at);
            heading = turned;
        }
    }
}
