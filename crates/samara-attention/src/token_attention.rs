//! Where the tokens of the mask decoder look while they answer a prompt.

use samara::tensors::{self, read};
use samara::{Embedding, Prompt};
use samara_image::Frame;

use crate::Result;

/// Attention maps over the image, one for every layer, head and token of the mask decoder. The maps
/// are row-major, [`width`](Self::width) × [`height`](Self::height) cells of the image embedding.
///
/// The values are softmax weights, which sum to 1 over the model's square input. The maps end where
/// the image ends (to the nearest cell), so what a token gives to the padding is missing from the
/// sum.
#[derive(Debug, Clone)]
pub struct TokenAttention {
    width: usize,
    height: usize,
    layers: usize,
    heads: usize,
    tokens: Vec<String>,
    /// `[layers, heads, tokens, height, width]`.
    values: Vec<f32>,
}

impl TokenAttention {
    /// Cells from left to right.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Cells from top to bottom.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Number of attention layers: those of the two-way transformer and its final one.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// `layer 0`, `layer 1` and so on, and `final` for the last.
    pub fn layer_name(&self, layer: usize) -> String {
        if layer + 1 == self.layers {
            "final".into()
        } else {
            format!("layer {layer}")
        }
    }

    /// Heads of every layer.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Names of the tokens: `iou`, `mask 0` (the single mask) to `mask 3`, `point 0` and so on in the
    /// order of the clicks, `corner 0` and `corner 1` of a box, `padding`; SAM 2 has an
    /// `object score`.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// The map of one head of a layer, or `None` where there is none.
    pub fn map(&self, layer: usize, head: usize, token: &str) -> Option<&[f32]> {
        let token = self.tokens.iter().position(|name| name == token)?;
        if layer >= self.layers || head >= self.heads {
            return None;
        }
        let cells = self.width * self.height;
        let map = (layer * self.heads + head) * self.tokens.len() + token;
        self.values.get(map * cells..(map + 1) * cells)
    }

    /// The mean over the heads of a layer, or `None` where there is none.
    pub fn mean(&self, layer: usize, token: &str) -> Option<Vec<f32>> {
        let mut mean = vec![0.0; self.width * self.height];
        for head in 0..self.heads {
            let map = self.map(layer, head, token)?;
            for (mean, &weight) in mean.iter_mut().zip(map) {
                *mean += weight / self.heads as f32;
            }
        }
        Some(mean)
    }
}

impl TokenAttention {
    /// Where the tokens of the mask decoder look while they answer `prompt`.
    ///
    /// ```no_run
    /// use samara::{DeviceKind, ImageLimits, Prompt, Segmenter, read_image};
    /// use samara_attention::TokenAttention;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let photo = read_image("photo.jpg", &ImageLimits::default())?;
    /// let embedding = Segmenter::load("mobile_sam.pt", DeviceKind::Cpu)?.embed(&photo)?;
    /// let attention = TokenAttention::of(&embedding, &Prompt::point(520.0, 360.0))?;
    /// let last = attention.layers() - 1;
    /// let click = attention.mean(last, "point 0");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Embedding::predict`].
    pub fn of(embedding: &Embedding, prompt: &Prompt) -> Result<Self> {
        let attention = tensors::token_attention(embedding, prompt)?;
        let [layers, _, heads, tokens, grid, _] = attention.weights.dims();
        let (width, height) = content_cells(embedding.frame(), grid);
        let weights =
            attention
                .weights
                .slice([0..layers, 0..1, 0..heads, 0..tokens, 0..height, 0..width]);
        Ok(Self {
            width,
            height,
            layers,
            heads,
            tokens: attention.tokens.iter().map(ToString::to_string).collect(),
            values: read(weights)?,
        })
    }
}

/// Columns and rows of a `grid`² image embedding that the image fills, to the nearest cell.
fn content_cells(frame: &Frame, grid: usize) -> (usize, usize) {
    let (width, height) = frame.content_size();
    let cells = |pixels: u32| {
        let share = f64::from(pixels) / f64::from(frame.side());
        ((share * grid as f64).round() as usize).clamp(1, grid.max(1))
    };
    (cells(width), cells(height))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use samara_image::RgbImage;

    use super::*;
    use samara::{DeviceKind, Segmenter};

    /// An image with a bright square in the middle.
    fn image(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let inside = x.abs_diff(width / 2) < 30 && y.abs_diff(height / 2) < 30;
            samara_image::Rgb(if inside { [220, 60, 40] } else { [40, 50, 60] })
        })
    }

    fn attention(segmenter: &Segmenter, prompt: &Prompt, size: (u32, u32)) -> TokenAttention {
        let embedding = segmenter.embed(&image(size.0, size.1)).unwrap();
        TokenAttention::of(&embedding, prompt).unwrap()
    }

    #[test]
    fn maps_end_where_the_image_ends() {
        let segmenter = Segmenter::embedded(DeviceKind::Cpu).unwrap();
        let prompt = Prompt::point(160.0, 80.0).with_negative_point(20.0, 20.0);
        let maps = attention(&segmenter, &prompt, (320, 160));
        // An embedding's cell is 16 model pixels wide.
        let side = segmenter.input_side() as usize / 16;
        assert_eq!((maps.width(), maps.height()), (side, side / 2));
        assert_eq!((maps.layers(), maps.heads()), (3, 8));
        assert_eq!(
            maps.tokens().join(", "),
            "iou, mask 0, mask 1, mask 2, mask 3, point 0, point 1, padding"
        );
        assert_eq!(
            [0, 2].map(|layer| maps.layer_name(layer)),
            ["layer 0", "final"]
        );
        let upright = attention(&segmenter, &Prompt::point(80.0, 160.0), (160, 321));
        assert_eq!((upright.width(), upright.height()), (side / 2, side));

        for layer in 0..3 {
            for token in maps.tokens() {
                let sum: f32 = maps.mean(layer, token).unwrap().iter().sum();
                assert!(sum > 0.0 && sum < 1.0 + 1e-4, "{token}: {sum}");
            }
        }
        assert!(maps.map(0, 8, "iou").is_none() && maps.map(3, 0, "iou").is_none());
        assert!(maps.mean(0, "mask 4").is_none());
    }

    /// In the second layer, most heads of the embedded model look at the click: rows and columns, and
    /// the crop, are as they should be.
    #[test]
    fn a_click_looks_where_it_is() {
        let segmenter = Segmenter::embedded(DeviceKind::Cpu).unwrap();
        let embedding = segmenter.embed(&image(320, 160)).unwrap();
        for at in [[165, 85], [285, 25], [45, 125]] {
            let prompt = Prompt::point(f64::from(at[0]), f64::from(at[1]));
            let maps = TokenAttention::of(&embedding, &prompt).unwrap();
            let map = maps.mean(1, "point 0").unwrap();
            let near = |cell: usize| {
                let [x, y] = [cell % maps.width(), cell / maps.width()];
                let cell = |pixel: i32| pixel as usize * maps.width() / 320;
                x.abs_diff(cell(at[0])) <= 2 && y.abs_diff(cell(at[1])) <= 2
            };
            let cells = map.iter().enumerate().filter(|&(cell, _)| near(cell));
            let share: f32 = cells.map(|(_, weight)| weight).sum();
            assert!(share > 0.5, "{at:?}: {share}");
        }
    }

    #[test]
    fn a_stretched_image_fills_all_cells() {
        let golden = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
            .join("../samara-model/tests/golden");
        let path = golden.join("sam2_video.safetensors");
        let segmenter = Segmenter::load(path, DeviceKind::Cpu).unwrap();
        let prompt = Prompt::bbox(20.0, 10.0, 200.0, 90.0)
            .unwrap()
            .with_point(60.0, 50.0);
        let maps = attention(&segmenter, &prompt, (240, 100));
        assert_eq!(maps.width(), maps.height());
        let tokens = "object score, iou, mask 0, mask 1, mask 2, mask 3, corner 0, corner 1, point 0, \
                      padding";
        assert_eq!(maps.tokens().join(", "), tokens);
        for token in maps.tokens() {
            let sum: f32 = maps.map(0, 0, token).unwrap().iter().sum();
            assert!((sum - 1.0).abs() < 1e-4, "{token}: {sum}");
        }
    }

    #[test]
    fn prompts_are_checked() {
        let golden = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
            .join("../samara-model/tests/golden");
        let path = golden.join("sam2_video.safetensors");
        let segmenter = Segmenter::load(path, DeviceKind::Cpu).unwrap();
        let embedding = segmenter.embed(&image(64, 64)).unwrap();
        assert!(TokenAttention::of(&embedding, &Prompt::point(64.0, 3.0)).is_err());
        assert!(TokenAttention::of(&embedding, &Prompt::new()).is_err());
    }
}
