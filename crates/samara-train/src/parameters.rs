//! The parameters of a model as a list: names, gradients, averages.
//!
//! A path is the names of the modules from the model down, joined by dots, without the variants of
//! enums: `trunk.blocks.0.project_conv.weight` of `compact`, `image_encoder.blocks.0.attn.qkv.weight`
//! of SAM. Gradients and optimizer know a parameter by its id.

use std::collections::HashSet;

use burn_optim::GradientsParams;
use samara_model::Model;
use samara_model::burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use samara_model::burn::tensor::Tensor;
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
        path: Vec::new(),
        parameters: Vec::new(),
        digest: None,
    };
    model.visit(&mut lister);
    lister.parameters
}

/// SHA-256 of the names and values of the parameters whose paths start with one of `prefixes`.
pub(crate) fn fingerprint(model: &Model, prefixes: &'static [&'static str]) -> [u8; 32] {
    let mut lister = Lister {
        path: Vec::new(),
        parameters: Vec::new(),
        digest: Some((Sha256::new(), prefixes)),
    };
    model.visit(&mut lister);
    let digest = lister.digest.map(|(digest, _)| digest).unwrap_or_default();
    digest.finalize().into()
}

struct Lister {
    path: Vec<String>,
    parameters: Vec<Parameter>,
    digest: Option<(Sha256, &'static [&'static str])>,
}

impl ModuleVisitor for Lister {
    fn enter_module(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.path.push(name.to_owned());
        }
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.path.pop();
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        if let Some((digest, prefixes)) = &mut self.digest
            && prefixes.iter().any(|prefix| path.starts_with(prefix))
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
/// pictures come one at a time.
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
    use samara_model::ModelConfig;
    use samara_model::burn::tensor::Device;
    use samara_model::compact::CompactConfig;
    use samara_model::sam::SamConfig;

    use super::*;

    fn compact(device: &Device) -> Model {
        let config = CompactConfig::new()
            .with_img_size(64)
            .with_embed_dim(16)
            .with_num_heads(1)
            .with_depth(1);
        numbered(ModelConfig::Compact(config).init(device))
    }

    #[test]
    fn paths_are_those_of_the_modules_without_variants() {
        let device = Device::flex();
        let golden = "../samara-model/tests/golden/sam_vit.pth";
        let golden =
            std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join(golden);
        let sam = samara_model::checkpoint::Checkpoint::open(golden).unwrap();
        let sam = sam.load(&device).unwrap();
        let tiny = Model::Sam(SamConfig::mobile_sam().init(&device));
        let has = |model: Model, starts: &[&str]| {
            let all = parameters(&model);
            for start in starts {
                assert!(all.iter().any(|p| p.path.starts_with(start)), "{start}");
            }
        };
        has(
            compact(&device),
            &["trunk.conv_stem", "mask_decoder.iou_head."],
        );
        has(
            sam,
            &[
                "image_encoder.blocks.0.",
                "mask_decoder.iou_prediction_head.",
            ],
        );
        has(tiny, &["image_encoder.layers.0.", "prompt_encoder."]);
    }

    #[test]
    fn ids_count_the_parameters() {
        let model = compact(&Device::flex());
        let ids = parameters(&model).into_iter().map(|p| p.id.val());
        assert!(ids.eq(1..=parameters(&model).len() as u64));
    }

    #[test]
    fn the_average_moves_by_its_share_and_still_weights_stay() {
        let device = Device::flex();
        let (old, new) = (compact(&device), compact(&device.clone().autodiff()));
        let bias = |model: &Model| {
            let Model::Compact(compact) = model else {
                unreachable!()
            };
            let all = compact.trunk.forward(Tensor::ones([1, 3, 64, 64], &device));
            all[0].clone().into_data().try_into_vec::<f32>().unwrap()
        };
        let mut same = Ema::new(old.clone(), 0.9);
        same.update(&on_autodiff(&old), 1000);
        assert_eq!(bias(same.model()), bias(&old));
        let mut other = Ema::new(old.clone(), 0.0);
        other.update(&new, 1000);
        let (a, b) = (bias(other.model()), bias(&new.valid()));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4));
        assert_ne!(bias(&old), a);
    }

    fn on_autodiff(model: &Model) -> Model {
        model.clone().to_device(&Device::flex().autodiff())
    }

    #[test]
    fn a_fingerprint_covers_what_it_should() {
        let device = Device::flex();
        let model = compact(&device);
        let (trunk, all) = (&["trunk."][..], &[""][..]);
        let trunk: &'static [&'static str] = trunk;
        assert_eq!(
            fingerprint(&model, trunk),
            fingerprint(&model.clone(), trunk)
        );
        assert_ne!(fingerprint(&model, trunk), fingerprint(&model, all));
        assert_ne!(
            fingerprint(&model, trunk),
            fingerprint(&compact(&device), trunk)
        );
        assert!(all_finite(&model));
    }
}
