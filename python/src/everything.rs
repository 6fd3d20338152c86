//! All masks of an image.

use std::sync::Arc;

use numpy::PyArray2;
use pyo3::exceptions::{PyIndexError, PyKeyError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyIterator};
use samara::{
    Hierarchy, Mask, MaskGenerator, MaskGeneratorOptions, MaskRecord, Node, OutputMode, RgbImage,
};

use crate::candidates::png;
use crate::convert::{image_of, options_of, rle_dict};
use crate::embedding::PyEmbedding;
use crate::error::{OptionError, raise};
use crate::mask::{array, outlines};
use crate::progress::Progress;
use crate::segmenter::PySegmenter;

/// Finds all masks of images, as the official ``SamAutomaticMaskGenerator`` does.
///
/// Parameters
/// ----------
/// segmenter : Segmenter
/// **options
///     ``points_per_side`` (32), ``points_per_batch`` (64), ``pred_iou_thresh`` and ``stability_score_thresh`` (the
///     model's), ``stability_score_offset`` (1.0), ``box_nms_thresh`` (0.7), ``crop_n_layers`` (0),
///     ``crop_nms_thresh`` (0.7), ``crop_overlap_ratio`` (512/1500), ``crop_n_points_downscale_factor`` (1),
///     ``point_grids`` (None), ``min_mask_region_area`` (0), ``use_m2m`` (False), ``adaptive`` (False).
///
/// Raises
/// ------
/// OptionError
///     There is no such option, or its value makes no sense.
#[pyclass(name = "MaskGenerator", module = "samara", frozen)]
pub(crate) struct PyMaskGenerator(MaskGenerator);

#[pymethods]
impl PyMaskGenerator {
    #[new]
    #[pyo3(signature = (segmenter, **options))]
    fn new(
        segmenter: &Bound<'_, PySegmenter>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let by_grids = |options: &Bound<'_, PyDict>| -> PyResult<bool> {
            Ok(options.contains("point_grids")? && !options.contains("points_per_side")?)
        };
        let by_grids = options.map(by_grids).transpose()?.unwrap_or(false);
        let options: MaskGeneratorOptions = options_of(options)?;
        let options = match options.point_grids.clone().filter(|_| by_grids) {
            Some(grids) => options.with_point_grids(grids),
            None => options,
        };
        let options = options.with_output_mode(OutputMode::CocoRle);
        let generator = MaskGenerator::new(&segmenter.get().segmenter, options);
        Ok(Self(generator.map_err(raise)?))
    }

    /// Finds all masks of an image.
    ///
    /// Parameters
    /// ----------
    /// image : str, path-like, bytes, PIL image, array_like of uint8, or Embedding
    ///     As of :meth:`Segmenter.embed`, or the embedding of an image that was not loaded from a file.
    /// progress : callable or tqdm bar, optional
    ///     Hears several times a second the share that is done, 0 to 1; a bar is moved on by its own total.
    ///
    /// Returns
    /// -------
    /// list of MaskRecord
    ///     In the order of the official generator, best first.
    #[pyo3(signature = (image, *, progress = None))]
    fn generate(
        &self,
        py: Python<'_>,
        image: &Bound<'_, PyAny>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Vec<PyMaskRecord>> {
        let mut progress = Progress::new(progress)?;
        let (image, embedding) = match image.cast::<PyEmbedding>() {
            Ok(embedding) => {
                let embedding = embedding.get();
                let why = "image: this embedding was loaded, and has no image; give the image";
                let image = embedding
                    .image
                    .clone()
                    .ok_or_else(|| OptionError::new_err(why))?;
                (image, Some(embedding.embedding.clone()))
            }
            Err(_) => (Arc::new(image_of(image)?), None),
        };
        let records = py.detach(|| {
            let embedding = match embedding {
                Some(embedding) => embedding,
                None => self.0.segmenter().embed(&*image)?,
            };
            self.0
                .generate_from(&*image, &embedding, |share| progress.tell(share))
        });
        let records = progress.finish(records)?;
        let record = |record| PyMaskRecord {
            record,
            image: Arc::clone(&image),
        };
        Ok(records.into_iter().map(record).collect())
    }

    fn __repr__(&self) -> String {
        let options = self.0.options();
        let points = options.points_per_side;
        let points = points.map_or_else(|| "point_grids".to_owned(), |n| format!("{n}x{n} points"));
        format!("MaskGenerator({}, {points})", self.0.segmenter().name())
    }
}

/// A mask that was found. The fields are also read as those of the official dictionary: ``record["area"]``.
#[pyclass(name = "MaskRecord", module = "samara", frozen)]
pub(crate) struct PyMaskRecord {
    record: MaskRecord,
    image: Arc<RgbImage>,
}

/// The keys of the official dictionary.
const KEYS: [&str; 7] = [
    "segmentation",
    "area",
    "bbox",
    "predicted_iou",
    "point_coords",
    "stability_score",
    "crop_box",
];

#[pymethods]
impl PyMaskRecord {
    /// The mask, ``bool`` of the image's size; a new array each time.
    #[getter]
    fn segmentation<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<bool>>> {
        array(py, &self.bits()?)
    }

    /// The same as :attr:`segmentation`, under the name that candidates have it.
    #[getter]
    fn mask<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<bool>>> {
        self.segmentation(py)
    }

    /// The outlines of the mask; see :func:`samara.polygons`.
    #[pyo3(signature = (tolerance = 0.0))]
    fn polygons(&self, tolerance: f64) -> PyResult<Vec<Vec<Vec<[f64; 2]>>>> {
        outlines(&self.bits()?, tolerance)
    }

    /// The mask as COCO run lengths.
    #[getter]
    fn rle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        rle_dict(py, &self.record.segmentation.to_rle(), true)
    }

    /// Number of pixels.
    #[getter]
    fn area(&self) -> u64 {
        self.record.area
    }

    /// ``[x, y, w, h]`` as the official generator has it: ``w`` and ``h`` are one less than the numbers of
    /// columns and rows.
    #[getter]
    fn bbox(&self) -> [u32; 4] {
        self.record.bbox
    }

    /// The estimated IoU.
    #[getter]
    fn predicted_iou(&self) -> f32 {
        self.record.predicted_iou.0
    }

    /// The point that was asked, ``[[x, y]]`` in pixels of the image.
    #[getter]
    fn point_coords(&self) -> [[f64; 2]; 1] {
        self.record.point_coords
    }

    /// Stability of the mask.
    #[getter]
    fn stability_score(&self) -> f32 {
        self.record.stability_score.0
    }

    /// ``[x, y, w, h]`` of the crop in which the mask was found.
    #[getter]
    fn crop_box(&self) -> [u32; 4] {
        self.record.crop_box
    }

    fn __getitem__<'py>(slf: &Bound<'py, Self>, key: &str) -> PyResult<Bound<'py, PyAny>> {
        if KEYS.contains(&key) {
            slf.getattr(key)
        } else {
            Err(PyKeyError::new_err(key.to_owned()))
        }
    }

    #[allow(clippy::unused_self, reason = "a method in Python")]
    fn __contains__(&self, key: &Bound<'_, PyAny>) -> bool {
        key.extract::<String>()
            .is_ok_and(|key| KEYS.contains(&&*key))
    }

    #[allow(clippy::unused_self, reason = "a method in Python")]
    fn __len__(&self) -> usize {
        KEYS.len()
    }

    #[allow(clippy::unused_self, reason = "a method in Python")]
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        KEYS.into_pyobject(py)?.try_iter()
    }

    /// The names of the official dictionary, so that ``dict(record)`` is one.
    #[allow(clippy::unused_self, reason = "a method in Python")]
    fn keys(&self) -> [&'static str; 7] {
        KEYS
    }

    /// The values under these names.
    fn values<'py>(slf: &Bound<'py, Self>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        KEYS.iter().map(|key| slf.getattr(*key)).collect()
    }

    /// Names and values.
    fn items<'py>(slf: &Bound<'py, Self>) -> PyResult<Vec<(&'static str, Bound<'py, PyAny>)>> {
        let item = |&key: &&'static str| Ok((key, slf.getattr(key)?));
        KEYS.iter().map(item).collect()
    }

    /// The value under a name, or a default.
    #[pyo3(signature = (key, default = None))]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        key: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if KEYS.contains(&key) {
            slf.getattr(key).map(Some)
        } else {
            Ok(default)
        }
    }

    fn _repr_png_<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        png(py, Some(&self.image), &[&self.bits()?])
    }

    fn __repr__(&self) -> String {
        let MaskRecord {
            area,
            bbox: [x, y, w, h],
            ..
        } = self.record;
        let iou = self.record.predicted_iou;
        format!("MaskRecord(area={area}, bbox=[{x}, {y}, {w}, {h}], predicted_iou={iou:.3})")
    }
}

impl PyMaskRecord {
    fn bits(&self) -> PyResult<Mask> {
        self.record.segmentation.to_mask().map_err(raise)
    }
}

/// The tree of masks: which of them lies in which.
///
/// Parameters
/// ----------
/// records : iterable of MaskRecord
///
/// A sequence of :class:`Node`, one for each record.
#[pyclass(name = "Hierarchy", module = "samara", frozen, sequence)]
pub(crate) struct PyHierarchy(Hierarchy);

#[pymethods]
impl PyHierarchy {
    #[new]
    fn new(py: Python<'_>, records: &Bound<'_, PyAny>) -> PyResult<Self> {
        let records = records.try_iter()?.map(|record| {
            let record = record?;
            Ok(record.cast::<PyMaskRecord>()?.get().record.clone())
        });
        let records: Vec<MaskRecord> = records.collect::<PyResult<_>>()?;
        Ok(Self(py.detach(|| Hierarchy::of(&records))))
    }

    fn __len__(&self) -> usize {
        self.0.nodes().len()
    }

    fn __getitem__(&self, index: isize) -> PyResult<PyNode> {
        let len = self.0.nodes().len();
        let at = if index < 0 {
            index + len as isize
        } else {
            index
        };
        let node = usize::try_from(at)
            .ok()
            .and_then(|at| self.0.nodes().get(at));
        let node = node.ok_or_else(|| PyIndexError::new_err(format!("node {index} of {len}")))?;
        Ok(PyNode::new(node))
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        let all: Vec<PyNode> = self.0.nodes().iter().map(PyNode::new).collect();
        all.into_pyobject(py)?.try_iter()
    }

    /// The outermost mask in which this one lies, by index; itself if it lies in none.
    fn root(&self, index: usize) -> PyResult<usize> {
        let len = self.0.nodes().len();
        if index < len {
            Ok(self.0.root(index))
        } else {
            Err(PyIndexError::new_err(format!("node {index} of {len}")))
        }
    }

    fn __repr__(&self) -> String {
        format!("Hierarchy({} masks)", self.0.nodes().len())
    }
}

/// The place of a mask in the tree.
#[pyclass(name = "Node", module = "samara", frozen)]
pub(crate) struct PyNode {
    /// The smallest mask in which it lies, by index; None for an outermost one.
    #[pyo3(get)]
    parent: Option<usize>,
    /// The masks that lie directly in it, by index.
    #[pyo3(get)]
    children: Vec<usize>,
    /// "whole", "part" or "subpart".
    #[pyo3(get)]
    level: &'static str,
}

impl PyNode {
    fn new(node: &Node) -> Self {
        Self {
            parent: node.parent,
            children: node.children.clone(),
            level: node.level.name(),
        }
    }
}

#[pymethods]
impl PyNode {
    fn __repr__(&self) -> String {
        let parent = self
            .parent
            .map_or_else(|| "None".to_owned(), |p| p.to_string());
        format!(
            "Node({}, parent={parent}, children={:?})",
            self.level, self.children
        )
    }
}
