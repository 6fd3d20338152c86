//! Smooth lines through staircases of pixels, for drawing only.

use tiny_skia::{Path, PathBuilder};

use crate::contour::outlines;
use crate::mask::Mask;

/// The outlines of a mask as one path of smooth closed lines, or `None` for an empty mask.
///
/// Every unit edge of a ring gives its midpoint; the midpoints are then averaged with their
/// neighbours `passes` times. A mask's staircase has a period of a few pixels and vanishes, while
/// the line stays within about half a pixel of the mask's edge.
pub(crate) fn smooth_outline(mask: &Mask, passes: usize) -> Option<Path> {
    let mut path = PathBuilder::new();
    for outline in outlines(mask) {
        add_ring(&mut path, &outline.outer, passes);
        for hole in &outline.holes {
            add_ring(&mut path, hole, passes);
        }
    }
    path.finish()
}

fn add_ring(path: &mut PathBuilder, corners: &[(u32, u32)], passes: usize) {
    let mut points = edge_midpoints(corners);
    // Averaging shrinks: a ring around a few pixels would vanish.
    for _ in 0..passes.min(points.len() / 6) {
        average_with_neighbours(&mut points);
    }
    // Every other point is enough after averaging and halves the work of the stroker.
    let step = if points.len() > 64 { 2 } else { 1 };
    let bends: Vec<[f32; 2]> = points.into_iter().step_by(step).collect();
    let (Some(&first), Some(&last)) = (bends.first(), bends.last()) else {
        return;
    };
    // Quadratic pieces that end halfway between points and bend towards them.
    let start = halfway(last, first);
    path.move_to(start[0], start[1]);
    for (&bend, &next) in bends.iter().zip(bends.iter().cycle().skip(1)) {
        let end = halfway(bend, next);
        path.quad_to(bend[0], bend[1], end[0], end[1]);
    }
    path.close();
}

fn halfway(a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
    [f32::midpoint(a[0], b[0]), f32::midpoint(a[1], b[1])]
}

fn edge_midpoints(corners: &[(u32, u32)]) -> Vec<[f32; 2]> {
    let mut points = Vec::new();
    for (a, b) in corners.iter().zip(corners.iter().cycle().skip(1)) {
        let length = a.0.abs_diff(b.0) + a.1.abs_diff(b.1);
        let along = |a: u32, b: u32, i: u32| {
            let share = (i as f32 + 0.5) / length as f32;
            a as f32 + (b as f32 - a as f32) * share
        };
        points.extend((0..length).map(|i| [along(a.0, b.0, i), along(a.1, b.1, i)]));
    }
    points
}

fn average_with_neighbours(points: &mut [[f32; 2]]) {
    let (Some(&first), Some(&last)) = (points.first(), points.last()) else {
        return;
    };
    let mut before = last;
    let n = points.len();
    for i in 0..n {
        let here = points[i];
        let after = if i + 1 < n { points[i + 1] } else { first };
        points[i] = [
            (before[0] + after[0]).mul_add(0.25, here[0] * 0.5),
            (before[1] + after[1]).mul_add(0.25, here[1] * 0.5),
        ];
        before = here;
    }
}
