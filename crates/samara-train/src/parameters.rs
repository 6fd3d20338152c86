//! The parameters of a model as a list: names, gradients, averages.

use std::collections::{HashMap, HashSet};

use burn_optim::GradientsParams;
use samara_model::Model;
use samara_model::burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use samara_model::burn::tensor::Tensor;

/// A parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its id, under which optimizer and gradients know it.
    pub id: ParamId,
    /// Its path as a recipe names it, such as `trunk.blocks.0.project_conv.weight`.
    pub path: String,
    /// Its path in the tree of modules, with the variants of enums.
    pub module_path: String,
    /// Number of axes: 1 for biases and norms.
    pub rank: usize,
}

/// All parameters in the order of the modules.
pub fn parameters(model: &Model) -> Vec<Parameter> {
    let mut lister = Lister::default();
    model.visit(&mut lister);
    lister.parameters
}

#[derive(Default)]
struct Lister {
    /// Name of every module on the way, and whether it is the variant of an enum.
    path: Vec<(String, bool)>,
    parameters: Vec<Parameter>,
}

impl ModuleVisitor for Lister {
    fn enter_module(&mut self, name: &str, container: &str) {
        let variant = container.starts_with("Enum:");
        self.path.push((name.to_owned(), variant));
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let join = |with_variants: bool| {
            let shown = self
                .path
                .iter()
                .filter(|(_, variant)| with_variants || !variant);
            let names: Vec<&str> = shown.map(|(name, _)| name.as_str()).collect();
            names.join(".")
        };
        self.parameters.push(Parameter {
            id: param.id,
            path: join(false),
            module_path: join(true),
            rank: D,
        });
    }
}

/// Gives the parameters the ids 1, 2, 3 … in the order of the modules, so that a saved optimizer
/// finds them again in another process, and makes all but the fixed ones learnable.
pub fn numbered(model: Model) -> Model {
    struct Numbering {
        next: u64,
        path: Vec<String>,
    }
    impl ModuleMapper for Numbering {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            self.next += 1;
            let fixed = self
                .path
                .last()
                .is_some_and(|name| name == "positional_encoding_gaussian_matrix");
            let (_, tensor, _) = param.consume();
            let tensor = tensor.detach();
            let tensor = if fixed { tensor } else { tensor.require_grad() };
            Param::initialized(ParamId::from(self.next), tensor)
        }
    }
    let mut numbering = Numbering {
        next: 0,
        path: Vec::new(),
    };
    model.map(&mut numbering)
}

/// The sum of gradients of the same parameters, times `scale`, without those of `frozen`; and the
/// norm of the result. The order of addition is that of the list.
pub fn sum_gradients(
    model: &Model,
    mut parts: Vec<GradientsParams>,
    scale: f64,
    frozen: &HashSet<ParamId>,
) -> (GradientsParams, f64) {
    struct Summing<'a> {
        parts: &'a mut [GradientsParams],
        scale: f64,
        frozen: &'a HashSet<ParamId>,
        sum: GradientsParams,
        squares: f64,
    }
    impl ModuleVisitor for Summing<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let of_parts = self.parts.iter_mut();
            let gradients = of_parts.filter_map(|part| part.remove::<D>(param.id));
            let Some(sum) = gradients.reduce(|a, b| a + b) else {
                return;
            };
            if self.frozen.contains(&param.id) {
                return;
            }
            let sum = sum.mul_scalar(self.scale);
            self.squares += f64::from((sum.clone() * sum.clone()).sum().into_scalar::<f32>());
            self.sum.register(param.id, sum);
        }
    }
    let mut summing = Summing {
        parts: &mut parts,
        scale,
        frozen,
        sum: GradientsParams::new(),
        squares: 0.0,
    };
    model.visit(&mut summing);
    (summing.sum, summing.squares.sqrt())
}

/// All gradients times `factor`.
pub fn scale_gradients(model: &Model, gradients: GradientsParams, factor: f64) -> GradientsParams {
    sum_gradients(model, vec![gradients], factor, &HashSet::new()).0
}

/// Exponential moving average of a model's weights.
#[derive(Debug, Clone)]
pub struct Ema {
    model: Model,
    decay: f64,
}

impl Ema {
    /// Starts at `model`.
    pub fn new(model: Model, decay: f64) -> Self {
        Self { model, decay }
    }

    /// The averaged model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Takes the weights of `model` after `step` steps into the average. The average follows
    /// faster at first, so that it does not remember the random start.
    pub fn update(&mut self, model: &Model, step: u64) {
        struct Collecting(HashMap<ParamId, Vec<f32>>);
        impl ModuleVisitor for Collecting {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let values = param.val().detach().into_data().try_into_vec::<f32>();
                self.0.insert(param.id, values.unwrap_or_default());
            }
        }
        struct Averaging {
            values: HashMap<ParamId, Vec<f32>>,
            decay: f32,
        }
        impl ModuleMapper for Averaging {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let Some(new) = self.values.remove(&param.id) else {
                    return param;
                };
                let decay = self.decay;
                param.map(|tensor| {
                    let (shape, device) = (tensor.shape(), tensor.device());
                    let old = tensor.detach().into_data().try_into_vec::<f32>();
                    let old = old.unwrap_or_default();
                    let mixed = old.iter().zip(&new);
                    let mixed = mixed.map(|(o, n)| decay * o + (1.0 - decay) * n).collect();
                    let data = samara_model::burn::tensor::TensorData::new::<f32, _>(mixed, shape);
                    Tensor::from_data(data, &device)
                })
            }
        }
        let mut collecting = Collecting(HashMap::new());
        model.visit(&mut collecting);
        let early = (1.0 + step as f64) / (10.0 + step as f64);
        let mut averaging = Averaging {
            values: collecting.0,
            decay: self.decay.min(early) as f32,
        };
        self.model = self.model.clone().map(&mut averaging);
    }
}
