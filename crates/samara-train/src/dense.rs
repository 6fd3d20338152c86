//! Small networks that are fitted beside a model, to numbers that were collected before.

use samara::DenseLayer;
// The derive names `burn`.
use samara_model::burn;
use samara_model::burn::module::Module;
use samara_model::burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use samara_model::burn::tensor::activation::relu;
use samara_model::burn::tensor::{Device, Tensor, TensorData};

use crate::TrainError;

/// Three layers with ReLU between them, and dropout before each of them.
#[derive(Module, Debug)]
pub(crate) struct DenseNetwork {
    layers: [Linear; 3],
    inputs: Dropout,
    hidden: Dropout,
}

impl DenseNetwork {
    /// Random layers with one value behind them. Half as many inputs as hidden values are dropped.
    pub(crate) fn new(inputs: usize, width: usize, dropout: f64, device: &Device) -> Self {
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        Self {
            layers: [
                linear(inputs, width),
                linear(width, width),
                linear(width, 1),
            ],
            inputs: DropoutConfig::new(dropout / 2.0).init(),
            hidden: DropoutConfig::new(dropout).init(),
        }
    }

    /// `[rows, inputs]` to `[rows, 1]`.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let [first, second, last] = &self.layers;
        let x = relu(first.forward(self.inputs.forward(x)));
        let x = relu(second.forward(self.hidden.forward(x)));
        last.forward(self.hidden.forward(x))
    }
}

/// Mean and deviation of every number that a network takes.
#[derive(Debug)]
pub(crate) struct Standardization {
    mean: Vec<f64>,
    /// Infinite for a number that the network is not to see.
    deviation: Vec<f64>,
}

impl Standardization {
    /// Of rows of `inputs` numbers each.
    pub(crate) fn of<'a>(rows: &(impl Iterator<Item = &'a [f32]> + Clone), inputs: usize) -> Self {
        let count = rows.clone().count().max(1) as f64;
        let mean = |of: &dyn Fn(usize, f64) -> f64| -> Vec<f64> {
            let sum = |i: usize| {
                rows.clone()
                    .map(|row| of(i, f64::from(row[i])))
                    .sum::<f64>()
            };
            (0..inputs).map(|i| sum(i) / count).collect()
        };
        let means = mean(&|_, v| v);
        let squares = mean(&|i, v| (v - means[i]).powi(2));
        Self {
            deviation: squares.into_iter().map(|s| s.sqrt() + 1e-3).collect(),
            mean: means,
        }
    }

    /// Hides the numbers that are not `seen`.
    pub(crate) fn only(mut self, seen: impl Fn(usize) -> bool) -> Self {
        let all = self.deviation.iter_mut().enumerate();
        all.filter(|(i, _)| !seen(*i))
            .for_each(|(_, deviation)| *deviation = f64::INFINITY);
        self
    }

    /// With more numbers behind those of a row, which are taken as they are.
    pub(crate) fn with_plain(mut self, more: usize) -> Self {
        self.mean.extend(vec![0.0; more]);
        self.deviation.extend(vec![1.0; more]);
        self
    }

    pub(crate) fn apply<'a>(&'a self, row: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
        let scale = self.mean.iter().zip(&self.deviation);
        let scaled = row.iter().zip(scale);
        scaled.map(|(&v, (mean, deviation))| ((f64::from(v) - mean) / deviation) as f32)
    }

    /// The network's layers, the first of which standardizes as well.
    ///
    /// # Errors
    /// The device failed.
    pub(crate) fn layers(&self, network: &DenseNetwork) -> Result<[DenseLayer; 3], TrainError> {
        let [first, second, last] = &network.layers;
        let mut first = layer(first)?;
        let inputs = self.mean.len();
        for (row, bias) in first.weight.chunks_exact_mut(inputs).zip(&mut first.bias) {
            for ((w, mean), deviation) in row.iter_mut().zip(&self.mean).zip(&self.deviation) {
                *w = (f64::from(*w) / deviation) as f32;
                *bias -= (f64::from(*w) * mean) as f32;
            }
        }
        Ok([first, layer(second)?, layer(last)?])
    }
}

/// Burn keeps weights as `[inputs, outputs]`.
fn layer(linear: &Linear) -> Result<DenseLayer, TrainError> {
    let values = |data: TensorData| {
        let values = data.try_into_vec::<f32>();
        values.map_err(|e| TrainError::State(format!("weights of a small network: {e:?}")))
    };
    let bias = linear
        .bias
        .as_ref()
        .map(|bias| values(bias.val().into_data()));
    Ok(DenseLayer {
        weight: values(linear.weight.val().transpose().into_data())?,
        bias: bias.transpose()?.unwrap_or_default(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn layers_standardize_and_do_not_see_what_is_hidden() {
        let rows = [[1.0_f32, 50.0, 7.0], [3.0, 70.0, 7.0], [5.0, 90.0, 7.0]];
        let scale = Standardization::of(&rows.iter().map(|row| &row[..]), 3);
        let scale = scale.only(|i| i != 1).with_plain(1);
        let standard: Vec<f32> = scale.apply(&[5.0, 60.0, 7.0, 2.0]).collect();
        assert!((standard[0] - 1.2247).abs() < 1e-2, "{standard:?}");
        assert_eq!(standard[1..], [0.0, 0.0, 2.0]);

        let device = Device::flex();
        let network = DenseNetwork::new(4, 5, 0.0, &device);
        let layers = scale.layers(&network).unwrap();
        assert!(layers[0].weight.chunks_exact(4).all(|row| row[1] == 0.0));
        let input = Tensor::<1>::from_floats(&standard[..], &device).reshape([1, 4]);
        let expected: f32 = network.forward(input).into_scalar();
        let apply = |layer: &DenseLayer, x: &[f32]| -> Vec<f32> {
            let rows = layer.weight.chunks_exact(x.len()).zip(&layer.bias);
            let dot = |row: &[f32]| row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
            rows.map(|(row, bias)| dot(row) + bias).collect()
        };
        let relu = |x: Vec<f32>| x.into_iter().map(|v| v.max(0.0)).collect::<Vec<f32>>();
        let hidden = relu(apply(&layers[0], &[5.0, 60.0, 7.0, 2.0]));
        let hidden = relu(apply(&layers[1], &hidden));
        let found = apply(&layers[2], &hidden)[0];
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }
}
