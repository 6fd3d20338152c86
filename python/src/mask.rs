//! Masks as arrays of NumPy.

use numpy::{IntoPyArray, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use samara::{Mask, Rle};

use crate::convert::{mask_of, rle_dict, rle_of};
use crate::error::{OptionError, raise};

/// One `bool` a pixel, `[height, width]`.
pub(crate) fn array<'py>(py: Python<'py>, mask: &Mask) -> PyResult<Bound<'py, PyArray2<bool>>> {
    let shape = [mask.height() as usize, mask.width() as usize];
    mask.to_bools().into_pyarray(py).reshape(shape)
}

/// The corners of a mask's outlines: a list of polygons, each a list of rings `[n, 2]`, the outer one first.
pub(crate) fn outlines(mask: &Mask, tolerance: f64) -> PyResult<Vec<Vec<Vec<[f64; 2]>>>> {
    if !tolerance.is_finite() || tolerance < 0.0 {
        let why = format!("tolerance {tolerance}: not a number of pixels, 0 or more");
        return Err(OptionError::new_err(why));
    }
    let polygons = mask.to_polygons().into_iter().map(|polygon| {
        let polygon = if tolerance > 0.0 {
            polygon.simplify(tolerance)
        } else {
            polygon
        };
        let rings = std::iter::once(&polygon.outer).chain(&polygon.holes);
        rings
            .map(|ring| ring.points.iter().map(|p| [p.x, p.y]).collect())
            .collect()
    });
    Ok(polygons.collect())
}

/// COCO run lengths of a mask.
///
/// Parameters
/// ----------
/// mask : array_like of bool, shape (height, width), or str, or dict
///     The mask, its file, or run lengths.
/// compressed : bool, default True
///     Whether ``counts`` is the string of ``pycocotools``, else a list of run lengths.
///
/// Returns
/// -------
/// dict
///     ``size``, which is ``[height, width]``, and ``counts``.
///
/// Examples
/// --------
/// >>> import numpy as np, samara
/// >>> samara.encode_rle(np.eye(2, dtype=bool), compressed=False)
/// {'size': [2, 2], 'counts': [0, 1, 2, 1]}
#[pyfunction]
#[pyo3(signature = (mask, *, compressed = true))]
pub(crate) fn encode_rle<'py>(
    mask: &Bound<'py, PyAny>,
    compressed: bool,
) -> PyResult<Bound<'py, PyDict>> {
    rle_dict(mask.py(), &Rle::from(&mask_of(mask)?), compressed)
}

/// The mask of COCO run lengths.
///
/// Parameters
/// ----------
/// rle : dict
///     ``size``, which is ``[height, width]``, and ``counts``: a list of run lengths, or the string or bytes of
///     ``pycocotools``.
///
/// Returns
/// -------
/// ndarray of bool, shape (height, width)
///
/// Examples
/// --------
/// >>> import samara
/// >>> samara.decode_rle({"size": [2, 2], "counts": [0, 1, 2, 1]})
/// array([[ True, False],
///        [False,  True]])
#[pyfunction]
pub(crate) fn decode_rle<'py>(rle: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyArray2<bool>>> {
    array(rle.py(), &rle_of(rle)?.to_mask().map_err(raise)?)
}

/// The outlines of a mask.
///
/// Parameters
/// ----------
/// mask : array_like of bool, shape (height, width), or str, or dict
///     The mask, its file, or run lengths.
/// tolerance : float, default 0
///     Corners within so many pixels of the line are dropped; 0 follows every pixel.
///
/// Returns
/// -------
/// list of list of list of tuple
///     The parts of the mask. Each is a list of rings: the outer one, then its holes. A ring is a list of corners
///     ``[x, y]``, in pixels of the mask; a pixel covers ``x`` to ``x + 1``.
///
/// Examples
/// --------
/// >>> import numpy as np, samara
/// >>> samara.polygons(np.ones((2, 3), dtype=bool))
/// [[[[0.0, 0.0], [3.0, 0.0], [3.0, 2.0], [0.0, 2.0]]]]
#[pyfunction]
#[pyo3(signature = (mask, tolerance = 0.0))]
pub(crate) fn polygons(
    mask: &Bound<'_, PyAny>,
    tolerance: f64,
) -> PyResult<Vec<Vec<Vec<[f64; 2]>>>> {
    outlines(&mask_of(mask)?, tolerance)
}
