//! The file of `--mask`: an image, a NumPy array, or the tensors of an earlier answer.

use std::path::Path;

use npyz::TypeChar;
use safetensors::{Dtype, SafeTensors};
use samara::{ImageLimits, Logits, Mask, MaskPrompt, read_mask};

use crate::error::{CliError, Result};
use crate::npy;
use crate::terminal;

/// Reads a mask prompt; the kind of file is told by its extension.
pub(crate) fn read(path: &Path, limits: &ImageLimits) -> Result<MaskPrompt> {
    let extension = path
        .extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase());
    match extension.as_deref() {
        Some("npy") => read_npy(path),
        Some("safetensors") => read_answer(path),
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

/// Floating point is logits, bool and integers a mask.
fn read_npy(path: &Path) -> Result<MaskPrompt> {
    let array = read_array(path)?;
    let (rows, columns) = (array.rows, array.columns);
    let values = match array.values {
        Values::Binary(inside) => {
            return Ok(MaskPrompt::Mask(Mask::from_bools(columns, rows, &inside)?));
        }
        Values::Float(values) => values,
    };
    if rows != columns {
        return Err(failed(
            path,
            format!("logits are square, not {rows}×{columns}"),
        ));
    }
    let logits = Logits::new(rows as usize, values).map_err(|e| failed(path, e))?;
    Ok(MaskPrompt::Logits(logits))
}

/// A 2-D array of an `.npy` file.
pub(crate) struct Array {
    pub(crate) rows: u32,
    pub(crate) columns: u32,
    pub(crate) values: Values,
}

/// Its values, row by row.
pub(crate) enum Values {
    Binary(Vec<bool>),
    Float(Vec<f32>),
}

/// Reads a 2-D array, leading axes of size 1 allowed.
pub(crate) fn read_array(path: &Path) -> Result<Array> {
    let array = npy::open(path).map_err(|e| failed(path, e))?;
    let shape = array.shape().to_vec();
    let plain = match shape[..] {
        [rows, columns] | [1, rows, columns] | [1, 1, rows, columns] => Some((rows, columns)),
        _ => None,
    };
    let within = |&(rows, columns): &(u64, u64)| {
        let count = rows.checked_mul(columns);
        count.is_some_and(|count| (1..=1 << 28).contains(&count))
    };
    let sides = plain.filter(within);
    let sides = sides.and_then(|(rows, columns)| rows.try_into().ok().zip(columns.try_into().ok()));
    let (rows, columns) = sides
        .ok_or_else(|| failed(path, format!("an array of shape {shape:?} is not one mask")))?;
    let kind = match array.dtype() {
        npyz::DType::Plain(dtype) => (dtype.type_char(), dtype.num_bytes().unwrap_or(0)),
        _ => return Err(failed(path, "a structured array is not a mask")),
    };
    if array.order() == npyz::Order::Fortran {
        return Err(failed(path, "save it in C order (np.ascontiguousarray)"));
    }
    let wrong = |e| failed(path, e);
    let values = match kind {
        (TypeChar::Float, 4) => Values::Float(array.into_vec().map_err(wrong)?),
        (TypeChar::Float, 8) => {
            let values = array.into_vec::<f64>().map_err(wrong)?;
            Values::Float(values.into_iter().map(|v| v as f32).collect())
        }
        (TypeChar::Bool, 1) => Values::Binary(array.into_vec().map_err(wrong)?),
        (TypeChar::Uint, 1) => {
            let values = array.into_vec::<u8>().map_err(wrong)?;
            Values::Binary(values.into_iter().map(|v| v > 0).collect())
        }
        _ => return Err(failed(path, "its values are neither bool, u8, f32 nor f64")),
    };
    Ok(Array {
        rows,
        columns,
        values,
    })
}

/// The logits with the highest score in a file that `--raw` wrote.
fn read_answer(path: &Path) -> Result<MaskPrompt> {
    let bytes = std::fs::read(path).map_err(|e| failed(path, e))?;
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
