//! Small networks of dense layers, for heads beside a model.

use crate::error::MlpError;

/// A layer `y = weight · x + bias`, its weight `[outputs, inputs]` row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseLayer {
    /// `[outputs, inputs]`.
    pub weight: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

impl DenseLayer {
    /// Numbers that it takes.
    pub fn inputs(&self) -> usize {
        self.weight.len() / self.bias.len().max(1)
    }

    fn apply(&self, x: &[f32]) -> Vec<f32> {
        let rows = self.weight.chunks_exact(x.len().max(1)).zip(&self.bias);
        rows.map(|(row, bias)| bias + row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>())
            .collect()
    }
}

/// Dense layers with ReLU between them and one value behind the last.
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp {
    layers: Vec<DenseLayer>,
}

impl Mlp {
    /// A network of at least one layer.
    ///
    /// # Errors
    /// The layers do not follow on each other, or a value is not finite.
    pub fn new(layers: Vec<DenseLayer>) -> Result<Self, MlpError> {
        if layers.is_empty() {
            return Err(MlpError::Empty);
        }
        for (i, layer) in layers.iter().enumerate() {
            let expected = layers.get(i + 1).map_or(1, DenseLayer::inputs);
            let (weights, outputs) = (layer.weight.len(), layer.bias.len());
            if outputs == 0
                || outputs != expected
                || weights == 0
                || !weights.is_multiple_of(outputs)
            {
                return Err(MlpError::Shape {
                    layer: i,
                    weights,
                    outputs,
                    expected,
                });
            }
            let mut values = layer.weight.iter().chain(&layer.bias);
            if !values.all(|v| v.is_finite()) {
                return Err(MlpError::NotFinite { layer: i });
            }
        }
        Ok(Self { layers })
    }

    /// Numbers that it takes.
    pub fn inputs(&self) -> usize {
        self.layers[0].inputs()
    }

    /// The layers, the first one first.
    pub fn layers(&self) -> &[DenseLayer] {
        &self.layers
    }

    /// The value behind the last layer.
    pub fn apply(&self, x: &[f32]) -> f32 {
        let [hidden @ .., last] = &self.layers[..] else {
            return f32::NAN;
        };
        let mut x = x.to_vec();
        for layer in hidden {
            x = layer.apply(&x);
            x.iter_mut().for_each(|v| *v = v.max(0.0));
        }
        last.apply(&x)[0]
    }

    /// The sigmoid of [`Mlp::apply`], in 0..=1.
    pub fn probability(&self, x: &[f32]) -> f32 {
        1.0 / (1.0 + (-self.apply(x)).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(weight: &[f32], bias: &[f32]) -> DenseLayer {
        DenseLayer {
            weight: weight.into(),
            bias: bias.into(),
        }
    }

    #[test]
    fn layers_follow_on_each_other() {
        let first = layer(&[1.0, 0.0, 0.0, 1.0], &[0.0, -1.0]);
        let mlp = Mlp::new(vec![
            first.clone(),
            layer(&[1.0, 1.0], &[0.5]),
            layer(&[2.0], &[-1.0]),
        ]);
        let mlp = mlp.unwrap();
        assert_eq!(mlp.inputs(), 2);
        // relu(0.5, 2 − 1) → 0.5 + 1 + 0.5 → 2 · 2 − 1
        assert_eq!(mlp.apply(&[0.5, 2.0]), 3.0);
        assert_eq!(mlp.apply(&[-5.0, -2.0]), 0.0);
        assert_eq!(mlp.probability(&[-5.0, -2.0]), 0.5);
        for (layers, word) in [
            (vec![], "no layer"),
            (
                vec![first.clone()],
                "layer 0 has 4 weights and 2 outputs, not 1",
            ),
            (vec![layer(&[f32::NAN], &[0.0])], "not finite"),
        ] {
            let error = Mlp::new(layers).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
