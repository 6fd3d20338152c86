//! An attention map: one non-negative weight for every cell of a grid over the image.

use crate::resample::{Resampling, resample};
use crate::{AttentionError, Result};

/// An attention map of any size: non-negative finite values, row by row, that lie over the whole
/// image. Its scale does not matter.
///
/// ```
/// use samara_attention::AttentionMap;
///
/// let head = AttentionMap::new("head 3", 2, 2, vec![0.1, 0.2, 0.9, 0.4])?;
/// assert_eq!((head.width(), head.height()), (2, 2));
/// assert!(AttentionMap::new("head 3", 2, 2, vec![0.5; 4]).is_err());
/// # Ok::<(), samara_attention::AttentionError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionMap {
    name: String,
    width: u32,
    height: u32,
    values: Vec<f32>,
}

impl AttentionMap {
    /// A map of `width × height` cells, row by row. `name` stands for it in errors and results.
    ///
    /// # Errors
    /// [`AttentionError::Map`] when the number of values is another one, a value is not finite or
    /// negative, or all values are zero or the same, which says nothing about any place.
    pub fn new(
        name: impl Into<String>,
        width: u32,
        height: u32,
        mut values: Vec<f32>,
    ) -> Result<Self> {
        let name = name.into();
        let refuse = |why: String| {
            Err(AttentionError::Map {
                name: name.clone(),
                why,
            })
        };
        if width == 0 || height == 0 {
            return refuse(format!("a map of {width}×{height} cells has none"));
        }
        if values.len() as u64 != u64::from(width) * u64::from(height) {
            return refuse(format!(
                "{} values for a map of {width}×{height} cells",
                values.len()
            ));
        }
        let place = |i: usize| format!("column {}, row {}", i % width as usize, i / width as usize);
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            return refuse(format!("the value at {} is {}", place(i), values[i]));
        }
        if let Some(i) = values.iter().position(|&v| v < 0.0) {
            return refuse(format!(
                "the value at {} is {}; attention is not negative (give weights, not logits)",
                place(i),
                values[i]
            ));
        }
        let first = values[0];
        if values.iter().all(|&v| v == first) {
            return refuse(if first == 0.0 {
                "all values are zero".into()
            } else {
                format!("all values are {first}: the map says nothing about any place")
            });
        }
        // A negative zero would rank above all other values.
        values.iter_mut().for_each(|v| *v += 0.0);
        Ok(Self {
            name,
            width,
            height,
            values,
        })
    }

    /// The mean of maps, each scaled to the sum 1 first; maps with fewer cells are brought to the
    /// size of the one that has most.
    ///
    /// # Errors
    /// [`AttentionError::Map`] when there is no map or the mean is constant.
    pub fn mean(name: impl Into<String>, maps: &[Self]) -> Result<Self> {
        let name = name.into();
        let largest = maps.iter().max_by_key(|map| map.values.len());
        let Some(&Self { width, height, .. }) = largest else {
            let why = "the mean of no map".into();
            return Err(AttentionError::Map { name, why });
        };
        let mut sums = vec![0.0; width as usize * height as usize];
        for map in maps {
            let values = map.resized(width, height, Resampling::Auto);
            let total: f64 = values.iter().map(|&v| f64::from(v)).sum();
            for (sum, v) in sums.iter_mut().zip(values) {
                *sum += f64::from(v) / total;
            }
        }
        let values = sums.into_iter().map(|sum| sum as f32).collect();
        Self::new(name, width, height, values)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Columns.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Whether the map has the aspect ratio of an image of `width × height` original pixels, up to
    /// the rounding of its cells: there is a scale at which neither side is off by more than one
    /// cell.
    pub fn has_aspect_of(&self, width: u32, height: u32) -> bool {
        let scales = |cells: u32, pixels: u32| {
            let at = |cells: u32| f64::from(cells) / f64::from(pixels);
            (at(cells - 1), at(cells + 1))
        };
        let (across, down) = (scales(self.width, width), scales(self.height, height));
        across.0 <= down.1 && down.0 <= across.1
    }

    /// Checks that the map lies over an image of `width × height` original pixels. With `stretch`
    /// any aspect ratio will do: the map is the attention of a model that saw the image stretched,
    /// as a ViT with a square input does.
    ///
    /// # Errors
    /// [`AttentionError::Aspect`], naming both sizes.
    pub fn check(&self, width: u32, height: u32, stretch: bool) -> Result<()> {
        if stretch || self.has_aspect_of(width, height) {
            return Ok(());
        }
        Err(AttentionError::Aspect {
            name: self.name.clone(),
            map: (self.width, self.height),
            image: (width, height),
        })
    }

    /// The values at another size, row by row.
    pub fn resized(&self, width: u32, height: u32, how: Resampling) -> Vec<f32> {
        resample(
            &self.values,
            (self.width, self.height),
            (width, height),
            how,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_map_is_refused_in_one_line() {
        let new = |width, height, values: &[f32]| {
            AttentionMap::new("head 3", width, height, values.to_vec())
        };
        for (width, height, values, word) in [
            (2, 2, &[1.0, 2.0, 3.0][..], "3 values"),
            (2, 1, &[1.0, f32::NAN], "column 1, row 0 is NaN"),
            (1, 2, &[1.0, f32::INFINITY], "column 0, row 1 is inf"),
            (2, 1, &[1.0, -0.5], "-0.5"),
            (2, 1, &[0.0, -0.0], "zero"),
            (2, 1, &[0.5, 0.5], "all values are 0.5"),
            (0, 2, &[], "0×2"),
        ] {
            let text = new(width, height, values).unwrap_err().to_string();
            assert!(
                text.starts_with("head 3: ") && text.contains(word),
                "{text}"
            );
            assert_eq!(text.lines().count(), 1);
        }
        assert!(new(2, 1, &[-0.0, 0.1]).unwrap().values()[0].is_sign_positive());
    }

    #[test]
    fn the_aspect_ratio_may_be_off_by_the_rounding_of_cells() {
        let map = |width: u32, height: u32| {
            let values = (0..width * height).map(|i| i as f32).collect();
            AttentionMap::new("map", width, height, values).unwrap()
        };
        for (width, height) in [
            (10, 15),
            (9, 14),
            (11, 15),
            (341, 512),
            (682, 1024),
            (171, 256),
        ] {
            assert!(
                map(width, height).has_aspect_of(341, 512),
                "{width}×{height}"
            );
        }
        for (width, height) in [(14, 14), (15, 10), (24, 24), (341, 341), (350, 512)] {
            let map = map(width, height);
            let error = map.check(341, 512, false).unwrap_err().to_string();
            assert!(error.contains(&format!("{width}×{height}")) && error.contains("341×512"));
            assert!(map.check(341, 512, true).is_ok());
        }
    }

    #[test]
    fn the_mean_counts_every_map_alike() {
        let small = AttentionMap::new("a", 2, 1, vec![1.0, 3.0]).unwrap();
        let bright = AttentionMap::new("b", 2, 1, vec![30.0, 10.0]).unwrap();
        let mean = AttentionMap::mean("mean", &[small.clone(), bright]);
        assert!(mean.unwrap_err().to_string().contains("all values"));
        let wide = AttentionMap::new("c", 4, 1, vec![0.0, 0.0, 0.0, 2.0]).unwrap();
        let mean = AttentionMap::mean("mean", &[small, wide]).unwrap();
        assert_eq!((mean.width(), mean.values()[3]), (4, 0.5 * 0.75 + 1.0));
    }
}
