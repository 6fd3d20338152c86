//! The level of every candidate, for an analysis that has to tell them apart.

use samara::Granularity;
use samara_image::Mask;

/// A mask of less than this share of the whole's area is a subpart. On people (the training split
/// of CCP) it names 94 % of the masks of garments a part and 95 % of those of small things a
/// subpart, where the order by size names 80 and 47 %: a click on a shoe is often answered with the
/// person, the shoe and a piece of it.
pub const SUBPART_SHARE: f64 = 0.08;

/// What a candidate is relative to the largest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) level: Granularity,
    /// The larger candidate that this one repeats.
    pub(crate) duplicate_of: Option<usize>,
}

/// The level of every mask: the largest one is the whole, and a smaller one is a part or, below
/// [`SUBPART_SHARE`] of the whole's area, a subpart. Duplicates share the level of the largest of
/// them; an empty mask is a subpart.
///
/// Unlike [`Candidate::granularity`](samara::Candidate::granularity), which follows containment, the
/// level depends neither on how many masks lie in between nor on a few pixels that stick out.
pub(crate) fn levels(masks: &[&Mask]) -> Vec<Level> {
    let areas: Vec<u64> = masks.iter().map(|mask| mask.area()).collect();
    let mut order: Vec<usize> = (0..masks.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(areas[i]));
    let whole = order.first().map_or(0, |&i| areas[i]) as f64;
    let by_area = |i: usize| match areas[i] as f64 {
        0.0 => Granularity::Subpart,
        area if area < SUBPART_SHARE * whole => Granularity::Subpart,
        _ => Granularity::Part,
    };
    let mut found: Vec<Option<Level>> = vec![None; masks.len()];
    for (rank, &i) in order.iter().enumerate() {
        let original = |&j: &usize| {
            let first = found[j].is_some_and(|level| level.duplicate_of.is_none());
            (first && masks[i].iou(masks[j]) > Granularity::DUPLICATE_IOU).then_some(j)
        };
        let duplicate_of = order[..rank].iter().find_map(original);
        let level = match duplicate_of.and_then(|j| found[j]) {
            Some(same) => same.level,
            None if rank == 0 && areas[i] > 0 => Granularity::Whole,
            None => by_area(i),
        };
        found[i] = Some(Level {
            level,
            duplicate_of,
        });
    }
    found.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(side: u32) -> Mask {
        Mask::from_fn(100, 100, |x, y| x < side && y < side)
    }

    fn named(masks: &[Mask]) -> Vec<(&'static str, Option<usize>)> {
        let levels = levels(&masks.iter().collect::<Vec<_>>());
        levels
            .iter()
            .map(|l| (l.level.name(), l.duplicate_of))
            .collect()
    }

    #[test]
    fn the_largest_is_the_whole_and_others_go_by_their_share() {
        let found = named(&[square(20), square(90), square(40)]);
        assert_eq!(found, [("subpart", None), ("whole", None), ("part", None)]);
        let found = named(&[square(90), square(60), square(40)]);
        assert_eq!(found, [("whole", None), ("part", None), ("part", None)]);
    }

    #[test]
    fn duplicates_share_a_level() {
        let found = named(&[square(90), square(89), square(10)]);
        assert_eq!(
            found,
            [("whole", None), ("whole", Some(0)), ("subpart", None)]
        );
        let found = named(&[square(89), square(90), square(90)]);
        assert_eq!(
            found,
            [("whole", Some(1)), ("whole", None), ("whole", Some(1))]
        );
    }

    #[test]
    fn an_empty_mask_is_a_subpart() {
        let found = named(&[Mask::new(100, 100), square(50), Mask::new(100, 100)]);
        assert_eq!(
            found,
            [("subpart", None), ("whole", None), ("subpart", Some(0))]
        );
    }
}
