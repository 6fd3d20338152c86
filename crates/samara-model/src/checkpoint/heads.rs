//! Heads that travel with a model: tensors in its file that are none of its own.

use std::collections::BTreeMap;

use burn::tensor::TensorData;
use burn_store::bridge;
use burn_store::burn_pack::Tensor as StoredTensor;

/// What the names of the tensors of a head that ranks the candidates of a prompt begin with.
pub const CANDIDATE_HEAD: &str = "candidate_head.";

/// All such beginnings.
const HEADS: [&str; 1] = [CANDIDATE_HEAD];

/// A tensor of a head.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadTensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, the last dimension first to run.
    pub values: Vec<f32>,
}

/// The tensors of a head by name, without what the names of all of them begin with.
pub type HeadTensors = BTreeMap<String, HeadTensor>;

/// What the key begins with if it belongs to a head.
pub(super) fn prefix(key: &str) -> Option<&'static str> {
    HEADS.into_iter().find(|prefix| key.starts_with(prefix))
}

/// The tensors to write: those `kept` from a file, of heads that are not among the `new` ones.
pub(super) fn stored(
    kept: &BTreeMap<String, StoredTensor>,
    new: &[(&str, HeadTensors)],
) -> Result<Vec<(String, StoredTensor)>, String> {
    let replaced = |key: &str| new.iter().any(|(prefix, _)| key.starts_with(prefix));
    let kept = kept.iter().filter(|(key, _)| !replaced(key));
    let mut stored: Vec<_> = kept.map(|(key, t)| (key.clone(), t.clone())).collect();
    for (prefix, tensors) in new {
        if !HEADS.contains(prefix) {
            return Err(format!("no head has names that begin with {prefix:?}"));
        }
        for (name, HeadTensor { shape, values }) in tensors {
            let key = format!("{prefix}{name}");
            let size = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d));
            if size != Some(values.len()) {
                let found = values.len();
                return Err(format!(
                    "key {key} has the shape {shape:?} and {found} values"
                ));
            }
            let data = TensorData::new(values.clone(), shape.clone());
            stored.push((key.clone(), bridge::from_data(data, key, None)));
        }
    }
    Ok(stored)
}
