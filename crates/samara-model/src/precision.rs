//! Which parts of a model compute in fewer bits.

use crate::Model;
use crate::ops::{self, Precision};

impl Model {
    /// Makes the layers of a model that has not computed anything yet multiply in fewer bits.
    pub fn set_precision(&self, precision: Precision) {
        ops::set_precision(self, |path| layer_precision(precision, path));
    }
}

/// What a layer computes in. Beside the encoder the attention between prompts and image has nearly all products;
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
        let head = "mask_decoder.iou_prediction_head.layers.0.weight";
        assert_eq!(layer_precision(Precision::Bf16, head), Precision::Fp32);
    }
}
