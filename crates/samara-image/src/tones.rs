//! Pictures in colours, which are no masks.

use image::{DynamicImage, Rgb};

use crate::error::Error;

/// Red, green and blue of grey are this far apart at most, compression with loss included.
const GREY: u8 = 24;
/// A picture in colours has more of them than one in this many pixels.
const COLOURED: usize = 20;
/// Two tones are nine in ten pixels; the others are edges.
const EDGES: usize = 10;
/// Tones that are looked at have so many values of each colour.
const LEVELS: usize = 16;

/// Refuses a picture in colours, such as a photo. One in two tones passes, whatever its tones are, and so does grey
/// that is stored as colours.
pub(crate) fn refuse_colours(image: &DynamicImage, name: &str) -> Result<(), Error> {
    if !image.color().has_color() {
        return Ok(());
    }
    let converted;
    let rgb = if let Some(rgb) = image.as_rgb8() {
        rgb
    } else {
        converted = image.to_rgb8();
        &converted
    };
    let mut tones = vec![0; LEVELS * LEVELS * LEVELS];
    let mut coloured = 0;
    for Rgb(pixel) in rgb.pixels() {
        let [red, green, blue] = *pixel;
        let (least, most) = (red.min(green).min(blue), red.max(green).max(blue));
        coloured += usize::from(most - least > GREY);
        let place = pixel.map(|v| usize::from(v) * LEVELS / 256);
        tones[(place[0] * LEVELS + place[1]) * LEVELS + place[2]] += 1;
    }
    let pixels = rgb.width() as usize * rgb.height() as usize;
    if coloured * COLOURED <= pixels || two_tones(&tones) * EDGES >= pixels * (EDGES - 1) {
        return Ok(());
    }
    let what =
        "is a picture in colours, and a mask is wanted: white where the object is, black elsewhere";
    Err(Error::unsupported(name, what))
}

/// How many pixels have one of the two most frequent tones, or nearly so.
fn two_tones(tones: &[usize]) -> usize {
    let parts = |at: usize| [at / (LEVELS * LEVELS), at / LEVELS % LEVELS, at % LEVELS];
    let near = |a: usize, b: usize| {
        let pairs = parts(a).into_iter().zip(parts(b));
        pairs.fold(true, |near, (a, b)| near && a.abs_diff(b) <= 1)
    };
    let first = (0..tones.len()).max_by_key(|&at| tones[at]).unwrap_or(0);
    let others = (0..tones.len()).filter(|&at| !near(at, first));
    let second = others.max_by_key(|&at| tones[at]).unwrap_or(first);
    let counted = (0..tones.len()).filter(|&at| near(at, first) || near(at, second));
    counted.map(|at| tones[at]).sum()
}
