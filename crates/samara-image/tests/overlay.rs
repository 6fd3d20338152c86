//! What an overlay changes and what it leaves alone.

use samara_image::{Mask, OriginalBox, OriginalPx, Overlay, Rgb, RgbImage, palette};

fn grey(width: u32, height: u32) -> RgbImage {
    RgbImage::from_pixel(width, height, Rgb([90, 90, 90]))
}

fn disc(width: u32, height: u32, x: f64, y: f64, r: f64) -> Mask {
    Mask::from_fn(width, height, |i, j| {
        (f64::from(i) - x).hypot(f64::from(j) - y) < r
    })
}

#[test]
fn a_mask_is_tinted_and_the_rest_is_left_alone() {
    let photo = grey(300, 200);
    let mask = disc(300, 200, 150.0, 100.0, 60.0);
    let image = Overlay::new(&photo).mask(&mask, Rgb([0, 0, 255])).render();
    let inside = image[(150, 100)].0;
    assert!(inside[2] > 140 && inside[0] < 60, "{inside:?}");
    let near = mask.dilate(3);
    let core = mask.erode(5);
    for (x, y, pixel) in image.enumerate_pixels() {
        assert!(
            near.get(x, y) || pixel.0 == [90; 3],
            "({x}, {y}) lies outside"
        );
        assert!(
            !core.get(x, y) || pixel.0 == inside,
            "({x}, {y}) lies inside"
        );
    }
    let bare = Overlay::new(&photo)
        .mask(&mask, palette(0))
        .fill_opacity(0.0)
        .render();
    assert_eq!(bare[(150, 100)].0, [90; 3]);
}

#[test]
fn a_contour_is_smooth() {
    // Along a slanted edge the line has the same colour everywhere, whatever the staircase does.
    let photo = grey(400, 400);
    let mask = Mask::from_fn(400, 400, |x, y| x + 3 * y < 900);
    let image = Overlay::new(&photo).mask(&mask, Rgb([255, 0, 0])).render();
    let peaks = (60..340u32).map(|x| {
        let edge = (900 - x) / 3;
        (edge - 3..edge + 4)
            .map(|y| image[(x, y)][0])
            .max()
            .unwrap_or(0)
    });
    let (low, high) = peaks.fold((255, 0), |(l, h), p| (l.min(p), h.max(p)));
    assert!(low > 180 && high - low < 60, "{low} to {high}");
}

#[test]
fn labels_stay_in_the_image_and_apart() {
    let photo = grey(400, 300);
    let masks: Vec<Mask> = [
        (5.0, 5.0),
        (395.0, 5.0),
        (200.0, 20.0),
        (205.0, 25.0),
        (395.0, 295.0),
    ]
    .map(|(x, y)| disc(400, 300, x, y, 12.0))
    .into();
    let colors = [
        [255, 0, 0],
        [0, 255, 0],
        [0, 0, 255],
        [255, 255, 0],
        [0, 255, 255],
    ]
    .map(Rgb);
    let plain = masks
        .iter()
        .zip(colors)
        .fold(Overlay::new(&photo), |o, (m, c)| o.mask(m, c));
    let labelled = masks
        .iter()
        .zip(colors)
        .fold(Overlay::new(&photo), |o, (m, c)| {
            o.mask(m, c).label("part 0.88")
        });
    let (plain, labelled) = (plain.render(), labelled.render());
    for color in colors {
        let pill = labelled
            .enumerate_pixels()
            .filter(|(_, _, p)| **p == color)
            .count();
        let before = plain
            .enumerate_pixels()
            .filter(|(_, _, p)| **p == color)
            .count();
        assert!(pill > before + 300, "{color:?}: {pill} pixels of a pill");
    }
}

#[test]
fn strange_input_is_drawn_or_left_out() {
    let empty = RgbImage::new(0, 0);
    assert_eq!(Overlay::new(&empty).label("x").render(), empty);
    let photo = grey(40, 30);
    let (none, all) = (Mask::new(40, 30), Mask::full(40, 30));
    let (other, nothing) = (Mask::full(7, 90), Mask::new(0, 0));
    let far = OriginalBox::new(-1e300, -1e9, 1e300, 1e9);
    let mut overlay = Overlay::new(&photo)
        .label("title")
        .mask(&none, palette(0))
        .label("nothing")
        .mask(&all, palette(1))
        .label("a label that is far too long for so small an image, \u{1F441} and ≥ ± × · –")
        .mask(&other, palette(2))
        .label("")
        .mask(&nothing, palette(3))
        .label("no size");
    for b in [far, OriginalBox::new(-5.0, 4.0, 90.0, 12.0)]
        .into_iter()
        .flatten()
    {
        overlay = overlay.prompt_box(&b);
    }
    for at in [f64::NAN, f64::INFINITY, -1e30, 1e300, 1e9, -3.0, 40.0, 20.0] {
        overlay = overlay
            .point(OriginalPx::new(at, 10.0), true)
            .point(OriginalPx::new(5.0, at), false);
    }
    assert_eq!(overlay.render().dimensions(), (40, 30));
    let dot = grey(1, 1);
    let one = Mask::full(1, 1);
    let tiny = Overlay::new(&dot)
        .mask(&one, palette(0))
        .label("1")
        .point(OriginalPx::new(0.0, 0.0), true);
    assert_eq!(tiny.render().dimensions(), (1, 1));
}
