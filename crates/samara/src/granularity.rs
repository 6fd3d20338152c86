//! Whole, part and subpart: what a candidate is relative to the others.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use samara_image::Mask;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::ParseError;

/// What a mask is among others of its image: the candidates of a prompt, or everything.
///
/// A mask is inside of a larger one when at least 90 % of its pixels are. Two masks with an IoU above 95 % are the
/// same thing found twice: neither is inside of the other. This is the one meaning of these words everywhere: a
/// [`Candidate`](crate::Candidate), a [`Node`](crate::Node) of a tree, a level that an attention map looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Granularity {
    /// Inside of no other mask. A single mask is one.
    Whole,
    /// Inside of a whole.
    Part,
    /// Inside of a part, or deeper; an empty mask is one, too.
    Subpart,
}

impl Granularity {
    /// Masks of a higher IoU are one answer given twice: duplicates, which share their level.
    pub const DUPLICATE_IOU: f64 = 0.95;

    /// All levels, from large to small.
    pub const ALL: [Self; 3] = [Self::Whole, Self::Part, Self::Subpart];

    /// `whole`, `part` or `subpart`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Part => "part",
            Self::Subpart => "subpart",
        }
    }
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Granularity {
    type Err = Error;

    /// `whole`, `part` or `subpart`.
    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(ParseError::named(
            "granularity",
            text,
            &Self::ALL,
            Self::name,
        )?)
    }
}

/// A mask is inside of another when at least this share of it is.
const CONTAINED: f64 = 0.9;

/// Whether a mask of `area` pixels, of which `shared` are those of a larger one too, is inside of that one.
/// Duplicates are not inside of each other, and an empty mask is inside of none.
pub(crate) fn is_inside(area: u64, larger: u64, shared: u64) -> bool {
    let (area, larger, shared) = (area as f64, larger as f64, shared as f64);
    let union = area + larger - shared;
    area > 0.0 && shared >= CONTAINED * area && shared <= Granularity::DUPLICATE_IOU * union
}

/// The least pixels that a mask of `area` pixels shares with one that it is inside of.
pub(crate) fn least_shared(area: u64) -> f64 {
    CONTAINED * area as f64
}

/// How masks lie in each other: for each of them the smallest larger one that it is inside of.
pub(crate) fn parents(
    areas: &[u64],
    is_inside: impl Fn(usize, usize) -> bool,
) -> Vec<Option<usize>> {
    let mut by_area: Vec<usize> = (0..areas.len()).collect();
    by_area.sort_by_key(|&i| (areas[i], Reverse(i)));
    let mut parents = vec![None; areas.len()];
    for (rank, &i) in by_area.iter().enumerate() {
        let mut larger = by_area[rank + 1..].iter().copied();
        parents[i] = larger.find(|&j| is_inside(i, j));
    }
    parents
}

/// How many masks each one is inside of, directly and by these.
pub(crate) fn depths(parents: &[Option<usize>]) -> Vec<usize> {
    let above = |i: &usize| parents[*i];
    let depth = |i| std::iter::successors(Some(i), above).count() - 1;
    (0..parents.len()).map(depth).collect()
}

impl Granularity {
    /// The level of a mask of `area` pixels that is inside of so many others.
    pub(crate) fn of(depth: usize, area: u64) -> Self {
        match depth {
            // It says nothing about an object.
            _ if area == 0 => Self::Subpart,
            0 => Self::Whole,
            1 => Self::Part,
            _ => Self::Subpart,
        }
    }
}

/// The level of every mask among the others. Duplicates share theirs, so three near-identical masks are all
/// wholes; two masks side by side are both wholes too.
pub(crate) fn granularities(masks: &[&Mask]) -> Vec<Granularity> {
    let areas: Vec<u64> = masks.iter().map(|mask| mask.area()).collect();
    let shared = |i: usize, j: usize| masks[i].intersection_area(masks[j]);
    let parents = parents(&areas, |i, j| is_inside(areas[i], areas[j], shared(i, j)));
    let levels = depths(&parents).into_iter().zip(&areas);
    levels
        .map(|(depth, &area)| Granularity::of(depth, area))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(x: u32, y: u32, side: u32) -> Mask {
        Mask::from_fn(100, 100, |px, py| {
            (x..x + side).contains(&px) && (y..y + side).contains(&py)
        })
    }

    fn levels(masks: &[Mask]) -> Vec<&'static str> {
        let masks: Vec<&Mask> = masks.iter().collect();
        granularities(&masks)
            .into_iter()
            .map(Granularity::name)
            .collect()
    }

    #[test]
    fn nested_masks_are_whole_part_and_subpart_in_any_order() {
        let nested = [square(40, 40, 8), square(10, 10, 80), square(30, 30, 30)];
        assert_eq!(levels(&nested), ["subpart", "whole", "part"]);
    }

    #[test]
    fn duplicates_count_once() {
        let twice = [square(10, 10, 80), square(10, 10, 79), square(30, 30, 30)];
        assert_eq!(levels(&twice), ["whole", "whole", "part"]);
    }

    #[test]
    fn masks_side_by_side_are_both_wholes() {
        let apart = [square(0, 0, 40), square(50, 50, 30), square(55, 55, 10)];
        assert_eq!(levels(&apart), ["whole", "whole", "part"]);
    }

    #[test]
    fn an_empty_mask_is_no_whole() {
        let masks = [Mask::new(100, 100), square(50, 50, 30), Mask::new(100, 100)];
        assert_eq!(levels(&masks), ["subpart", "whole", "subpart"]);
    }
}
