//! Holes and islands: the last step, if it is asked for.

use rayon::prelude::*;
use samara_image::{Mask, Region, remove_small_regions};

use super::crop;
use super::found::{Found, suppress};
use crate::Result;

/// Fills holes and removes islands of fewer than `min_area` pixels, then drops what has become a
/// duplicate: a mask that was clean before wins (`postprocess_small_regions` of the official
/// generator).
pub(super) fn remove(found: Vec<Found>, min_area: u64, thresh: f64) -> Result<Vec<Found>> {
    let clean = |mut mask: Found| {
        let (pixels, unchanged) = clean(&mask.rle.to_mask()?, min_area);
        if !unchanged {
            mask.rle = pixels.to_rle();
        }
        mask.corners = crop::corners(&pixels);
        Ok((unchanged, mask))
    };
    let cleaned: Vec<(bool, Found)> = found.into_par_iter().map(clean).collect::<Result<_>>()?;
    let (unchanged, mut masks): (Vec<bool>, Vec<Found>) = cleaned.into_iter().unzip();
    let mut unchanged = unchanged.into_iter();
    let clean_first = |_: &Found| {
        unchanged
            .next()
            .map_or([0.0; 2], |u| [f32::from(u8::from(u)); 2])
    };
    suppress(&mut masks, thresh, clean_first);
    Ok(masks)
}

/// The clean mask, and whether it is the same.
fn clean(mask: &Mask, min_area: u64) -> (Mask, bool) {
    let (filled, holes) = remove_small_regions(mask, min_area, Region::Holes);
    let (cleaned, islands) = remove_small_regions(&filled, min_area, Region::Islands);
    (cleaned, !holes && !islands)
}
