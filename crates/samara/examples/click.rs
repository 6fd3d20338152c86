//! A click on an image that the crate `image` opened.
//!
//! `cargo run --release --example click -- docs/coffee.png 290 150 mask.png`

#![allow(clippy::print_stderr, reason = "this is its output")]

use samara::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [photo, x, y, out] = &arguments[..] else {
        return Err("usage: click IMAGE X Y OUT.png".into());
    };
    let photo = image::open(photo)?; // a DynamicImage; EXIF orientation is up to the caller
    let segmenter = Segmenter::embedded(DeviceKind::Cpu)?;
    let embedding = segmenter.embed(&photo)?; // once per image
    let candidates = embedding.predict(&Prompt::point(x.parse()?, y.parse()?))?; // per click
    for candidate in &candidates {
        let (level, iou) = (candidate.granularity, candidate.predicted_iou);
        eprintln!(
            "{level}: {} pixels, predicted IoU {iou:.2}",
            candidate.mask.area()
        );
    }
    image::GrayImage::from(&candidates.best().mask).save(out)?;
    Ok(())
}
