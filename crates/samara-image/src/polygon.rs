//! Masks as polygons, and polygons as masks.

use serde::{Deserialize, Serialize};

use crate::contour::outlines;
use crate::error::Error;
use crate::frame::OriginalPx;
use crate::mask::Mask;
use crate::rasterise::Raster;

/// A closed line; the last point is joined to the first. At least three points make an area.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ring {
    /// The corners, in pixels of the image; a pixel covers `x..x + 1` by `y..y + 1`.
    pub points: Vec<OriginalPx>,
}

/// An area: an outer ring without its holes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Polygon {
    /// The outer ring, clockwise on the screen when traced from a mask.
    pub outer: Ring,
    /// The holes, counter-clockwise on the screen when traced from a mask.
    pub holes: Vec<Ring>,
}

impl Ring {
    /// A ring from COCO's flat list `[x0, y0, x1, y1, …]`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for an odd number of values, fewer than three points, or a value
    /// that is not finite.
    pub fn from_coco(flat: &[f64]) -> Result<Self, Error> {
        let (pairs, rest) = flat.as_chunks::<2>();
        let refuse = |what: String| Err(Error::parameter("polygon", what));
        if !rest.is_empty() {
            return refuse(format!("{} values are not pairs of x and y", flat.len()));
        }
        if pairs.len() < 3 {
            return refuse(format!(
                "{} points make no area, at least 3 do",
                pairs.len()
            ));
        }
        if let Some(bad) = flat.iter().find(|v| !v.is_finite()) {
            return refuse(format!("{bad} is not a coordinate"));
        }
        Ok(Self {
            points: pairs.iter().map(|&[x, y]| OriginalPx { x, y }).collect(),
        })
    }

    /// COCO's flat list `[x0, y0, x1, y1, …]`.
    pub fn to_coco(&self) -> Vec<f64> {
        self.points.iter().flat_map(|p| [p.x, p.y]).collect()
    }

    /// The enclosed area in square pixels, negative when the ring runs counter-clockwise on the
    /// screen.
    pub fn signed_area(&self) -> f64 {
        let next = self.points.iter().cycle().skip(1);
        self.points
            .iter()
            .zip(next)
            .map(|(a, b)| a.x * b.y - b.x * a.y)
            .sum::<f64>()
            / 2.0
    }

    /// Fewer points, none of the dropped ones farther than `tolerance` pixels from the new line
    /// (Douglas and Peucker, 1973). Where a ring would become a line, half the tolerance counts, or a half of that.
    pub fn simplify(&self, tolerance: f64) -> Self {
        let mut tolerance = tolerance;
        loop {
            let simple = self.within(tolerance);
            if simple.points.len() >= 3 {
                return simple;
            }
            if tolerance < 1e-3 || !tolerance.is_finite() || self.points.len() <= 3 {
                return self.clone();
            }
            // Nothing is farther from a line than the ring is large.
            tolerance = (tolerance / 2.0).min(self.size());
        }
    }

    /// The larger side of the box around it.
    fn size(&self) -> f64 {
        let side = |of: fn(&OriginalPx) -> f64| {
            let all = self.points.iter().map(of);
            let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
                (low.min(v), high.max(v))
            });
            high - low
        };
        side(|p| p.x).max(side(|p| p.y))
    }

    /// Douglas and Peucker, which may leave two points.
    fn within(&self, tolerance: f64) -> Self {
        let points = &self.points;
        let Some(&first) = points.first() else {
            return self.clone();
        };
        let from_first = |p: &OriginalPx| (p.x - first.x).hypot(p.y - first.y);
        let far = (0..points.len())
            .max_by(|&a, &b| from_first(&points[a]).total_cmp(&from_first(&points[b])))
            .unwrap_or(0);
        let closed: Vec<OriginalPx> = points.iter().copied().chain([first]).collect();
        let mut keep = vec![false; closed.len()];
        keep[0] = true;
        keep[far] = true;
        // An explicit stack: a long ring must not exhaust the thread's.
        let mut open = vec![(0, far), (far, points.len())];
        while let Some((start, end)) = open.pop() {
            let distance = |i: usize| to_segment(closed[i], closed[start], closed[end]);
            let worst = (start + 1..end).max_by(|&a, &b| distance(a).total_cmp(&distance(b)));
            if let Some(worst) = worst.filter(|&i| distance(i) > tolerance) {
                keep[worst] = true;
                open.extend([(start, worst), (worst, end)]);
            }
        }
        let kept = points
            .iter()
            .zip(&keep)
            .filter(|(_, keep)| **keep)
            .map(|(p, _)| *p);
        Self {
            points: kept.collect(),
        }
    }
}

/// Distance from `p` to the segment between `a` and `b`.
fn to_segment(p: OriginalPx, a: OriginalPx, b: OriginalPx) -> f64 {
    let (dx, dy) = (b.x - a.x, b.y - a.y);
    let length2 = dx * dx + dy * dy;
    let along = if length2 > 0.0 {
        (((p.x - a.x) * dx + (p.y - a.y) * dy) / length2).clamp(0.0, 1.0)
    } else {
        0.0
    };
    (p.x - a.x - along * dx).hypot(p.y - a.y - along * dy)
}

impl Polygon {
    /// [`Ring::simplify`] for every ring.
    pub fn simplify(&self, tolerance: f64) -> Self {
        Self {
            outer: self.outer.simplify(tolerance),
            holes: self.holes.iter().map(|h| h.simplify(tolerance)).collect(),
        }
    }

    /// Area of the outer ring without the holes, in square pixels.
    pub fn area(&self) -> f64 {
        let holes: f64 = self.holes.iter().map(|h| h.signed_area().abs()).sum();
        self.outer.signed_area().abs() - holes
    }

    /// The pixels inside, as [`polygons_to_mask`] fills them.
    ///
    /// # Errors
    /// As [`polygons_to_mask`].
    pub fn to_mask(&self, width: u32, height: u32) -> Result<Mask, Error> {
        polygons_to_mask(std::slice::from_ref(self), width, height)
    }
}

impl Mask {
    /// The mask's exact outlines, one polygon for each 4-connected component, along pixel edges:
    /// filling them with [`polygons_to_mask`] gives the mask again, bit by bit.
    /// [`Polygon::simplify`] makes them shorter and inexact.
    pub fn to_polygons(&self) -> Vec<Polygon> {
        let ring = |corners: Vec<(u32, u32)>| Ring {
            points: corners
                .into_iter()
                .map(|(x, y)| OriginalPx {
                    x: f64::from(x),
                    y: f64::from(y),
                })
                .collect(),
        };
        outlines(self)
            .into_iter()
            .map(|outline| Polygon {
                outer: ring(outline.outer),
                holes: outline.holes.into_iter().map(ring).collect(),
            })
            .collect()
    }
}

/// Fills polygons: the pixels in any outer ring and in none of that ring's holes.
///
/// Each ring is filled as [`coco_polygons_to_mask`] fills it.
///
/// # Errors
/// [`Error::Parameter`] for a coordinate that is not finite, [`Error::Limits`] for a
/// mask above the default [`ImageLimits`](crate::ImageLimits).
pub fn polygons_to_mask(polygons: &[Polygon], width: u32, height: u32) -> Result<Mask, Error> {
    let mut all = Raster::new(width, height)?;
    let mut one = Raster::new(width, height)?;
    let mut hole = Raster::new(width, height)?;
    for polygon in polygons {
        one.fill(&polygon.outer.points)?;
        for ring in &polygon.holes {
            hole.fill(&ring.points)?;
            one.subtract(&hole);
        }
        all.add(&one);
    }
    Ok(all.into_mask())
}

/// Fills COCO's polygon annotation, flat lists of `x` and `y`, exactly as `pycocotools`
/// (`frPyObjects`, then `merge`) does: each ring by itself on a grid five times finer, even-odd,
/// and the union of all. COCO's polygons have no holes.
///
/// # Errors
/// As [`Ring::from_coco`] and [`polygons_to_mask`].
pub fn coco_polygons_to_mask(
    segmentation: &[Vec<f64>],
    width: u32,
    height: u32,
) -> Result<Mask, Error> {
    let mut all = Raster::new(width, height)?;
    let mut one = Raster::new(width, height)?;
    for flat in segmentation {
        one.fill(&Ring::from_coco(flat)?.points)?;
        all.add(&one);
    }
    Ok(all.into_mask())
}
