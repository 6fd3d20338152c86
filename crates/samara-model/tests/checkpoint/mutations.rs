//! Golden files with a few bytes changed at random: loaded or refused in one line, never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use burn::tensor::Device;
use samara_model::checkpoint::{Checkpoint, StorageType};
use samara_model::{Model, ModelConfig};

use crate::files::{self, golden, refusal, sam_vit};
use crate::torch;

const MUTATIONS: u64 = 600;

/// The generator of Knuth's MMIX: the same mutations on every run.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, end: usize) -> usize {
        let multiplied = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = multiplied.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    /// A place in a file: most of what can go wrong is near its ends.
    fn place(&mut self, length: usize) -> usize {
        let near = length.min(4096);
        match self.below(4) {
            0 => self.below(length),
            1 => length - 1 - self.below(near),
            2 => self.below(length.min(100)),
            _ => self.below(near),
        }
    }
}

fn mutate(bytes: &mut [u8], random: &mut Lcg) {
    for _ in 0..=random.below(6) {
        let place = random.place(bytes.len());
        bytes[place] = match random.below(4) {
            0 => bytes[place] ^ (1 << random.below(8)),
            1 => [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 => bytes[place].wrapping_add(1),
            _ => random.below(256) as u8,
        };
    }
}

/// Everything that reads a file.
fn read(path: &Path, config: &ModelConfig) {
    let told = |error| drop(refusal(path, Err::<(), _>(error)));
    match Checkpoint::open(path) {
        Err(error) => told(error),
        Ok(checkpoint) => {
            checkpoint.info().map_or_else(told, drop);
            let device = Device::flex();
            Model::load(&checkpoint, &device).map_or_else(told, drop);
            Model::load_with(&checkpoint, config, &device).map_or_else(told, drop);
        }
    }
}

fn survives(name: &str, original: &[u8]) {
    let config = Checkpoint::open(golden("sam_vit.pth"))
        .unwrap()
        .config()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mutated");
    for seed in 0..MUTATIONS {
        let mut bytes = original.to_vec();
        mutate(&mut bytes, &mut Lcg(seed));
        std::fs::write(&path, bytes).unwrap();
        let outcome = catch_unwind(AssertUnwindSafe(|| read(&path, &config)));
        assert!(outcome.is_ok(), "{name} with seed {seed}");
    }
}

#[test]
fn of_torch_files() {
    for name in ["sam_vit_f16.pth", "sam_vit_bf16.pth", "sam_vit.pth"] {
        survives(name, &std::fs::read(golden(name)).unwrap());
    }
}

#[test]
fn of_legacy_torch_files() {
    let name = "sam_vit.legacy.pth";
    survives(name, &std::fs::read(golden(name)).unwrap());
}

#[test]
fn of_torch_files_without_checksums() {
    survives("made.pth", &torch::pth(&sam_vit()));
}

#[test]
fn of_transformers_files() {
    let name = "sam_hf.safetensors";
    survives(name, &std::fs::read(golden(name)).unwrap());
}

#[test]
fn of_our_own_files() {
    let (tensors, metadata) = files::converted("mobile_sam.pth", StorageType::F16);
    let dir = tempfile::tempdir().unwrap();
    let path = files::write(dir.path(), &tensors, Some(metadata));
    survives("made.safetensors", &std::fs::read(path).unwrap());
}

#[test]
fn of_int8_files() {
    let (tensors, metadata) = files::converted("mobile_sam.pth", StorageType::I8);
    let dir = tempfile::tempdir().unwrap();
    let path = files::write(dir.path(), &tensors, Some(metadata));
    survives("int8.safetensors", &std::fs::read(path).unwrap());
}
