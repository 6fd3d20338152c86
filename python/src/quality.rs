//! How good masks are that someone else made.

use std::sync::Arc;

use pyo3::prelude::*;
use samara::{Prompt, RgbImage};
use samara_quality::{ExternalMask, MaskQuality, QualityError, QualityEstimator};

use crate::candidates::PyCandidate;
use crate::convert::{box_of, mask_of};
use crate::embedding::{PyEmbedding, check_mask};
use crate::error::{DeviceError, OptionError, PromptError, raise};

/// Masks between which Ctrl-C is looked for.
const AT_ONCE: usize = 8;

/// What a model thinks of a mask that someone else made.
#[pyclass(name = "MaskQuality", module = "samara.quality", frozen)]
pub(crate) struct PyMaskQuality {
    quality: MaskQuality,
    image: Arc<RgbImage>,
}

#[pymethods]
impl PyMaskQuality {
    /// The estimated IoU of the mask with its unknown truth.
    #[getter]
    fn estimate(&self) -> f32 {
        self.quality.estimate.0
    }

    /// IoU of the mask with :attr:`refined`.
    #[getter]
    fn alignment_iou(&self) -> f64 {
        self.quality.alignment_iou
    }

    /// The mask as the model would draw it.
    #[getter]
    fn refined(&self) -> PyCandidate {
        PyCandidate::new(self.quality.refined.clone(), Some(Arc::clone(&self.image)))
    }

    fn __repr__(&self) -> String {
        let MaskQuality {
            estimate,
            alignment_iou,
            ..
        } = &self.quality;
        format!("MaskQuality(estimate={estimate:.3}, alignment_iou={alignment_iou:.3})")
    }
}

/// Estimates how good masks of an image are.
///
/// Parameters
/// ----------
/// embedding : Embedding
///     Of the image; one that was loaded from a file has no image to look at.
/// masks : iterable of array_like of bool, str or dict
///     Masks as :func:`samara.encode_rle` takes them.
/// boxes : iterable of array_like of float, shape (4,), optional
///     Where each object is said to be, by something else than the mask, such as a detector: left, top, right and
///     bottom in pixels. A mask of something else is found out then.
///
/// Returns
/// -------
/// list of MaskQuality
#[pyfunction]
#[pyo3(signature = (embedding, masks, *, boxes = None))]
pub(crate) fn assess(
    py: Python<'_>,
    embedding: &Bound<'_, PyEmbedding>,
    masks: &Bound<'_, PyAny>,
    boxes: Option<Bound<'_, PyAny>>,
) -> PyResult<Vec<PyMaskQuality>> {
    let PyEmbedding {
        embedding, image, ..
    } = embedding.get();
    let why = "embedding: it was loaded, and has no image to look at";
    let image = image.as_ref().ok_or_else(|| OptionError::new_err(why))?;
    let (width, height) = embedding.size();
    let external = |mask: PyResult<Bound<'_, PyAny>>| {
        let mask = mask_of(&mask?)?;
        check_mask(&Prompt::mask(mask.clone()), (width, height))?;
        ExternalMask::new(&mask, width, height).map_err(wrong)
    };
    let mut masks: Vec<ExternalMask> = masks.try_iter()?.map(external).collect::<PyResult<_>>()?;
    if let Some(boxes) = boxes {
        let boxes = boxes.try_iter()?.map(|corners| box_of(&corners?));
        let boxes: Vec<_> = boxes.collect::<PyResult<_>>()?;
        if boxes.len() != masks.len() {
            let (found, expected) = (boxes.len(), masks.len());
            return Err(PromptError::new_err(format!(
                "boxes: {found} of them for {expected} masks"
            )));
        }
        let claimed = masks.into_iter().zip(boxes);
        masks = claimed
            .map(|(mask, bbox)| mask.with_claim(Prompt::new().with_box(bbox)))
            .collect();
    }
    let estimator = py
        .detach(|| QualityEstimator::new(embedding, image))
        .map_err(wrong)?;
    let mut assessed = Vec::with_capacity(masks.len());
    for some in masks.chunks(AT_ONCE) {
        assessed.extend(py.detach(|| estimator.assess(some)).map_err(wrong)?);
        py.check_signals()?;
    }
    let quality = |quality| PyMaskQuality {
        quality,
        image: Arc::clone(image),
    };
    Ok(assessed.into_iter().map(quality).collect())
}

fn wrong(error: QualityError) -> PyErr {
    match error {
        QualityError::Samara(error) => raise(error),
        QualityError::EmptyMask => PromptError::new_err(error.to_string()),
        other => DeviceError::new_err(other.to_string()),
    }
}
