//! A click, and a second one that corrects its answer.
//!
//! `cargo run --release --example refine -- docs/coffee.png`

#![allow(clippy::print_stderr, reason = "this is its output")]

use samara::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: refine IMAGE")?;
    let photo = read_image(path, &ImageLimits::default())?; // upright, as EXIF says
    let embedding = Segmenter::embedded(DeviceKind::Cpu)?.embed(&photo)?;
    let (x, y) = (
        f64::from(photo.width()) / 2.0,
        f64::from(photo.height()) / 2.0,
    );

    let click = Prompt::point(x, y);
    let whole: Select = "whole".parse()?;
    let first = embedding.predict(&click)?.select(&whole)?;
    // The logits of the first answer go back to the model, with a negative click.
    let corrected = click.with_negative_point(x, y * 1.5).refine(&first);
    let second = embedding.predict(&corrected)?.select(&Select::Best)?;

    for (name, found) in [("first", &first), ("second", &second)] {
        eprintln!("{name}: {} pixels, {}", found.mask.area(), found.reason);
    }
    Ok(())
}
