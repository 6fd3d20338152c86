//! The tree of masks: which lies inside which.

use samara_image::Rle;
use serde::Serialize;

use super::record::MaskRecord;
use crate::granularity::{Granularity, depths, is_inside, least_shared, parents};

/// A mask's place in the tree. Numbers are positions among the records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// The smallest mask that holds this one: at least 90 % of it.
    pub parent: Option<usize>,
    /// The masks whose parent this is, in order.
    pub children: Vec<usize>,
    /// Masks above this one.
    pub depth: usize,
    /// What it is among the others.
    pub level: Granularity,
}

/// The tree of whole ⊃ part ⊃ subpart over the masks of one image.
///
/// [`Granularity`] says when a mask is inside of a larger one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hierarchy {
    nodes: Vec<Node>,
}

impl Hierarchy {
    /// The tree of these masks, which are those of one image.
    pub fn of(records: &[MaskRecord]) -> Self {
        let masks: Vec<Shape> = records.iter().map(Shape::of).collect();
        let areas: Vec<u64> = masks.iter().map(|mask| mask.area).collect();
        let parents = parents(&areas, |i, j| masks[i].is_inside(&masks[j]));
        let placed = parents.iter().zip(depths(&parents)).zip(&areas);
        let mut nodes: Vec<Node> = placed
            .map(|((&parent, depth), &area)| Node {
                parent,
                children: Vec::new(),
                depth,
                level: Granularity::of(depth, area),
            })
            .collect();
        for (i, parent) in parents.iter().enumerate() {
            if let Some(parent) = *parent {
                nodes[parent].children.push(i);
            }
        }
        Self { nodes }
    }

    /// One node for every record, in their order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The outermost mask above a mask, or the mask itself.
    pub fn root(&self, mut index: usize) -> usize {
        while let Some(parent) = self.nodes[index].parent {
            index = parent;
        }
        index
    }
}

/// What containment needs of a mask.
struct Shape {
    rle: Rle,
    area: u64,
    /// Inclusive corners.
    corners: [u32; 4],
}

impl Shape {
    fn of(record: &MaskRecord) -> Self {
        let [x, y, w, h] = record.bbox;
        Self {
            rle: record.segmentation.to_rle(),
            area: record.area,
            corners: [x, y, x + w, y + h],
        }
    }

    /// Whether this mask, the smaller one, is inside of `other`.
    fn is_inside(&self, other: &Self) -> bool {
        // Boxes are compared faster than masks.
        (self.shared_box(other) as f64) >= least_shared(self.area)
            && is_inside(
                self.area,
                other.area,
                self.rle.intersection_area(&other.rle),
            )
    }

    /// Pixels of the intersection of the boxes, which the masks' own is not larger than.
    fn shared_box(&self, other: &Self) -> u64 {
        let ([ax0, ay0, ax1, ay1], [bx0, by0, bx1, by1]) = (self.corners, other.corners);
        let width = (ax1.min(bx1) + 1).saturating_sub(ax0.max(bx0));
        let height = (ay1.min(by1) + 1).saturating_sub(ay0.max(by0));
        u64::from(width) * u64::from(height)
    }
}

#[cfg(test)]
mod tests {
    use samara_image::Mask;

    use super::*;
    use crate::OutputMode;
    use crate::granularity::granularities;

    fn tree(masks: &[Mask]) -> Hierarchy {
        let record = |mask| MaskRecord::of_mask(mask, OutputMode::BinaryMask).unwrap();
        Hierarchy::of(&masks.iter().map(record).collect::<Vec<_>>())
    }

    fn square(x: u32, y: u32, side: u32) -> Mask {
        Mask::from_fn(100, 100, |px, py| {
            (x..x + side).contains(&px) && (y..y + side).contains(&py)
        })
    }

    #[test]
    fn masks_hang_below_the_smallest_that_holds_them() {
        let tree = tree(&[
            square(30, 30, 10),
            square(0, 0, 90),
            square(20, 20, 40),
            square(92, 92, 8),
            square(31, 31, 4),
            Mask::new(100, 100),
        ]);
        let parents: Vec<_> = tree.nodes().iter().map(|n| n.parent).collect();
        assert_eq!(parents, [Some(2), None, Some(1), None, Some(0), None]);
        let depths: Vec<_> = tree.nodes().iter().map(|n| n.depth).collect();
        assert_eq!(depths, [2, 0, 1, 0, 3, 0]);
        let levels: Vec<_> = tree.nodes().iter().map(|n| n.level.name()).collect();
        assert_eq!(
            levels,
            ["subpart", "whole", "part", "whole", "subpart", "subpart"]
        );
        assert_eq!(tree.nodes()[1].children, [2]);
        assert_eq!(tree.root(4), 1);
    }

    #[test]
    fn candidates_and_everything_mean_the_same_by_whole_part_and_subpart() {
        let masks = [
            square(5, 5, 80),
            square(5, 5, 81),
            square(10, 10, 40),
            square(12, 12, 9),
            square(88, 88, 10),
            Mask::new(100, 100),
        ];
        let tree: Vec<_> = tree(&masks).nodes().iter().map(|n| n.level).collect();
        let candidates = granularities(&masks.iter().collect::<Vec<_>>());
        assert_eq!(tree, candidates);
        let names: Vec<_> = tree.iter().map(|level| level.name()).collect();
        assert_eq!(
            names,
            ["whole", "whole", "part", "subpart", "whole", "subpart"]
        );
    }

    #[test]
    fn the_same_thing_found_twice_is_not_inside_itself() {
        let tree = tree(&[square(10, 10, 60), square(10, 10, 61), square(20, 20, 20)]);
        assert_eq!(tree.nodes()[0].parent, None);
        assert_eq!(tree.nodes()[1].parent, None);
        assert_eq!(tree.nodes()[2].parent, Some(0));
    }

    #[test]
    fn ninety_percent_are_enough() {
        let parent = |x| tree(&[square(0, 0, 50), square(x, 10, 10)]).nodes()[1].parent;
        assert_eq!(parent(41), Some(0));
        assert_eq!(parent(42), None);
    }
}
