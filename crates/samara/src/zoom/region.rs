//! Which part of an image is looked at again.

use std::fmt;

use samara_image::{BBox, OriginalBox};
use serde::{Deserialize, Serialize};

/// A rectangle of whole pixels of the original image: `x..x + width` by `y..y + height`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PixelRect {
    /// The leftmost column.
    pub x: u32,
    /// The topmost row.
    pub y: u32,
    /// Number of columns, at least 1.
    pub width: u32,
    /// Number of rows, at least 1.
    pub height: u32,
}

impl fmt::Display for PixelRect {
    /// `X,Y WIDTH×HEIGHT`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{} {}×{}", self.x, self.y, self.width, self.height)
    }
}

impl From<BBox> for PixelRect {
    fn from(b: BBox) -> Self {
        let [x, y, width, height] = b.xywh();
        Self {
            x,
            y,
            width,
            height,
        }
    }
}

impl PixelRect {
    /// An image of this size as a whole.
    pub(super) fn whole((width, height): (u32, u32)) -> Self {
        Self {
            x: 0,
            y: 0,
            width,
            height,
        }
    }

    /// The longest side, in pixels.
    pub(super) fn longest(&self) -> u32 {
        self.width.max(self.height)
    }

    /// Whether the point lies in the rectangle, its right and lower edge excluded.
    pub(super) fn contains(&self, x: f64, y: f64) -> bool {
        let along = |at: f64, from: u32, length: u32| {
            at >= f64::from(from) && at < f64::from(from) + f64::from(length)
        };
        along(x, self.x, self.width) && along(y, self.y, self.height)
    }

    /// Whether all of the other rectangle lies in this one.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let along = |from: u32, length: u32, start: u32, count: u32| {
            from <= start
                && u64::from(start) + u64::from(count) <= u64::from(from) + u64::from(length)
        };
        along(self.x, self.width, other.x, other.width)
            && along(self.y, self.height, other.y, other.height)
    }
}

/// What is to be seen, in original pixels; it grows by what is joined.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Target {
    min: (f64, f64),
    max: (f64, f64),
}

impl Target {
    /// Everything from one of these, `None` without any. All of it is cut to the image.
    pub(super) fn joined(
        boxes: impl IntoIterator<Item = OriginalBox>,
        (width, height): (u32, u32),
    ) -> Option<Self> {
        let (width, height) = (f64::from(width), f64::from(height));
        let inside = |b: OriginalBox| Self {
            min: (b.min.x.clamp(0.0, width), b.min.y.clamp(0.0, height)),
            max: (b.max.x.clamp(0.0, width), b.max.y.clamp(0.0, height)),
        };
        boxes.into_iter().map(inside).reduce(|a, b| Self {
            min: (a.min.0.min(b.min.0), a.min.1.min(b.min.1)),
            max: (a.max.0.max(b.max.0), a.max.1.max(b.max.1)),
        })
    }

    /// The longest side, in pixels.
    pub(super) fn longest(&self) -> f64 {
        (self.max.0 - self.min.0).max(self.max.1 - self.min.1)
    }

    /// The square of `side` pixels around the target, grown where the target is larger, shifted and
    /// cut so that it lies in the image.
    pub(super) fn square(&self, side: f64, (width, height): (u32, u32)) -> PixelRect {
        let (x, width) = span(self.min.0, self.max.0, side, width);
        let (y, height) = span(self.min.1, self.max.1, side, height);
        PixelRect {
            x,
            y,
            width,
            height,
        }
    }
}

/// Start and length of `length` pixels around `low..high`, which is all covered, within `0..full`.
fn span(low: f64, high: f64, length: f64, full: u32) -> (u32, u32) {
    let (first, last) = (low.floor() as u32, (high.ceil() as u32).min(full));
    let length = (length.ceil() as u32)
        .max(last.saturating_sub(first))
        .clamp(1, full);
    let start = (f64::midpoint(low, high) - f64::from(length) / 2.0)
        .round()
        .max(0.0) as u32;
    // Rounding must not cut what is to be seen.
    let start = start.min(first).max(last.saturating_sub(length));
    (start.min(full - length), length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(b: [f64; 4], size: (u32, u32)) -> Target {
        let b = OriginalBox::new(b[0], b[1], b[2], b[3]).unwrap();
        Target::joined([b], size).unwrap()
    }

    fn rect(x: u32, y: u32, width: u32, height: u32) -> PixelRect {
        PixelRect {
            x,
            y,
            width,
            height,
        }
    }

    #[test]
    fn a_square_lies_around_the_target_and_in_the_image() {
        let size = (640, 480);
        let around = |b: [f64; 4], side: f64| target(b, size).square(side, size);
        assert_eq!(
            around([300.0, 200.0, 320.0, 210.0], 64.0),
            rect(278, 173, 64, 64)
        );
        assert_eq!(around([0.0, 0.0, 20.0, 10.0], 64.0), rect(0, 0, 64, 64));
        assert_eq!(
            around([630.0, 470.0, 640.0, 480.0], 64.0),
            rect(576, 416, 64, 64)
        );
        // Longer than the image is high.
        assert_eq!(
            around([300.0, 200.0, 320.0, 210.0], 600.0),
            rect(10, 0, 600, 480)
        );
        // Smaller than the target.
        assert_eq!(
            around([300.5, 200.0, 320.0, 202.0], 8.0),
            rect(300, 197, 20, 8)
        );
        // Beyond the image.
        assert_eq!(
            around([-50.0, -50.0, 900.0, 900.0], 8.0),
            rect(0, 0, 640, 480)
        );
    }

    #[test]
    fn the_target_is_never_cut() {
        for (low, high, length, full) in [
            (0.2, 0.9, 1.0, 1),
            (2.5, 5.5, 4.0, 9),
            (6.0, 9.0, 3.0, 9),
            (1.0, 2.0, 2.0, 3),
        ] {
            let (start, length) = span(low, high, length, full);
            assert!(
                f64::from(start) <= low && f64::from(start + length) >= high,
                "{low} {high}"
            );
            assert!(length >= 1 && start + length <= full);
        }
    }

    #[test]
    fn targets_are_joined() {
        let boxes = [[1.0, 2.0, 3.0, 4.0], [10.0, 0.0, 90.0, 3.0]];
        let boxes = boxes.map(|b| OriginalBox::new(b[0], b[1], b[2], b[3]).unwrap());
        let joined = Target::joined(boxes, (40, 40)).unwrap();
        assert_eq!((joined.min, joined.max), ((1.0, 0.0), (40.0, 4.0)));
        assert_eq!(joined.longest(), 39.0);
        assert_eq!(Target::joined([], (40, 40)), None);
    }

    #[test]
    fn rectangles_cover_and_contain() {
        let r = rect(10, 20, 30, 40);
        assert!(r.contains(10.0, 20.0) && r.contains(39.9, 59.9));
        assert!(!r.contains(40.0, 30.0) && !r.contains(9.9, 30.0));
        assert!(r.covers(&r) && r.covers(&rect(11, 21, 5, 5)));
        assert!(!r.covers(&rect(9, 21, 5, 5)) && !r.covers(&rect(36, 21, 5, 5)));
        assert_eq!(r.to_string(), "10,20 30×40");
    }
}
