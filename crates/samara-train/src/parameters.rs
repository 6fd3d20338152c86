//! The parameters of a model as a list: names, gradients, averages.
//!
//! A path is a [`ModulePath`], such as `image_encoder.blocks.0.attn.qkv.weight`. Gradients and optimizer
//! know a parameter by its id.

use std::collections::HashSet;

use burn_optim::GradientsParams;
use samara_model::burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use samara_model::burn::tensor::Tensor;
use samara_model::{Model, ModulePath};
use sha2::{Digest, Sha256};

/// What is no weight and never learns: the random frequencies of the positional encoding, and the
/// statistics of batch norms.
const FIXED: [&str; 3] = [
    "positional_encoding_gaussian_matrix",
    "running_mean",
    "running_var",
];

/// A parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its id, under which optimizer and gradients know it.
    pub id: ParamId,
    /// Its path.
    pub path: String,
    /// Number of axes: 1 for biases and norms.
    pub rank: usize,
}

impl Parameter {
    /// Whether it learns unless it is frozen.
    pub fn is_weight(&self) -> bool {
        !FIXED.iter().any(|name| self.path.ends_with(name))
    }
}

/// All parameters in the order of the modules.
pub fn parameters(model: &Model) -> Vec<Parameter> {
    let mut lister = Lister {
        path: ModulePath::default(),
        parameters: Vec::new(),
        digest: None,
    };
    model.visit(&mut lister);
    lister.parameters
}

/// SHA-256 of the names and values of the parameters whose paths start with `prefix`.
pub(crate) fn fingerprint(model: &Model, prefix: &'static str) -> [u8; 32] {
    let mut lister = Lister {
        path: ModulePath::default(),
        parameters: Vec::new(),
        digest: Some((Sha256::new(), prefix)),
    };
    model.visit(&mut lister);
    let digest = lister.digest.map(|(digest, _)| digest).unwrap_or_default();
    digest.finalize().into()
}

struct Lister {
    path: ModulePath,
    parameters: Vec<Parameter>,
    digest: Option<(Sha256, &'static str)>,
}

impl ModuleVisitor for Lister {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.name();
        if let Some((digest, prefix)) = &mut self.digest
            && path.starts_with(*prefix)
        {
            digest.update(&path);
            digest.update(param.val().into_data().as_bytes());
        }
        self.parameters.push(Parameter {
            id: param.id,
            path,
            rank: D,
        });
    }
}

/// Whether every value of every parameter is finite.
pub(crate) fn all_finite(model: &Model) -> bool {
    struct Checking(bool);
    impl ModuleVisitor for Checking {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let data = param.val().into_data();
            let finite = data
                .as_slice::<f32>()
                .is_ok_and(|v| v.iter().all(|v| v.is_finite()));
            self.0 &= finite;
        }
    }
    let mut checking = Checking(true);
    model.visit(&mut checking);
    checking.0
}

/// Gives the parameters the ids 1, 2, 3 … in the order of the modules, so that a saved optimizer
/// finds them again in another process, and lays them out as they are in memory after a step:
/// products of the same matrices in another layout are not the same to the last bit.
pub fn numbered(model: Model) -> Model {
    struct Numbering(u64);
    impl ModuleMapper for Numbering {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            self.0 += 1;
            let (_, tensor, _) = param.consume();
            let (device, data) = (tensor.device(), tensor.into_data());
            Param::initialized(ParamId::from(self.0), Tensor::from_data(data, &device))
        }
    }
    model.map(&mut Numbering(0))
}

/// The model on an autodiff device with gradients for the parameters in `learning` only: nothing
/// is recorded of what lies before the first of them. Batch norms keep their statistics, as
/// images come one at a time.
pub(crate) fn learnable(model: Model, learning: &HashSet<ParamId>) -> Model {
    struct Marking<'a>(&'a HashSet<ParamId>);
    impl ModuleMapper for Marking<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, tensor, _) = param.consume();
            let learns = self.0.contains(&id);
            Param::initialized(id, tensor.detach().set_require_grad(learns))
        }

        fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
            flag.with_value(false)
        }
    }
    model.map(&mut Marking(learning))
}

/// The sum of gradients of the same parameters, times `scale`, and its norm. The order of addition
/// is that of the list.
pub fn sum_gradients(
    model: &Model,
    mut parts: Vec<GradientsParams>,
    scale: f64,
) -> (GradientsParams, f64) {
    struct Summing<'a> {
        parts: &'a mut [GradientsParams],
        scale: f64,
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
            let sum = sum.mul_scalar(self.scale);
            self.squares += f64::from((sum.clone() * sum.clone()).sum().into_scalar::<f32>());
            self.sum.register(param.id, sum);
        }
    }
    let mut summing = Summing {
        parts: &mut parts,
        scale,
        sum: GradientsParams::new(),
        squares: 0.0,
    };
    model.visit(&mut summing);
    (summing.sum, summing.squares.sqrt())
}

/// All gradients times `factor`.
pub fn scale_gradients(model: &Model, gradients: GradientsParams, factor: f64) -> GradientsParams {
    sum_gradients(model, vec![gradients], factor).0
}

/// Exponential moving average of a model's weights.
#[derive(Debug, Clone)]
pub struct Ema {
    model: Model,
    decay: f64,
}

impl Ema {
    /// Starts at `model`, which lies on a device without autodiff.
    pub fn new(model: Model, decay: f64) -> Self {
        Self { model, decay }
    }

    /// The averaged model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Takes the weights of `model` after `step` steps into the average. The average follows
    /// faster at first, so that it does not remember the random start. A weight that did not
    /// change stays the same to the last bit.
    pub fn update(&mut self, model: &Model, step: u64) {
        let early = (1.0 + step as f64) / (10.0 + step as f64);
        let share = 1.0 - self.decay.min(early);
        self.model = blend(self.model.clone(), &model.valid(), share);
    }
}

/// The weights on the way from one model to another with the same parameters: 0 is `from`, 1 is `to`.
/// Both lie on a device without autodiff. A weight that is the same in both stays the same to the last
/// bit.
pub fn blend(from: Model, to: &Model, share: f64) -> Model {
    struct Collecting(GradientsParams);
    impl ModuleVisitor for Collecting {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.register(param.id, param.val());
        }
    }
    struct Blending {
        weights: GradientsParams,
        share: f64,
    }
    impl ModuleMapper for Blending {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let to = self.weights.remove::<D>(param.id);
            param.map(|from| match to {
                Some(to) => from.clone() + (to - from).mul_scalar(self.share),
                None => from,
            })
        }
    }
    let mut collecting = Collecting(GradientsParams::new());
    to.visit(&mut collecting);
    let weights = collecting.0;
    from.map(&mut Blending { weights, share })
}

#[cfg(test)]
mod tests {
    use samara_model::burn::tensor::Device;
    use samara_model::sam::SamConfig;

    use super::*;
    use crate::groups::ENCODER;
    use crate::testing::{golden, tiny_sam};

    #[test]
    fn paths_are_those_of_the_modules_without_variants() {
        let device = Device::flex();
        let vit = samara_model::checkpoint::Checkpoint::open(golden("sam_vit.pth")).unwrap();
        let vit = Model::load(&vit, &device).unwrap();
        let tiny = Model::Sam(SamConfig::mobile_sam().init(&device));
        let has = |model: Model, starts: &[&str]| {
            let all = parameters(&model);
            for start in starts {
                assert!(all.iter().any(|p| p.path.starts_with(start)), "{start}");
            }
        };
        let head = "mask_decoder.iou_prediction_head.";
        has(vit, &["image_encoder.blocks.0.", head]);
        has(tiny, &["image_encoder.layers.0.", "prompt_encoder."]);
    }

    #[test]
    fn ids_are_the_same_in_every_run() {
        let ids = || {
            let all = parameters(&tiny_sam(&Device::flex()));
            let weights = all.into_iter().filter(Parameter::is_weight);
            weights.map(|p| p.id.val()).collect::<Vec<_>>()
        };
        let first = ids();
        assert!(first.is_sorted_by(|a, b| a < b));
        assert_eq!(first, ids());
    }

    #[test]
    fn the_average_moves_by_its_share_and_still_weights_stay() {
        let device = Device::flex();
        let (old, new) = (tiny_sam(&device), tiny_sam(&device.clone().autodiff()));
        let same = |a: &Model, b: &Model| fingerprint(a, "") == fingerprint(b, "");
        let mut unmoved = Ema::new(old.clone(), 0.9);
        unmoved.update(&on_autodiff(&old), 1000);
        assert!(same(unmoved.model(), &old));
        let mut moved = Ema::new(old.clone(), 0.0);
        moved.update(&new, 1000);
        assert!(!same(moved.model(), &old));
        let features = |model: &Model| {
            let pixels = Tensor::ones([1, 3, 64, 64], &device);
            let embed = model.encode_image(pixels).image_embed.into_data();
            embed.try_into_vec::<f32>().unwrap()
        };
        let (a, b) = (features(moved.model()), features(&new.valid()));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4));
    }

    fn on_autodiff(model: &Model) -> Model {
        model.clone().to_device(&Device::flex().autodiff())
    }

    #[test]
    fn a_fingerprint_covers_what_it_should() {
        let device = Device::flex();
        let model = tiny_sam(&device);
        let encoder = fingerprint(&model, ENCODER);
        assert_eq!(encoder, fingerprint(&model.clone(), ENCODER));
        assert_ne!(encoder, fingerprint(&model, ""));
        assert_ne!(encoder, fingerprint(&tiny_sam(&device), ENCODER));
        assert!(all_finite(&model));
    }
}
