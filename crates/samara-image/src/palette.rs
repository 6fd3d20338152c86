//! Colours for masks.

use image::Rgb;

/// Neighbours in the list differ in hue and in lightness, and all stand out from photographs.
const COLORS: [[u8; 3]; 12] = [
    [40, 140, 255],
    [255, 138, 30],
    [60, 205, 110],
    [238, 66, 160],
    [255, 212, 20],
    [150, 104, 255],
    [30, 208, 224],
    [245, 70, 66],
    [172, 226, 56],
    [255, 154, 194],
    [0, 166, 146],
    [214, 160, 104],
];

/// The `i`-th of an endless series of well separated colours: twelve chosen ones, then hues a
/// golden angle apart.
pub fn palette(i: usize) -> Rgb<u8> {
    match COLORS.get(i) {
        Some(&color) => Rgb(color),
        None => hue((i as f32 * 0.618_034).fract()),
    }
}

/// A bright colour of the given hue (0 to 1, from red over green and blue back to red).
fn hue(turn: f32) -> Rgb<u8> {
    let channel = |offset: f32| {
        let distance = ((turn + offset).fract() * 6.0 - 3.0).abs() - 1.0;
        (255.0 * (0.25 + 0.7 * distance.clamp(0.0, 1.0))) as u8
    };
    Rgb([channel(0.0), channel(2.0 / 3.0), channel(1.0 / 3.0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_do_not_repeat_soon() {
        let far = |a: Rgb<u8>, b: Rgb<u8>| {
            a.0.iter()
                .zip(b.0)
                .map(|(&a, b)| a.abs_diff(b))
                .max()
                .unwrap_or(0)
        };
        for i in 0..200 {
            for j in i + 1..i + 6 {
                assert!(far(palette(i), palette(j)) > 25, "{i} and {j}");
            }
        }
    }
}
