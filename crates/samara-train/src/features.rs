//! Features of images, computed once per image when the encoder does not learn.
//!
//! A file holds the features of one image as `safetensors` in full precision, so a run that uses
//! it computes the same as one that does not. Its name is the SHA-256 of the encoder's weights, the
//! side of the input and the pixels: a changed image or another encoder has another file, and
//! runs with the same encoder may share a folder.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use samara::tensors::normalise_pixels;
use samara_image::{RgbImage, is_unfinished};
use samara_model::burn::tensor::Device;
use samara_model::{ImageFeatures, Model, ModelConfig};
use sha2::{Digest, Sha256};

use crate::TrainError;
use crate::groups::ENCODER;
use crate::parameters::fingerprint;

/// The features of an image at `side` model pixels.
pub fn encode(model: &Model, image: &RgbImage, side: usize, device: &Device) -> ImageFeatures {
    model.encode_image(normalise_pixels(image, side, device))
}

/// A file that a run is writing is younger.
const ABANDONED: Duration = Duration::from_hours(1);

/// Removes files that a killed run has left half-written. Other runs may be at work in the folder, and what cannot
/// be removed does no harm.
fn remove_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|modified| modified.elapsed().ok());
        if is_unfinished(&entry.path()) && age.is_some_and(|age| age > ABANDONED) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A folder of features.
#[derive(Debug)]
pub struct FeatureCache {
    folder: PathBuf,
    config: ModelConfig,
    encoder: [u8; 32],
}

impl FeatureCache {
    /// Opens or makes a folder for features by the encoder of `model`, which has this `config`.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(folder: &Path, model: &Model, config: &ModelConfig) -> Result<Self, TrainError> {
        fs::create_dir_all(folder)
            .map_err(|e| TrainError::file(folder, &format!("embedding_cache: {e}")))?;
        remove_abandoned(folder);
        Ok(Self {
            folder: folder.into(),
            config: config.clone(),
            encoder: fingerprint(model, ENCODER),
        })
    }

    /// The features of an image, from the folder or else from `model`, which lies on a device without
    /// gradients and has the encoder that the folder was opened with.
    ///
    /// # Errors
    /// A new file cannot be written.
    pub fn features(
        &self,
        model: &Model,
        image: &RgbImage,
        device: &Device,
    ) -> Result<ImageFeatures, TrainError> {
        let path = self.path(image);
        let shapes = self.config.feature_shapes();
        let read = |bytes: &[u8]| ImageFeatures::from_safetensors(bytes, &shapes, device);
        // A damaged file is made anew.
        if let Some(features) = fs::read(&path).ok().and_then(|bytes| read(&bytes).ok()) {
            return Ok(features);
        }
        let features = encode(
            model,
            image,
            self.config.input_side(),
            &device.clone().inner(),
        );
        let failed = |why| TrainError::file(&path, &why);
        let bytes = features.to_safetensors(HashMap::new()).map_err(failed)?;
        samara_image::write_atomic(&path, &bytes)?;
        read(&bytes).map_err(failed)
    }

    fn path(&self, image: &RgbImage) -> PathBuf {
        let mut digest = Sha256::new();
        digest.update(self.encoder);
        let side = self.config.input_side() as u64;
        for number in [side, image.width().into(), image.height().into()] {
            digest.update(number.to_le_bytes());
        }
        digest.update(image.as_raw());
        let name = hex::encode(&digest.finalize()[..16]);
        self.folder.join(format!("{name}.safetensors"))
    }
}

#[cfg(test)]
mod tests {
    use samara_image::Rgb;

    use super::*;
    use crate::testing::{tiny_config, tiny_sam};

    fn values(features: &ImageFeatures) -> Vec<Vec<f32>> {
        let tensors = features.tensors().into_iter();
        tensors
            .map(|t| t.into_data().try_into_vec().unwrap())
            .collect()
    }

    #[test]
    fn files_of_killed_runs_are_removed_and_those_of_others_at_work_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [".samara-old.tmp", ".samara-new.tmp", "old"] {
            fs::write(at(name), "half").unwrap();
        }
        let long_ago = std::time::SystemTime::now() - 2 * ABANDONED;
        for name in [".samara-old.tmp", "old"] {
            let file = fs::File::options().write(true).open(at(name)).unwrap();
            file.set_modified(long_ago).unwrap();
        }
        remove_abandoned(folder.path());
        assert!(!at(".samara-old.tmp").exists());
        assert!(at(".samara-new.tmp").exists() && at("old").exists());
    }

    #[test]
    fn features_come_back_to_the_last_bit_and_are_not_mistaken() {
        let (folder, device) = (tempfile::tempdir().unwrap(), Device::flex());
        let count = || fs::read_dir(folder.path()).unwrap().count();
        let image = |seed: u8| RgbImage::from_fn(64, 40, |x, y| Rgb([x as u8, y as u8, seed]));
        let model = tiny_sam(&device);
        let expected = values(&encode(&model, &image(1), 64, &device));
        let cache = FeatureCache::new(folder.path(), &model, &tiny_config()).unwrap();
        for _ in 0..2 {
            let features = cache.features(&model, &image(1), &device).unwrap();
            assert_eq!(values(&features), expected);
            assert_eq!(count(), 1);
        }
        cache.features(&model, &image(2), &device).unwrap();
        assert_eq!(count(), 2, "another image");
        let other = tiny_sam(&device);
        let others = FeatureCache::new(folder.path(), &other, &tiny_config()).unwrap();
        let features = others.features(&other, &image(1), &device).unwrap();
        assert_ne!(values(&features), expected, "another encoder");
        assert_eq!(count(), 3);
    }

    #[test]
    fn a_damaged_file_is_made_anew() {
        let (folder, device) = (tempfile::tempdir().unwrap(), Device::flex());
        let model = tiny_sam(&device);
        let image = RgbImage::from_pixel(64, 64, Rgb([1, 2, 3]));
        let cache = FeatureCache::new(folder.path(), &model, &tiny_config()).unwrap();
        let expected = values(&cache.features(&model, &image, &device).unwrap());
        let path = cache.path(&image);
        let bytes = fs::read(&path).unwrap();
        let mut flipped = bytes.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for damaged in [&bytes[..bytes.len() / 2], &flipped] {
            fs::write(&path, damaged).unwrap();
            let again = cache.features(&model, &image, &device).unwrap();
            assert_eq!(values(&again), expected);
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }
}
