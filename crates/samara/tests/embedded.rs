//! The embedded model on a real photograph.
#![cfg(feature = "embedded")]
#![allow(clippy::unwrap_used, reason = "a test")]

use samara::{DeviceKind, ImageLimits, Mask, Prompt, Segmenter, read_image};
use samara_image::coco_polygons_to_mask;

/// The saucer with everything on it, traced by hand: x, y in pixels of `docs/coffee.png`.
const SAUCER: &[f64] = &[
    176., 75., 150., 90., 120., 115., 98., 145., 84., 175., 78., 205., 78., 235., 84., 265., 97.,
    295., 118., 324., 145., 349., 178., 368., 215., 381., 255., 388., 300., 388., 345., 380., 385.,
    364., 420., 339., 448., 307., 467., 270., 478., 230., 479., 195., 471., 163., 455., 137., 436.,
    118., 421., 108., 424., 80., 420., 69., 408., 67., 399., 75., 385., 58., 365., 41., 340., 28.,
    310., 20., 280., 19., 250., 23., 222., 33., 200., 47., 184., 63.,
];
/// The cup without its shadow.
const CUP: &[f64] = &[
    280., 19., 250., 23., 222., 33., 200., 47., 184., 66., 175., 90., 173., 115., 173., 145., 178.,
    175., 190., 205., 208., 228., 198., 262., 196., 285., 203., 299., 218., 306., 236., 302., 250.,
    285., 262., 278., 290., 283., 318., 279., 326., 262., 318., 252., 322., 243., 350., 236., 372.,
    218., 388., 195., 400., 168., 407., 135., 407., 105., 398., 78., 384., 57., 365., 41., 340.,
    28., 310., 20.,
];
/// The coffee in it.
const COFFEE: &[f64] = &[
    205., 142., 210., 124., 222., 109., 240., 100., 265., 96., 292., 96., 318., 101., 342., 113.,
    358., 128., 368., 146., 369., 162., 355., 177., 330., 188., 300., 193., 270., 190., 243., 181.,
    221., 166.,
];

#[test]
fn boxes_and_clicks_find_what_is_in_the_picture() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let path = format!("{folder}/../../docs/coffee.png");
    let photo = read_image(path, &ImageLimits::default()).unwrap();
    let (width, height) = photo.dimensions();
    let traced = |outline: &[f64]| -> Mask {
        coco_polygons_to_mask(&[outline.to_vec()], width, height).unwrap()
    };
    let embedding = Segmenter::embedded(DeviceKind::Cpu)
        .unwrap()
        .embed(&photo)
        .unwrap();
    let best = |prompt: &Prompt, outline: &[f64]| {
        let truth = traced(outline);
        let candidates = embedding.predict(prompt).unwrap();
        let ious = candidates.iter().map(|c| c.mask.iou(&truth));
        ious.fold(0.0, f64::max)
    };
    let click = Prompt::point(290.0, 150.0);
    for (what, outline, at_least) in [
        ("coffee", COFFEE, 0.4),
        ("cup", CUP, 0.4),
        ("saucer", SAUCER, 0.3),
    ] {
        let iou = best(&click, outline);
        assert!(iou >= at_least, "{what}: {iou:.3}");
    }
}
