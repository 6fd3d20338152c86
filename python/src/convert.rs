//! Images, masks and coordinates of Python as those of the engine.

use numpy::{PyReadonlyArray2, PyReadonlyArray3, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString};
use samara::{ImageLimits, Mask, OriginalBox, RgbImage, Rle, decode_image, read_image, read_mask};
use samara_image::CocoRle;
use samara_image::rle::RleCounts;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{ImageError, OptionError, PromptError, raise};

/// A function of `samara._arrays`.
fn helper<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyAny>>,
    name: &str,
) -> PyResult<&'py Bound<'py, PyAny>> {
    cell.import(py, "samara._arrays", name)
}

/// An image: a path, the bytes of a file, an array `[height, width, 3]`, `[height, width, 4]` or `[height, width]`
/// of `uint8`, or whatever NumPy makes such an array of.
pub(crate) fn image_of(image: &Bound<'_, PyAny>) -> PyResult<RgbImage> {
    static RGB: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = image.py();
    if let Ok(bytes) = image.cast::<PyBytes>() {
        let bytes = bytes.as_bytes();
        let limits = ImageLimits::default();
        return py
            .detach(|| decode_image(bytes, "image", &limits))
            .map_err(raise);
    }
    if let Some(path) = path_of(image)? {
        return py
            .detach(|| read_image(path, &ImageLimits::default()))
            .map_err(raise);
    }
    let array = helper(py, &RGB, "rgb")?.call1((image,))?;
    let array: PyReadonlyArray3<'_, u8> = array.extract()?;
    let &[height, width, 3] = array.shape() else {
        return Err(ImageError::new_err("image: no array of pixels"));
    };
    let size = u32::try_from(width).ok().zip(u32::try_from(height).ok());
    let image = size.and_then(|(width, height)| {
        let bytes = array.as_slice().ok()?;
        RgbImage::from_raw(width, height, bytes.to_vec())
    });
    image.ok_or_else(|| ImageError::new_err("image: too large"))
}

/// Refuses one image in the place of several: a path, the bytes of a file, or an array of pixels.
pub(crate) fn refuse_single(images: &Bound<'_, PyAny>, what: &str) -> PyResult<()> {
    let axes: Option<usize> = images
        .getattr("ndim")
        .ok()
        .and_then(|axes| axes.extract().ok());
    let is_file = images.is_instance_of::<PyBytes>() || path_of(images)?.is_some();
    if is_file || axes.is_some_and(|axes| axes < 4) {
        let why = format!("{what}: one image, expected a list of them");
        return Err(ImageError::new_err(why));
    }
    Ok(())
}

/// The path, if it is a `str` or has `__fspath__`.
pub(crate) fn path_of(value: &Bound<'_, PyAny>) -> PyResult<Option<std::path::PathBuf>> {
    if value.is_instance_of::<PyString>() || value.hasattr("__fspath__")? {
        value.extract().map(Some)
    } else {
        Ok(None)
    }
}

/// A mask: a path, COCO run lengths, or an array `[height, width]` of `bool` or of 0 and another value.
pub(crate) fn mask_of(mask: &Bound<'_, PyAny>) -> PyResult<Mask> {
    static BITS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = mask.py();
    if let Ok(rle) = mask.cast::<PyDict>() {
        return rle_of(rle)?.to_mask().map_err(raise);
    }
    if let Some(path) = path_of(mask)? {
        return py
            .detach(|| read_mask(path, &ImageLimits::default()))
            .map_err(raise);
    }
    let array = helper(py, &BITS, "bits")?.call1((mask,))?;
    let array: PyReadonlyArray2<'_, bool> = array.extract()?;
    let (height, width) = (array.shape()[0], array.shape()[1]);
    let (Ok(width), Ok(height), Ok(values)) = (
        u32::try_from(width),
        u32::try_from(height),
        array.as_slice(),
    ) else {
        return Err(PromptError::new_err("mask: too large"));
    };
    Mask::from_bools(width, height, values).map_err(raise)
}

/// COCO run lengths, `{"size": [h, w], "counts": …}` with counts as a list, a string or bytes.
pub(crate) fn rle_of(rle: &Bound<'_, PyDict>) -> PyResult<Rle> {
    let field = |key: &str| {
        rle.get_item(key)?
            .ok_or_else(|| PromptError::new_err(format!("mask: run lengths without '{key}'")))
    };
    let size: [u32; 2] = field("size")?
        .extract()
        .map_err(|_| PromptError::new_err("mask: 'size' of run lengths is [height, width]"))?;
    let counts = field("counts")?;
    let counts = if let Ok(bytes) = counts.cast::<PyBytes>() {
        RleCounts::Compressed(String::from_utf8_lossy(bytes.as_bytes()).into_owned())
    } else if let Ok(text) = counts.extract::<String>() {
        RleCounts::Compressed(text)
    } else if let Ok(counts) = counts.extract::<Vec<u32>>() {
        RleCounts::Uncompressed(counts)
    } else {
        let why = "mask: 'counts' of run lengths is a list of numbers, a string or bytes";
        return Err(PromptError::new_err(why));
    };
    Rle::try_from(CocoRle { size, counts }).map_err(raise)
}

/// Run lengths as a dictionary, as `pycocotools` has them, with a string that JSON can hold.
pub(crate) fn rle_dict<'py>(
    py: Python<'py>,
    rle: &Rle,
    compressed: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("size", rle.size)?;
    if compressed {
        dict.set_item("counts", rle.to_compressed_string())?;
    } else {
        dict.set_item("counts", &rle.counts)?;
    }
    Ok(dict)
}

/// Points `[n, 2]` as pairs.
pub(crate) fn points_of(points: &Bound<'_, PyAny>) -> PyResult<Vec<[f64; 2]>> {
    static POINTS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let array = helper(points.py(), &POINTS, "points")?.call1((points,))?;
    array.extract()
}

/// A box: left, top, right and bottom.
pub(crate) fn box_of(corners: &Bound<'_, PyAny>) -> PyResult<OriginalBox> {
    let list = corners.call_method0("tolist").unwrap_or(corners.clone());
    let why = "box: four numbers, left, top, right and bottom";
    let [x0, y0, x1, y1]: [f64; 4] = list.extract().map_err(|_| PromptError::new_err(why))?;
    if x1 < x0 || y1 < y0 {
        return Err(PromptError::new_err(format!(
            "box [{x0}, {y0}, {x1}, {y1}]: right of left and below top are expected; is it x, y, width and height?"
        )));
    }
    OriginalBox::new(x0, y0, x1, y1).map_err(raise)
}

/// Maps `[n, rows, columns]` of `float32`, one by one.
pub(crate) fn maps_of<'py>(maps: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    static MAPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let maps = helper(maps.py(), &MAPS, "maps")?.call1((maps,))?;
    maps.try_iter()?.collect()
}

/// Options as the engine reads them; `None` stands for the default of one.
pub(crate) fn options_of<T: Default + DeserializeOwned>(
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<T> {
    static JSON: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let Some(options) = options else {
        return Ok(T::default());
    };
    let json = helper(options.py(), &JSON, "to_json")?.call1((options,))?;
    let json: serde_json::Map<String, Value> = serde_json::from_str(json.extract()?)
        .map_err(|error| OptionError::new_err(error.to_string()))?;
    serde_json::from_value(json.clone().into()).map_err(|all: serde_json::Error| {
        // The one that is refused alone.
        let refused = json.into_iter().find_map(|(name, value)| {
            let alone = serde_json::Map::from_iter([(name.clone(), value)]);
            let why = serde_json::from_value::<T>(alone.into()).err()?.to_string();
            Some(if why.starts_with("unknown field") {
                format!(
                    "{name}: {}",
                    why.replace("field", "option")
                        .replace(&format!(" `{name}`"), "")
                )
            } else {
                format!("{name}: {why}")
            })
        });
        OptionError::new_err(refused.unwrap_or_else(|| all.to_string()))
    })
}
