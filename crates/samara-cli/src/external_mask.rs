//! Masks from elsewhere whose quality is asked for: images, NumPy arrays, JSON with run lengths.

use std::path::Path;

use samara::{ImageLimits, Mask, read_mask};
use samara_image::{RgbImage, read_gray16};
use samara_quality::{ExternalMask, SoftMask};

use crate::error::Result;
use crate::mask_file::{failed, read_array, tell_stretched};
use crate::mask_json;

/// A mask, and what to call it.
pub(crate) struct NamedMask {
    pub(crate) name: String,
    pub(crate) mask: ExternalMask,
}

/// Reads the masks of a file, of which JSON alone may hold several. `soft`: the grey levels of a
/// image are probabilities.
pub(crate) fn read(
    path: &Path,
    soft: bool,
    image: &RgbImage,
    limits: &ImageLimits,
) -> Result<Vec<NamedMask>> {
    let (width, height) = image.dimensions();
    let extension = path.extension().unwrap_or_default();
    let extension = extension.to_string_lossy().to_ascii_lowercase();
    let binary = |mask: &Mask| {
        let external = ExternalMask::new(mask, width, height)?;
        tell_stretched(path, (mask.width(), mask.height()), (width, height));
        Ok(external)
    };
    let probable = |(columns, rows): (u32, u32), values| {
        let external = ExternalMask::soft(SoftMask::new(columns, rows, values)?, width, height)?;
        tell_stretched(path, (columns, rows), (width, height));
        Ok(external)
    };
    let mask: samara_quality::Result<ExternalMask> = match extension.as_str() {
        "json" => return read_json(path, (width, height), limits),
        "npy" => {
            let array = read_array(path, limits)?;
            let size = (array.columns, array.rows);
            let name = path.display().to_string();
            limits
                .check_pixels(size.0, size.1, &name)
                .map_err(samara::Error::from)?;
            if array.is_float {
                probable(size, array.values)
            } else {
                binary(&array.mask(path)?)
            }
        }
        _ if soft => {
            let grey = read_gray16(path, limits)?;
            let most = f32::from(u16::MAX);
            let values = grey.as_raw().iter().map(|&v| f32::from(v) / most);
            probable(grey.dimensions(), values.collect())
        }
        _ => binary(&read_mask(path, limits)?),
    };
    Ok(vec![NamedMask {
        name: path.display().to_string(),
        mask: mask.map_err(|e| failed(path, e))?,
    }])
}

/// The masks of a JSON file, with a number each if there are several.
fn read_json(path: &Path, size: (u32, u32), limits: &ImageLimits) -> Result<Vec<NamedMask>> {
    let masks = mask_json::read(path, size, limits).map_err(|why| failed(path, why))?;
    let several = masks.len() > 1;
    let named = masks.iter().enumerate().map(|(i, mask)| {
        let (name, which) = if several {
            (format!("{} [{i}]", path.display()), format!("mask {i}: "))
        } else {
            (path.display().to_string(), String::new())
        };
        let mask = ExternalMask::new(mask, size.0, size.1);
        let mask = mask.map_err(|why| failed(path, format!("{which}{why}")))?;
        Ok(NamedMask { name, mask })
    });
    named.collect()
}
