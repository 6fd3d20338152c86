//! A model, ready to embed images.

use std::path::Path;
use std::sync::Arc;

use pyo3::exceptions::PyFileNotFoundError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use samara::checkpoint::cache::ModelCache;
use samara::checkpoint::{Checkpoint, registry};
use samara::{DeviceKind, EMBEDDED_MODEL, Segmenter, SegmenterOptions, embedded_checkpoint};
use samara_image::one_line;

use crate::convert::{image_of, refuse_single};
use crate::embedding::PyEmbedding;
use crate::error::{CheckpointError, OptionError, raise};
use crate::progress::Progress;

/// A function, and what it is called with.
type Reduced<'py> = (Bound<'py, PyAny>, (String, Bound<'py, PyDict>));

/// A model, ready to embed images.
///
/// Parameters
/// ----------
/// model : str or path-like, default "lite"
///     The embedded model ``"lite"``, the file of a checkpoint, or the name of a released model that was
///     downloaded (:func:`download`), such as ``"mobile-sam"``.
/// threads : int, optional
///     Threads to work on; without it, one for every processor, shared by all models of the process.
/// device : str, default "cpu"
///     Where to compute.
/// precision : str, default "auto"
///     Numbers that are multiplied on the CPU: ``"fp32"``, which gives the answers of the official code on every
///     processor, ``"bf16"``, ``"int8"``, or ``"auto"``: bf16 where the processor has fast instructions for it, int8 for a
///     model of ``samara models quantize``, otherwise fp32.
///
/// Raises
/// ------
/// CheckpointError
///     The file is no checkpoint, or of a model that is not supported.
/// FileNotFoundError
///     There is no such file, or the released model is not on this machine.
///
/// Examples
/// --------
/// >>> import samara
/// >>> segmenter = samara.Segmenter()
/// >>> segmenter.name
/// 'lite'
#[pyclass(name = "Segmenter", module = "samara", frozen)]
pub(crate) struct PySegmenter {
    pub(crate) segmenter: Segmenter,
    model: String,
    threads: Option<usize>,
    device: String,
    precision: String,
}

#[pymethods]
impl PySegmenter {
    #[new]
    #[pyo3(signature = (model = None, *, threads = None, device = "cpu", precision = "auto"))]
    fn new(
        py: Python<'_>,
        model: Option<std::path::PathBuf>,
        threads: Option<isize>,
        device: &str,
        precision: &str,
    ) -> PyResult<Self> {
        let model = model.map_or_else(
            || EMBEDDED_MODEL.to_owned(),
            |model| model.to_string_lossy().into_owned(),
        );
        let kind: DeviceKind = device.parse().map_err(raise)?;
        let mut options = SegmenterOptions::new()
            .with_device(kind)
            .with_precision(precision.parse().map_err(raise)?);
        let positive = |count: isize| {
            let count = usize::try_from(count).ok().filter(|&count| count > 0);
            let why = || OptionError::new_err("threads: at least one is needed");
            count.ok_or_else(why)
        };
        let threads = threads.map(positive).transpose()?;
        if let Some(threads) = threads {
            options = options.with_threads(threads);
        }
        let checkpoint = checkpoint(&model)?;
        let segmenter = py.detach(|| Segmenter::from_checkpoint(&checkpoint, options));
        Ok(Self {
            segmenter: segmenter.map_err(raise)?,
            model,
            threads,
            device: device.to_owned(),
            precision: precision.to_owned(),
        })
    }

    /// What the model calls itself.
    #[getter]
    fn name(&self) -> String {
        self.segmenter.name()
    }

    /// The architecture, such as ``"sam-vit-b"``.
    #[getter]
    fn architecture(&self) -> String {
        self.segmenter.architecture()
    }

    /// The side of the square that images are scaled to, in pixels.
    #[getter]
    fn input_size(&self) -> u32 {
        self.segmenter.input_side()
    }

    /// The numbers that are multiplied: ``"fp32"``, ``"bf16"`` or ``"int8"``.
    #[getter]
    fn precision(&self) -> &'static str {
        self.segmenter.precision().name()
    }

    /// SHA-256 over the weights.
    #[getter]
    fn fingerprint(&self) -> PyResult<String> {
        self.segmenter
            .fingerprint()
            .map(str::to_owned)
            .map_err(raise)
    }

    /// Whether the model has a memory for videos (SAM 2).
    #[getter]
    fn has_memory(&self) -> bool {
        self.segmenter.has_memory()
    }

    /// Computes the embedding of an image, from which any number of prompts is answered.
    ///
    /// Parameters
    /// ----------
    /// image : str, path-like, bytes, PIL image or array_like of uint8
    ///     A file, the bytes of one, or pixels: RGB of shape (height, width, 3), RGBA of shape (height, width, 4),
    ///     which is laid over white, or grey of shape (height, width). Files are turned upright by their EXIF
    ///     orientation; pixels are taken as they are.
    ///
    /// Returns
    /// -------
    /// Embedding
    fn embed(slf: &Bound<'_, Self>, image: &Bound<'_, PyAny>) -> PyResult<PyEmbedding> {
        let image = Arc::new(image_of(image)?);
        let segmenter = &slf.get().segmenter;
        let embedding = slf
            .py()
            .detach(|| segmenter.embed(&*image))
            .map_err(raise)?;
        Ok(PyEmbedding::new(embedding, slf, Some(image)))
    }

    /// Computes the embeddings of images, one after the other.
    ///
    /// Parameters
    /// ----------
    /// images : iterable
    ///     Images as :meth:`embed` takes them.
    /// progress : callable or tqdm bar, optional
    ///     Hears after every image the share that is done, 0 to 1; a bar is moved on by its own total.
    ///
    /// Returns
    /// -------
    /// list of Embedding
    #[pyo3(signature = (images, *, progress = None))]
    fn embed_batch(
        slf: &Bound<'_, Self>,
        images: &Bound<'_, PyAny>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Vec<PyEmbedding>> {
        let mut progress = Progress::new(progress)?;
        refuse_single(images, "images")?;
        let images: Vec<Bound<'_, PyAny>> = images.try_iter()?.collect::<PyResult<_>>()?;
        let mut embeddings = Vec::with_capacity(images.len());
        for (i, image) in images.iter().enumerate() {
            embeddings.push(Self::embed(slf, image)?);
            let share = (i + 1) as f64 / images.len() as f64;
            if slf.py().detach(|| progress.tell(share)).is_break() {
                return progress.finish(Err(samara::Error::Cancelled));
            }
        }
        Ok(embeddings)
    }

    /// Models are pickled by reference: the name or the file, which the reader needs too.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        let this = slf.get();
        let options = PyDict::new(slf.py());
        options.set_item("threads", this.threads)?;
        options.set_item("device", &this.device)?;
        options.set_item("precision", &this.precision)?;
        let load = slf.py().import("samara._pickle")?.getattr("segmenter")?;
        Ok((load, (this.model.clone(), options)))
    }

    fn __repr__(&self) -> String {
        let (name, architecture) = (self.segmenter.name(), self.segmenter.architecture());
        if name == architecture {
            format!("Segmenter({name})")
        } else {
            format!("Segmenter({name}, {architecture})")
        }
    }
}

/// The checkpoint that is meant: the embedded one, a file, or a downloaded one.
fn checkpoint(model: &str) -> PyResult<Checkpoint> {
    if model == EMBEDDED_MODEL {
        return embedded_checkpoint().map_err(raise);
    }
    if Path::new(model).is_file() {
        return Checkpoint::open(model).map_err(raise);
    }
    let Ok(release) = registry::find(model) else {
        let why = format!(
            "{}: neither a file nor the name of a released model",
            one_line(model)
        );
        return Err(PyFileNotFoundError::new_err(why));
    };
    let cache = ModelCache::locate();
    let cache = cache.map_err(|error| CheckpointError::new_err(error.to_string()))?;
    match cache.find(release) {
        Some(path) => Checkpoint::open(path).map_err(raise),
        None => Err(PyFileNotFoundError::new_err(format!(
            "model {0} is not on this machine: call samara.download('{0}'), or put {1} there",
            release.name,
            cache.path(release).display()
        ))),
    }
}
