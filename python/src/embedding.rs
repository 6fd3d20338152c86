//! The embedding of an image.

use std::path::PathBuf;
use std::sync::Arc;

use numpy::ndarray::Axis;
use numpy::{
    IntoPyArray, PyArray2, PyArray3, PyArray4, PyArrayMethods, PyReadonlyArray2, PyReadonlyArray3,
    PyReadonlyArray4, PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use samara::{Embedding, Logits, MaskPrompt, ModelPrompt, OriginalPx, Prompt, RgbImage, Zoom};

use crate::candidates::PyCandidates;
use crate::error::{OptionError, PromptError, raise};
use crate::progress::Progress;
use crate::prompt::{BALANCED, PyPrompt};
use crate::segmenter::PySegmenter;

/// Logits ``[prompts, masks, side, side]`` and scores ``[prompts, masks]``.
type Decoded<'py> = (Bound<'py, PyArray4<f32>>, Bound<'py, PyArray2<f32>>);

/// Prompts between which Ctrl-C is looked for.
const AT_ONCE: usize = 64;

/// How to look again.
#[derive(FromPyObject)]
enum ZoomArgument {
    Name(String),
    Factor(f64),
}

/// A function, and what it is called with.
type Reduced<'py> = (
    Bound<'py, PyAny>,
    (Bound<'py, PyBytes>, Bound<'py, PySegmenter>),
);

/// An image as its model sees it. Any number of prompts is answered from it, each in milliseconds.
///
/// :meth:`Segmenter.embed` makes it. It is pickled with its values, and the model by reference.
#[pyclass(name = "Embedding", module = "samara", frozen)]
pub(crate) struct PyEmbedding {
    pub(crate) embedding: Embedding,
    segmenter: Py<PySegmenter>,
    /// For crops and pictures; not kept in files.
    pub(crate) image: Option<Arc<RgbImage>>,
}

impl PyEmbedding {
    pub(crate) fn new(
        embedding: Embedding,
        segmenter: &Bound<'_, PySegmenter>,
        image: Option<Arc<RgbImage>>,
    ) -> Self {
        let segmenter = segmenter.clone().unbind();
        Self {
            embedding,
            segmenter,
            image,
        }
    }

    /// The prompt, if its mask has the size of the image.
    fn checked(&self, prompt: Prompt) -> PyResult<Prompt> {
        check_mask(&prompt, self.embedding.size())?;
        Ok(prompt)
    }

    fn answer(&self, prompts: &[Prompt], zoom: Zoom) -> samara::Result<Vec<PyCandidates>> {
        let first = self.embedding.predict_batch(prompts)?;
        let looked = prompts.iter().zip(first).map(|(prompt, first)| {
            let candidates = match &self.image {
                Some(image) if zoom != Zoom::Off => {
                    self.embedding.second_look(image, prompt, first, zoom)?
                }
                _ => first,
            };
            Ok(PyCandidates {
                candidates,
                image: self.image.clone(),
            })
        });
        looked.collect()
    }

    fn zoom(&self, zoom: Option<ZoomArgument>) -> PyResult<Zoom> {
        let zoom: Zoom = match zoom {
            None => Zoom::Off,
            Some(ZoomArgument::Name(name)) => name.parse().map_err(raise)?,
            Some(ZoomArgument::Factor(factor)) => factor.to_string().parse().map_err(raise)?,
        };
        if zoom != Zoom::Off && self.image.is_none() {
            let why = format!(
                "zoom '{zoom}': this embedding was loaded, and has no image to look at again"
            );
            return Err(OptionError::new_err(why));
        }
        Ok(zoom)
    }
}

#[pymethods]
impl PyEmbedding {
    /// The model that made it.
    #[getter]
    fn segmenter(&self, py: Python<'_>) -> Py<PySegmenter> {
        self.segmenter.clone_ref(py)
    }

    /// Width and height of the image in pixels.
    #[getter]
    fn size(&self) -> (u32, u32) {
        self.embedding.size()
    }

    /// The numbers in which it was computed: ``"fp32"``, ``"bf16"`` or ``"int8"``.
    #[getter]
    fn precision(&self) -> &'static str {
        self.embedding.precision().name()
    }

    /// The values, ``float32`` of shape (1, channels, rows, columns), as the official code has them.
    #[getter]
    fn features<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray4<f32>>> {
        let (values, shape) = py.detach(|| self.embedding.values()).map_err(raise)?;
        values.into_pyarray(py).reshape(shape)
    }

    /// Answers one prompt.
    ///
    /// Parameters
    /// ----------
    /// points, labels, box, mask, single, intent
    ///     As of :class:`Prompt`; a :class:`Prompt` may be given in the place of the points.
    /// zoom : str or float, optional
    ///     "auto" looks again, at a crop, where the answer is small; a factor above 1, such as 4, always does.
    ///
    /// Returns
    /// -------
    /// Candidates
    ///     Three candidate masks, or one with ``single``.
    ///
    /// Raises
    /// ------
    /// PromptError
    ///     The prompt is empty, or lies outside the image.
    #[pyo3(signature = (
        points = None, labels = None, *, r#box = None, mask = None, single = false, intent = "balanced", zoom = None
    ))]
    #[allow(clippy::too_many_arguments, reason = "keywords in Python")]
    fn predict(
        &self,
        py: Python<'_>,
        points: Option<Bound<'_, PyAny>>,
        labels: Option<Bound<'_, PyAny>>,
        r#box: Option<Bound<'_, PyAny>>,
        mask: Option<Bound<'_, PyAny>>,
        single: bool,
        intent: &str,
        zoom: Option<ZoomArgument>,
    ) -> PyResult<PyCandidates> {
        let zoom = self.zoom(zoom)?;
        let prompt = self.checked(PyPrompt::or_given(
            points, labels, r#box, mask, single, intent,
        )?)?;
        let mut answers = py.detach(|| self.answer(&[prompt], zoom)).map_err(raise)?;
        // One prompt has one answer.
        Ok(answers.swap_remove(0))
    }

    /// Answers many prompts, some at a time.
    ///
    /// Parameters
    /// ----------
    /// prompts : iterable of Prompt or of points
    ///     Points ``[x, y]``, or arrays of them of shape (n, 2), are clicks on one object each.
    /// zoom : str or float, optional
    ///     As of :meth:`predict`.
    /// progress : callable or tqdm bar, optional
    ///     Hears the share that is done, 0 to 1; a bar is moved on by its own total.
    ///
    /// Returns
    /// -------
    /// list of Candidates
    ///     In the order of the prompts.
    #[pyo3(signature = (prompts, *, zoom = None, progress = None))]
    fn predict_batch(
        &self,
        py: Python<'_>,
        prompts: &Bound<'_, PyAny>,
        zoom: Option<ZoomArgument>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Vec<PyCandidates>> {
        let zoom = self.zoom(zoom)?;
        let prompts = prompts.try_iter()?.map(|prompt| {
            self.checked(PyPrompt::or_given(
                Some(prompt?),
                None,
                None,
                None,
                false,
                BALANCED,
            )?)
        });
        let prompts: Vec<Prompt> = prompts.collect::<PyResult<_>>()?;
        self.embedding.check(&prompts).map_err(raise)?;
        let mut progress = Progress::new(progress)?;
        let answers = py.detach(|| {
            let mut answers = Vec::with_capacity(prompts.len());
            for some in prompts.chunks(AT_ONCE) {
                answers.extend(self.answer(some, zoom)?);
                let share = answers.len() as f64 / prompts.len() as f64;
                if progress.tell(share).is_break() {
                    return Err(samara::Error::Cancelled);
                }
            }
            Ok(answers)
        });
        progress.finish(answers)
    }

    /// Saves the embedding to a file (safetensors), bound to the weights that made it.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.embedding.save(path)).map_err(raise)
    }

    /// Loads an embedding that the same weights made.
    ///
    /// Raises
    /// ------
    /// SavedError
    ///     The file is missing, damaged, no embedding, or made by other weights.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf, segmenter: &Bound<'_, PySegmenter>) -> PyResult<Self> {
        let model = &segmenter.get().segmenter;
        let embedding = py.detach(|| Embedding::load(path, model)).map_err(raise)?;
        Ok(Self::new(embedding, segmenter, None))
    }

    /// The embedding as the bytes of such a file.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = py.detach(|| self.embedding.to_bytes()).map_err(raise)?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// The embedding of such bytes.
    #[staticmethod]
    fn from_bytes(bytes: &[u8], segmenter: &Bound<'_, PySegmenter>) -> PyResult<Self> {
        let embedding = Embedding::from_bytes(bytes, &segmenter.get().segmenter).map_err(raise)?;
        Ok(Self::new(embedding, segmenter, None))
    }

    /// Low-resolution logits and scores of the official predictors, for prompts in the frame of the model: points
    /// ``[b, n, 2]`` with labels ``[b, n]``, boxes ``[b, 4]``, logits ``[b, side, side]``; for :mod:`samara.compat`.
    fn _decode<'py>(
        &self,
        py: Python<'py>,
        points: Option<(PyReadonlyArray3<'py, f32>, PyReadonlyArray2<'py, f32>)>,
        boxes: Option<PyReadonlyArray2<'py, f32>>,
        masks: Option<PyReadonlyArray3<'py, f32>>,
        multimask: bool,
    ) -> PyResult<Decoded<'py>> {
        let prompts = model_prompts(points, boxes, masks)?;
        let mut tokens = Vec::with_capacity(prompts.len());
        for some in prompts.chunks(AT_ONCE) {
            let found = py.detach(|| self.embedding.decode_model(some));
            tokens.extend(found.map_err(raise)?);
            py.check_signals()?;
        }
        let segmenter = self.embedding.segmenter();
        let (count, side) = (prompts.len(), segmenter.logits_side());
        let shown = |tokens| self.embedding.official_tokens(tokens, multimask);
        let each = tokens.first().map_or(0, |tokens| shown(tokens).len());
        let mut logits = Vec::with_capacity(count * each * side * side);
        let mut scores = Vec::with_capacity(count * each);
        for tokens in &tokens {
            let shown = shown(tokens);
            scores.extend(tokens.iou[shown.clone()].iter().map(|iou| iou.0));
            let shown = tokens.low_res_logits[shown].iter();
            logits.extend(shown.flat_map(Logits::values));
        }
        Ok((
            logits.into_pyarray(py).reshape([count, each, side, side])?,
            scores.into_pyarray(py).reshape([count, each])?,
        ))
    }

    /// Points ``[n, 2]`` of the image in the frame of the model; for :mod:`samara.compat`.
    fn _to_model<'py>(
        &self,
        py: Python<'py>,
        points: PyReadonlyArray2<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let points = points.as_array();
        let scaled = points.outer_iter().flat_map(|at| {
            let at = self
                .embedding
                .frame()
                .to_model(OriginalPx::new(at[0], at[1]));
            [at.x, at.y]
        });
        let scaled: Vec<f64> = scaled.collect();
        scaled.into_pyarray(py).reshape([points.nrows(), 2])
    }

    /// Masks of the image's size from low-resolution logits ``[n, side, side]``; for :mod:`samara.compat`.
    fn _masks<'py>(
        &self,
        py: Python<'py>,
        logits: PyReadonlyArray3<'py, f32>,
    ) -> PyResult<Bound<'py, PyArray3<bool>>> {
        let logits = each_logits(&logits)?;
        let (width, height) = self.embedding.size();
        let shape = [logits.len(), height as usize, width as usize];
        let masks = py.detach(|| self.embedding.upsample_bools(&logits));
        masks.map_err(raise)?.into_pyarray(py).reshape(shape)
    }

    /// The same as logits of every pixel.
    fn _full_logits<'py>(
        &self,
        py: Python<'py>,
        logits: PyReadonlyArray3<'py, f32>,
    ) -> PyResult<Bound<'py, PyArray3<f32>>> {
        let logits = each_logits(&logits)?;
        let (width, height) = self.embedding.size();
        let full = py.detach(|| self.embedding.upsample_logits(&logits));
        let values: Vec<f32> = full.map_err(raise)?.concat();
        let shape = [logits.len(), height as usize, width as usize];
        values.into_pyarray(py).reshape(shape)
    }

    /// The embedding of an image of ``size`` (width, height) with these values; for :mod:`samara.compat`.
    #[staticmethod]
    fn _from_features(
        segmenter: &Bound<'_, PySegmenter>,
        features: PyReadonlyArray4<'_, f32>,
        size: (u32, u32),
    ) -> PyResult<Self> {
        let values: Vec<f32> = features.as_array().iter().copied().collect();
        let embedding = Embedding::from_values(&segmenter.get().segmenter, values, size);
        Ok(Self::new(embedding.map_err(raise)?, segmenter, None))
    }

    /// The embedding of an image that was scaled already, ``float32`` of shape (height, width, 3), 0 to 255; for
    /// :mod:`samara.compat`.
    #[staticmethod]
    fn _of_scaled(
        segmenter: &Bound<'_, PySegmenter>,
        pixels: PyReadonlyArray3<'_, f32>,
        size: (u32, u32),
    ) -> PyResult<Self> {
        let values: Vec<f32> = pixels.as_array().iter().copied().collect();
        let model = &segmenter.get().segmenter;
        let embedding = segmenter.py().detach(|| model.embed_scaled(&values, size));
        Ok(Self::new(embedding.map_err(raise)?, segmenter, None))
    }

    /// Embeddings are pickled with their values, and their model by reference.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        let load = py.import("samara._pickle")?.getattr("embedding")?;
        Ok((load, (self.to_bytes(py)?, self.segmenter.bind(py).clone())))
    }

    fn __repr__(&self) -> String {
        let (width, height) = self.embedding.size();
        format!(
            "Embedding({width}x{height}, {})",
            self.embedding.segmenter().name()
        )
    }
}

/// Logits ``[n, side, side]``, one by one.
/// Refuses a mask of another size than the image: which pixels it means would be a guess.
pub(crate) fn check_mask(prompt: &Prompt, (width, height): (u32, u32)) -> PyResult<()> {
    match prompt.mask_prompt() {
        Some(MaskPrompt::Mask(mask)) if (mask.width(), mask.height()) != (width, height) => {
            Err(PromptError::new_err(format!(
                "mask: {} rows and {} columns, the image has {height} and {width}",
                mask.height(),
                mask.width()
            )))
        }
        _ => Ok(()),
    }
}

/// A prompt for each row of the arrays.
fn model_prompts(
    points: Option<(PyReadonlyArray3<'_, f32>, PyReadonlyArray2<'_, f32>)>,
    boxes: Option<PyReadonlyArray2<'_, f32>>,
    masks: Option<PyReadonlyArray3<'_, f32>>,
) -> PyResult<Vec<ModelPrompt>> {
    let masks = masks.as_ref().map(each_logits).transpose()?;
    let counts = [
        points.as_ref().map(|(points, _)| points.shape()[0]),
        points.as_ref().map(|(_, labels)| labels.shape()[0]),
        boxes.as_ref().map(|boxes| boxes.shape()[0]),
        masks.as_ref().map(Vec::len),
    ];
    let count = counts.into_iter().flatten().min().unwrap_or(1);
    let prompt = |i: usize| {
        let mut prompt = ModelPrompt::default();
        if let Some((points, labels)) = &points {
            let (points, labels) = (points.as_array(), labels.as_array());
            let rows = points.index_axis(Axis(0), i);
            let rows = rows.outer_iter().zip(labels.row(i));
            prompt.points = rows.map(|(at, &label)| ([at[0], at[1]], label)).collect();
        }
        if let Some(boxes) = &boxes {
            let boxes = boxes.as_array();
            prompt.bbox = Some(std::array::from_fn(|corner| boxes[[i, corner]]));
        }
        prompt.mask = masks.as_ref().map(|masks| masks[i].clone());
        prompt
    };
    Ok((0..count).map(prompt).collect())
}

fn each_logits(logits: &PyReadonlyArray3<'_, f32>) -> PyResult<Vec<Logits>> {
    let side = logits.shape()[1];
    let array = logits.as_array();
    let each = array.outer_iter().map(|values| {
        let values = values.iter().copied().collect();
        Logits::new(side, values).map_err(raise)
    });
    each.collect()
}
