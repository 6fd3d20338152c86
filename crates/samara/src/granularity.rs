//! Whole, part and subpart: what a candidate is relative to the others.

use std::fmt;
use std::str::FromStr;

use samara_image::Mask;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::ParseError;

/// Level of a mask among the candidates of one prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Granularity {
    /// Inside no other candidate.
    Whole,
    /// Inside a whole.
    Part,
    /// Inside a part.
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
        let named = Self::ALL.into_iter().find(|level| level.name() == text);
        let names = Self::ALL.map(Self::name);
        named.ok_or_else(|| ParseError::none_of("granularity", text, &names).into())
    }
}

/// A mask is part of another when at least this share of it lies inside.
pub(crate) const CONTAINED: f64 = 0.9;

/// The level of every mask, by area and containment: a mask that lies inside no larger one is a
/// whole, inside a whole it is a part, inside a part a subpart. Duplicates count once and share
/// their level, so three near-identical masks are all wholes; two masks side by side are both
/// wholes too. An empty mask is a subpart: it says nothing about an object.
pub(crate) fn granularities(masks: &[&Mask]) -> Vec<Granularity> {
    let mut order: Vec<usize> = (0..masks.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(masks[i].area()));
    let mut levels = vec![Granularity::Whole; masks.len()];
    for (rank, &i) in order.iter().enumerate() {
        let larger = &order[..rank];
        let same = larger
            .iter()
            .find(|&&j| masks[i].iou(masks[j]) > Granularity::DUPLICATE_IOU);
        levels[i] = if masks[i].is_empty() {
            Granularity::Subpart
        } else if let Some(&same) = same {
            levels[same]
        } else {
            larger
                .iter()
                .filter(|&&j| masks[i].containment(masks[j]) >= CONTAINED)
                .map(|&j| below(levels[j]))
                .max()
                .unwrap_or(Granularity::Whole)
        };
    }
    levels
}

fn below(level: Granularity) -> Granularity {
    match level {
        Granularity::Whole => Granularity::Part,
        Granularity::Part | Granularity::Subpart => Granularity::Subpart,
    }
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
