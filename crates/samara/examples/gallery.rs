//! Draws what the embedded model and MobileSAM as released choose for the same clicks, side by side.
//!
//! The clicks were put down before any answer was seen. Images and page go to `docs/gallery`.
//!
//! `cargo run --release --example gallery -- mobile_sam.pt`

use std::error::Error;
use std::fmt::Write;
use std::path::Path;

use samara::{
    Candidates, DeviceKind, ImageLimits, Mask, OriginalPx, Prompt, Segmenter, Select, read_image,
};
use samara_image::{Overlay, RgbImage, montage, palette, resize_bilinear, save_image};

/// Of every panel, in pixels.
const WIDTH: u32 = 320;

/// An image, and what a user points at in it: a name, x and y.
type Photo = (&'static str, [(&'static str, f64, f64); 6]);

const PHOTOS: [Photo; 4] = [
    (
        "astronaut.jpg",
        [
            ("face", 222.0, 120.0),
            ("suit", 165.0, 300.0),
            ("round patch", 172.0, 386.0),
            ("visor", 364.0, 427.0),
            ("shuttle", 393.0, 188.0),
            ("flag", 38.0, 188.0),
        ],
    ),
    (
        "chelsea.jpg",
        [
            ("eye", 171.0, 117.0),
            ("nose", 260.0, 245.0),
            ("forehead", 233.0, 75.0),
            ("cheek", 82.0, 188.0),
            ("ear", 365.0, 25.0),
            ("background", 430.0, 125.0),
        ],
    ),
    (
        "rocket.jpg",
        [
            ("rocket", 322.0, 258.0),
            ("sky", 502.0, 82.0),
            ("left tower", 50.0, 183.0),
            ("mast", 194.0, 233.0),
            ("building", 336.0, 416.0),
            ("right tower", 596.0, 233.0),
        ],
    ),
    (
        "../coffee.png",
        [
            ("coffee", 290.0, 150.0),
            ("wall of the cup", 221.0, 201.0),
            ("spoon", 365.0, 283.0),
            ("saucer", 434.0, 258.0),
            ("table", 108.0, 346.0),
            ("handle of the cup", 221.0, 277.0),
        ],
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint] = &arguments[..] else {
        return Err("usage: gallery CHECKPOINT".into());
    };
    let models = [
        ("MobileSAM", Segmenter::load(checkpoint, DeviceKind::Cpu)?),
        ("lite", Segmenter::embedded(DeviceKind::Cpu)?),
    ];
    let folder = Path::new("docs/gallery");
    // What stands above the first photograph was written by somebody who looked.
    let written = std::fs::read_to_string(folder.join("README.md"))?;
    let (introduction, _) = written
        .split_once("\n## ")
        .ok_or("no photograph on the page")?;
    let mut page = introduction.to_owned();
    for (file, clicks) in PHOTOS {
        let photo = read_image(folder.join(file), &ImageLimits::default())?;
        let stem = Path::new(file).file_stem().unwrap_or_default();
        let stem = stem.to_string_lossy();
        let embeddings = [models[0].1.embed(&photo)?, models[1].1.embed(&photo)?];
        let mut panels = Vec::new();
        write!(
            page,
            "\n## {stem}\n\n| click | at | predicted IoU, MobileSAM | lite | match, lite | IoU of the two masks |\n|---|---|---|---|---|---|\n"
        )?;
        for (what, x, y) in clicks {
            let click = OriginalPx::new(x, y);
            let mut chosen = Vec::new();
            for ((model, _), embedding) in models.iter().zip(&embeddings) {
                let (mask, score, matching) = choose(&embedding.predict(&Prompt::point(x, y))?)?;
                let overlay = Overlay::new(&photo).mask(&mask, palette(chosen.len()));
                panels.push(
                    overlay
                        .label(format!("{model} {score:.2}"))
                        .point(click, true)
                        .render(),
                );
                chosen.push((mask, score, matching));
            }
            let [(stock, of_stock, _), (ours, of_ours, matching)] = &chosen[..] else {
                continue;
            };
            writeln!(
                page,
                "| {what} | {x},{y} | {of_stock:.2} | {of_ours:.2} | {:.0} % | {:.2} |",
                100.0 * matching,
                stock.iou(ours)
            )?;
        }
        let sheet = format!("{stem}.clicks.jpg");
        let panels: Vec<RgbImage> = panels.iter().map(smaller).collect();
        save_image(folder.join(&sheet), &montage(&panels, 4))?;
        write!(page, "\n![MobileSAM and lite, click by click]({sheet})\n")?;
    }
    std::fs::write(folder.join("README.md"), page)?;
    Ok(())
}

/// The mask that is chosen without an intent, its predicted IoU, and its match probability.
fn choose(answer: &Candidates) -> Result<(Mask, f32, f32), Box<dyn Error>> {
    let chosen = answer.select(&Select::Best)?;
    let candidate = chosen.index.and_then(|index| answer.as_slice().get(index));
    let score = candidate.map_or(f32::NAN, |candidate| candidate.predicted_iou.0);
    let matching = candidate.and_then(|candidate| candidate.match_probability);
    Ok((chosen.mask, score, matching.map_or(f32::NAN, |p| p.0)))
}

/// An image as a panel.
fn smaller(image: &RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    resize_bilinear(image, WIDTH, WIDTH * height / width)
}
