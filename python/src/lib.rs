//! The Python package of Samara: the engine's types as Python classes. What they mean is said in `samara/_samara.pyi`.
#![allow(
    clippy::doc_markdown,
    clippy::doc_link_with_quotes,
    clippy::needless_pass_by_value,
    reason = "docs and arguments are those of Python"
)]

mod attention;
mod candidates;
mod convert;
mod download;
mod embedding;
mod error;
mod everything;
mod mask;
mod progress;
mod prompt;
mod quality;
mod segmenter;
mod video;

use pyo3::pymodule;

/// The engine of `samara`; import the package instead.
#[pymodule]
mod _samara {
    #[pymodule_export]
    use crate::attention::levels;
    #[pymodule_export]
    use crate::candidates::{PyCandidate, PyCandidates, PySelection};
    #[pymodule_export]
    use crate::download::download;
    #[pymodule_export]
    use crate::embedding::PyEmbedding;
    #[pymodule_export]
    use crate::everything::{PyHierarchy, PyMaskGenerator, PyMaskRecord, PyNode};
    #[pymodule_export]
    use crate::mask::{decode_rle, encode_rle, polygons};
    #[pymodule_export]
    use crate::prompt::PyPrompt;
    #[pymodule_export]
    use crate::quality::{PyMaskQuality, assess};
    #[pymodule_export]
    use crate::segmenter::PySegmenter;
    #[pymodule_export]
    use crate::video::{PyFrameMasks, PyObjectMask, PyPropagation, PyVideoSession};

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
