//! Where the generator clicks.

use crate::error::OptionError;

/// Points of one layer of crops, x and y from 0 to 1 of the crop's size.
pub type PointGrid = Vec<[f64; 2]>;

/// Evenly spaced points, row by row (`build_point_grid` of the official `utils/amg.py`).
pub(super) fn even(per_side: u32) -> PointGrid {
    let n = f64::from(per_side);
    let first = 1.0 / (2.0 * n);
    let last = 1.0 - first;
    let step = if per_side > 1 {
        (last - first) / (n - 1.0)
    } else {
        0.0
    };
    // As NumPy's `linspace` computes it, down to the last bit.
    let at = |i: u32| {
        if i + 1 == per_side && i > 0 {
            last
        } else {
            f64::from(i) * step + first
        }
    };
    (0..per_side)
        .flat_map(|y| (0..per_side).map(move |x| [at(x), at(y)]))
        .collect()
}

/// A grid for the image and for each layer of crops (`build_all_layer_point_grids`).
pub(super) fn all_layers(
    per_side: u32,
    layers: usize,
    downscale: u32,
) -> Result<Vec<PointGrid>, OptionError> {
    (0..layers)
        .map(|layer| {
            let divisor = f64::from(downscale).powi(layer as i32);
            match (f64::from(per_side) / divisor) as u32 {
                0 => Err(OptionError::new(
                    "crop_n_points_downscale_factor",
                    format!("{downscale} leaves no point in crop layer {layer}"),
                )),
                side => Ok(even(side)),
            }
        })
        .collect()
}

/// Points lie in the image.
pub(super) fn check(grid: &PointGrid) -> Result<(), OptionError> {
    match grid.iter().flatten().find(|v| !(0.0..=1.0).contains(*v)) {
        Some(v) => Err(OptionError::new(
            "point_grids:",
            format!("coordinate {v} is not between 0 and 1"),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_first() {
        assert_eq!(even(1), [[0.5, 0.5]]);
        assert_eq!(
            even(2),
            [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
        );
    }

    #[test]
    fn layers_have_fewer_points() {
        let grids = all_layers(32, 3, 2).unwrap();
        assert_eq!(
            grids.iter().map(Vec::len).collect::<Vec<_>>(),
            [1024, 256, 64]
        );
    }
}
