//! Key tables: how each kind of file names the tensors of a model.
//!
//! The **official** names (`segment_anything`, `mobile_sam`) are the common tongue: every other
//! naming is translated to them on reading, and files are written with them. [`OFFICIAL`]
//! translates them to the paths of our modules, where a `Sequential`'s index becomes a name.

/// Renames keys under a prefix.
#[derive(Debug, Clone, Copy)]
struct Rule {
    /// The rule applies to keys that start with this.
    within: &'static str,
    /// The first occurrence of this …
    from: &'static str,
    /// … becomes this.
    to: &'static str,
}

const fn rule(within: &'static str, from: &'static str, to: &'static str) -> Rule {
    Rule { within, from, to }
}

/// A rule that replaces the start of a key.
const fn prefix(from: &'static str, to: &'static str) -> Rule {
    rule(from, from, to)
}

/// The naming of one source, as steps: in each step the first rule that fits is applied.
#[derive(Debug)]
pub(super) struct KeyTable {
    steps: &'static [&'static [Rule]],
}

impl KeyTable {
    /// Translates a key.
    pub(super) fn rename(&self, key: &str) -> String {
        let mut key = key.to_owned();
        for step in self.steps {
            let fits = |r: &&Rule| key.starts_with(r.within) && key.contains(r.from);
            if let Some(r) = step.iter().find(fits) {
                key = key.replacen(r.from, r.to, 1);
            }
        }
        key
    }

    /// Translates a key back. For tables of prefixes only.
    pub(super) fn restore(&self, key: &str) -> String {
        for r in self.steps.iter().flat_map(|step| step.iter()) {
            if let Some(rest) = key.strip_prefix(r.to) {
                return format!("{}{rest}", r.from);
            }
        }
        key.to_owned()
    }
}

/// Official names → paths of our modules.
pub(super) const OFFICIAL: KeyTable = KeyTable {
    steps: &[&[
        prefix("image_encoder.neck.0.", "image_encoder.neck.conv1."),
        prefix("image_encoder.neck.1.", "image_encoder.neck.norm1."),
        prefix("image_encoder.neck.2.", "image_encoder.neck.conv2."),
        prefix("image_encoder.neck.3.", "image_encoder.neck.norm2."),
        prefix(
            "image_encoder.patch_embed.seq.0.",
            "image_encoder.patch_embed.conv1.",
        ),
        prefix(
            "image_encoder.patch_embed.seq.2.",
            "image_encoder.patch_embed.conv2.",
        ),
        prefix(
            "prompt_encoder.mask_downscaling.0.",
            "prompt_encoder.mask_downscaling.conv1.",
        ),
        prefix(
            "prompt_encoder.mask_downscaling.1.",
            "prompt_encoder.mask_downscaling.norm1.",
        ),
        prefix(
            "prompt_encoder.mask_downscaling.3.",
            "prompt_encoder.mask_downscaling.conv2.",
        ),
        prefix(
            "prompt_encoder.mask_downscaling.4.",
            "prompt_encoder.mask_downscaling.norm2.",
        ),
        prefix(
            "prompt_encoder.mask_downscaling.6.",
            "prompt_encoder.mask_downscaling.conv3.",
        ),
        prefix(
            "mask_decoder.output_upscaling.0.",
            "mask_decoder.output_upscaling.conv1.",
        ),
        prefix(
            "mask_decoder.output_upscaling.1.",
            "mask_decoder.output_upscaling.norm.",
        ),
        prefix(
            "mask_decoder.output_upscaling.3.",
            "mask_decoder.output_upscaling.conv2.",
        ),
    ]],
};

/// Names of the `transformers` library (`SamModel`) → official names.
pub(super) const TRANSFORMERS: KeyTable = KeyTable {
    steps: &[
        &[
            prefix("vision_encoder.neck.conv1.", "image_encoder.neck.0."),
            prefix("vision_encoder.neck.layer_norm1.", "image_encoder.neck.1."),
            prefix("vision_encoder.neck.conv2.", "image_encoder.neck.2."),
            prefix("vision_encoder.neck.layer_norm2.", "image_encoder.neck.3."),
            prefix(
                "vision_encoder.patch_embed.projection.",
                "image_encoder.patch_embed.proj.",
            ),
            prefix("vision_encoder.layers.", "image_encoder.blocks."),
            prefix("vision_encoder.", "image_encoder."),
            prefix(SHARED_PE, GAUSSIAN_MATRIX),
            prefix(PROMPT_ENCODER_PE, GAUSSIAN_MATRIX),
            prefix(
                "prompt_encoder.point_embed.",
                "prompt_encoder.point_embeddings.",
            ),
            prefix(
                "prompt_encoder.mask_embed.conv1.",
                "prompt_encoder.mask_downscaling.0.",
            ),
            prefix(
                "prompt_encoder.mask_embed.layer_norm1.",
                "prompt_encoder.mask_downscaling.1.",
            ),
            prefix(
                "prompt_encoder.mask_embed.conv2.",
                "prompt_encoder.mask_downscaling.3.",
            ),
            prefix(
                "prompt_encoder.mask_embed.layer_norm2.",
                "prompt_encoder.mask_downscaling.4.",
            ),
            prefix(
                "prompt_encoder.mask_embed.conv3.",
                "prompt_encoder.mask_downscaling.6.",
            ),
            prefix(
                "mask_decoder.upscale_conv1.",
                "mask_decoder.output_upscaling.0.",
            ),
            prefix(
                "mask_decoder.upscale_layer_norm.",
                "mask_decoder.output_upscaling.1.",
            ),
            prefix(
                "mask_decoder.upscale_conv2.",
                "mask_decoder.output_upscaling.3.",
            ),
            rule(
                "mask_decoder.transformer.",
                ".layer_norm_final_attn.",
                ".norm_final_attn.",
            ),
            // The first and last layer of an MLP have names of their own there.
            rule(HYPER, ".layers.0.", ".layers.1."),
            rule(HYPER, ".proj_in.", ".layers.0."),
            rule(HYPER, ".proj_out.", ".layers.2."),
            rule(IOU_HEAD, ".layers.0.", ".layers.1."),
            rule(IOU_HEAD, ".proj_in.", ".layers.0."),
            rule(IOU_HEAD, ".proj_out.", ".layers.2."),
        ],
        &[
            rule("", ".layer_norm1.", ".norm1."),
            rule("", ".layer_norm2.", ".norm2."),
            rule("", ".layer_norm3.", ".norm3."),
            rule("", ".layer_norm4.", ".norm4."),
        ],
    ],
};

const HYPER: &str = "mask_decoder.output_hypernetworks_mlps.";
const IOU_HEAD: &str = "mask_decoder.iou_prediction_head.";
const GAUSSIAN_MATRIX: &str = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix";
const SHARED_PE: &str = "shared_image_embedding.positional_embedding";
/// The same matrix once more, which some files hold beside [`SHARED_PE`].
const PROMPT_ENCODER_PE: &str = "prompt_encoder.shared_embedding.positional_embedding";

/// True for the key under which `transformers` keeps the matrix that others may repeat.
pub(super) fn is_shared_pe(key: &str) -> bool {
    key == SHARED_PE
}

/// True for official keys that take no part in inference: TinyViT's classifier, the counters of
/// batch norm, and constants that some exports carry along.
pub(super) fn is_unused_by_design(key: &str) -> bool {
    key.starts_with("image_encoder.norm_head.")
        || key.starts_with("image_encoder.head.")
        || key.ends_with(".num_batches_tracked")
        || key.ends_with(".attention_bias_idxs")
        || key == "pixel_mean"
        || key == "pixel_std"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn official_names_become_module_paths_and_back() {
        for (official, module) in [
            (
                "image_encoder.neck.1.weight",
                "image_encoder.neck.norm1.weight",
            ),
            (
                "prompt_encoder.mask_downscaling.6.bias",
                "prompt_encoder.mask_downscaling.conv3.bias",
            ),
            (
                "mask_decoder.iou_token.weight",
                "mask_decoder.iou_token.weight",
            ),
        ] {
            assert_eq!(OFFICIAL.rename(official), module);
            assert_eq!(OFFICIAL.restore(module), official);
        }
    }

    #[test]
    fn transformers_names_become_official() {
        for (theirs, official) in [
            (
                "vision_encoder.layers.3.layer_norm1.weight",
                "image_encoder.blocks.3.norm1.weight",
            ),
            (
                "vision_encoder.neck.layer_norm2.bias",
                "image_encoder.neck.3.bias",
            ),
            (
                "mask_decoder.transformer.layers.1.layer_norm4.bias",
                "mask_decoder.transformer.layers.1.norm4.bias",
            ),
            (
                "mask_decoder.output_hypernetworks_mlps.2.layers.0.weight",
                "mask_decoder.output_hypernetworks_mlps.2.layers.1.weight",
            ),
            (
                "mask_decoder.iou_prediction_head.proj_in.bias",
                "mask_decoder.iou_prediction_head.layers.0.bias",
            ),
            ("vision_encoder.pos_embed", "image_encoder.pos_embed"),
        ] {
            assert_eq!(TRANSFORMERS.rename(theirs), official);
        }
    }
}
