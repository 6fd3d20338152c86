//! Values and gradients of the losses against PyTorch.
//! `tests/golden/loss_references.py` and `attention_loss_references.py` made the files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attention;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use safetensors::SafeTensors;
use samara_model::burn::tensor::activation::sigmoid;
use samara_model::burn::tensor::{Device, Tensor, TensorData};
use samara_train::losses::{
    FocalConfig, IouKind, IouLoss, LossConfig, LossWeights, Predictions, checkerboard_loss,
    dice_loss, iou_l1, iou_mse, iou_ranking, iou_targets, mask_loss, mask_losses,
    min_over_candidates, object_score_bce, promptable_loss, retention_loss, sigmoid_focal_loss,
};

/// Largest error, relative to the largest value of a tensor.
const TOLERANCE: f32 = 1e-5;

struct Reference(HashMap<String, TensorData>);

impl Reference {
    fn read() -> Self {
        Self::read_file("losses.safetensors")
    }

    fn read_file(name: &str) -> Self {
        let path = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap())
            .join("tests/golden")
            .join(name);
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.iter().map(|(name, view)| {
            let values: Vec<f32> = view
                .data()
                .chunks_exact(4)
                .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
                .collect();
            let data = TensorData::new(values, view.shape().to_vec());
            (name.to_owned(), data)
        });
        Self(tensors.collect())
    }

    fn cases(&self) -> Vec<Case<'_>> {
        let names = self.0.keys().map(|key| key.split('.').nth(1).unwrap());
        let names: BTreeSet<&str> = names.collect();
        let cases = names.into_iter().map(|name| Case {
            reference: self,
            name,
        });
        cases.collect()
    }

    fn case(&self, name: &'static str) -> Case<'_> {
        Case {
            reference: self,
            name,
        }
    }
}

#[derive(Clone, Copy)]
struct Case<'a> {
    reference: &'a Reference,
    name: &'a str,
}

impl Case<'_> {
    fn get<const D: usize>(self, key: &str) -> Tensor<D> {
        let data = self.reference.0[&format!("case.{}.{key}", self.name)].clone();
        Tensor::from_data(data, &Device::flex().autodiff())
    }

    /// A tensor that is differentiated for.
    fn leaf<const D: usize>(self, key: &str) -> Tensor<D> {
        self.get(key).require_grad()
    }

    fn targets(self) -> Tensor<4> {
        self.get("targets")
    }

    /// Compares a value or a gradient with `key`.
    #[track_caller]
    fn assert_value<const D: usize>(self, key: &str, actual: Tensor<D>) {
        let expected: Tensor<D> = self.get(key);
        assert_eq!(actual.dims(), expected.dims(), "{} {key}: shape", self.name);
        let (actual, expected) = (values(actual), values(expected));
        let largest = expected.iter().fold(1e-6_f32, |max, e| max.max(e.abs()));
        for (actual, expected) in actual.into_iter().zip(expected) {
            let error = (actual - expected).abs() / largest;
            assert!(
                error <= TOLERANCE,
                "{} {key}: {actual} instead of {expected}",
                self.name
            );
        }
    }

    /// Compares the losses of the candidates, and the gradient of their product with the cotangent.
    #[track_caller]
    fn assert_losses(self, key: &str, loss: impl Fn(Tensor<4>, Tensor<4>) -> Tensor<2>) {
        let logits = self.leaf("logits");
        let losses = loss(logits.clone(), self.targets());
        self.assert_value(key, losses.clone());
        let gradients = (losses * self.get::<2>("cotangent")).sum().backward();
        let gradient = Tensor::from_inner(logits.grad(&gradients).unwrap());
        self.assert_value(&format!("{key}.d_logits"), gradient);
    }

    fn predictions(self) -> Predictions {
        Predictions {
            logits: self.leaf("logits"),
            iou: self.leaf("iou"),
            object_score: Some(self.leaf("score")),
        }
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

fn tensor<const D: usize>(values: TensorData) -> Tensor<D> {
    Tensor::from_data(values, &Device::flex().autodiff())
}

#[test]
fn losses_of_the_candidates_are_those_of_pytorch() {
    let focal = FocalConfig::default();
    let uneven = FocalConfig {
        alpha: 0.6,
        gamma: 1.5,
    };
    let weights = LossWeights::default();
    let reference = Reference::read();
    assert_eq!(reference.cases().len(), 9);
    for case in reference.cases() {
        case.assert_losses("focal", |x, t| sigmoid_focal_loss(x, t, focal));
        case.assert_losses("focal_1.5", |x, t| sigmoid_focal_loss(x, t, uneven));
        case.assert_losses("dice", dice_loss);
        case.assert_losses("checkerboard", |x, _| checkerboard_loss(x));
        case.assert_losses("mask", |x, t| mask_loss(x, t, &weights, focal));
        case.assert_losses("mask", |x, t| mask_losses(x, t, focal).combine(&weights));
        case.assert_value(
            "iou_targets",
            iou_targets(case.get("logits"), case.targets()),
        );
        let (lowest, best) = min_over_candidates(case.get("mask"));
        case.assert_value("best", best.float());
        let minimum = case.get::<2>("mask").min_dim(1).squeeze_dim::<1>(1);
        assert_eq!(values(lowest), values(minimum));
    }
}

#[test]
fn the_loss_of_a_round_is_that_of_pytorch() {
    let reference = Reference::read();
    for case in reference.cases() {
        for (key, config) in [("sam", LossConfig::sam()), ("sam2", LossConfig::sam2())] {
            let inputs = case.predictions();
            let loss = promptable_loss(inputs.clone(), case.targets(), &config);
            case.assert_value("best", loss.best.float());
            case.assert_value(key, loss.total.clone());
            let gradients = loss.total.backward();
            let logits = Tensor::from_inner(inputs.logits.grad(&gradients).unwrap());
            case.assert_value(&format!("{key}.d_logits"), logits);
            let iou = Tensor::from_inner(inputs.iou.grad(&gradients).unwrap());
            case.assert_value(&format!("{key}.d_iou"), iou);
            let score = inputs.object_score.unwrap().grad(&gradients);
            assert_eq!(score.is_some(), key == "sam2");
            if let Some(score) = score {
                case.assert_value("sam2.d_score", Tensor::from_inner(score));
            }
        }
    }
}

/// With a relaxation, the candidates that are not the best share that part of the mask loss, and the
/// rest is the best one's.
#[test]
fn a_relaxed_round_teaches_every_candidate() {
    let reference = Reference::read();
    let case = reference.case("random");
    let mut config = LossConfig::sam();
    config.weights.iou = 0.0;
    config.relaxation = 0.3;
    let inputs = case.predictions();
    let loss = promptable_loss(inputs.clone(), case.targets(), &config);

    let losses: Tensor<2> = case.get("mask");
    let candidates = losses.dims()[1];
    assert!(candidates > 1);
    let best = losses.clone().min_dim(1);
    let others = (losses.sum_dim(1) - best.clone()) / (candidates - 1) as f64;
    let expected: f32 = (best * 0.7 + others * 0.3).mean().into_scalar();
    let total: f32 = loss.total.clone().into_scalar();
    assert!(
        (total - expected).abs() < 1e-5,
        "{total} against {expected}"
    );

    let gradients = loss.total.backward();
    let d = inputs.logits.grad(&gradients).unwrap().abs();
    let least: f32 = d.sum_dim(3).sum_dim(2).min().into_scalar();
    assert!(least > 0.0);
}

/// The best candidate is then the one with the highest true IoU.
#[test]
fn without_masks_the_scores_learn_alone() {
    let reference = Reference::read();
    for case in reference.cases() {
        for mut config in [LossConfig::sam(), LossConfig::sam2()] {
            config.weights = LossWeights {
                focal: 0.0,
                dice: 0.0,
                iou: 0.7,
                iou_ranking: 0.3,
                object_score: 0.0,
                ..config.weights
            };
            let predictions = case.predictions();
            let round = promptable_loss(predictions.clone(), case.targets(), &config).total;
            let truth = iou_targets(predictions.logits, case.targets());
            let best = truth.clone().argmax(1).squeeze_dim(1);
            let iou: Tensor<2> = case.leaf("iou");
            let mut loss = config.iou.mean(iou.clone(), truth.clone(), best) * 0.7;
            if config.iou.supervise_all && iou.dims()[1] > 1 {
                loss = loss + iou_ranking(iou.clone(), truth).mean() * 0.3;
            }
            let near = |a: Vec<f32>, b: Vec<f32>| {
                assert_eq!(a.len(), b.len());
                let differ = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-6 * (1.0 + b.abs());
                assert!(!a.iter().zip(&b).any(differ), "{}: {a:?} {b:?}", case.name);
            };
            near(values(round.clone()), values(loss.clone()));
            let of =
                |loss: Tensor<1>, leaf: Tensor<2>| values(leaf.grad(&loss.backward()).unwrap());
            near(of(round, predictions.iou), of(loss, iou));
        }
    }
}

/// Slopes and edges are no pattern; stripes and checks are, of one cell or of two.
#[test]
fn what_goes_up_and_down_is_a_checkerboard() {
    let loss = |logit: fn(i32, i32) -> f32| {
        let cells = (0..16).flat_map(|y| (0..16).map(move |x| logit(x, y)));
        let data = TensorData::new(cells.collect::<Vec<_>>(), [1, 1, 16, 16]);
        checkerboard_loss(tensor(data)).into_scalar::<f32>()
    };
    let slope = loss(|x, y| (x - 2 * y) as f32);
    let edge = loss(|x, _| if x < 7 { -9.0 } else { 9.0 });
    assert_eq!((slope, edge), (0.0, 0.0));
    for pattern in [
        loss(|x, _| [1.0, -1.0][x as usize % 2]),
        loss(|_, y| [1.0, -1.0][y as usize / 2 % 2]),
        loss(|x, y| [1.0, -1.0][(x / 2 + y / 2) as usize % 2]),
    ] {
        assert!(pattern > 0.1, "{pattern}");
    }
}

/// Retention is the mask loss of all candidates but the best, and teaches the best nothing.
#[test]
fn retention_is_of_the_candidates_that_are_not_the_best() {
    let reference = Reference::read();
    let case = reference.case("random");
    let config = LossConfig::sam();
    let (logits, drawn) = (case.leaf::<4>("logits"), case.get::<4>("logits").neg());
    let [objects, candidates, height, width] = logits.dims();
    let best = [2, 0, 1];
    assert_eq!((objects, candidates), (best.len(), 3));
    let loss = retention_loss(
        logits.clone(),
        drawn.clone(),
        Tensor::from_data(best, &logits.device()),
        &config,
    );

    let gradients = loss.clone().backward();
    let d = values(logits.grad(&gradients).unwrap());
    let mut expected = 0.0;
    for (object, best) in best.into_iter().enumerate() {
        for k in 0..candidates {
            let one = |x: &Tensor<4>| {
                x.clone()
                    .slice([object..object + 1, k..k + 1, 0..height, 0..width])
            };
            let at = (object * candidates + k) * height * width;
            let learns = d[at..at + height * width].iter().any(|d| *d != 0.0);
            assert_eq!(learns, k != best, "candidate {k} of object {object}");
            if learns {
                let target = sigmoid(one(&drawn));
                let loss = mask_loss(one(&logits), target, &config.weights, config.focal);
                expected += loss.into_scalar::<f32>() / (objects * (candidates - 1)) as f32;
            }
        }
    }
    let loss = loss.into_scalar::<f32>();
    assert!((loss - expected).abs() < 1e-5, "{loss} against {expected}");
}

#[test]
fn a_round_is_the_sum_of_its_parts() {
    let reference = Reference::read();
    let case = reference.case("random");
    let config = LossConfig {
        weights: LossWeights {
            focal: 3.0,
            dice: 0.5,
            iou: 2.0,
            object_score: 0.25,
            ..LossWeights::sam()
        },
        focal: FocalConfig {
            alpha: 0.4,
            gamma: 1.0,
        },
        relaxation: 0.0,
        iou: IouLoss {
            kind: IouKind::L1,
            supervise_all: false,
        },
    };
    let inputs = case.predictions();
    let loss = promptable_loss(inputs.clone(), case.targets(), &config);
    let part = |part: Tensor<1>| part.into_scalar::<f32>();
    let parts = 3.0 * part(loss.focal)
        + 0.5 * part(loss.dice)
        + 2.0 * part(loss.iou)
        + 0.25 * part(loss.object_score.unwrap());
    let total = part(loss.total.clone());
    assert!((parts - total).abs() < 1e-5);

    // The long way: all candidates with gradient, then the lowest.
    let losses = mask_loss(
        inputs.logits.clone(),
        case.targets(),
        &config.weights,
        config.focal,
    );
    let (lowest, best) = min_over_candidates(losses);
    let true_iou = iou_targets(inputs.logits.clone(), case.targets());
    let iou = config.iou.mean(inputs.iou.clone(), true_iou, best);
    let present = Tensor::ones([3, 1], &Device::flex().autodiff());
    let score = object_score_bce(inputs.object_score.unwrap(), present);
    let long = lowest.mean() + iou * 2.0 + score * 0.25;
    assert!((part(long.clone()) - total).abs() < 1e-5);
    let short = inputs.logits.grad(&loss.total.backward()).unwrap();
    let long = inputs.logits.grad(&long.backward()).unwrap();
    for (short, long) in values(short).into_iter().zip(values(long)) {
        assert!((short - long).abs() < 1e-6, "{short} instead of {long}");
    }
}

#[test]
fn only_the_best_candidate_has_a_gradient() {
    let losses = tensor::<2>(TensorData::from([[3.0, 1.0, 2.0], [0.5, 4.0, 0.75]])).require_grad();
    let (lowest, best) = min_over_candidates(losses.clone());
    assert_eq!(values(best.float()), [1.0, 0.0]);
    let gradient = losses.grad(&lowest.sum().backward()).unwrap();
    assert_eq!(values(gradient), [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn iou_losses_of_one_or_all_candidates() {
    let predicted: Tensor<2> = tensor(TensorData::from([[0.5, 0.25, 1.0], [0.0, 0.75, 0.5]]));
    let target: Tensor<2> = tensor(TensorData::from([[1.0, 0.25, 0.0], [0.5, 0.5, 0.75]]));
    let (p, t) = (|| predicted.clone(), || target.clone());
    assert_eq!(
        values(iou_mse(p(), t())),
        [0.25, 0.0, 1.0, 0.25, 0.0625, 0.0625]
    );
    assert_eq!(values(iou_l1(p(), t())), [0.5, 0.0, 1.0, 0.5, 0.25, 0.25]);
    let best = || Tensor::from_data([2, 1], &Device::flex().autodiff());
    assert_eq!(
        values(IouLoss::sam().per_object(p(), t(), best())),
        [1.0, 0.0625]
    );
    assert_eq!(values(IouLoss::sam().mean(p(), t(), best())), [0.53125]);
    let all = values(IouLoss::sam2().per_object(p(), t(), best()));
    assert!((all[0] - 0.5).abs() < 1e-6 && (all[1] - 1.0 / 3.0).abs() < 1e-6);
}

/// Against `-(softmax(t / 0.1) * log_softmax(p / 0.1)).sum(1)` of PyTorch.
#[test]
fn the_order_by_predicted_iou_is_that_by_true_iou() {
    let predicted: Tensor<2> = tensor(TensorData::from([[0.5, 0.25, 1.0], [0.0, 0.75, 0.5]]));
    let predicted = predicted.require_grad();
    let target: Tensor<2> = tensor(TensorData::from([[1.0, 0.25, 0.0], [0.5, 0.5, 0.75]]));
    let loss = iou_ranking(predicted.clone(), target);
    let gradient = predicted.grad(&loss.clone().sum().backward()).unwrap();
    let near = |found: Vec<f32>, expected: &[f32]| {
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{a}, not {b}");
        }
    };
    near(values(loss), &[5.008_419_6, 2.755_674_4]);
    let expected = [
        -9.927_127,
        -3.672_552_5e-5,
        9.927_164,
        -0.699_985_9,
        8.531_602,
        -7.831_616_5,
    ];
    near(values(gradient), &expected);
}

#[test]
fn iou_targets_have_no_gradient() {
    let reference = Reference::read();
    let case = reference.case("random");
    let logits: Tensor<4> = case.leaf("logits");
    let iou = iou_targets(logits.clone(), case.targets());
    let loss = iou.sum() + logits.clone().sum() * 2.0;
    let gradient = logits.grad(&loss.backward()).unwrap();
    assert!(values(gradient).into_iter().all(|value| value == 2.0));
}

#[test]
fn configurations_are_strict() {
    let sam: LossWeights = toml::from_str("object_score = 0.0").unwrap();
    assert_eq!(sam, LossWeights::sam());
    assert_eq!(
        toml::from_str::<LossWeights>("").unwrap(),
        LossWeights::sam2()
    );
    assert!(toml::from_str::<LossWeights>("focus = 20.0").is_err());
    for config in [LossConfig::sam(), LossConfig::sam2()] {
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<LossConfig>(&text).unwrap(), config);
    }
}

/// `cargo test --release --workspace --test losses -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
#[allow(clippy::print_stderr, reason = "a measurement is printed")]
fn time_of_a_round() {
    use samara_model::burn::tensor::Distribution;
    let device = Device::flex().autodiff();
    let normal = || Tensor::<4>::random([16, 4, 128, 128], Distribution::Normal(0.0, 4.0), &device);
    let targets = Tensor::<4>::random([16, 1, 128, 128], Distribution::Default, &device)
        .greater_elem(0.7)
        .float();
    let best = |name: &str, run: &dyn Fn()| {
        let times = (0..8).map(|_| {
            let start = std::time::Instant::now();
            run();
            start.elapsed()
        });
        eprintln!("{name}: {:?}", times.min().unwrap());
    };
    let focal = FocalConfig::default();
    let logits = normal().require_grad();
    let scores = || Tensor::<2>::zeros([16, 4], &device).require_grad();
    best("forward, no gradient", &|| {
        let logits = logits.clone().set_require_grad(false);
        mask_loss(logits, targets.clone(), &LossWeights::sam(), focal).into_data();
    });
    best("all candidates", &|| {
        let losses = mask_loss(logits.clone(), targets.clone(), &LossWeights::sam(), focal);
        logits.grad(&min_over_candidates(losses).0.mean().backward());
    });
    for (name, config) in [("sam", LossConfig::sam()), ("sam2", LossConfig::sam2())] {
        best(name, &|| {
            let predictions = Predictions {
                logits: logits.clone(),
                iou: scores(),
                object_score: None,
            };
            let loss = promptable_loss(predictions, targets.clone(), &config);
            logits.grad(&loss.total.backward());
        });
    }
}
