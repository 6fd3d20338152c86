//! Attention maps against whole, part and subpart.

use numpy::{PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;
use samara::Prompt;
use samara_attention::{AttentionError, AttentionMap, AttentionOptions, AttentionTargets};

use crate::convert::maps_of;
use crate::embedding::PyEmbedding;
use crate::error::{DeviceError, OptionError, PromptError, raise};
use crate::prompt::PyPrompt;

/// Says which level of an object attention maps look at: the whole, a part or a subpart.
///
/// Parameters
/// ----------
/// embedding : Embedding
///     Of the image that the maps are about.
/// prompts : iterable of Prompt
///     One for each object.
/// maps : array_like of float, shape (rows, columns) or (n, rows, columns)
///     Attention weights over the image, not negative.
/// stretch : bool, default False
///     The maps are of the image stretched to a square.
/// min_confidence, min_margin : float
///     Thresholds below which no level is named.
///
/// Returns
/// -------
/// list of list of dict
///     For every map, for every prompt: ``level`` ("whole", "part", "subpart" or None), ``undecided``, ``best`` (the
///     candidate), ``margin`` and ``candidates`` with ``correlation``, ``mass``, ``auc``, ``hit``, ``agreement`` and
///     ``confidence``.
#[pyfunction]
#[pyo3(signature = (embedding, prompts, maps, *, stretch = false, min_confidence = None, min_margin = None))]
pub(crate) fn levels<'py>(
    embedding: &Bound<'py, PyEmbedding>,
    prompts: &Bound<'py, PyAny>,
    maps: &Bound<'py, PyAny>,
    stretch: bool,
    min_confidence: Option<f64>,
    min_margin: Option<f64>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = embedding.py();
    let prompts = prompts
        .try_iter()?
        .map(|prompt| Ok(prompt?.cast::<PyPrompt>()?.get().0.clone()));
    let prompts: Vec<Prompt> = prompts.collect::<PyResult<_>>()?;
    let maps = maps_of(maps)?.into_iter().enumerate();
    let maps: Vec<AttentionMap> = maps
        .map(|(i, map)| {
            let map: PyReadonlyArray2<'_, f32> = map.extract()?;
            let values = map.as_array().iter().copied().collect();
            let side = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
            let (height, width) = (side(map.shape()[0]), side(map.shape()[1]));
            AttentionMap::new(format!("map {i}"), width, height, values).map_err(wrong)
        })
        .collect::<PyResult<_>>()?;
    let mut options = AttentionOptions {
        stretch,
        ..AttentionOptions::default()
    };
    options.min_confidence = min_confidence.unwrap_or(options.min_confidence);
    options.min_margin = min_margin.unwrap_or(options.min_margin);
    let embedding = &embedding.get().embedding;
    let found =
        py.detach(|| AttentionTargets::of(embedding, &prompts)?.analyse_all(&maps, &options));
    let json = serde_json::to_string(&found.map_err(wrong)?);
    let json = json.map_err(|error| DeviceError::new_err(error.to_string()))?;
    py.import("json")?.call_method1("loads", (json,))
}

fn wrong(error: AttentionError) -> PyErr {
    match error {
        AttentionError::Samara(error) => raise(error),
        AttentionError::Threshold { .. } => OptionError::new_err(error.to_string()),
        other => PromptError::new_err(other.to_string()),
    }
}
