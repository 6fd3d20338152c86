//! Key tables: how each kind of file names the tensors of a model.
//!
//! The **official** names (`segment_anything`, `mobile_sam`, `sam2`) are the common tongue: every other
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

    /// Translates a key back. For tables whose rules leave the place where they apply alone, or
    /// replace it as a whole.
    pub(super) fn restore(&self, key: &str) -> String {
        let mut key = key.to_owned();
        for step in self.steps.iter().rev() {
            let made = |r: &&Rule| {
                let within = if r.within == r.from { r.to } else { r.within };
                key.starts_with(within) && key.contains(r.to)
            };
            if let Some(r) = step.iter().find(made) {
                key = key.replacen(r.to, r.from, 1);
            }
        }
        key
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
        // SAM 2.
        rule(TRUNK_BLOCKS, ".mlp.layers.0.", ".mlp.lin1."),
        rule(TRUNK_BLOCKS, ".mlp.layers.1.", ".mlp.lin2."),
        rule(SAM2_TRANSFORMER, ".mlp.layers.0.", ".mlp.lin1."),
        rule(SAM2_TRANSFORMER, ".mlp.layers.1.", ".mlp.lin2."),
        rule(SAM2_PROMPTS, "downscaling.0.", "downscaling.conv1."),
        rule(SAM2_PROMPTS, "downscaling.1.", "downscaling.norm1."),
        rule(SAM2_PROMPTS, "downscaling.3.", "downscaling.conv2."),
        rule(SAM2_PROMPTS, "downscaling.4.", "downscaling.norm2."),
        rule(SAM2_PROMPTS, "downscaling.6.", "downscaling.conv3."),
        rule(SAM2_DECODER, "upscaling.0.", "upscaling.conv1."),
        rule(SAM2_DECODER, "upscaling.1.", "upscaling.norm."),
        rule(SAM2_DECODER, "upscaling.3.", "upscaling.conv2."),
        rule(MASK_DOWNSAMPLER, "encoder.0.", "convs.0."),
        rule(MASK_DOWNSAMPLER, "encoder.1.", "norms.0."),
        rule(MASK_DOWNSAMPLER, "encoder.3.", "convs.1."),
        rule(MASK_DOWNSAMPLER, "encoder.4.", "norms.1."),
        rule(MASK_DOWNSAMPLER, "encoder.6.", "convs.2."),
        rule(MASK_DOWNSAMPLER, "encoder.7.", "norms.2."),
        rule(MASK_DOWNSAMPLER, "encoder.9.", "convs.3."),
        rule(MASK_DOWNSAMPLER, "encoder.10.", "norms.3."),
        rule(MASK_DOWNSAMPLER, "encoder.12.", "proj."),
    ]],
};

const TRUNK_BLOCKS: &str = "image_encoder.trunk.blocks.";
const SAM2_TRANSFORMER: &str = "sam_mask_decoder.transformer.layers.";
const SAM2_PROMPTS: &str = "sam_prompt_encoder.mask_";
const SAM2_DECODER: &str = "sam_mask_decoder.output_";
const MASK_DOWNSAMPLER: &str = "memory_encoder.mask_downsampler.";

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
        ],
        DECODER_MLPS,
        NORMS,
    ],
};

/// Names of the `transformers` library (`Sam2VideoModel`) → official names.
pub(super) const TRANSFORMERS_SAM2: KeyTable = KeyTable {
    steps: &[
        &[
            rule(BACKBONE, ".patch_embed.projection.", ".patch_embed.proj."),
            rule(BACKBONE, ".mlp.proj_in.", ".mlp.layers.0."),
            rule(BACKBONE, ".mlp.proj_out.", ".mlp.layers.1."),
            rule("vision_encoder.neck.", ".weight", ".conv.weight"),
            rule("vision_encoder.neck.", ".bias", ".conv.bias"),
            rule(
                "prompt_encoder.",
                "mask_embed.conv1.",
                "mask_downscaling.0.",
            ),
            rule(
                "prompt_encoder.",
                "mask_embed.layer_norm1.",
                "mask_downscaling.1.",
            ),
            rule(
                "prompt_encoder.",
                "mask_embed.conv2.",
                "mask_downscaling.3.",
            ),
            rule(
                "prompt_encoder.",
                "mask_embed.layer_norm2.",
                "mask_downscaling.4.",
            ),
            rule(
                "prompt_encoder.",
                "mask_embed.conv3.",
                "mask_downscaling.6.",
            ),
            rule("mask_decoder.", "upscale_conv1.", "output_upscaling.0."),
            rule(
                "mask_decoder.",
                "upscale_layer_norm.",
                "output_upscaling.1.",
            ),
            rule("mask_decoder.", "upscale_conv2.", "output_upscaling.3."),
            rule(
                "mask_decoder.",
                "layer_norm_final_attn.",
                "norm_final_attn.",
            ),
            rule(
                "mask_decoder.transformer.",
                ".mlp.proj_in.",
                ".mlp.layers.0.",
            ),
            rule(
                "mask_decoder.transformer.",
                ".mlp.proj_out.",
                ".mlp.layers.1.",
            ),
            rule("", ".o_proj.", ".out_proj."),
            rule(OBJECT_HEAD, ".layers.0.", ".layers.1."),
            rule(OBJECT_HEAD, ".proj_in.", ".layers.0."),
            rule(OBJECT_HEAD, ".proj_out.", ".layers.2."),
            rule(OBJECT_POINTER, ".layers.0.", ".layers.1."),
            rule(OBJECT_POINTER, ".proj_in.", ".layers.0."),
            rule(OBJECT_POINTER, ".proj_out.", ".layers.2."),
            prefix("memory_attention.layer_norm.", "memory_attention.norm."),
            rule(MASK_DOWNSAMPLER, "layers.0.conv.", "encoder.0."),
            rule(MASK_DOWNSAMPLER, "layers.0.layer_norm.", "encoder.1."),
            rule(MASK_DOWNSAMPLER, "layers.1.conv.", "encoder.3."),
            rule(MASK_DOWNSAMPLER, "layers.1.layer_norm.", "encoder.4."),
            rule(MASK_DOWNSAMPLER, "layers.2.conv.", "encoder.6."),
            rule(MASK_DOWNSAMPLER, "layers.2.layer_norm.", "encoder.7."),
            rule(MASK_DOWNSAMPLER, "layers.3.conv.", "encoder.9."),
            rule(MASK_DOWNSAMPLER, "layers.3.layer_norm.", "encoder.10."),
            rule(MASK_DOWNSAMPLER, "final_conv.", "encoder.12."),
            rule(FUSER, ".scale", ".gamma"),
            rule(FUSER, ".depthwise_conv.", ".dwconv."),
            rule(FUSER, ".layer_norm.", ".norm."),
            rule(FUSER, ".pointwise_conv1.", ".pwconv1."),
            rule(FUSER, ".pointwise_conv2.", ".pwconv2."),
            prefix("memory_encoder.projection.", "memory_encoder.out_proj."),
            prefix(
                "memory_encoder.feature_projection.",
                "memory_encoder.pix_feat_proj.",
            ),
            prefix(
                "temporal_positional_encoding_projection_layer.",
                "obj_ptr_tpos_proj.",
            ),
            prefix("memory_temporal_positional_encoding", "maskmem_tpos_enc"),
            prefix("no_memory_embedding", "no_mem_embed"),
            prefix("no_memory_positional_encoding", "no_mem_pos_enc"),
            prefix("no_object_pointer", "no_obj_ptr"),
            prefix(
                "occlusion_spatial_embedding_parameter",
                "no_obj_embed_spatial",
            ),
        ],
        DECODER_MLPS,
        NORMS,
        &[
            prefix(BACKBONE, "image_encoder.trunk."),
            prefix("vision_encoder.", "image_encoder."),
            prefix(OBJECT_POINTER, "obj_ptr_proj."),
            prefix(FUSER, "memory_encoder.fuser."),
            prefix(SHARED_PE, SAM2_GAUSSIAN_MATRIX),
            prefix(PROMPT_ENCODER_PE, SAM2_GAUSSIAN_MATRIX),
            prefix("prompt_encoder.", "sam_prompt_encoder."),
            prefix("mask_decoder.", "sam_mask_decoder."),
        ],
    ],
};

/// What only SAM 2 has.
const BACKBONE: &str = "vision_encoder.backbone.";
const OBJECT_HEAD: &str = "mask_decoder.pred_obj_score_head.";
const OBJECT_POINTER: &str = "object_pointer_proj.";
const FUSER: &str = "memory_encoder.memory_fuser.";
const SAM2_GAUSSIAN_MATRIX: &str =
    "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix";
/// Four embeddings in one tensor, where the official code has four tensors.
pub(super) const JOINED_POINTS: &str = "sam_prompt_encoder.point_embed.weight";

/// The official key of the `index`th embedding of [`JOINED_POINTS`].
pub(super) fn point_embedding(index: usize) -> String {
    format!("sam_prompt_encoder.point_embeddings.{index}.weight")
}

/// The table for a file in which this key is.
pub(super) fn transformers(key: &str) -> Option<&'static KeyTable> {
    if key.starts_with(BACKBONE) {
        Some(&TRANSFORMERS_SAM2)
    } else if key.starts_with("vision_encoder.layers.") || key == "vision_encoder.pos_embed" {
        Some(&TRANSFORMERS)
    } else {
        None
    }
}

/// The first and last layer of an MLP have names of their own there.
const DECODER_MLPS: &[Rule] = &[
    rule(HYPER, ".layers.0.", ".layers.1."),
    rule(HYPER, ".proj_in.", ".layers.0."),
    rule(HYPER, ".proj_out.", ".layers.2."),
    rule(IOU_HEAD, ".layers.0.", ".layers.1."),
    rule(IOU_HEAD, ".proj_in.", ".layers.0."),
    rule(IOU_HEAD, ".proj_out.", ".layers.2."),
];
const NORMS: &[Rule] = &[
    rule("", ".layer_norm1.", ".norm1."),
    rule("", ".layer_norm2.", ".norm2."),
    rule("", ".layer_norm3.", ".norm3."),
    rule("", ".layer_norm4.", ".norm4."),
];

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
        || is_integer(key)
        || key == "pixel_mean"
        || key == "pixel_std"
}

/// True for official keys of counters and tables, which are integers.
pub(super) fn is_integer(key: &str) -> bool {
    key.ends_with(".num_batches_tracked") || key.ends_with(".attention_bias_idxs")
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
    fn names_of_sam2_become_module_paths_and_back() {
        for (official, module) in [
            (
                "image_encoder.trunk.blocks.3.mlp.layers.1.weight",
                "image_encoder.trunk.blocks.3.mlp.lin2.weight",
            ),
            (
                "memory_encoder.mask_downsampler.encoder.10.weight",
                "memory_encoder.mask_downsampler.norms.3.weight",
            ),
            (
                "memory_encoder.mask_downsampler.encoder.1.bias",
                "memory_encoder.mask_downsampler.norms.0.bias",
            ),
            (
                "sam_mask_decoder.output_upscaling.3.bias",
                "sam_mask_decoder.output_upscaling.conv2.bias",
            ),
            ("obj_ptr_proj.layers.2.bias", "obj_ptr_proj.layers.2.bias"),
        ] {
            assert_eq!(OFFICIAL.rename(official), module);
            assert_eq!(OFFICIAL.restore(module), official);
        }
    }

    #[test]
    fn transformers_names_of_sam2_become_official() {
        for (theirs, official) in [
            (
                "vision_encoder.backbone.blocks.3.layer_norm1.weight",
                "image_encoder.trunk.blocks.3.norm1.weight",
            ),
            (
                "vision_encoder.neck.convs.2.bias",
                "image_encoder.neck.convs.2.conv.bias",
            ),
            (
                "mask_decoder.transformer.layers.1.cross_attn_image_to_token.o_proj.bias",
                "sam_mask_decoder.transformer.layers.1.cross_attn_image_to_token.out_proj.bias",
            ),
            (
                "object_pointer_proj.layers.0.weight",
                "obj_ptr_proj.layers.1.weight",
            ),
            (
                "memory_encoder.memory_fuser.layers.1.scale",
                "memory_encoder.fuser.layers.1.gamma",
            ),
            (
                "shared_image_embedding.positional_embedding",
                SAM2_GAUSSIAN_MATRIX,
            ),
        ] {
            assert_eq!(TRANSFORMERS_SAM2.rename(theirs), official);
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
