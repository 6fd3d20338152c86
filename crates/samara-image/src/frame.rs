//! Coordinate frames: original pixels and model pixels are different types.
//!
//! All coordinates are continuous, `x` before `y`, with the origin at the top-left corner of the
//! top-left pixel's area as the official code uses them (no half-pixel offset is added here; the
//! prompt encoder adds its own).

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::mask::BBox;
use crate::number::short;

/// A point in pixels of the original image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OriginalPx {
    /// Pixels from the left edge.
    pub x: f64,
    /// Pixels from the top edge.
    pub y: f64,
}

impl OriginalPx {
    /// The point `x` pixels from the left and `y` pixels from the top.
    pub fn new(x: f64, y: f64) -> Self {
        Self { x, y }
    }

    /// Whether the point lies in an image of this size: `0 <= x < width` and `0 <= y < height`.
    pub fn is_inside(&self, width: u32, height: u32) -> bool {
        (0.0..f64::from(width)).contains(&self.x) && (0.0..f64::from(height)).contains(&self.y)
    }
}

/// A point in pixels of the model's square input.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ModelPx {
    /// Pixels from the left edge.
    pub x: f64,
    /// Pixels from the top edge.
    pub y: f64,
}

/// A box in pixels of the original image, with `min` left of and above `max`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawBox", into = "RawBox")]
pub struct OriginalBox {
    /// The top-left corner.
    pub min: OriginalPx,
    /// The bottom-right corner.
    pub max: OriginalPx,
}

impl OriginalBox {
    /// The box between two opposite corners, given in any order.
    ///
    /// # Errors
    /// [`Error::Parameter`] when a coordinate is not finite or the box has no area.
    pub fn new(x0: f64, y0: f64, x1: f64, y1: f64) -> Result<Self, Error> {
        let refuse = |why: &str| {
            let corners = [x0, y0, x1, y1].map(short).join(",");
            Err(Error::parameter("box", format!("{corners} {why}")))
        };
        if ![x0, y0, x1, y1].iter().all(|c| c.is_finite()) {
            return refuse("has a coordinate that is not a finite number");
        }
        if x0 == x1 || y0 == y1 {
            return refuse("has no area");
        }
        Ok(Self {
            min: OriginalPx::new(x0.min(x1), y0.min(y1)),
            max: OriginalPx::new(x0.max(x1), y0.max(y1)),
        })
    }

    /// Width in original pixels.
    pub fn width(&self) -> f64 {
        self.max.x - self.min.x
    }

    /// Height in original pixels.
    pub fn height(&self) -> f64 {
        self.max.y - self.min.y
    }

    /// Area in square original pixels.
    pub fn area(&self) -> f64 {
        self.width() * self.height()
    }

    /// Intersection over union with another box.
    pub fn iou(&self, other: &Self) -> f64 {
        let across = (self.max.x.min(other.max.x) - self.min.x.max(other.min.x)).max(0.0);
        let down = (self.max.y.min(other.max.y) - self.min.y.max(other.min.y)).max(0.0);
        let shared = across * down;
        shared / (self.area() + other.area() - shared)
    }

    /// The centre.
    pub fn center(&self) -> OriginalPx {
        OriginalPx::new(
            f64::midpoint(self.min.x, self.max.x),
            f64::midpoint(self.min.y, self.max.y),
        )
    }
}

impl From<BBox> for OriginalBox {
    /// The area of the pixels that the box covers.
    fn from(b: BBox) -> Self {
        let [x, y, width, height] = b.xywh().map(f64::from);
        Self {
            min: OriginalPx::new(x, y),
            max: OriginalPx::new(x + width, y + height),
        }
    }
}

/// The wire form of a box: `[x0, y0, x1, y1]`.
#[derive(Serialize, Deserialize)]
struct RawBox([f64; 4]);

impl TryFrom<RawBox> for OriginalBox {
    type Error = Error;

    fn try_from(RawBox([x0, y0, x1, y1]): RawBox) -> Result<Self, Error> {
        Self::new(x0, y0, x1, y1)
    }
}

impl From<OriginalBox> for RawBox {
    fn from(b: OriginalBox) -> Self {
        Self([b.min.x, b.min.y, b.max.x, b.max.y])
    }
}

/// A box in pixels of the model's input.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ModelBox {
    /// The top-left corner.
    pub min: ModelPx,
    /// The bottom-right corner.
    pub max: ModelPx,
}

/// How an original image lies in the model's square input: the only place that scales.
///
/// The image, resized to [`content_size`](Self::content_size), occupies the top-left of a square
/// of [`side`](Self::side) pixels; the rest is padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawFrame", into = "RawFrame")]
pub struct Frame {
    original: (u32, u32),
    content: (u32, u32),
    side: u32,
    stretched: bool,
}

/// Most pixels of an original image: masks of its size are to fit into memory, wherever its size comes from.
const MOST_PIXELS: u64 = 1 << 31;

impl Frame {
    /// SAM 1: the longest side becomes `side`, the other keeps the ratio, rounded as
    /// `int(x * scale + 0.5)` with `scale = side / max(width, height)`
    /// (`ResizeLongestSide.get_preprocess_shape` of the official `utils/transforms.py`).
    ///
    /// A side that would round to zero pixels is one pixel, where the official code fails.
    ///
    /// # Errors
    /// [`Error::Parameter`] when a size is zero, or there are more than 2³¹ pixels.
    pub fn longest_side(width: u32, height: u32, side: u32) -> Result<Self, Error> {
        let scale = f64::from(side) / f64::from(width.max(height).max(1));
        let scaled = |x: u32| ((f64::from(x) * scale + 0.5) as u32).max(1);
        let content = (scaled(width), scaled(height));
        Self::checked((width, height), content, side, false)
    }

    /// SAM 2: both sides become `side`, whatever the ratio.
    ///
    /// # Errors
    /// [`Error::Parameter`] when a size is zero, or there are more than 2³¹ pixels.
    pub fn stretch(width: u32, height: u32, side: u32) -> Result<Self, Error> {
        Self::checked((width, height), (side, side), side, true)
    }

    fn checked(
        original: (u32, u32),
        content: (u32, u32),
        side: u32,
        stretched: bool,
    ) -> Result<Self, Error> {
        let pixels = u64::from(original.0) * u64::from(original.1);
        if pixels > MOST_PIXELS {
            let what = format!("{}×{} has more than 2³¹ pixels", original.0, original.1);
            return Err(Error::parameter("image size", what));
        }
        if pixels == 0 {
            let what = format!(
                "{}x{} pixels: an image needs at least one",
                original.0, original.1
            );
            return Err(Error::parameter("image size", what));
        }
        if side == 0 || !(1..=side).contains(&content.0) || !(1..=side).contains(&content.1) {
            let what = format!(
                "content of {}x{} pixels does not fit a model input of side {side}",
                content.0, content.1
            );
            return Err(Error::parameter("frame", what));
        }
        Ok(Self {
            original,
            content,
            side,
            stretched,
        })
    }

    /// Width and height of the original image, in pixels.
    pub fn original_size(&self) -> (u32, u32) {
        self.original
    }

    /// Width and height of the resized image inside the model's input, in pixels.
    pub fn content_size(&self) -> (u32, u32) {
        self.content
    }

    /// The side of the model's square input, in pixels.
    pub fn side(&self) -> u32 {
        self.side
    }

    /// Whether the image is [stretched](Self::stretch): what the model sees is the image alone,
    /// without padding.
    pub fn is_stretched(&self) -> bool {
        self.stretched
    }

    fn scale(&self) -> (f64, f64) {
        (
            f64::from(self.content.0) / f64::from(self.original.0),
            f64::from(self.content.1) / f64::from(self.original.1),
        )
    }

    /// Original → model pixels; each axis has its own scale, content over original size.
    pub fn to_model(&self, p: OriginalPx) -> ModelPx {
        let (sx, sy) = self.scale();
        ModelPx {
            x: p.x * sx,
            y: p.y * sy,
        }
    }

    /// Model → original pixels, the inverse of [`to_model`](Self::to_model).
    pub fn to_original(&self, p: ModelPx) -> OriginalPx {
        let (sx, sy) = self.scale();
        OriginalPx {
            x: p.x / sx,
            y: p.y / sy,
        }
    }

    /// A box, corner by corner.
    pub fn box_to_model(&self, b: &OriginalBox) -> ModelBox {
        ModelBox {
            min: self.to_model(b.min),
            max: self.to_model(b.max),
        }
    }

    /// Whether the point lies in the original image: `0 <= x < width` and `0 <= y < height`.
    pub fn contains(&self, p: OriginalPx) -> bool {
        p.is_inside(self.original.0, self.original.1)
    }
}

/// The wire form of a [`Frame`]; sizes are `[width, height]`.
#[derive(Serialize, Deserialize)]
struct RawFrame {
    original: (u32, u32),
    content: (u32, u32),
    side: u32,
    /// The name in files.
    #[serde(default, rename = "squashed")]
    stretched: bool,
}

impl TryFrom<RawFrame> for Frame {
    type Error = Error;

    fn try_from(raw: RawFrame) -> Result<Self, Error> {
        Self::checked(raw.original, raw.content, raw.side, raw.stretched)
    }
}

impl From<Frame> for RawFrame {
    fn from(f: Frame) -> Self {
        Self {
            original: f.original,
            content: f.content,
            side: f.side,
            stretched: f.stretched,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_side_follows_the_official_rounding() {
        let f = Frame::longest_side(1800, 1200, 1024).unwrap();
        assert_eq!(f.content_size(), (1024, 683));
        assert_eq!(
            Frame::longest_side(1, 5000, 1024).unwrap().content_size(),
            (1, 1024)
        );
        assert_eq!(
            Frame::longest_side(640, 427, 1024).unwrap().content_size(),
            (1024, 683)
        );
        assert!(Frame::longest_side(0, 0, 1024).is_err());
        assert!(Frame::stretch(10, 10, 0).is_err());
    }

    #[test]
    fn each_axis_has_its_own_scale() {
        let f = Frame::longest_side(1800, 1200, 1024).unwrap();
        let m = f.to_model(OriginalPx::new(900.0, 600.0));
        assert_eq!((m.x, m.y), (512.0, 600.0 * (683.0 / 1200.0)));
        let back = f.to_original(m);
        assert!((back.x - 900.0).abs() < 1e-9 && (back.y - 600.0).abs() < 1e-9);
        assert!(f.contains(OriginalPx::new(0.0, 1199.9)));
        assert!(!f.contains(OriginalPx::new(1800.0, 3.0)));
        assert!(!f.contains(OriginalPx::new(f64::NAN, 3.0)));
    }

    #[test]
    fn boxes_are_reordered_and_checked() {
        let b = OriginalBox::new(9.0, 8.0, 1.0, 2.0).unwrap();
        assert_eq!((b.min.x, b.min.y, b.max.x, b.max.y), (1.0, 2.0, 9.0, 8.0));
        for bad in [
            (1.0, 1.0, 1.0, 5.0),
            (0.0, f64::NAN, 1.0, 1.0),
            (0.0, 0.0, f64::INFINITY, 1.0),
        ] {
            assert!(OriginalBox::new(bad.0, bad.1, bad.2, bad.3).is_err());
        }
    }

    #[test]
    fn serde_round_trip_refuses_nonsense() {
        let f = Frame::longest_side(640, 480, 1024).unwrap();
        let json = serde_json::to_string(&f).unwrap();
        assert_eq!(serde_json::from_str::<Frame>(&json).unwrap(), f);
        let zero = r#"{"original":[0,5],"content":[1,1],"side":8}"#;
        assert!(serde_json::from_str::<Frame>(zero).is_err());
        let large = r#"{"original":[5,5],"content":[9,1],"side":8}"#;
        assert!(serde_json::from_str::<Frame>(large).is_err());
    }
}
