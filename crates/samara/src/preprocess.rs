//! From an image to a model's input.

use samara_image::{Frame, RgbImage, resize_bilinear, resize_bilinear_f32};
use samara_model::ModelConfig;
use samara_model::burn::tensor::{Device, Tensor, TensorData};
use samara_model::sam::{PIXEL_MEAN, PIXEL_STD};

use crate::segmenter::Segmenter;

impl Segmenter {
    /// The model's input `[1, 3, side, side]`: resized as Pillow does it, normalised, then padded
    /// with zeros on the right and below (`Sam.preprocess` of the official code). For SAM 2 resized
    /// without rounding to bytes (`SAM2Transforms`).
    pub(crate) fn preprocess(&self, image: &RgbImage, frame: &Frame) -> Tensor<4> {
        let (width, height) = frame.content_size();
        match self.config() {
            ModelConfig::Sam2(_) => {
                let planes = normalise_planes(resize_bilinear_f32(image, width, height));
                let side = self.input_side() as usize;
                let planes = TensorData::new(planes, [1, 3, side, side]);
                Tensor::from_data(planes, self.device())
            }
            ModelConfig::Sam(_) => self.pixels(&resize_bilinear(image, width, height)),
        }
    }

    /// The model's input of an image that was resized.
    pub(crate) fn pixels(&self, image: &RgbImage) -> Tensor<4> {
        normalise_pixels(image, self.input_side() as usize, self.device())
    }
}

/// Pixels of an image of at most `side` × `side`, normalised by the models' mean and standard
/// deviation and padded with zeros on the right and below: `[1, 3, side, side]`, in memory pixel by
/// pixel, as convolutions read them.
pub(crate) fn normalise_pixels(image: &RgbImage, side: usize, device: &Device) -> Tensor<4> {
    normalise_values(image.as_raw(), image.width() as usize, side, device)
}

/// The same of values from 0 to 255, red, green and blue of `width` pixels a row.
pub(crate) fn normalise_values<T: Copy + Into<f32>>(
    values: &[T],
    width: usize,
    side: usize,
    device: &Device,
) -> Tensor<4> {
    let mut pixels = vec![0.0_f32; side * side * 3];
    let lines = values.chunks_exact((3 * width).max(1));
    for (line, source) in pixels.chunks_exact_mut(3 * side).zip(lines) {
        for (out, rgb) in line.chunks_exact_mut(3).zip(source.chunks_exact(3)) {
            for (channel, (out, value)) in out.iter_mut().zip(rgb).enumerate() {
                *out = ((*value).into() - PIXEL_MEAN[channel]) / PIXEL_STD[channel];
            }
        }
    }
    let pixels = TensorData::new(pixels, [1, side, side, 3]);
    Tensor::<4>::from_data(pixels, device).permute([0, 3, 1, 2])
}

/// Planes of red, green and blue from 0 to 1, normalised.
fn normalise_planes(mut planes: Vec<f32>) -> Vec<f32> {
    let size = (planes.len() / 3).max(1);
    for (channel, plane) in planes.chunks_exact_mut(size).enumerate() {
        let (mean, std) = (PIXEL_MEAN[channel] / 255.0, PIXEL_STD[channel] / 255.0);
        plane.iter_mut().for_each(|v| *v = (*v - mean) / std);
    }
    planes
}
