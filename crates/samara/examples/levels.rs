//! Draws the three answers to one click side by side: whole, part and subpart, by the embedded
//! model.
//!
//! `cargo run --release --example levels -- docs/gallery/astronaut.jpg 60,300 docs/levels.jpg`

use std::error::Error;

use samara::{DeviceKind, ImageLimits, OriginalPx, Prompt, Segmenter, read_image};
use samara_image::{Overlay, RgbImage, montage, palette, save_image};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, click, output] = &arguments[..] else {
        return Err("usage: levels INPUT X,Y OUTPUT".into());
    };
    let (x, y) = click.split_once(',').ok_or("the click is X,Y")?;
    let click = OriginalPx::new(x.parse()?, y.parse()?);

    let photo = read_image(input, &ImageLimits::default())?;
    let embedding = Segmenter::embedded(DeviceKind::Cpu)?.embed(&photo)?;
    let candidates = embedding.predict(&Prompt::point(click.x, click.y))?;

    let mut largest_first: Vec<_> = candidates.iter().collect();
    largest_first.sort_by_key(|candidate| std::cmp::Reverse(candidate.mask.area()));
    let panels: Vec<RgbImage> = largest_first
        .iter()
        .enumerate()
        .map(|(i, candidate)| {
            let label = format!("{} {:.2}", candidate.granularity, candidate.predicted_iou);
            let overlay = Overlay::new(&photo).mask(&candidate.mask, palette(2 * i));
            overlay.label(label).point(click, true).render()
        })
        .collect();
    save_image(output, &montage(&panels, panels.len()))?;
    Ok(())
}
