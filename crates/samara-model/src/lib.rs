//! The Segment Anything family as [Burn](burn) modules.
//!
//! Module and field names follow the official code, so that a checkpoint's keys and the module
//! tree can be read side by side. Every model is written for any Burn backend.
//!
//! - [`sam`]: SAM 1 (ViT-B, ViT-L, ViT-H, MedSAM),
//! - [`mobile_sam`]: the TinyViT encoder of MobileSAM,
//! - [`sam2`]: SAM 2 and 2.1, images and video,
//! - [`checkpoint`]: reading, recognising, converting and downloading weights,
//! - [`ops`]: the operations that carry the weight.
#![forbid(unsafe_code)]

mod bounds;
pub mod checkpoint;
pub mod common;
mod fingerprint;
mod image_features;
pub mod mobile_sam;
mod model;
mod module_path;
pub mod ops;
mod precision;
pub mod sam;
pub mod sam2;
mod tensor_file;
mod token_attention;

pub use burn;
pub use image_features::{FeaturesError, ImageFeatures};
pub use model::{InvalidConfig, Model, ModelConfig, Scored};
pub use module_path::ModulePath;
pub use ops::{Precision, ProjectedImage, is_cpu};
pub use tensor_file::with_ordered_header;
pub use token_attention::{DecoderToken, TokenAttention};
