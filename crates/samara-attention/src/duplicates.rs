//! Candidates that repeat each other.

use samara::{Candidates, Granularity};

/// For every candidate the larger one that it repeats, if there is one (IoU above
/// [`Granularity::DUPLICATE_IOU`]).
pub(crate) fn duplicates(candidates: &Candidates) -> Vec<Option<usize>> {
    let mask = |i: usize| &candidates[i].mask;
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(mask(i).area()));
    let mut duplicate_of = vec![None; candidates.len()];
    for (rank, &i) in order.iter().enumerate() {
        let repeats = |j: &usize| mask(i).iou(mask(*j)) > Granularity::DUPLICATE_IOU;
        let originals = order[..rank].iter().copied();
        duplicate_of[i] = originals
            .filter(|&j| duplicate_of[j].is_none())
            .find(repeats);
    }
    duplicate_of
}
