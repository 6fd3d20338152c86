//! All masks of an image, with progress, given up after a while.
//!
//! `cargo run --release --example everything -- docs/coffee.png 60`

#![allow(clippy::print_stderr, reason = "this is its output")]

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use samara::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments
        .next()
        .ok_or("usage: everything IMAGE [SECONDS]")?;
    let seconds = arguments.next().map_or(Ok(60.0), |text| text.parse())?;
    let photo = read_image(path, &ImageLimits::default())?;
    let segmenter = Segmenter::embedded(DeviceKind::Cpu)?;
    let options = MaskGeneratorOptions::default().with_points_per_side(16);
    let (embedding, start) = (segmenter.embed(&photo)?, Instant::now());
    let masks =
        MaskGenerator::new(&segmenter, options)?.generate_from(&photo, &embedding, |done| {
            eprint!("\r{:.0} % ", 100.0 * done);
            let late = start.elapsed() > Duration::from_secs_f64(seconds);
            if late {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?; // Error::Cancelled when it took too long
    let wholes = Hierarchy::of(&masks)
        .nodes()
        .iter()
        .filter(|n| n.parent.is_none())
        .count();
    eprintln!("{} masks, {wholes} of them inside of no other", masks.len());
    Ok(())
}
