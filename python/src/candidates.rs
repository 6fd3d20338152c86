//! The answer to a prompt.

use std::sync::Arc;

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArray3, PyArrayMethods};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyIterator, PySlice};
use samara::{Candidate, Candidates, Mask, Overlay, RgbImage, Select, Selection, palette};
use samara_image::PngSource;

use crate::convert::rle_dict;
use crate::error::{DeviceError, raise};
use crate::mask::{array, outlines};

/// One candidate mask with its scores.
#[pyclass(name = "Candidate", module = "samara", frozen)]
pub(crate) struct PyCandidate {
    pub(crate) candidate: Candidate,
    image: Option<Arc<RgbImage>>,
}

impl PyCandidate {
    pub(crate) fn new(candidate: Candidate, image: Option<Arc<RgbImage>>) -> Self {
        Self { candidate, image }
    }
}

#[pymethods]
impl PyCandidate {
    /// Position in the model's answer.
    #[getter]
    fn index(&self) -> usize {
        self.candidate.index
    }

    /// The mask, ``bool`` of the image's size; a new array each time.
    #[getter]
    fn mask<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<bool>>> {
        array(py, &self.candidate.mask)
    }

    /// The mask as COCO run lengths.
    #[getter]
    fn rle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        rle_dict(py, &self.candidate.mask.to_rle(), true)
    }

    /// The outlines of the mask; see :func:`samara.polygons`.
    #[pyo3(signature = (tolerance = 0.0))]
    fn polygons(&self, tolerance: f64) -> PyResult<Vec<Vec<Vec<[f64; 2]>>>> {
        outlines(&self.candidate.mask, tolerance)
    }

    /// Number of pixels.
    #[getter]
    fn area(&self) -> u64 {
        self.candidate.mask.area()
    }

    /// ``[x, y, width, height]`` in pixels; zeros for a mask without a pixel.
    #[getter]
    fn bbox(&self) -> [u32; 4] {
        self.candidate.mask.bbox().map_or([0; 4], |b| b.xywh())
    }

    /// How well the mask outlines what it depicts: the estimated IoU.
    #[getter]
    fn predicted_iou(&self) -> f32 {
        self.candidate.predicted_iou.0
    }

    /// The decoder's own score.
    #[getter]
    fn raw_predicted_iou(&self) -> f32 {
        self.candidate.raw_predicted_iou.0
    }

    /// The probability that this is what the prompt means; None for models without a candidate head.
    #[getter]
    fn match_probability(&self) -> Option<f32> {
        self.candidate.match_probability.map(|p| p.0)
    }

    /// IoU between the masks at logits above 1 and above -1.
    #[getter]
    fn stability_score(&self) -> f32 {
        self.candidate.stability_score.0
    }

    /// ``"whole"``, ``"part"`` or ``"subpart"``, among the candidates.
    #[getter]
    fn granularity(&self) -> &'static str {
        self.candidate.granularity.name()
    }

    /// The logits from which the mask was made, ``float32`` of shape (n, n); as ``mask`` of a prompt they refine it.
    #[getter]
    fn low_res_logits<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let logits = &self.candidate.low_res_logits;
        let values = logits.values().to_vec().into_pyarray(py);
        values.reshape([logits.side(), logits.side()])
    }

    fn _repr_png_<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        png(py, self.image.as_deref(), &[&self.candidate.mask])
    }

    fn __repr__(&self) -> String {
        let c = &self.candidate;
        let probability = c.match_probability;
        let probability =
            probability.map_or_else(String::new, |p| format!(", match_probability={:.2}", p.0));
        format!(
            "Candidate({}, predicted_iou={:.3}{probability}, area={})",
            c.granularity,
            c.predicted_iou,
            c.mask.area()
        )
    }
}

/// The answer to one prompt: three candidates, or one when a single mask was asked for.
///
/// A sequence of :class:`Candidate` in the model's order.
///
/// Examples
/// --------
/// >>> candidates = embedding.predict([520, 360])  # doctest: +SKIP
/// >>> [c.granularity for c in candidates]  # doctest: +SKIP
/// ['subpart', 'part', 'whole']
/// >>> candidates.select("part").mask.sum()  # doctest: +SKIP
/// 8123
#[pyclass(name = "Candidates", module = "samara", frozen, sequence)]
pub(crate) struct PyCandidates {
    pub(crate) candidates: Candidates,
    pub(crate) image: Option<Arc<RgbImage>>,
}

impl PyCandidates {
    fn candidate(&self, candidate: &Candidate) -> PyCandidate {
        PyCandidate::new(candidate.clone(), self.image.clone())
    }
}

#[pymethods]
impl PyCandidates {
    fn __len__(&self) -> usize {
        self.candidates.len()
    }

    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        index: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let len = self.candidates.len();
        if let Ok(slice) = index.cast::<PySlice>() {
            let slice = slice.indices(len as isize)?;
            let at = (0..slice.slicelength).map(|i| slice.start + slice.step * i as isize);
            let some = at.map(|at| self.candidate(&self.candidates.as_slice()[at as usize]));
            return some.collect::<Vec<_>>().into_pyobject(py);
        }
        let index: isize = index.extract()?;
        let at = if index < 0 {
            index + len as isize
        } else {
            index
        };
        let found = usize::try_from(at)
            .ok()
            .and_then(|at| self.candidates.as_slice().get(at));
        let why = || PyIndexError::new_err(format!("candidate {index} of {len}"));
        let found = self.candidate(found.ok_or_else(why)?);
        Ok(found.into_pyobject(py)?.into_any())
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        let all: Vec<PyCandidate> = self.candidates.iter().map(|c| self.candidate(c)).collect();
        all.into_pyobject(py)?.try_iter()
    }

    /// The candidate with the highest expected IoU, or without a candidate head the highest score.
    #[getter]
    fn best(&self) -> PyCandidate {
        self.candidate(self.candidates.best())
    }

    /// All masks, ``bool`` of shape (n, height, width); a new array each time.
    #[getter]
    fn masks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray3<bool>>> {
        let first = &self.candidates.as_slice()[0].mask;
        let (width, height) = (first.width() as usize, first.height() as usize);
        let mut values = vec![false; self.candidates.len() * width * height];
        let each = values.chunks_exact_mut((width * height).max(1));
        for (candidate, values) in self.candidates.iter().zip(each) {
            candidate.mask.write_bools(values);
        }
        values
            .into_pyarray(py)
            .reshape([self.candidates.len(), height, width])
    }

    /// ``predicted_iou`` of all candidates.
    #[getter]
    fn predicted_ious<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        let scores: Vec<f32> = self.candidates.iter().map(|c| c.predicted_iou.0).collect();
        scores.into_pyarray(py)
    }

    /// The IoU to expect of each candidate with what was meant; None for models without a candidate head.
    #[getter]
    fn expected_ious<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyArray1<f32>>> {
        Some(self.candidates.expected_ious()?.into_pyarray(py))
    }

    /// Selects or combines candidates.
    ///
    /// Parameters
    /// ----------
    /// how : str, default "best"
    ///     "best", "learned", "score", "whole", "part", "subpart", "largest", "smallest", "area=R" (a share of the
    ///     image), "box=X0,Y0,X1,Y1", "union", "intersection", "weighted" or "vote".
    ///
    /// Returns
    /// -------
    /// Selection
    #[pyo3(signature = (how = "best"))]
    fn select(&self, how: &str) -> PyResult<PySelection> {
        let how: Select = how.parse().map_err(raise)?;
        let selection = self.candidates.select(&how).map_err(raise)?;
        let image = self.image.clone();
        Ok(PySelection { selection, image })
    }

    fn _repr_png_<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let mut masks: Vec<&Mask> = self.candidates.iter().map(|c| &c.mask).collect();
        masks.sort_by_key(|mask| std::cmp::Reverse(mask.area()));
        png(py, self.image.as_deref(), &masks)
    }

    fn __repr__(&self) -> String {
        let parts = self.candidates.iter();
        let parts = parts.map(|c| format!("{} {:.3}", c.granularity, c.predicted_iou));
        format!("Candidates({})", parts.collect::<Vec<_>>().join(", "))
    }
}

/// A candidate that was selected, or a mask made of several.
#[pyclass(name = "Selection", module = "samara", frozen)]
pub(crate) struct PySelection {
    pub(crate) selection: Selection,
    image: Option<Arc<RgbImage>>,
}

#[pymethods]
impl PySelection {
    /// The mask, ``bool`` of the image's size; a new array each time.
    #[getter]
    fn mask<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<bool>>> {
        array(py, &self.selection.mask)
    }

    /// The mask as COCO run lengths.
    #[getter]
    fn rle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        rle_dict(py, &self.selection.mask.to_rle(), true)
    }

    /// Number of pixels.
    #[getter]
    fn area(&self) -> u64 {
        self.selection.mask.area()
    }

    /// ``[x, y, width, height]`` in pixels; zeros for a mask without a pixel.
    #[getter]
    fn bbox(&self) -> [u32; 4] {
        self.selection.mask.bbox().map_or([0; 4], |b| b.xywh())
    }

    /// The outlines of the mask; see :func:`samara.polygons`.
    #[pyo3(signature = (tolerance = 0.0))]
    fn polygons(&self, tolerance: f64) -> PyResult<Vec<Vec<Vec<[f64; 2]>>>> {
        outlines(&self.selection.mask, tolerance)
    }

    /// The candidate that was selected; None for a mask made of several.
    #[getter]
    fn index(&self) -> Option<usize> {
        self.selection.index
    }

    /// The estimated IoU of that candidate.
    #[getter]
    fn predicted_iou(&self) -> Option<f32> {
        self.selection.predicted_iou.map(|iou| iou.0)
    }

    /// The probability that it is what the prompt means.
    #[getter]
    fn match_probability(&self) -> Option<f32> {
        self.selection.match_probability.map(|p| p.0)
    }

    /// Why, in one line.
    #[getter]
    fn reason(&self) -> &str {
        &self.selection.reason
    }

    fn _repr_png_<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        png(py, self.image.as_deref(), &[&self.selection.mask])
    }

    fn __repr__(&self) -> String {
        format!("Selection({})", self.selection.reason)
    }
}

/// Masks over the image, as PNG; nothing without the image.
pub(crate) fn png<'py>(
    py: Python<'py>,
    image: Option<&RgbImage>,
    masks: &[&Mask],
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let Some(image) = image else {
        return Ok(None);
    };
    let png = py.detach(|| {
        let overlay = masks
            .iter()
            .zip(0..)
            .fold(Overlay::new(image), |overlay, (mask, i)| {
                overlay.mask(mask, palette(i))
            });
        overlay.render().to_png()
    });
    let png = png.map_err(|error| DeviceError::new_err(error.to_string()))?;
    Ok(Some(PyBytes::new(py, &png)))
}
