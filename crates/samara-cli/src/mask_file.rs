//! The file of `--mask`: an image, a NumPy array, JSON, or the tensors of an earlier answer.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use samara::{ImageLimits, Logits, Mask, MaskPrompt, read_mask};
use samara_image::read_file;

use crate::error::{CliError, Result};
use crate::terminal;
use crate::{mask_json, npy};

/// Reads a mask prompt for an image of this width and height; the kind of file is told by its extension.
pub(crate) fn read(path: &Path, size: (u32, u32), limits: &ImageLimits) -> Result<MaskPrompt> {
    let extension = path
        .extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase());
    match extension.as_deref() {
        Some("npy") => read_npy(path, limits),
        Some("safetensors") => read_answer(path, limits),
        Some("json") => read_json(path, size, limits),
        Some("npz") => Err(failed(
            path,
            "an archive of arrays; save the one that is the mask as .npy",
        )),
        _ => Ok(MaskPrompt::Mask(read_mask(path, limits)?)),
    }
}

/// An error that names the file.
pub(crate) fn failed(path: &Path, why: impl std::fmt::Display) -> CliError {
    CliError::failed(format!("--mask {}: {why}", path.display()))
}

/// Says that a mask of another size is stretched to the image.
pub(crate) fn tell_stretched(path: &Path, own: (u32, u32), image: (u32, u32)) {
    if own != image {
        let notice = format!(
            "--mask {}: {}×{} pixels, stretched to the image's {}×{}",
            path.display(),
            own.0,
            own.1,
            image.0,
            image.1
        );
        terminal::tell("notice", &notice);
    }
}

/// Says what to add to a mask that is all of a prompt: models of this family are trained with masks beside clicks
/// and boxes, and answer badly to one alone.
pub(crate) fn tell_alone(path: &Path, mask: &Mask, image: (u32, u32)) {
    let Some(bbox) = mask.bbox() else {
        return;
    };
    let [x, y, w, h] = bbox.xywh();
    let scaled = |v: u32, own: u32, to: u32| u64::from(v) * u64::from(to) / u64::from(own.max(1));
    let (columns, rows) = (mask.width(), mask.height());
    let notice = format!(
        "--mask {}: a mask alone is a weak prompt; its own box helps: --box {},{},{},{}",
        path.display(),
        scaled(x, columns, image.0),
        scaled(y, rows, image.1),
        scaled(x + w, columns, image.0),
        scaled(y + h, rows, image.1)
    );
    terminal::tell("notice", &notice);
}

/// Bool and integers are a mask, and so are floats that are all 0 or 1; other floats are logits.
fn read_npy(path: &Path, limits: &ImageLimits) -> Result<MaskPrompt> {
    let array = read_array(path, limits)?;
    let (rows, columns) = (array.rows, array.columns);
    if !array.is_float || array.values.iter().all(|v| [0.0, 1.0].contains(v)) {
        return Ok(MaskPrompt::Mask(array.mask(path)?));
    }
    if rows != columns {
        return Err(failed(
            path,
            format!(
                "floats other than 0 and 1 are logits, which are square, not {rows}×{columns}; a mask is bool, \
                 integers, or floats of only 0 and 1"
            ),
        ));
    }
    if array.values.iter().all(|v| (0.0..=1.0).contains(v)) {
        let notice = format!(
            "--mask {}: values from 0 to 1 are taken as logits, so nearly all of it is inside; of probabilities p the \
             logits are log(p / (1 - p))",
            path.display()
        );
        terminal::tell("notice", &notice);
    }
    let logits = Logits::new(rows as usize, array.values).map_err(|e| failed(path, e))?;
    Ok(MaskPrompt::Logits(logits))
}

/// The one mask of a JSON file.
fn read_json(path: &Path, size: (u32, u32), limits: &ImageLimits) -> Result<MaskPrompt> {
    let mut masks = mask_json::read(path, size, limits).map_err(|why| failed(path, why))?;
    match (masks.len(), masks.pop()) {
        (1, Some(mask)) => Ok(MaskPrompt::Mask(mask)),
        (count, _) => {
            let why = format!("holds {count} masks, and a prompt is one");
            Err(failed(path, why))
        }
    }
}

/// A 2-D array of an `.npy` file, row by row.
pub(crate) struct Array {
    pub(crate) rows: u32,
    pub(crate) columns: u32,
    pub(crate) is_float: bool,
    pub(crate) values: Vec<f32>,
}

impl Array {
    /// Where it is more than 0. Two to sixteen values are several objects; more are shades.
    pub(crate) fn mask(&self, path: &Path) -> Result<Mask> {
        const MOST_VALUES: usize = 16;
        let mut values: Vec<f32> = Vec::new();
        for &v in self.values.iter().filter(|&&v| v != 0.0) {
            if values.len() <= MOST_VALUES && !values.contains(&v) {
                values.push(v);
            }
        }
        if (2..=MOST_VALUES).contains(&values.len()) {
            values.sort_unstable_by(f32::total_cmp);
            let few: Vec<String> = values.iter().take(4).map(f32::to_string).collect();
            let dots = if values.len() > 4 { ", …" } else { "" };
            let why = format!(
                "holds several objects, by its values {}{dots}; a mask is one object: 0 and one other value",
                few.join(", ")
            );
            return Err(failed(path, why));
        }
        let inside: Vec<bool> = self.values.iter().map(|&v| v > 0.0).collect();
        Ok(Mask::from_bools(self.columns, self.rows, &inside)?)
    }
}

/// Reads a 2-D array, leading axes of size 1 allowed.
pub(crate) fn read_array(path: &Path, limits: &ImageLimits) -> Result<Array> {
    let array = npy::read(path, limits).map_err(|e| failed(path, e))?;
    let plain = match array.shape[..] {
        [rows, columns] | [1, rows, columns] | [1, 1, rows, columns] => Some((rows, columns)),
        _ => None,
    };
    let sides = plain.filter(|&(rows, columns)| rows > 0 && columns > 0);
    let sides = sides.and_then(|(rows, columns)| rows.try_into().ok().zip(columns.try_into().ok()));
    let (rows, columns) = sides.ok_or_else(|| {
        let shape = &array.shape;
        failed(path, format!("an array of shape {shape:?} is not one mask"))
    })?;
    Ok(Array {
        rows,
        columns,
        is_float: array.is_float,
        values: array.values,
    })
}

/// The logits with the highest score in a file that `--raw` wrote.
fn read_answer(path: &Path, limits: &ImageLimits) -> Result<MaskPrompt> {
    let bytes = read_file(path, limits).map_err(|e| failed(path, e.reason()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| failed(path, e))?;
    let tensor = |name: &str| -> Result<(Vec<usize>, Vec<f32>)> {
        let view = file.tensor(name).map_err(|e| failed(path, e))?;
        if view.dtype() != Dtype::F32 {
            return Err(failed(path, format!("tensor {name} is not f32")));
        }
        let values = view
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .copied()
            .map(f32::from_le_bytes);
        Ok((view.shape().to_vec(), values.collect()))
    };
    let (shape, logits) = tensor("low_res_logits")?;
    let (_, iou) = tensor("iou")?;
    let [count, rows, columns] = shape[..] else {
        return Err(failed(
            path,
            format!("low_res_logits has shape {shape:?}, not [k, n, n]"),
        ));
    };
    if rows != columns || count == 0 || iou.len() != count {
        return Err(failed(
            path,
            "low_res_logits and iou do not belong together",
        ));
    }
    let best = (0..count)
        .max_by(|&a, &b| iou[a].total_cmp(&iou[b]))
        .unwrap_or(0);
    let size = rows * columns;
    let values = logits[best * size..(best + 1) * size].to_vec();
    Ok(MaskPrompt::Logits(
        Logits::new(rows, values).map_err(|e| failed(path, e))?,
    ))
}
