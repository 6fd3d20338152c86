//! Weights out of what training code and wrappers of modules put around them.

use std::collections::{BTreeMap, BTreeSet};

use burn_store::burn_pack::Tensor as StoredTensor;

/// Names under which files keep the weights, or a wrapper keeps its module, in any nesting.
const WRAPPERS: [&str; 12] = [
    "model",
    "state_dict",
    "model_state_dict",
    "model_state",
    "module",
    COMPILED,
    "sam",
    "net",
    "ema",
    "model_ema",
    "ema_model",
    "ema_state_dict",
];
/// Those of weights that are averaged over the steps of a training.
const AVERAGES: [&str; 4] = ["ema", "model_ema", "ema_model", "ema_state_dict"];
/// What `torch.compile` puts around a module, be it the model or a part of it.
const COMPILED: &str = "_orig_mod";

/// The weights of a file that may hold several sets of them.
pub(super) struct Unwrapped {
    /// The weights, under the names that they have in their model.
    pub(super) tensors: BTreeMap<String, StoredTensor>,
    /// What their names begin with in the file, such as `model.`; empty for a flat file.
    pub(super) prefix: String,
    /// The same of sets that are in the file as well and are not taken.
    pub(super) others: Vec<String>,
}

/// Gives the weights out of nesting such as `{"model": …, "optimizer": …}`, a data-parallel wrapper or a
/// compiled module; a flat file stays as it is. Of several sets the averaged one is taken, then the one
/// under the fewest names.
///
/// # Errors
/// A key that is there twice once `torch.compile`'s part of the name is gone.
pub(super) fn unwrap(tensors: BTreeMap<String, StoredTensor>) -> Result<Unwrapped, String> {
    let mut prefixes: Vec<String> = {
        let found: BTreeSet<&str> = tensors.keys().filter_map(|key| prefix(key)).collect();
        found.into_iter().map(str::to_owned).collect()
    };
    prefixes.sort_by_key(|prefix| rank(prefix));
    if prefixes.is_empty() {
        prefixes.push(String::new());
    }
    let prefix = prefixes.remove(0);
    let is_of_another = |key: &str| {
        let inside = |other: &String| other.starts_with(&prefix) && key.starts_with(other);
        prefixes.iter().any(inside)
    };
    let mut unwrapped = BTreeMap::new();
    for (key, tensor) in tensors {
        let Some(name) = key.strip_prefix(&prefix).filter(|_| !is_of_another(&key)) else {
            continue;
        };
        if unwrapped.insert(without_compiled(name), tensor).is_some() {
            return Err(format!("key {key} is there under another name as well"));
        }
    }
    Ok(Unwrapped {
        tensors: unwrapped,
        prefix,
        others: prefixes,
    })
}

/// What is in front of the name that a key of a model's encoder has there, if that is nothing but wrappers.
fn prefix(key: &str) -> Option<&str> {
    let mut rest = key;
    loop {
        let (name, inner) = rest.split_once('.')?;
        if matches!(name, "image_encoder" | "vision_encoder") {
            return key.strip_suffix(rest);
        }
        if !WRAPPERS.contains(&name) {
            return None;
        }
        rest = inner;
    }
}

/// The lower, the rather it is taken.
fn rank(prefix: &str) -> (bool, Vec<usize>) {
    let names = || prefix.split_terminator('.');
    let place = |name| WRAPPERS.iter().position(|&wrapper| wrapper == name);
    let averaged = names().any(|name| AVERAGES.contains(&name));
    let places: Vec<usize> = names().filter_map(place).collect();
    (!averaged, [vec![places.len()], places].concat())
}

fn without_compiled(name: &str) -> String {
    let parts = name.split('.').filter(|&part| part != COMPILED);
    parts.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wrappers_are_taken_off() {
        for (key, expected) in [
            ("image_encoder.pos_embed", Some("")),
            ("vision_encoder.pos_embed", Some("")),
            (
                "model_state.sam.image_encoder.pos_embed",
                Some("model_state.sam."),
            ),
            (
                "net._orig_mod.module.image_encoder.a",
                Some("net._orig_mod.module."),
            ),
            ("optimizer.image_encoder.a", None),
            ("model.optimizer.image_encoder.a", None),
            ("model.mask_decoder.iou_token.weight", None),
            ("image_encoder", None),
            ("model.", None),
            ("", None),
        ] {
            assert_eq!(prefix(key), expected, "{key}");
        }
    }

    #[test]
    fn averaged_weights_come_first_and_then_those_under_the_fewest_names() {
        let mut prefixes = [
            "state_dict.model.",
            "state_dict.",
            "model.",
            "",
            "model_ema.module.",
            "ema.",
        ];
        prefixes.sort_by_key(|prefix| rank(prefix));
        let expected = [
            "ema.",
            "model_ema.module.",
            "",
            "model.",
            "state_dict.",
            "state_dict.model.",
        ];
        assert_eq!(prefixes, expected);
    }
}
