//! A model for the tests.

use std::path::PathBuf;

use samara_model::burn::tensor::Device;
use samara_model::checkpoint::Checkpoint;
use samara_model::{Model, ModelConfig};

use crate::parameters::numbered;

/// A file of the model crate's references.
pub(crate) fn golden(name: &str) -> PathBuf {
    let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default());
    here.join("../samara-model/tests/golden").join(name)
}

/// The configuration of a MobileSAM of 68 000 values for images of 64 pixels.
pub(crate) fn tiny_config() -> ModelConfig {
    let checkpoint = Checkpoint::open(golden("mobile_sam.pth")).unwrap();
    checkpoint.config().unwrap().with_input_side(64).unwrap()
}

/// That MobileSAM with random weights, others at every call.
pub(crate) fn tiny_sam(device: &Device) -> Model {
    numbered(tiny_config().init(device))
}
