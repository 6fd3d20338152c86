//! The tensors behind the public API, for code that trains or takes models apart (feature `tensors`).
//!
//! Types of the tensor library appear here and nowhere else in this crate. A new version of that library
//! may change them in a minor release.

use samara_image::RgbImage;
use samara_kernels::threads::Threads;
pub use samara_model as model;
use samara_model::burn::tensor::{Device, Tensor};
use samara_model::checkpoint::Checkpoint;
use samara_model::sam::PromptBatch;
use samara_model::{ImageFeatures, Model, ModelConfig, TokenAttention};

use crate::{
    DeviceKind, Embedding, ModelPrompt, Precision, Prompt, PromptError, Result, Segmenter,
};

/// The device of this kind.
///
/// # Errors
/// [`DeviceError::Absent`](crate::DeviceError::Absent): this build has no support for it.
pub fn open_device(kind: DeviceKind) -> Result<Device> {
    kind.open()
}

/// Loads an opened checkpoint onto a device; see [`Segmenter::from_checkpoint`].
///
/// # Errors
/// As [`Segmenter::from_checkpoint`].
pub fn load(checkpoint: &Checkpoint, device: &Device) -> Result<Segmenter> {
    Segmenter::on_device(checkpoint, device, Threads::global(), Precision::Fp32)
}

/// A segmenter of a model that is already there, without a candidate head or a calibration.
pub fn segmenter(model: Model, config: ModelConfig, device: &Device) -> Segmenter {
    Segmenter::from_model(model, config, device, Threads::global())
}

/// The model of a segmenter.
pub fn model_of(segmenter: &Segmenter) -> &Model {
    segmenter.model()
}

/// The model's input `[1, 3, side, side]` of an image of at most `side` × `side` pixels: normalised by the models'
/// mean and standard deviation and padded with zeros on the right and below, in memory pixel by pixel.
pub fn normalise_pixels(image: &RgbImage, side: usize, device: &Device) -> Tensor<4> {
    crate::preprocess::normalise_pixels(image, side, device)
}

/// The configuration of a segmenter's model.
pub fn config_of(segmenter: &Segmenter) -> &ModelConfig {
    segmenter.config()
}

/// What the model computed of the image.
pub fn features_of(embedding: &Embedding) -> &ImageFeatures {
    &embedding.features
}

/// Prompts of one shape, in model pixels of the embedding's frame.
///
/// # Errors
/// [`PromptError`]: a prompt makes no sense for the image, or has another shape than the first; or
/// there is none.
pub fn prompt_batch(embedding: &Embedding, prompts: &[Prompt]) -> Result<PromptBatch> {
    if prompts.is_empty() {
        return Err(PromptError::Empty.into());
    }
    let segmenter = embedding.segmenter();
    for prompt in prompts {
        prompt.validate(embedding.frame(), segmenter.logits_side())?;
    }
    let all: Vec<ModelPrompt> = prompts.iter().map(|p| embedding.to_model(p)).collect();
    if all.iter().any(|prompt| prompt.shape() != all[0].shape()) {
        return Err(PromptError::Shapes.into());
    }
    let all: Vec<&ModelPrompt> = all.iter().collect();
    Ok(ModelPrompt::batch(&all, segmenter.device()))
}

/// How the decoder's tokens look at the image while they answer a prompt.
///
/// # Errors
/// As [`Embedding::predict`].
pub fn token_attention(embedding: &Embedding, prompt: &Prompt) -> Result<TokenAttention> {
    let batch = prompt_batch(embedding, std::slice::from_ref(prompt))?;
    let segmenter = embedding.segmenter();
    let look = || {
        segmenter
            .model()
            .token_attention(&embedding.features, &batch)
    };
    Ok(segmenter.threads().run(look))
}

/// Reads a tensor back from its device.
///
/// # Errors
/// The device failed.
pub fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    crate::embedding::read(tensor)
}
