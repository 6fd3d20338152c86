//! Which parts of a model compute in fewer bits.

use std::collections::{BTreeMap, BTreeSet};

use crate::Model;
use crate::checkpoint::{Checkpoint, official};
use crate::ops::{self, Precision};

impl Model {
    /// Makes the layers of a model that has not computed anything yet multiply in fewer bits. Where weights of
    /// its `checkpoint` are integers, the others stay in bf16 with [`Precision::Int8`].
    pub fn set_precision(&self, precision: Precision, checkpoint: &Checkpoint) {
        let integers: BTreeSet<&str> = checkpoint.int8_weights().collect();
        self.set_weight_precision(|key| match layer_precision(precision, key) {
            Precision::Int8 if !integers.is_empty() && !integers.contains(key) => Precision::Bf16,
            precision => precision,
        });
    }

    /// Makes the weights of a model that has not computed anything yet what `precision_of` says of their official
    /// keys.
    pub fn set_weight_precision(&self, precision_of: impl Fn(&str) -> Precision) {
        for (path, rounding) in ops::weights(self) {
            rounding.set(precision_of(&official(&path)));
        }
    }

    /// Official keys of the weights that [`Precision::Int8`] makes integers.
    pub fn int8_weights(&self) -> Vec<String> {
        let weights = ops::weights(self).into_iter();
        let keys = weights.map(|(path, _)| official(&path));
        keys.filter(|key| layer_precision(Precision::Int8, key) == Precision::Int8)
            .collect()
    }

    /// What `work` gives, and the largest absolute values that layer norms give meanwhile on this thread: one for
    /// every channel, by the official name of the norm.
    pub fn observe_norms<T>(&self, work: impl FnOnce() -> T) -> (T, BTreeMap<String, Vec<f32>>) {
        let (result, largest) = ops::observe_norms(self, work);
        let named = |(path, values): (String, Vec<f32>)| {
            let key = official(&path);
            (key.trim_end_matches(".weight").to_owned(), values)
        };
        (result, largest.into_iter().map(named).collect())
    }
}

/// What a layer computes in. Beside the encoder, the attention between prompts and image and that of a frame to
/// its memories have nearly all products;
/// what scores and hyper-networks are computed from keeps its bits.
fn layer_precision(precision: Precision, path: &str) -> Precision {
    let within = |module: &str| path.starts_with(module);
    match precision {
        Precision::Fp32 => Precision::Fp32,
        // The pixels themselves.
        Precision::Int8 if within("image_encoder.") && path.contains(".patch_embed.") => {
            Precision::Bf16
        }
        _ if within("image_encoder.") => precision,
        _ if within("mask_decoder.transformer.") || within("sam_mask_decoder.transformer.") => {
            Precision::Bf16
        }
        // Attention to memories reads this weight as it is.
        _ if within("memory_attention.") && !path.contains("cross_attn_image.k_proj.") => {
            Precision::Bf16
        }
        _ => Precision::Fp32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_layer_keeps_more_than_int8_in_every_encoder() {
        for path in [
            "image_encoder.patch_embed.proj",
            "image_encoder.trunk.patch_embed.proj",
        ] {
            assert_eq!(layer_precision(Precision::Int8, path), Precision::Bf16);
            assert_eq!(layer_precision(Precision::Fp32, path), Precision::Fp32);
        }
        let block = "image_encoder.trunk.blocks.0.attn.qkv.weight";
        assert_eq!(layer_precision(Precision::Int8, block), Precision::Int8);
        let decoder = "sam_mask_decoder.transformer.layers.0.self_attn.q_proj.weight";
        assert_eq!(layer_precision(Precision::Int8, decoder), Precision::Bf16);
        let memories = "memory_attention.layers.0.linear1.weight";
        assert_eq!(layer_precision(Precision::Int8, memories), Precision::Bf16);
        let keys = "memory_attention.layers.0.cross_attn_image.k_proj.weight";
        assert_eq!(layer_precision(Precision::Bf16, keys), Precision::Fp32);
        let head = "mask_decoder.iou_prediction_head.layers.0.weight";
        assert_eq!(layer_precision(Precision::Bf16, head), Precision::Fp32);
    }
}
