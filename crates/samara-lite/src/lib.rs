//! The weights of `lite`, the default model of `samara`: MobileSAM as released, in int8, with a candidate
//! head. Nothing but bytes; the crate `samara` loads them (its feature `embedded`).
#![forbid(unsafe_code)]

/// The checkpoint: safetensors with the official names of MobileSAM, weights as int8 with a scale for
/// each output channel, and the tensors of the candidate head.
pub static CHECKPOINT: &[u8] = include_bytes!("../lite.safetensors");

/// The head by which `samara` judges masks that the model did not make, for these weights only:
/// safetensors.
pub static QUALITY_HEAD: &[u8] = include_bytes!("../quality.safetensors");
