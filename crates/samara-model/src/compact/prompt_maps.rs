//! Dense prompt maps: what a prompt says about every pixel.
//!
//! A click token alone teaches a small decoder too slowly where the click was; a map says it at
//! once. The strongest maps compare every pixel's features with those under the clicks.

use burn::tensor::{Int, Tensor, activation};

use super::{SIMILARITIES, normalise};
use crate::sam::PromptBatch;

/// Standard deviations of the two Gaussians around a click, in model pixels: one says where
/// exactly, one says whereabouts.
const SIGMAS: [f64; 2] = [6.0, 40.0];

/// Maps of the clicks (two widths each for positive and negative), of the box, of the previous
/// mask and whether there is one.
pub(super) const PLAIN_MAPS: usize = 2 * SIGMAS.len() + 3;
/// Maps per level of features: similarity to positive clicks, to negative clicks, to the region.
const SIMILARITY_MAPS: usize = 3;
/// Maps at stride 8.
pub(super) const ALL_MAPS: usize = PLAIN_MAPS + SIMILARITY_MAPS * SIMILARITIES;

/// Points of a batch of prompts, box corners included.
#[derive(Debug, Clone)]
pub(super) struct Points {
    /// Model pixels (x, y), `[batch, points, 2]`.
    pub(super) coords: Tensor<3>,
    /// −1 none, 0 negative, 1 positive, 2 and 3 box corners, `[batch, points]`.
    pub(super) labels: Tensor<2>,
}

impl Points {
    /// Joins points and boxes; a prompt without either gets one padding point.
    pub(super) fn of(prompts: &PromptBatch, like: &Tensor<4>) -> Self {
        let device = like.device();
        let batch = prompts.len();
        let mut coords = Vec::new();
        let mut labels = Vec::new();
        if let Some((xy, kinds)) = &prompts.points {
            coords.push(xy.clone());
            labels.push(kinds.clone());
        }
        if let Some(boxes) = &prompts.boxes {
            coords.push(boxes.clone().reshape([batch, 2, 2]));
            let kinds = Tensor::<1>::from_floats([2.0, 3.0], &device);
            labels.push(kinds.unsqueeze::<2>().repeat_dim(0, batch));
        }
        if coords.is_empty() {
            coords.push(Tensor::zeros([batch, 1, 2], &device));
            labels.push(-Tensor::ones([batch, 1], &device));
        }
        Self {
            coords: Tensor::cat(coords, 1),
            labels: Tensor::cat(labels, 1),
        }
    }

    /// 1 where the label is `label`, `[batch, points]`.
    pub(super) fn is(&self, label: f64) -> Tensor<2> {
        self.labels.clone().equal_scalar(label).float()
    }

    /// The axis `axis` (0 for x, 1 for y), `[batch, points]`.
    fn axis(&self, axis: usize) -> Tensor<2> {
        let [batch, points, _] = self.coords.dims();
        let axis = self
            .coords
            .clone()
            .slice([0..batch, 0..points, axis..axis + 1]);
        axis.squeeze_dim(2)
    }
}

/// The maps of a batch of prompts, plane by plane.
pub(super) struct PromptMaps {
    /// `[batch, ALL_MAPS, (2g)²]`, at stride 8.
    pub(super) stride8: Tensor<3>,
    /// `[batch, PLAIN_MAPS, (4g)²]`, at stride 4.
    pub(super) stride4: Tensor<3>,
}

impl PromptMaps {
    /// Maps of `prompts` whose points are `points`. `similarity` are the unit features that are
    /// compared, `[1, height, width, channels]` each; the grid has `grid`² cells.
    pub(super) fn new(
        prompts: &PromptBatch,
        points: &Points,
        similarity: &[Tensor<4>],
        grid: usize,
    ) -> Self {
        let previous = prompts.masks.as_ref();
        let plain = |side: usize, stride: usize| plain_maps(points, previous, side, stride);
        let (plain4, plain8) = (plain(4 * grid, 4), plain(2 * grid, 8));
        let region = region(prompts, points, &plain8);
        let mut maps = vec![plain8];
        for features in similarity {
            maps.push(similarity_maps(points, region.as_ref(), features, 2 * grid));
        }
        Self {
            stride8: Tensor::cat(maps, 1),
            stride4: plain4,
        }
    }
}

/// Gaussians, box and previous mask at one stride, `[batch, PLAIN_MAPS, side²]`.
fn plain_maps(
    points: &Points,
    previous: Option<&Tensor<4>>,
    side: usize,
    stride: usize,
) -> Tensor<3> {
    let [batch, count] = points.labels.dims();
    let device = points.labels.device();
    let centres = (Tensor::<1, Int>::arange(0..side as i64, &device).float() + 0.5) * stride as f64;
    let centres = centres.reshape([1, 1, side]);
    let (x, y) = (points.axis(0), points.axis(1));
    let mut maps = Vec::with_capacity(PLAIN_MAPS);
    for sigma in SIGMAS {
        // Separable: a Gaussian is the product of one along x and one along y.
        let along = |at: &Tensor<2>| {
            let distance = (centres.clone() - (at.clone() + 0.5).unsqueeze_dim::<3>(2)) / sigma;
            (distance.clone() * distance * -0.5).exp()
        };
        let (gx, gy) = (along(&x), along(&y));
        for label in [1.0, 0.0] {
            let rows = gy.clone() * points.is(label).unsqueeze_dim::<3>(2);
            let product = rows.unsqueeze_dim::<4>(3) * gx.clone().unsqueeze_dim::<4>(2);
            let strongest: Tensor<4> = if count == 1 {
                product
            } else {
                product.max_dim(1)
            };
            maps.push(strongest.reshape([batch, 1, side * side]));
        }
    }
    maps.push(box_map(points, &centres));
    maps.extend(previous_maps(previous, batch, side, &points.labels));
    Tensor::cat(maps, 1)
}

/// 1 inside the box, 0 outside and without a box, `[batch, 1, side²]`.
fn box_map(points: &Points, centres: &Tensor<3>) -> Tensor<3> {
    let batch = points.labels.dims()[0];
    let side = centres.dims()[2];
    let corner = |label: f64, axis: usize| {
        let chosen = points.axis(axis) * points.is(label);
        chosen.sum_dim(1).unsqueeze_dim::<3>(2)
    };
    let inside = |axis: usize| {
        let from = centres.clone().greater_equal(corner(2.0, axis)).float();
        let to = centres.clone().lower_equal(corner(3.0, axis)).float();
        from * to
    };
    let has_box = points.is(2.0).sum_dim(1).unsqueeze_dim::<3>(2);
    let rows = inside(1) * has_box;
    (rows.reshape([batch, side, 1]) * inside(0).reshape([batch, 1, side])).reshape([
        batch,
        1,
        side * side,
    ])
}

/// tanh of the previous logits, and whether there are any.
fn previous_maps(
    previous: Option<&Tensor<4>>,
    batch: usize,
    side: usize,
    like: &Tensor<2>,
) -> [Tensor<3>; 2] {
    match previous {
        None => [0, 1].map(|_| Tensor::zeros([batch, 1, side * side], &like.device())),
        Some(logits) => {
            let tanh = logits.clone().tanh();
            let factor = logits.dims()[2] / side;
            let tanh = if factor > 1 {
                let blocks = tanh.reshape([batch, side, factor, side, factor]);
                blocks
                    .mean_dim(4)
                    .mean_dim(2)
                    .reshape([batch, 1, side * side])
            } else {
                tanh.reshape([batch, 1, side * side])
            };
            [tanh, Tensor::ones([batch, 1, side * side], &like.device())]
        }
    }
}

/// Where the object probably is, as weights that sum to 1 over the stride 8 cells,
/// `[batch, (2g)²]`: the previous mask, else the box.
fn region(prompts: &PromptBatch, points: &Points, plain8: &Tensor<3>) -> Option<Tensor<2>> {
    let [batch, maps, cells] = plain8.dims();
    let map = |index: usize| {
        let map = plain8.clone().slice([0..batch, index..index + 1, 0..cells]);
        map.reshape([batch, cells])
    };
    let boxed = map(maps - 3);
    let weight = if prompts.masks.is_some() {
        // From tanh of the logits: 1 deep inside, 0 outside.
        activation::relu(map(maps - 2))
    } else if points.labels.dims()[1] > 1 {
        boxed
    } else {
        return None;
    };
    Some(weight.clone() / (weight.sum_dim(1) + 1e-6))
}

/// Similarities of one level of features, `[batch, SIMILARITY_MAPS, side²]`, each in [−1, 1];
/// −1 to clicks that are not there, 0 to a region that is not there.
fn similarity_maps(
    points: &Points,
    region: Option<&Tensor<2>>,
    features: &Tensor<4>,
    side: usize,
) -> Tensor<3> {
    let [_, height, width, channels] = features.dims();
    let [batch, count] = points.labels.dims();
    let cells = height * width;
    let flat = features.clone().reshape([cells, channels]);
    let stride = (8 * side / height) as f64;
    let cell = |axis: usize, size: usize| {
        let at = ((points.axis(axis) + 0.5) / stride).floor();
        at.clamp(0.0, (size - 1) as f64).int()
    };
    let index = cell(1, height) * width as i64 + cell(0, width);
    let under_clicks = flat.clone().select(0, index.reshape([batch * count]));
    let columns = flat.clone().swap_dims(0, 1);
    let cosine = under_clicks
        .matmul(columns.clone())
        .reshape([batch, count, cells]);
    let to_clicks = |label: f64| {
        let present = points.is(label).unsqueeze_dim::<3>(2);
        ((cosine.clone() + 1.0) * present).max_dim(1) - 1.0
    };
    let to_region = match region {
        None => Tensor::zeros([batch, 1, cells], &features.device()),
        Some(weight) => {
            let weight = resample(weight.clone(), side, height);
            let prototype = normalise(weight.matmul(flat));
            prototype.matmul(columns).reshape([batch, 1, cells])
        }
    };
    let maps = Tensor::cat(vec![to_clicks(1.0), to_clicks(0.0), to_region], 1);
    if height == side {
        return maps;
    }
    let factor = side / height;
    maps.reshape([batch, SIMILARITY_MAPS, height, 1, width, 1])
        .expand([batch, SIMILARITY_MAPS, height, factor, width, factor])
        .reshape([batch, SIMILARITY_MAPS, side * side])
}

/// Sums weights `[batch, side²]` over the cells of a coarser grid.
fn resample(weight: Tensor<2>, side: usize, coarse: usize) -> Tensor<2> {
    if side == coarse {
        return weight;
    }
    let batch = weight.dims()[0];
    let factor = side / coarse;
    weight
        .reshape([batch, coarse, factor, coarse, factor])
        .sum_dim(4)
        .sum_dim(2)
        .reshape([batch, coarse * coarse])
}
