//! SAM's prompt encoder: points, boxes and mask logits become embeddings
//! (`segment_anything/modeling/prompt_encoder.py`).

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Embedding, EmbeddingConfig, Initializer};
use burn::tensor::{Device, Tensor};

use super::image_tokens::ImageTokens;
use crate::common::{LayerNorm2d, fourier_features, fourier_grid};
use crate::ops::Activation;

/// Prompts for one image, in model pixels, all with the same batch size. At least one of the
/// three must be present.
#[derive(Debug, Clone, Default)]
pub struct PromptBatch {
    /// Points (x, y) `[batch, points, 2]` and their labels `[batch, points]`: 1 on the object,
    /// 0 off it, 2 and 3 the top left and bottom right corner of a box, −1 not a point.
    pub points: Option<(Tensor<3>, Tensor<2>)>,
    /// Boxes (x0, y0, x1, y1) `[batch, 4]`.
    pub boxes: Option<Tensor<2>>,
    /// Mask logits `[batch, 1, 4 · grid, 4 · grid]`, such as a decoder gives.
    pub masks: Option<Tensor<4>>,
}

impl PromptBatch {
    /// Number of prompts; 1 without any prompt.
    pub fn len(&self) -> usize {
        let points = self.points.as_ref().map(|(coords, _)| coords.dims()[0]);
        let boxes = || self.boxes.as_ref().map(|boxes| boxes.dims()[0]);
        let masks = || self.masks.as_ref().map(|masks| masks.dims()[0]);
        points.or_else(boxes).or_else(masks).unwrap_or(1)
    }

    /// The same with every box as two points in front of the others, as SAM 2 takes it.
    pub(crate) fn with_boxes_as_points(mut self) -> Self {
        let Some(boxes) = self.boxes.take() else {
            return self;
        };
        let (batch, device) = (boxes.dims()[0], boxes.device());
        let corners = boxes.reshape([batch, 2, 2]);
        let labels = Tensor::<1>::from_floats([2.0, 3.0], &device);
        let labels = labels.reshape([1, 2]).repeat_dim(0, batch);
        self.points = Some(match self.points {
            Some((coords, others)) => (
                Tensor::cat(vec![corners, coords], 1),
                Tensor::cat(vec![labels, others], 1),
            ),
            None => (corners, labels),
        });
        self
    }

    /// True when no prompt is present.
    pub fn is_empty(&self) -> bool {
        self.points.is_none() && self.boxes.is_none() && self.masks.is_none()
    }
}

/// Embedded prompts.
#[derive(Debug, Clone)]
pub struct PromptEmbeddings {
    /// Points and box corners `[batch, tokens, dim]`; `None` when only a mask was given.
    pub sparse: Option<Tensor<3>>,
    /// Mask embedding, `[batch, dim, grid, grid]`, or `[1, dim, 1, 1]` without a mask.
    pub dense: Tensor<4>,
}

impl PromptEmbeddings {
    /// The tokens of a decoder's transformer: its `own` `[own, dim]`, followed by those of every prompt,
    /// `[batch, tokens, dim]`.
    pub(crate) fn tokens(&self, own: Vec<Tensor<2>>, batch: usize) -> Tensor<3> {
        let own = Tensor::cat(own, 0).unsqueeze::<3>().repeat_dim(0, batch);
        match &self.sparse {
            Some(sparse) => Tensor::cat(vec![own, sparse.clone()], 1),
            None => own,
        }
    }
}

/// Configuration of [`PromptEncoder`].
#[derive(Config, Debug)]
pub struct PromptEncoderConfig {
    /// Width of the embeddings.
    #[config(default = 256)]
    pub embed_dim: usize,
    /// Side of the image embedding in cells.
    #[config(default = 64)]
    pub grid: usize,
    /// Side of the model's input in model pixels.
    #[config(default = 1024)]
    pub img_size: usize,
    /// Hidden channels of the mask branch.
    #[config(default = 16)]
    pub mask_in_chans: usize,
}

impl PromptEncoderConfig {
    /// An encoder with random weights.
    pub fn init(&self, device: &Device) -> PromptEncoder {
        let embedding = || EmbeddingConfig::new(1, self.embed_dim).init(device);
        PromptEncoder {
            pe_layer: PositionEmbeddingRandom {
                positional_encoding_gaussian_matrix: Initializer::Normal {
                    mean: 0.0,
                    std: 1.0,
                }
                .init([2, self.embed_dim / 2], device),
            },
            point_embeddings: (0..4).map(|_| embedding()).collect(),
            not_a_point_embed: embedding(),
            mask_downscaling: MaskDownscaling::new(self.mask_in_chans, self.embed_dim, device),
            no_mask_embed: embedding(),
            grid: self.grid,
            img_size: self.img_size,
        }
    }
}

/// Embeds prompts for the mask decoder.
#[derive(Module, Debug)]
pub struct PromptEncoder {
    pe_layer: PositionEmbeddingRandom,
    point_embeddings: Vec<Embedding>,
    not_a_point_embed: Embedding,
    mask_downscaling: MaskDownscaling,
    no_mask_embed: Embedding,
    #[module(skip)]
    grid: usize,
    #[module(skip)]
    img_size: usize,
}

impl PromptEncoder {
    /// Embeds a batch of prompts. Points come before box corners; a padding point follows the
    /// points when there is no box.
    pub fn forward(&self, prompts: &PromptBatch) -> PromptEmbeddings {
        let points = prompts
            .points
            .as_ref()
            .map(|(coords, labels)| self.embed_points(coords, labels, prompts.boxes.is_none()));
        let corners = prompts.boxes.as_ref().map(|boxes| self.embed_boxes(boxes));
        let sparse = match (points, corners) {
            (Some(points), Some(corners)) => Some(Tensor::cat(vec![points, corners], 1)),
            (points, corners) => points.or(corners),
        };
        let dense = match &prompts.masks {
            Some(masks) => self.mask_downscaling.forward(masks.clone()),
            None => self.no_mask_embed.weight.val().reshape([1, -1, 1, 1]),
        };
        PromptEmbeddings { sparse, dense }
    }

    /// The cells of an image embedding `[1, grid, grid, dim]` for `prompts`.
    pub fn image_tokens(
        &self,
        image_embedding: Tensor<4>,
        prompts: &PromptEmbeddings,
    ) -> ImageTokens {
        ImageTokens::new(image_embedding, prompts.dense.clone(), self.dense_pe())
    }

    /// Positional encoding of the cells of the image embedding, at their centres:
    /// `[1, grid², dim]`.
    pub fn dense_pe(&self) -> Tensor<3> {
        let layer = &self.pe_layer;
        fourier_grid(layer.positional_encoding_gaussian_matrix.val(), self.grid)
    }

    /// `[batch, points, 2]` and `[batch, points]` → `[batch, points (+1 if padded), dim]`.
    fn embed_points(&self, coords: &Tensor<3>, labels: &Tensor<2>, pad: bool) -> Tensor<3> {
        let [batch, _, _] = coords.dims();
        let device = coords.device();
        let (mut coords, mut labels) = (coords.clone() + 0.5, labels.clone());
        if pad {
            coords = Tensor::cat(vec![coords, Tensor::zeros([batch, 1, 2], &device)], 1);
            labels = Tensor::cat(vec![labels, -Tensor::ones([batch, 1], &device)], 1);
        }
        let labels = labels.unsqueeze_dim::<3>(2);
        let has_label = |label: f64| labels.clone().equal_scalar(label);
        let row = |e: &Embedding| e.weight.val().unsqueeze::<3>();
        let pe = self.pe_layer.forward(coords / self.img_size as f64);
        let width = pe.dims()[2];
        // The padding point loses its position altogether.
        let pe = pe.mask_fill(has_label(-1.0).repeat_dim(2, width), 0.0);
        let kinds = self.point_embeddings.iter().zip([0.0, 1.0, 2.0, 3.0]);
        let start = pe + has_label(-1.0).float() * row(&self.not_a_point_embed);
        kinds.fold(start, |sum, (embedding, label)| {
            sum + has_label(label).float() * row(embedding)
        })
    }

    /// `[batch, 4]` → `[batch, 2, dim]`.
    fn embed_boxes(&self, boxes: &Tensor<2>) -> Tensor<3> {
        let batch = boxes.dims()[0];
        let corners = (boxes.clone() + 0.5).reshape([batch, 2, 2]);
        let kinds = Tensor::cat(
            vec![
                self.point_embeddings[2].weight.val(),
                self.point_embeddings[3].weight.val(),
            ],
            0,
        );
        self.pe_layer.forward(corners / self.img_size as f64) + kinds.unsqueeze()
    }
}

/// Positional encoding by random spatial frequencies (section A of the SAM paper).
#[derive(Module, Debug)]
struct PositionEmbeddingRandom {
    positional_encoding_gaussian_matrix: Param<Tensor<2>>,
}

impl PositionEmbeddingRandom {
    /// Coordinates (x, y) in [0, 1], `[.., .., 2]` → `[.., .., dim]`: sines, then cosines.
    fn forward(&self, coords: Tensor<3>) -> Tensor<3> {
        fourier_features(coords, self.positional_encoding_gaussian_matrix.val())
    }
}

/// The mask branch: two strided convolutions and a projection.
#[derive(Module, Debug)]
struct MaskDownscaling {
    conv1: Conv2d,
    norm1: LayerNorm2d,
    conv2: Conv2d,
    norm2: LayerNorm2d,
    conv3: Conv2d,
}

impl MaskDownscaling {
    fn new(hidden: usize, embed_dim: usize, device: &Device) -> Self {
        let halving = |channels| Conv2dConfig::new(channels, [2, 2]).with_stride([2, 2]);
        Self {
            conv1: halving([1, hidden / 4]).init(device),
            norm1: LayerNorm2d::new(hidden / 4, device),
            conv2: halving([hidden / 4, hidden]).init(device),
            norm2: LayerNorm2d::new(hidden, device),
            conv3: Conv2dConfig::new([hidden, embed_dim], [1, 1]).init(device),
        }
    }

    /// `[batch, 1, 4 · grid, 4 · grid]` → `[batch, dim, grid, grid]`.
    fn forward(&self, masks: Tensor<4>) -> Tensor<4> {
        let x = Activation::Gelu.apply(self.norm1.forward(self.conv1.forward(masks)));
        let x = Activation::Gelu.apply(self.norm2.forward(self.conv2.forward(x)));
        self.conv3.forward(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_as_two_points_is_embedded_as_a_box() {
        let device = Device::flex();
        let encoder = PromptEncoderConfig::new()
            .with_embed_dim(16)
            .with_grid(4)
            .with_img_size(64)
            .init(&device);
        let sparse = |prompts: &PromptBatch| encoder.forward(prompts).sparse.unwrap();
        let values = |tensor: Tensor<3>| tensor.into_data().try_into_vec::<f32>().unwrap();
        let boxed = sparse(&PromptBatch {
            boxes: Some(Tensor::from_floats([[3.0, 4.0, 40.0, 50.0]], &device)),
            ..PromptBatch::default()
        });
        let coords = Tensor::from_floats([[[3.0, 4.0], [40.0, 50.0]]], &device);
        let labels = |labels: [f32; 2]| {
            let labels = Tensor::<2>::from_floats([labels], &device);
            let points = Some((coords.clone(), labels));
            let prompts = PromptBatch {
                points,
                ..PromptBatch::default()
            };
            // A padding point follows.
            values(sparse(&prompts).narrow(1, 0, 2))
        };
        assert_eq!(labels([2.0, 3.0]), values(boxed.clone()));
        assert_ne!(labels([3.0, 2.0]), values(boxed.clone()));
        assert_ne!(labels([1.0, 1.0]), values(boxed));
    }
}
