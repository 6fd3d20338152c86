//! Which configurations a SAM 2 can be built from.

use super::hiera::HieraConfig;
use super::{STRIDE, Sam2Config};
use crate::InvalidConfig;
use crate::bounds::{MAX_DEPTH, MAX_WIDTH, at_most, equal, multiple, require};
use crate::sam::{validate_mask_decoder, validate_prompt_encoder};

const MAX_HEADS: usize = 64;
const MAX_WINDOW: usize = 64;
const MAX_MEMORIES: usize = 64;

impl Sam2Config {
    /// Refuses what no model can be built from or run with: sizes that are 0 or absurd, or that do
    /// not go together.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first field that is wrong.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let prompt = &self.prompt_encoder;
        validate_prompt_encoder(prompt)?;
        validate_mask_decoder(&self.mask_decoder)?;
        validate_trunk(&self.trunk, prompt.img_size)?;
        let img_size = ("prompt_encoder.img_size", prompt.img_size);
        equal(img_size, ("grid times stride", prompt.grid * STRIDE))?;

        let width = ("prompt_encoder.embed_dim", prompt.embed_dim);
        let (attention, encoder) = (&self.memory_attention, &self.memory_encoder);
        let decoder = self.mask_decoder.transformer.embedding_dim;
        equal(("transformer.embedding_dim", decoder), width)?;
        equal(("memory_attention.d_model", attention.d_model), width)?;
        equal(("memory_encoder.in_dim", encoder.in_dim), width)?;
        // The decoder's upscaling, positions by rows and columns, and rotations of pairs.
        multiple("prompt_encoder.embed_dim", prompt.embed_dim, 8)?;

        let memory = ("memory_encoder.out_dim", encoder.out_dim);
        at_most(MAX_WIDTH, memory.0, memory.1)?;
        multiple(memory.0, memory.1, 4)?;
        multiple("prompt_encoder.embed_dim", prompt.embed_dim, memory.1)?;
        equal(("memory_attention.kv_in_dim", attention.kv_in_dim), memory)?;
        let hidden = attention.dim_feedforward;
        at_most(MAX_WIDTH, "memory_attention.dim_feedforward", hidden)?;
        let layers = attention.num_layers;
        at_most(MAX_DEPTH, "memory_attention.num_layers", layers)?;
        at_most(MAX_DEPTH, "memory_encoder.num_layers", encoder.num_layers)?;
        at_most(MAX_MEMORIES, "num_maskmem", self.num_maskmem)
    }
}

fn validate_trunk(trunk: &HieraConfig, img_size: usize) -> Result<(), InvalidConfig> {
    at_most(MAX_WIDTH, "trunk.embed_dim", trunk.embed_dim)?;
    at_most(MAX_HEADS, "trunk.num_heads", trunk.num_heads)?;
    multiple("trunk.embed_dim", trunk.embed_dim, trunk.num_heads)?;
    at_most(MAX_WINDOW, "trunk.pos_embed_bkg", trunk.pos_embed_bkg)?;
    for blocks in trunk.stages {
        at_most(MAX_DEPTH, "trunk.stages", blocks)?;
    }
    for window in trunk.window_spec {
        at_most(MAX_WINDOW, "trunk.window_spec", window)?;
    }
    let blocks: usize = trunk.stages.iter().sum();
    let last = trunk.global_att_blocks.iter().max();
    require(
        last.is_none_or(|&last| last < blocks),
        &format!("trunk.global_att_blocks names a block of which there are {blocks}"),
    )?;
    // The coarsest stage has a cell for 32 pixels; the position of a window is tiled.
    multiple("prompt_encoder.img_size", img_size, 32)?;
    multiple("the first grid", img_size / 4, trunk.window_spec[0])
}
