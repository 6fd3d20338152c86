//! What the form of a mask gives away: damaged masks are ragged, holed, or in pieces.

use samara_image::{Connectivity, Mask, components};

/// Number of measures.
pub(super) const MEASURES: usize = 10;

/// Measures of the form of a mask that is not empty.
pub(super) fn measures(mask: &Mask) -> [f32; MEASURES] {
    let area = mask.area() as f64;
    let pixels = f64::from(mask.width()) * f64::from(mask.height());
    let length = area.sqrt();
    let extent = mask
        .bbox()
        .map_or(1.0, |b| area / (f64::from(b.width) * f64::from(b.height)));
    let parts = components(mask, Connectivity::Eight);
    let largest = parts.iter().map(|part| part.area).max().unwrap_or(0) as f64;
    let filled = mask.fill_holes().area() as f64;
    let outline = mask.boundary(1).area() as f64;
    let opened = |share: f64| {
        let radius = radius(share * length);
        mask.iou(&mask.erode(radius).dilate(radius))
    };
    let closed = |share: f64| {
        let radius = radius(share * length);
        mask.iou(&mask.dilate(radius).erode(radius))
    };
    [
        (area / pixels).ln(),
        extent,
        outline / length,
        (parts.len() as f64).ln(),
        largest / area,
        area / filled,
        opened(0.04),
        opened(0.1),
        closed(0.04),
        closed(0.1),
    ]
    .map(|value| value as f32)
}

fn radius(length: f64) -> u32 {
    length.round().max(1.0) as u32
}
