//! Weights that inference has packed are the weights that everybody else sees.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::PathBuf;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Distribution, Tensor};
use samara_model::Model;
use samara_model::burn;
use samara_model::checkpoint::Checkpoint;

/// One model of every kind of encoder.
const MODELS: [&str; 3] = ["sam_vit.pth", "mobile_sam.pth", "sam2_video.safetensors"];

fn load(name: &str) -> (Model, usize) {
    let golden = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/golden");
    let checkpoint = Checkpoint::open(golden.join(name)).unwrap();
    let side = checkpoint.config().unwrap().input_side();
    (Model::load(&checkpoint, &Device::flex()).unwrap(), side)
}

fn pixels(side: usize) -> Tensor<4> {
    let device = Device::flex();
    device.seed(5);
    Tensor::random([1, 3, side, side], Distribution::Normal(0.0, 1.0), &device)
}

fn encode(model: &Model, side: usize) -> Vec<f32> {
    let features = model.encode_image(pixels(side)).image_embed;
    features.into_data().try_into_vec().unwrap()
}

/// Makes all weights a little larger, as an optimizer might.
struct Grow;

impl ModuleMapper for Grow {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|values| values * 1.01)
    }
}

#[test]
fn a_fingerprint_does_not_depend_on_packing() {
    for name in MODELS {
        let (model, side) = load(name);
        let before = model.fingerprint().unwrap();
        encode(&model, side);
        assert_eq!(model.fingerprint().unwrap(), before, "{name}");
        let changed = model.map(&mut Grow);
        assert_ne!(changed.fingerprint().unwrap(), before, "{name}");
    }
}

#[test]
fn inference_sees_weights_that_changed_after_it() {
    for name in MODELS {
        let (used, side) = load(name);
        let first = encode(&used, side);
        let changed = encode(&used.map(&mut Grow), side);
        assert!(changed != first, "{name}");
        let (fresh, _) = load(name);
        assert!(encode(&fresh.map(&mut Grow), side) == changed, "{name}");
    }
}

#[cfg(feature = "training")]
#[test]
fn training_starts_from_the_weights_of_inference() {
    for name in MODELS {
        let (model, side) = load(name);
        let (before, fingerprint) = (encode(&model, side), model.fingerprint().unwrap());
        let learning = model.train();
        assert_eq!(learning.fingerprint().unwrap(), fingerprint, "{name}");
        let valid = learning.valid();
        assert!(encode(&valid, side) == before, "{name}");
        let learning = learning.map(&mut Grow);
        assert!(encode(&learning.valid(), side) != before, "{name}");
        assert!(encode(&valid, side) == before, "{name}");
    }
}
