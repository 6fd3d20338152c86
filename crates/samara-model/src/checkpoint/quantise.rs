//! Checkpoints whose image encoder is multiplied as 8-bit integers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::tensor::TensorData;
use burn_store::bridge;

use super::file::{floats, invalid};
use super::{Checkpoint, CheckpointError, int8};

/// Factors are within `2^-BITS` and `2^BITS`: what lies beyond is a channel that a norm never uses.
const BITS: f32 = 16.0;

impl Checkpoint {
    /// Keys of the weights that are integers in the file.
    pub fn int8_weights(&self) -> impl Iterator<Item = &str> {
        self.quantised.keys().map(String::as_str)
    }

    /// The same model with channels of the image encoder that are more alike in size, which costs less when rows
    /// become integers: what a layer norm gives is divided by a factor for each channel, and the weights of the
    /// layers that read it are multiplied with it. `largest` are the
    /// [largest values](crate::Model::observe_norms) that norms give; `strength` goes from 0, which changes
    /// nothing, to 1, where all channels are equally large. After `SmoothQuant` (Xiao et al., 2022), but with
    /// powers of two, so that what floating point gives is the same to the bit.
    ///
    /// # Errors
    /// A tensor cannot be read.
    pub fn smoothed(
        &self,
        largest: &BTreeMap<String, Vec<f32>>,
        strength: f32,
    ) -> Result<Self, CheckpointError> {
        let mut smoothed = self.clone();
        for (norm, largest) in largest {
            let readers = readers(norm);
            let readers: Vec<&String> = readers
                .iter()
                .filter(|key| self.tensors.contains_key(*key))
                .collect();
            let mut weights = Vec::new();
            for key in &readers {
                let (shape, values) = self.values(key)?;
                if shape.last() != Some(&largest.len()) {
                    return Err(self.damaged(key, &format!("has the shape {shape:?}")));
                }
                weights.push(values);
            }
            if weights.is_empty() {
                continue;
            }
            let factors = factors(largest, &weights, strength);
            for (key, mut values) in readers.into_iter().zip(weights) {
                for row in values.chunks_exact_mut(factors.len()) {
                    row.iter_mut().zip(&factors).for_each(|(w, f)| *w *= f);
                }
                smoothed.replace(key, values);
            }
            for key in [format!("{norm}.weight"), format!("{norm}.bias")] {
                let (_, mut values) = self.values(&key)?;
                values.iter_mut().zip(&factors).for_each(|(v, f)| *v /= f);
                smoothed.replace(&key, values);
            }
        }
        Ok(smoothed)
    }

    /// Writes as [`convert`](Self::convert), the given weights as integers and the others of the image encoder in
    /// floating point, with `entries` put into the metadata.
    ///
    /// # Errors
    /// As [`convert`](Self::convert).
    pub fn convert_quantised(
        &self,
        out: &Path,
        weights: &BTreeSet<String>,
        entries: &[(&str, String)],
    ) -> Result<(), CheckpointError> {
        self.write(out, entries, &[], |key, tensor| {
            let stored = || vec![(key.to_owned(), tensor.clone())];
            let integers = self.quantised.get(key);
            Ok(match integers {
                Some(pair) if weights.contains(key) || !in_encoder(key) => {
                    pair.clone().into_tensors(key).into()
                }
                None if weights.contains(key) => {
                    int8::integers(key, tensor)?.into_tensors(key).into()
                }
                _ => stored(),
            })
        })
    }

    fn values(&self, key: &str) -> Result<(Vec<usize>, Vec<f32>), CheckpointError> {
        let tensor = self.tensors.get(key);
        let tensor = tensor.ok_or_else(|| self.damaged(key, "is missing"))?;
        let values = floats(tensor).map_err(|why| self.damaged(key, &why))?;
        Ok((tensor.shape.to_vec(), values))
    }

    /// Puts other values in a tensor, in the same shape.
    fn replace(&mut self, key: &str, values: Vec<f32>) {
        self.quantised.remove(key);
        if let Some(tensor) = self.tensors.get_mut(key) {
            let data = TensorData::new(values, tensor.shape.clone());
            *tensor = bridge::from_data(data, tensor.name.clone(), None);
        }
    }

    fn damaged(&self, key: &str, why: &str) -> CheckpointError {
        invalid(&self.path, &format!("key {key} {why}"))
    }
}

fn in_encoder(key: &str) -> bool {
    key.starts_with("image_encoder.")
}

/// The keys of weights that may read what a layer norm of the image encoder gives, and nothing else reads it.
fn readers(norm: &str) -> Vec<String> {
    let Some((block, name)) = norm.rsplit_once('.').filter(|_| in_encoder(norm)) else {
        return Vec::new();
    };
    let layers: &[&str] = match name {
        // The second is the shortcut of a block of Hiera that widens.
        "norm1" => &["attn.qkv", "proj"],
        "norm2" => &["mlp.lin1", "mlp.layers.0"],
        // TinyViT has the norm within.
        "norm" => &["qkv", "fc1"],
        _ => &[],
    };
    let key = |layer: &&str| format!("{block}.{layer}.weight");
    layers.iter().map(key).collect()
}

/// Powers of two near `largest^strength / weight^(1 - strength)`, where `weight` is the largest that reads the
/// channel; 1 for a channel that nothing goes through.
fn factors(largest: &[f32], weights: &[Vec<f32>], strength: f32) -> Vec<f32> {
    let mut heaviest = vec![0.0_f32; largest.len()];
    for row in weights.iter().flat_map(|w| w.chunks_exact(largest.len())) {
        for (heaviest, weight) in heaviest.iter_mut().zip(row) {
            *heaviest = heaviest.max(weight.abs());
        }
    }
    let logarithm = |(&value, &weight): (&f32, &f32)| {
        let used = value > 0.0 && weight > 0.0;
        used.then(|| strength * (value.log2() + weight.log2()) - weight.log2())
    };
    let logarithms: Vec<Option<f32>> = largest.iter().zip(&heaviest).map(logarithm).collect();
    let used = logarithms.iter().flatten().count().max(1) as f32;
    // Only their ratios count: weights and values keep their size on the whole.
    let mean = logarithms.iter().flatten().sum::<f32>() / used;
    let factor = |logarithm: &Option<f32>| match logarithm {
        Some(logarithm) if strength > 0.0 => (logarithm - mean).round().clamp(-BITS, BITS).exp2(),
        _ => 1.0,
    };
    logarithms.iter().map(factor).collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, Tensor};

    use super::*;
    use crate::Model;

    #[test]
    fn large_values_become_smaller_and_their_weights_larger() {
        let weights = vec![vec![1.0, 1.0, 1.0, 0.5], vec![-1.0, 0.1, 0.2, 0.5]];
        let values = [1.0, 64.0, 0.0, 2.0];
        assert_eq!(factors(&values, &weights, 0.0), [1.0; 4]);
        let factors = factors(&values, &weights, 0.5);
        assert_eq!(factors[1] / factors[0], 8.0);
        assert_eq!(factors[3] / factors[0], 2.0);
        assert_eq!(factors[2], 1.0, "nothing goes through it");
        assert!(factors.iter().all(|f| f.log2().fract() == 0.0));
    }

    /// Every product is the same: one side is a power of two larger, the other smaller.
    #[test]
    fn a_smoothed_model_gives_the_same_to_the_bit() {
        let golden = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/golden");
        let device = Device::flex();
        for name in ["sam_vit.pth", "mobile_sam.pth", "sam2_video.safetensors"] {
            let checkpoint = Checkpoint::open(golden.join(name)).unwrap();
            let side = checkpoint.config().unwrap().input_side();
            let shape = [1, 3, side, side];
            let pixels = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device);
            let model = Model::load(&checkpoint, &device).unwrap();
            let embed = |model: &Model| model.encode_image(pixels.clone()).image_embed;
            let (plain, largest) = model.observe_norms(|| embed(&model));
            assert!(largest.values().flatten().all(|value| *value > 0.0));
            let smoothed = checkpoint.smoothed(&largest, 0.5).unwrap();
            let smoothed = Model::load(&smoothed, &device).unwrap();
            assert_ne!(
                model.fingerprint().unwrap(),
                smoothed.fingerprint().unwrap()
            );
            let [plain, smoothed] = [plain, embed(&smoothed)].map(|t| t.into_data());
            assert_eq!(plain, smoothed, "{name}");
        }
    }

    #[test]
    fn norms_of_every_encoder_have_readers() {
        let readers = |norm| readers(norm).join(" ");
        for (norm, reader) in [
            (
                "image_encoder.blocks.0.norm1",
                "image_encoder.blocks.0.attn.qkv.weight",
            ),
            (
                "image_encoder.blocks.0.norm2",
                "image_encoder.blocks.0.mlp.lin1.weight",
            ),
            (
                "image_encoder.layers.1.blocks.0.attn.norm",
                "image_encoder.layers.1.blocks.0.attn.qkv.weight",
            ),
            (
                "image_encoder.layers.1.blocks.0.mlp.norm",
                "image_encoder.layers.1.blocks.0.mlp.fc1.weight",
            ),
            (
                "image_encoder.trunk.blocks.2.norm1",
                "image_encoder.trunk.blocks.2.proj.weight",
            ),
            (
                "image_encoder.trunk.blocks.2.norm2",
                "image_encoder.trunk.blocks.2.mlp.layers.0.weight",
            ),
        ] {
            assert!(readers(norm).contains(reader), "{norm}: {}", readers(norm));
        }
        assert_eq!(readers("image_encoder.neck.1"), "");
        assert_eq!(readers("mask_decoder.transformer.layers.0.norm1"), "");
    }
}
