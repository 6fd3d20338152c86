//! Draws three masks over a photo, side by side: whole, part and subpart.
//!
//! `cargo run --release --example overlay -- docs/coffee.png docs/levels.jpg`
//!
//! The masks were traced by hand; the example shows what the drawing looks like.

use std::error::Error;

use samara_image::{
    Limits, Mask, OriginalPx, Overlay, RgbImage, coco_polygons_to_mask, palette, read_image,
    save_image,
};

/// x, y pairs in pixels of `docs/coffee.png`.
const SAUCER: &[f64] = &[
    176., 75., 150., 90., 120., 115., 98., 145., 84., 175., 78., 205., 78., 235., 84., 265., 97.,
    295., 118., 324., 145., 349., 178., 368., 215., 381., 255., 388., 300., 388., 345., 380., 385.,
    364., 420., 339., 448., 307., 467., 270., 478., 230., 479., 195., 471., 163., 455., 137., 436.,
    118., 421., 108., 424., 80., 420., 69., 408., 67., 399., 75., 385., 58., 365., 41., 340., 28.,
    310., 20., 280., 19., 250., 23., 222., 33., 200., 47., 184., 63.,
];
const CUP: &[f64] = &[
    280., 19., 250., 23., 222., 33., 200., 47., 184., 66., 175., 90., 173., 115., 173., 145., 178.,
    175., 190., 205., 208., 228., 198., 262., 196., 285., 203., 299., 218., 306., 236., 302., 250.,
    285., 262., 278., 290., 283., 318., 279., 326., 262., 318., 252., 322., 243., 350., 236., 372.,
    218., 388., 195., 400., 168., 407., 135., 407., 105., 398., 78., 384., 57., 365., 41., 340.,
    28., 310., 20.,
];
const COFFEE: &[f64] = &[
    205., 142., 210., 124., 222., 109., 240., 100., 265., 96., 292., 96., 318., 101., 342., 113.,
    358., 128., 368., 146., 369., 162., 355., 177., 330., 188., 300., 193., 270., 190., 243., 181.,
    221., 166.,
];

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = &paths[..] else {
        return Err("usage: overlay INPUT OUTPUT".into());
    };
    let photo = read_image(input, &Limits::default())?;
    let click = OriginalPx::new(290.0, 150.0);
    let panels = [("whole", SAUCER), ("part", CUP), ("subpart", COFFEE)]
        .into_iter()
        .enumerate()
        .map(|(i, (name, outline))| {
            let mask = traced(outline, &photo)?;
            let overlay = Overlay::new(&photo).mask(&mask, palette(i)).label(name);
            Ok(overlay.point(click, true).render())
        })
        .collect::<Result<Vec<RgbImage>, Box<dyn Error>>>()?;
    save_image(output, &side_by_side(&panels))?;
    Ok(())
}

fn traced(outline: &[f64], photo: &RgbImage) -> Result<Mask, Box<dyn Error>> {
    let (width, height) = photo.dimensions();
    Ok(coco_polygons_to_mask(&[outline.to_vec()], width, height)?)
}

fn side_by_side(panels: &[RgbImage]) -> RgbImage {
    const GAP: u32 = 8;
    let (width, height) = panels[0].dimensions();
    let count = panels.len() as u32;
    let paper = [255, 255, 255].into();
    let mut sheet = RgbImage::from_pixel(count * (width + GAP) - GAP, height, paper);
    for (panel, left) in panels.iter().zip((0..).step_by((width + GAP) as usize)) {
        for (x, y, pixel) in panel.enumerate_pixels() {
            sheet.put_pixel(left + x, y, *pixel);
        }
    }
    sheet
}
