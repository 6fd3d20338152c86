//! What layer norms give, for those who ask.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use burn::module::{Module, ParamId};
use burn::nn::LayerNorm;
use burn::tensor::Tensor;

use super::precision::parameters;

thread_local! {
    /// The largest absolute value of each channel, by the id of the norm's scale, while somebody asks.
    static LARGEST: RefCell<Option<HashMap<ParamId, Vec<f32>>>> = const { RefCell::new(None) };
}

/// The largest absolute value in each channel of what every layer norm of `module` gives on this thread while
/// `work` runs, by the path of the norm's parameter `gamma`; and what `work` gives.
pub fn observe_norms<T>(
    module: &impl Module,
    work: impl FnOnce() -> T,
) -> (T, BTreeMap<String, Vec<f32>>) {
    LARGEST.set(Some(HashMap::new()));
    let result = work();
    let mut largest = LARGEST.take().unwrap_or_default();
    let named = parameters(module)
        .into_iter()
        .filter_map(|(path, id)| Some((path, largest.remove(&id)?)))
        .collect();
    (result, named)
}

/// Called with what a norm gives; `normed` runs only if somebody asks.
pub(super) fn observe<const D: usize>(norm: &LayerNorm, normed: impl FnOnce() -> Tensor<D>) {
    if LARGEST.with_borrow(Option::is_none) {
        return;
    }
    let normed = normed();
    let channels = normed.dims()[D - 1];
    let Ok(values) = normed.into_data().try_into_vec::<f32>() else {
        return;
    };
    LARGEST.with_borrow_mut(|all| {
        let Some(all) = all else { return };
        let largest = all
            .entry(norm.gamma.id)
            .or_insert_with(|| vec![0.0; channels]);
        for row in values.chunks_exact(channels) {
            for (largest, value) in largest.iter_mut().zip(row) {
                *largest = largest.max(value.abs());
            }
        }
    });
}
