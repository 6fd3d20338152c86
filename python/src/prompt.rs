//! What is asked of an image.

use numpy::PyReadonlyArrayDyn;
use pyo3::prelude::*;
use samara::{Click, Intent, Logits, OriginalPx, Prompt};

use crate::candidates::{PyCandidate, PySelection};
use crate::convert::{box_of, mask_of, points_of};
use crate::error::{PromptError, raise};

/// The intent that is meant without one.
pub(crate) const BALANCED: &str = "balanced";

/// One object that is asked for, by clicks, a box, a mask, or several of these.
///
/// Parameters
/// ----------
/// points : array_like of float, shape (n, 2), optional
///     Clicks ``[x, y]`` in pixels of the image, the first pixel's centre at ``[0.5, 0.5]``. One click may be
///     given as ``[x, y]``.
/// labels : array_like of int or bool, shape (n,), optional
///     1 for a click on the object, 0 for one beside it. Without it all are on the object.
/// box : array_like of float, shape (4,), optional
///     Left, top, right and bottom, in pixels of the image.
/// mask : array_like or str or dict, optional
///     A rough mask: ``bool`` of the image's size, a file, or run lengths. Logits of an earlier answer,
///     ``float32`` of shape (256, 256), are taken as they are. A :class:`Selection` or :class:`Candidate` is
///     corrected by the clicks.
/// single : bool, default False
///     One candidate instead of three.
/// intent : {"balanced", "objects", "segments"}
///     What a click usually means, for models with a candidate head.
///
/// Examples
/// --------
/// >>> import samara
/// >>> samara.Prompt(points=[[520, 360], [10, 10]], labels=[1, 0])
/// Prompt(points=[[520, 360], [10, 10]], labels=[1, 0])
#[pyclass(name = "Prompt", module = "samara", frozen)]
#[derive(Debug, Clone)]
pub(crate) struct PyPrompt(pub(crate) Prompt);

impl PyPrompt {
    /// The prompt of these arguments, or that in the place of the points.
    pub(crate) fn or_given(
        points: Option<Bound<'_, PyAny>>,
        labels: Option<Bound<'_, PyAny>>,
        r#box: Option<Bound<'_, PyAny>>,
        mask: Option<Bound<'_, PyAny>>,
        single: bool,
        intent: &str,
    ) -> PyResult<Prompt> {
        let given = points
            .as_ref()
            .and_then(|points| points.cast::<Self>().ok());
        match given {
            Some(prompt) => {
                let others = [("labels", &labels), ("box", &r#box), ("mask", &mask)];
                let other = others.iter().find(|(_, value)| value.is_some());
                let option = (single || intent != BALANCED).then_some("single or intent");
                match other.map(|(name, _)| *name).or(option) {
                    None => Ok(prompt.get().0.clone()),
                    Some(name) => Err(PromptError::new_err(format!(
                        "{name}: part of the Prompt that is given; make the Prompt with it"
                    ))),
                }
            }
            None => Ok(Self::new(points, labels, r#box, mask, single, intent)?.0),
        }
    }
}

#[pymethods]
impl PyPrompt {
    #[new]
    #[pyo3(signature = (points = None, labels = None, *, r#box = None, mask = None, single = false, intent = "balanced"))]
    pub(crate) fn new(
        points: Option<Bound<'_, PyAny>>,
        labels: Option<Bound<'_, PyAny>>,
        r#box: Option<Bound<'_, PyAny>>,
        mask: Option<Bound<'_, PyAny>>,
        single: bool,
        intent: &str,
    ) -> PyResult<Self> {
        let mut prompt = Prompt::new().with_intent(intent.parse::<Intent>().map_err(raise)?);
        if single {
            prompt = prompt.with_single_mask();
        }
        let points = points
            .as_ref()
            .map(points_of)
            .transpose()?
            .unwrap_or_default();
        let labels = match labels {
            Some(labels) => labels_of(&labels, points.len())?,
            None => vec![true; points.len()],
        };
        for ([x, y], positive) in points.into_iter().zip(labels) {
            let at = OriginalPx::new(x, y);
            prompt = prompt.with_click(Click { at, positive });
        }
        if let Some(corners) = r#box {
            prompt = prompt.with_box(box_of(&corners)?);
        }
        let Some(mask) = mask else {
            return Ok(Self(prompt));
        };
        if let Ok(selection) = mask.cast::<PySelection>() {
            return Ok(Self(prompt.refine(&selection.get().selection)));
        }
        if let Ok(candidate) = mask.cast::<PyCandidate>() {
            let logits = candidate.get().candidate.low_res_logits.clone();
            return Ok(Self(prompt.with_single_mask().with_mask(logits)));
        }
        Ok(Self(match logits_of(&mask)? {
            Some(logits) => prompt.with_mask(logits),
            None => prompt.with_mask(mask_of(&mask)?),
        }))
    }

    /// The clicks, ``[x, y]`` in pixels of the image.
    #[getter]
    fn points(&self) -> Vec<[f64; 2]> {
        self.0.clicks().iter().map(|c| [c.at.x, c.at.y]).collect()
    }

    /// 1 for a click on the object, 0 for one beside it.
    #[getter]
    fn labels(&self) -> Vec<u8> {
        self.0
            .clicks()
            .iter()
            .map(|c| u8::from(c.positive))
            .collect()
    }

    /// Left, top, right and bottom, in pixels of the image.
    #[getter]
    fn r#box(&self) -> Option<[f64; 4]> {
        let bbox = self.0.box_prompt()?;
        Some([bbox.min.x, bbox.min.y, bbox.max.x, bbox.max.y])
    }

    fn __repr__(&self) -> String {
        let mut parts = Vec::new();
        if !self.0.clicks().is_empty() {
            let points = self
                .points()
                .into_iter()
                .map(|[x, y]| format!("[{x}, {y}]"));
            parts.push(format!(
                "points=[{}]",
                points.collect::<Vec<_>>().join(", ")
            ));
            let labels = self.labels().into_iter().map(|label| label.to_string());
            parts.push(format!(
                "labels=[{}]",
                labels.collect::<Vec<_>>().join(", ")
            ));
        }
        if let Some([x0, y0, x1, y1]) = self.r#box() {
            parts.push(format!("box=[{x0}, {y0}, {x1}, {y1}]"));
        }
        if self.0.mask_prompt().is_some() {
            parts.push("mask=...".into());
        }
        if self.0.intent() != Intent::default() {
            parts.push(format!("intent='{}'", self.0.intent()));
        }
        format!("Prompt({})", parts.join(", "))
    }
}

/// 1 or 0 for each of `count` points.
fn labels_of(labels: &Bound<'_, PyAny>, count: usize) -> PyResult<Vec<bool>> {
    let wrong =
        || PromptError::new_err("labels: one number for each point, 1 on the object, 0 beside it");
    let labels: Vec<f64> = match labels.extract::<f64>() {
        Ok(label) => vec![label],
        Err(_) => labels
            .call_method0("tolist")
            .unwrap_or(labels.clone())
            .extract()
            .map_err(|_| wrong())?,
    };
    if labels.len() != count {
        return Err(PromptError::new_err(format!(
            "labels: {} of them for {count} points",
            labels.len()
        )));
    }
    let label = |label: f64| match label {
        0.0 => Ok(false),
        1.0 => Ok(true),
        _ => Err(PromptError::new_err(format!(
            "labels: {label} is neither 1, on the object, nor 0, beside it"
        ))),
    };
    labels.into_iter().map(label).collect()
}

/// Square arrays of floats are logits.
fn logits_of(mask: &Bound<'_, PyAny>) -> PyResult<Option<Logits>> {
    let array = match mask.extract::<PyReadonlyArrayDyn<'_, f32>>() {
        Ok(array) => array,
        Err(_) if mask.extract::<PyReadonlyArrayDyn<'_, f64>>().is_ok() => {
            mask.call_method1("astype", ("float32",))?.extract()?
        }
        Err(_) => return Ok(None),
    };
    let shape: Vec<usize> = array.as_array().shape().to_vec();
    let (side, [side_y, side_x]) = match shape[..] {
        [y, x] | [1, y, x] => (y, [y, x]),
        _ => {
            return Err(PromptError::new_err(format!(
                "mask: logits of shape {shape:?}, expected (n, n)"
            )));
        }
    };
    if side_y != side_x {
        return Err(PromptError::new_err(format!(
            "mask: float32 of shape {shape:?} are no logits, which are (n, n); masks are bool"
        )));
    }
    let values = array.as_array().iter().copied().collect();
    Logits::new(side, values).map(Some).map_err(raise)
}
