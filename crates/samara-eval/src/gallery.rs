//! The best and the worst cases, as small images.

use samara::Mask;
use samara_image::{
    BBox, Error as ImageError, OriginalPx, Overlay, Rgb, RgbImage, encode_jpeg, resize_bilinear,
};

use super::outcome::Case;

/// Cases of each kind.
const CASES: usize = 6;
/// Longest side of an image, in pixels.
const SIDE: u32 = 320;
/// JPEG quality of an image.
const QUALITY: u8 = 82;
/// Colour of the truth.
const TRUTH: Rgb<u8> = Rgb([255, 205, 30]);
/// Colour of the prediction.
const PREDICTION: Rgb<u8> = Rgb([38, 128, 235]);

/// The best and the worst answers to a first click, at most one of each per image.
#[derive(Debug, Clone, Default)]
pub struct Gallery {
    /// Lowest IoU first.
    pub worst: Vec<Case>,
    /// Highest IoU first.
    pub best: Vec<Case>,
}

impl Gallery {
    /// Takes the case in if it is among the worst; the image is made only then.
    ///
    /// # Errors
    /// The image cannot be made.
    pub fn offer_worst<E>(
        &mut self,
        iou: f64,
        case: impl FnOnce() -> Result<Case, E>,
    ) -> Result<(), E> {
        offer(&mut self.worst, iou, 1.0, case)
    }

    /// Takes the case in if it is among the best.
    ///
    /// # Errors
    /// The image cannot be made.
    pub fn offer_best<E>(
        &mut self,
        iou: f64,
        case: impl FnOnce() -> Result<Case, E>,
    ) -> Result<(), E> {
        offer(&mut self.best, iou, -1.0, case)
    }
}

/// Keeps `cases` sorted by `sign · IoU`; the first of equals stays before the later.
fn offer<E>(
    cases: &mut Vec<Case>,
    iou: f64,
    sign: f64,
    case: impl FnOnce() -> Result<Case, E>,
) -> Result<(), E> {
    let at = cases.partition_point(|other| sign * other.iou <= sign * iou);
    if at < CASES {
        cases.insert(at, case()?);
        cases.truncate(CASES);
    }
    Ok(())
}

/// A JPEG of the object and its surroundings, with truth (yellow), prediction (blue) and click.
///
/// # Errors
/// The image has no pixels.
pub fn mask_pair(
    image: &RgbImage,
    truth: &Mask,
    prediction: &Mask,
    click: Option<OriginalPx>,
) -> Result<Vec<u8>, ImageError> {
    let view = surroundings(truth, image.dimensions());
    let crop = |mask: &Mask| mask.crop(view.x, view.y, view.width, view.height);
    let photo = RgbImage::from_fn(view.width, view.height, |x, y| {
        *image.get_pixel(view.x + x, view.y + y)
    });
    let scale = f64::from(SIDE) / f64::from(view.width.max(view.height));
    let scaled = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    let (width, height) = (scaled(view.width), scaled(view.height));
    let photo = resize_bilinear(&photo, width, height);
    let stretch = |mask: &Mask| crop(mask).resize_nearest(width, height);
    let (truth, prediction) = (stretch(truth), stretch(prediction));
    let mut overlay = Overlay::new(&photo)
        .fill_opacity(0.25)
        .mask(&truth, TRUTH)
        .mask(&prediction, PREDICTION);
    if let Some(click) = click {
        let at = OriginalPx::new(
            (click.x - f64::from(view.x)) * scale,
            (click.y - f64::from(view.y)) * scale,
        );
        overlay = overlay.point(at, true);
    }
    encode_jpeg(&overlay.render(), QUALITY)
}

/// The object's box, grown by its longer side (at least 32 pixels) in every direction,
/// within the image.
fn surroundings(truth: &Mask, (width, height): (u32, u32)) -> BBox {
    let object = truth.bbox().unwrap_or(BBox {
        x: 0,
        y: 0,
        width,
        height,
    });
    let margin = object.width.max(object.height).max(32);
    let (x, y) = (
        object.x.saturating_sub(margin),
        object.y.saturating_sub(margin),
    );
    BBox {
        x,
        y,
        width: (object.x + object.width + margin).min(width) - x,
        height: (object.y + object.height + margin).min(height) - y,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_of_each_are_kept() {
        let mut gallery = Gallery::default();
        let mut made = 0;
        for i in [5_u32, 3, 9, 1, 7, 0, 8, 2, 6, 4, 9, 9] {
            let iou = f64::from(i) / 10.0;
            let mut case = || {
                made += 1;
                Ok::<_, ()>(Case {
                    image: String::new(),
                    object: i.into(),
                    click: [0.0; 2],
                    iou,
                    predicted_iou: 0.0,
                    jpeg: Vec::new(),
                })
            };
            gallery.offer_worst(iou, &mut case).unwrap();
            gallery.offer_best(iou, &mut case).unwrap();
        }
        let ids = |cases: &[Case]| cases.iter().map(|c| c.object).collect::<Vec<_>>();
        assert_eq!(ids(&gallery.worst), [0, 1, 2, 3, 4, 5]);
        assert_eq!(ids(&gallery.best), [9, 9, 9, 8, 7, 6]);
        assert!(made < 24, "{made}");
    }

    #[test]
    fn an_image_shows_the_object_at_the_usual_size() {
        let photo = RgbImage::from_pixel(640, 480, Rgb([90, 90, 90]));
        let truth = Mask::from_fn(640, 480, |x, y| x < 40 && y < 20);
        let view = surroundings(&truth, (640, 480));
        assert_eq!((view.x, view.y, view.width, view.height), (0, 0, 80, 60));
        let jpeg = mask_pair(
            &photo,
            &truth,
            &Mask::new(640, 480),
            Some(OriginalPx::new(9.5, 9.5)),
        );
        let jpeg = jpeg.unwrap();
        let limits = samara::ImageLimits::default();
        let decoded = samara_image::decode_image(&jpeg, "case", &limits).unwrap();
        assert_eq!(decoded.dimensions(), (320, 240));
        // The truth is tinted, the rest is not.
        let [r, _, b] = decoded.get_pixel(120, 20).0;
        assert!(r > b + 20, "{r} {b}");
        let [r, _, b] = decoded.get_pixel(300, 200).0;
        assert!(r.abs_diff(b) < 6, "{r} {b}");
    }
}
