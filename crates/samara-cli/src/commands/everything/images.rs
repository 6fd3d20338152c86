//! Images of all masks.

use std::cmp::Reverse;

use samara::{Granularity, Hierarchy, Mask};
use samara_image::{Overlay, Rgb, RgbImage, montage, palette, resize_bilinear};

/// Longest side of a panel of the hierarchy, in pixels.
const PANEL: u32 = 960;

/// Positions of the masks, the largest first.
pub(super) fn by_area(masks: &[Mask]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..masks.len()).collect();
    order.sort_by_key(|&i| Reverse(masks[i].area()));
    order
}

/// All masks over the image, small ones over large ones.
pub(super) fn overlay(image: &RgbImage, masks: &[Mask]) -> RgbImage {
    let order = by_area(masks);
    let drawn = order
        .iter()
        .enumerate()
        .fold(Overlay::new(image), |overlay, (i, &mask)| {
            overlay.mask(&masks[mask], palette(i))
        });
    drawn.render()
}

/// Wholes, parts and subparts side by side. What belongs to one whole has shades of one colour.
pub(super) fn hierarchy(image: &RgbImage, masks: &[Mask], tree: &Hierarchy) -> RgbImage {
    let (width, height) = image.dimensions();
    let scale = (f64::from(PANEL) / f64::from(width.max(height))).min(1.0);
    let scaled = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    let small = resize_bilinear(image, scaled(width), scaled(height));
    let order = by_area(masks);
    let mut colors = vec![None; masks.len()];
    let roots = order.iter().filter(|&&i| tree.nodes()[i].parent.is_none());
    for (rank, &i) in roots.enumerate() {
        colors[i] = Some(palette(rank));
    }
    let color = |i: usize| {
        let base = colors[tree.root(i)].unwrap_or(Rgb([255; 3]));
        let node = &tree.nodes()[i];
        let siblings = node.parent.map(|parent| &tree.nodes()[parent].children);
        let place = siblings.and_then(|all| all.iter().position(|&other| other == i));
        place.map_or(base, |place| shade(base, place))
    };
    let panels = Granularity::ALL.map(|level| {
        let of_level: Vec<usize> = order
            .iter()
            .copied()
            .filter(|&i| tree.nodes()[i].level == level)
            .collect();
        let plural = if of_level.len() == 1 { "" } else { "s" };
        let title = format!("{} {level}{plural}", of_level.len());
        let overlay = Overlay::new(&small).label(title);
        let drawn = of_level
            .iter()
            .fold(overlay, |overlay, &i| overlay.mask(&masks[i], color(i)));
        drawn.render()
    });
    montage(&panels, panels.len())
}

/// The `place`-th shade of a colour: as it is, darker, lighter, and again.
fn shade(Rgb(color): Rgb<u8>, place: usize) -> Rgb<u8> {
    let mix = |to: u8, share: f32| {
        color.map(|c| (f32::from(c) + (f32::from(to) - f32::from(c)) * share) as u8)
    };
    Rgb(match place % 3 {
        0 => color,
        1 => mix(0, 0.35),
        _ => mix(255, 0.45),
    })
}
