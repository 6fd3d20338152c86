//! Features of pictures, computed once per picture when the encoder does not learn.
//!
//! A file holds the features of one picture as `safetensors` in full precision, so a run that uses
//! it computes the same as one that does not. Its name is the SHA-256 of the encoder's weights, the
//! side of the input and the pixels: a changed picture or another encoder has another file, and
//! runs with the same encoder may share a folder.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use samara::normalise_pixels;
use samara_image::RgbImage;
use samara_model::burn::module::Module;
use samara_model::burn::tensor::{Device, Tensor, TensorData};
use samara_model::{ImageFeatures, Model};
use sha2::{Digest, Sha256};

use crate::TrainError;
use crate::groups::encoder_prefixes;
use crate::parameters::fingerprint;

/// The features of a picture at `side` model pixels.
pub fn encode(model: &Model, picture: &RgbImage, side: usize, device: &Device) -> ImageFeatures {
    let pixels = TensorData::new(normalise_pixels(picture, side), [1, 3, side, side]);
    model.encode_image(Tensor::from_data(pixels, device))
}

/// A folder of features.
#[derive(Debug)]
pub struct FeatureCache {
    folder: PathBuf,
    encoder: [u8; 32],
}

impl FeatureCache {
    /// Opens or makes a folder for features by the encoder of `model`.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(folder: &Path, model: &Model) -> Result<Self, TrainError> {
        fs::create_dir_all(folder).map_err(|e| TrainError::file(folder, &e))?;
        Ok(Self {
            folder: folder.into(),
            encoder: fingerprint(model, encoder_prefixes(model)),
        })
    }

    /// The features of a picture, from the folder or else from `model`, whose encoder is the one
    /// that the folder was opened with. They carry no gradient.
    ///
    /// # Errors
    /// A new file cannot be written.
    pub fn features(
        &self,
        model: &Model,
        picture: &RgbImage,
        side: usize,
        device: &Device,
    ) -> Result<ImageFeatures, TrainError> {
        let path = self.path(picture, side);
        // A damaged file is made anew.
        if let Some(features) = fs::read(&path).ok().and_then(|bytes| read(&bytes, device)) {
            return Ok(features);
        }
        let features = encode(&model.valid(), picture, side, &device.clone().inner());
        let tensors = features.tensors().into_iter().map(Tensor::into_data);
        let bytes = write(tensors.collect()).map_err(|why| TrainError::file(&path, &why))?;
        samara_image::write_atomic(&path, &bytes)?;
        read(&bytes, device)
            .ok_or_else(|| TrainError::file(path, "what was written cannot be read"))
    }

    fn path(&self, picture: &RgbImage, side: usize) -> PathBuf {
        let mut digest = Sha256::new();
        digest.update(self.encoder);
        for number in [side as u64, picture.width().into(), picture.height().into()] {
            digest.update(number.to_le_bytes());
        }
        digest.update(picture.as_raw());
        let mut name = String::new();
        for byte in &digest.finalize()[..16] {
            // Writing to a string cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        self.folder.join(format!("{name}.safetensors"))
    }
}

fn write(tensors: Vec<TensorData>) -> Result<Vec<u8>, String> {
    let mut parts = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let shape = tensor.shape().to_vec();
        let values = tensor.try_into_vec::<f32>().map_err(|e| format!("{e:?}"))?;
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        parts.push((shape, bytes));
    }
    let views = parts.iter().enumerate().map(|(i, (shape, bytes))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        view.map(|view| (i.to_string(), view))
    });
    let views = views.collect::<Result<Vec<_>, _>>();
    let views = views.map_err(|e| e.to_string())?;
    safetensors::serialize(views, None).map_err(|e| e.to_string())
}

fn read(bytes: &[u8], device: &Device) -> Option<ImageFeatures> {
    let file = SafeTensors::deserialize(bytes).ok()?;
    let tensor = |i: usize| {
        let view = file.tensor(&i.to_string()).ok()?;
        let shape: [usize; 4] = view.shape().try_into().ok()?;
        let values = view.data().chunks_exact(4);
        let values = values.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let data = TensorData::new(values.collect::<Vec<f32>>(), shape);
        (view.dtype() == Dtype::F32).then(|| Tensor::from_data(data, device))
    };
    let tensors: Option<Vec<_>> = (0..file.len()).map(tensor).collect();
    ImageFeatures::from_tensors(tensors?)
}

#[cfg(test)]
mod tests {
    use samara_image::Rgb;
    use samara_model::ModelConfig;
    use samara_model::lite::LiteConfig;

    use super::*;

    fn lite() -> Model {
        let config = LiteConfig::new().with_embed_dim(16).with_num_heads(1);
        ModelConfig::Lite(config).init(&Device::flex())
    }

    fn values(features: &ImageFeatures) -> Vec<Vec<f32>> {
        let tensors = features.tensors().into_iter();
        tensors
            .map(|t| t.into_data().try_into_vec().unwrap())
            .collect()
    }

    #[test]
    fn features_come_back_to_the_last_bit_and_are_not_mistaken() {
        let (folder, device) = (tempfile::tempdir().unwrap(), Device::flex());
        let count = || fs::read_dir(folder.path()).unwrap().count();
        let picture = |seed: u8| RgbImage::from_fn(64, 40, |x, y| Rgb([x as u8, y as u8, seed]));
        let model = lite();
        let expected = values(&encode(&model, &picture(1), 64, &device));
        let cache = FeatureCache::new(folder.path(), &model).unwrap();
        for _ in 0..2 {
            let features = cache.features(&model, &picture(1), 64, &device).unwrap();
            assert_eq!(values(&features), expected);
            assert_eq!(count(), 1);
        }
        cache.features(&model, &picture(2), 64, &device).unwrap();
        cache.features(&model, &picture(1), 96, &device).unwrap();
        assert_eq!(count(), 3, "another picture, another side");
        let other = lite();
        let others = FeatureCache::new(folder.path(), &other).unwrap();
        let features = others.features(&other, &picture(1), 64, &device).unwrap();
        assert_ne!(values(&features), expected, "another encoder");
        assert_eq!(count(), 4);
    }

    #[test]
    fn a_damaged_file_is_made_anew() {
        let (folder, device, model) = (tempfile::tempdir().unwrap(), Device::flex(), lite());
        let picture = RgbImage::from_pixel(64, 64, Rgb([1, 2, 3]));
        let cache = FeatureCache::new(folder.path(), &model).unwrap();
        let expected = values(&cache.features(&model, &picture, 64, &device).unwrap());
        let path = cache.path(&picture, 64);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let again = cache.features(&model, &picture, 64, &device).unwrap();
        assert_eq!(values(&again), expected);
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}
