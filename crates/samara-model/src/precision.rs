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
        Precision::Int8 if within("image_encoder.patch_embed.") => Precision::Bf16,
        _ if within("image_encoder.") => precision,
        _ if within("mask_decoder.transformer.") || within("sam_mask_decoder.transformer.") => {
            Precision::Bf16
        }
        _ => Precision::Fp32,
    }
}
