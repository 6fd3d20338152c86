//! What a model computes once per image, in memory and as a file.

use std::collections::HashMap;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use sha2::{Digest, Sha256};

use crate::with_ordered_header;

const EMBEDDING: &str = "image_embedding";
/// Key of the metadata: SHA-256 of all values, in hexadecimal.
const VALUES: &str = "samara.values_sha256";

/// What a model computes once per image.
#[derive(Debug, Clone)]
pub struct ImageFeatures {
    /// The image embedding, `[1, grid, grid, dim]`.
    pub image_embed: Tensor<4>,
    /// Finer features for the decoder, none for SAM 1.
    pub high_res_feats: Vec<Tensor<4>>,
}

/// Why features cannot be written or read; every message is one line.
#[derive(Debug, thiserror::Error)]
pub enum FeaturesError {
    /// The device failed.
    #[error("{0}")]
    Device(String),
    /// The bytes are no `safetensors` file.
    #[error(transparent)]
    Format(#[from] SafeTensorError),
    /// Something else is in the file.
    #[error("{0}")]
    Content(String),
}

impl ImageFeatures {
    /// Every tensor changed, such as moved to another device.
    #[must_use]
    pub fn map(self, change: impl Fn(Tensor<4>) -> Tensor<4>) -> Self {
        Self {
            image_embed: change(self.image_embed),
            high_res_feats: self.high_res_feats.into_iter().map(change).collect(),
        }
    }

    /// All tensors, the embedding first.
    pub fn tensors(&self) -> Vec<Tensor<4>> {
        let mut tensors = vec![self.image_embed.clone()];
        tensors.extend(self.high_res_feats.iter().cloned());
        tensors
    }

    /// The features as a `safetensors` file in full precision: `image_embedding`,
    /// `high_res_feats.0` and so on, with `metadata` and a checksum of the values.
    ///
    /// # Errors
    /// The device failed.
    pub fn to_safetensors(
        &self,
        mut metadata: HashMap<String, String>,
    ) -> Result<Vec<u8>, FeaturesError> {
        let mut tensors = Vec::new();
        let mut values = Sha256::new();
        for tensor in self.tensors() {
            let shape = tensor.dims();
            let read = tensor.try_into_vec_as::<f32>();
            let read = read.map_err(|e| FeaturesError::Device(e.to_string()))?;
            let bytes: Vec<u8> = read.iter().flat_map(|v| v.to_le_bytes()).collect();
            values.update(&bytes);
            tensors.push((shape, bytes));
        }
        metadata.insert(VALUES.into(), hex::encode(values.finalize()));
        let views = tensors.iter().enumerate().map(|(i, (shape, bytes))| {
            let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes)?;
            Ok((tensor_name(i), view))
        });
        let views = views.collect::<Result<Vec<_>, SafeTensorError>>()?;
        Ok(with_ordered_header(safetensors::serialize(
            views,
            Some(metadata),
        )?))
    }

    /// Reads a file of [`to_safetensors`](Self::to_safetensors) with tensors of these shapes: see
    /// [`ModelConfig::feature_shapes`](crate::ModelConfig::feature_shapes).
    ///
    /// # Errors
    /// The file is damaged, or the tensors in it are others.
    pub fn from_safetensors(
        file: &[u8],
        shapes: &[[usize; 4]],
        device: &Device,
    ) -> Result<Self, FeaturesError> {
        let wrong = FeaturesError::Content;
        let (_, header) = SafeTensors::read_metadata(file)?;
        let file = SafeTensors::deserialize(file)?;
        let mut tensors = Vec::new();
        let mut values = Sha256::new();
        for (i, &expected) in shapes.iter().enumerate() {
            let name = tensor_name(i);
            let missing = |_| wrong(format!("tensor {name} is missing"));
            let tensor = file.tensor(&name).map_err(missing)?;
            let (dtype, shape) = (tensor.dtype(), tensor.shape());
            if dtype != Dtype::F32 || shape != expected {
                let why = format!("{name} is {dtype:?} {shape:?}, not F32 {expected:?}");
                return Err(wrong(why));
            }
            values.update(tensor.data());
            let read = tensor.data().as_chunks::<4>().0.iter();
            let read: Vec<f32> = read.copied().map(f32::from_le_bytes).collect();
            tensors.push(Tensor::from_data(TensorData::new(read, expected), device));
        }
        let metadata = header.metadata().as_ref();
        let saved = metadata.and_then(|metadata| metadata.get(VALUES));
        let saved = saved.ok_or_else(|| wrong(format!("{VALUES} is missing in its metadata")))?;
        if *saved != hex::encode(values.finalize()) {
            let why = format!("the values of {EMBEDDING} are not those that were saved");
            return Err(wrong(why));
        }
        let mut tensors = tensors.into_iter();
        let none = || wrong("the model has no features".into());
        Ok(Self {
            image_embed: tensors.next().ok_or_else(none)?,
            high_res_feats: tensors.collect(),
        })
    }
}

/// Name of the `index`th tensor in a file.
fn tensor_name(index: usize) -> String {
    match index {
        0 => EMBEDDING.to_owned(),
        n => format!("high_res_feats.{}", n - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: [[usize; 4]; 2] = [[1, 2, 2, 3], [1, 4, 4, 1]];

    fn features() -> ImageFeatures {
        let [image_embed, fine] = SHAPES.map(|shape| {
            let count = shape.iter().product::<usize>() as i32;
            let values: Vec<f32> = (0..count).map(|i| 1.0 / (i - 5) as f32).collect();
            Tensor::from_data(TensorData::new(values, shape), &Device::flex())
        });
        ImageFeatures {
            image_embed,
            high_res_feats: vec![fine],
        }
    }

    fn bits(features: &ImageFeatures) -> Vec<Vec<u32>> {
        let values = |t: Tensor<4>| t.into_data().try_into_vec::<f32>().unwrap();
        let tensors = features.tensors().into_iter().map(values);
        tensors
            .map(|values| values.into_iter().map(f32::to_bits).collect())
            .collect()
    }

    fn file() -> Vec<u8> {
        let metadata = HashMap::from([("of".to_owned(), "a test".to_owned())]);
        features().to_safetensors(metadata).unwrap()
    }

    #[test]
    fn features_come_back_to_the_last_bit_with_their_names_and_metadata() {
        let read = ImageFeatures::from_safetensors(&file(), &SHAPES, &Device::flex()).unwrap();
        assert_eq!(bits(&read), bits(&features()));
        let bytes = file();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header.metadata().as_ref().unwrap()["of"], "a test");
        let mut names = header.offset_keys();
        names.sort();
        assert_eq!(names, ["high_res_feats.0", "image_embedding"]);
    }

    #[test]
    fn what_is_not_as_expected_is_named() {
        let refusal = |file: &[u8], shapes: &[[usize; 4]]| {
            let read = ImageFeatures::from_safetensors(file, shapes, &Device::flex());
            read.unwrap_err().to_string()
        };
        let mut other = SHAPES;
        other[1][2] = 5;
        assert_eq!(
            refusal(&file(), &other),
            "high_res_feats.0 is F32 [1, 4, 4, 1], not F32 [1, 4, 5, 1]"
        );
        let more = [SHAPES[0], SHAPES[1], SHAPES[1]];
        assert_eq!(
            refusal(&file(), &more),
            "tensor high_res_feats.1 is missing"
        );
        assert_eq!(
            refusal(&file(), &SHAPES[..1]),
            "the values of image_embedding are not those that were saved"
        );
        let mut damaged = file();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(
            refusal(&damaged, &SHAPES),
            "the values of image_embedding are not those that were saved"
        );
        let plain = TensorView::new(Dtype::F32, SHAPES[0].to_vec(), &[0; 48]).unwrap();
        let plain = safetensors::serialize([(EMBEDDING, plain)], None).unwrap();
        assert_eq!(
            refusal(&plain, &SHAPES[..1]),
            "samara.values_sha256 is missing in its metadata"
        );
        let half = TensorView::new(Dtype::F16, SHAPES[0].to_vec(), &[0; 24]).unwrap();
        let half = safetensors::serialize([(EMBEDDING, half)], None).unwrap();
        assert_eq!(
            refusal(&half, &SHAPES),
            "image_embedding is F16 [1, 2, 2, 3], not F32 [1, 2, 2, 3]"
        );
        for end in [0, 7, 20, file().len() - 1] {
            refusal(&file()[..end], &SHAPES);
        }
    }
}
