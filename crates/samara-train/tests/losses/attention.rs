//! The hierarchical attention loss: against PyTorch, by its rules, and at work.

use samara::Granularity::{self, Part, Subpart, Whole};
use samara_model::burn::tensor::module::adaptive_avg_pool2d;
use samara_model::burn::tensor::{Device, Tensor, TensorData, activation};
use samara_train::losses::{
    AttentionKind, AttentionLossConfig, AttentionLossError, FocalConfig, HierarchicalAttentionLoss,
    hierarchical_attention_loss, iou_targets,
};

use super::{Case, Reference, values};

/// The settings of the reference, by name.
fn settings(kind: AttentionKind) -> [(&'static str, AttentionLossConfig); 3] {
    let plain = AttentionLossConfig {
        kind,
        ..AttentionLossConfig::default()
    };
    let normalised = AttentionLossConfig {
        normalise: true,
        min_score: 0.5,
        ..plain.clone()
    };
    let mapped = AttentionLossConfig {
        levels: vec![Subpart, Whole, Whole],
        focal: FocalConfig {
            alpha: 0.6,
            gamma: 1.5,
        },
        ..plain.clone()
    };
    [
        ("plain", plain),
        ("normalised", normalised),
        ("mapped", mapped),
    ]
}

fn maps(case: Case<'_>) -> Vec<Tensor<4>> {
    (0..3).map(|i| case.leaf(&format!("map.{i}"))).collect()
}

fn loss(
    case: Case<'_>,
    maps: &[Tensor<4>],
    config: &AttentionLossConfig,
) -> HierarchicalAttentionLoss {
    hierarchical_attention_loss(maps, case.get("masks"), case.get("scores"), config).unwrap()
}

#[test]
fn values_and_gradients_are_those_of_pytorch() {
    let reference = Reference::read_file("attention_losses.safetensors");
    assert_eq!(reference.cases().len(), 9);
    for case in reference.cases() {
        let kind = match case.name {
            "probabilities" | "certain" => AttentionKind::Probabilities,
            "softmax" => AttentionKind::Distribution,
            _ => AttentionKind::Logits,
        };
        for (key, config) in settings(kind) {
            let maps = maps(case);
            let loss = loss(case, &maps, &config);
            case.assert_value(&format!("{key}.total"), loss.total.clone());
            let part = |part: &str, of: fn(&samara_train::losses::ScaleLoss) -> Tensor<1>| {
                let parts = loss.scales.iter().map(of).collect();
                case.assert_value(&format!("{key}.{part}"), Tensor::cat(parts, 0));
            };
            part("focal", |scale| scale.focal.clone());
            part("dice", |scale| scale.dice.clone());
            let gradients = loss.total.backward();
            for (i, map) in maps.iter().enumerate() {
                let gradient = Tensor::from_inner(map.grad(&gradients).unwrap());
                case.assert_value(&format!("{key}.d_map.{i}"), gradient);
            }
        }
    }
}

#[test]
fn only_the_attention_has_a_gradient() {
    let reference = Reference::read_file("attention_losses.safetensors");
    let case = reference.case("small");
    let (masks, scores): (Tensor<4>, Tensor<2>) = (case.leaf("masks"), case.leaf("scores"));
    let (maps, config) = (maps(case), AttentionLossConfig::default());
    let loss = hierarchical_attention_loss(&maps, masks.clone(), scores.clone(), &config).unwrap();
    let gradients = (loss.total + masks.clone().sum() + scores.clone().sum()).backward();
    let ones = |values: Vec<f32>| values.iter().all(|&v| v == 1.0);
    assert!(ones(values(masks.grad(&gradients).unwrap())));
    assert!(ones(values(scores.grad(&gradients).unwrap())));
    assert!(maps.iter().all(|map| map.grad(&gradients).is_some()));
}

#[test]
fn probabilities_a_little_outside_count_as_certain() {
    let device = Device::flex().autodiff();
    let config = AttentionLossConfig {
        kind: AttentionKind::Probabilities,
        focal: FocalConfig {
            alpha: 0.25,
            gamma: 1.5,
        },
        ..AttentionLossConfig::default()
    };
    let total = |p: f32| {
        let maps = vec![Tensor::full([1, 1, 2, 2], p, &device); 3];
        let (masks, scores) = (
            Tensor::ones([1, 3, 4, 4], &device),
            Tensor::ones([1, 3], &device),
        );
        let loss = hierarchical_attention_loss(&maps, masks, scores, &config).unwrap();
        values(loss.total)
    };
    assert_eq!(total(1.0), [0.0]);
    assert_eq!(total(1.000_001), [0.0]);
    assert_eq!(total(-1e-6), total(0.0));
}

#[test]
fn levels_below_the_minimum_are_ignored() {
    let reference = Reference::read_file("attention_losses.safetensors");
    let (case, maps) = (reference.case("small"), maps(reference.case("small")));
    for normalise in [false, true] {
        let config = AttentionLossConfig {
            min_score: 2.0,
            normalise,
            ..AttentionLossConfig::default()
        };
        let loss = loss(case, &maps, &config);
        assert_eq!(values(loss.total.clone()), [0.0]);
        assert!(
            loss.scales
                .iter()
                .all(|s| values(s.weight.clone()) == [0.0])
        );
        let gradient = maps[0].grad(&loss.total.backward()).unwrap();
        assert!(values(gradient).iter().all(|&v| v == 0.0));
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let device = Device::flex();
    let refused = |sides: &[usize], masks: [usize; 4], scores: [usize; 2]| {
        let maps: Vec<_> = sides
            .iter()
            .map(|&side| Tensor::zeros([2, 1, side, side], &device))
            .collect();
        let (masks, scores) = (
            Tensor::zeros(masks, &device),
            Tensor::zeros(scores, &device),
        );
        hierarchical_attention_loss(&maps, masks, scores, &AttentionLossConfig::default())
            .unwrap_err()
    };
    let (masks, scores) = ([2, 3, 8, 8], [2, 3]);
    assert_eq!(
        refused(&[4, 8], masks, scores),
        AttentionLossError::Levels {
            scales: 2,
            levels: 3
        }
    );
    let sides = [2, 4, 8];
    assert!(
        refused(&[], masks, scores)
            .to_string()
            .starts_with("0 scales")
    );
    assert_eq!(
        refused(&sides, [2, 4, 8, 8], scores).to_string(),
        "masks has the shape [2, 4, 8, 8]; [n, 3, H, W] was expected"
    );
    assert!(
        refused(&sides, masks, [3, 2])
            .to_string()
            .contains("[2, 3] was expected")
    );
    assert!(
        refused(&[2, 0, 8], masks, scores)
            .to_string()
            .starts_with("attention 1")
    );
}

#[test]
fn a_configuration_is_read_strictly() {
    let config: AttentionLossConfig =
        toml::from_str("kind = \"distribution\"\nlevels = [\"part\", \"whole\"]").unwrap();
    assert_eq!(config.kind, AttentionKind::Distribution);
    assert_eq!(config.levels, [Part, Whole]);
    assert_eq!(config.weights.focal, 20.0);
    assert!(toml::from_str::<AttentionLossConfig>("normalize = true").is_err());
}

/// Squares in squares: a grey object with a brighter part and a bright subpart, `[n, 1, 32, 32]`, and
/// their masks, `[n, 3, 32, 32]`.
fn drawn_objects(device: &Device) -> (Tensor<4>, Tensor<4>) {
    let centres: [[i32; 2]; 6] = [[12, 12], [12, 16], [16, 20], [20, 12], [20, 20], [16, 16]];
    let (mut pixels, mut masks) = (Vec::new(), Vec::new());
    for centre in centres {
        let square = |radius: i32| -> Vec<f32> {
            let cells = (0..32).flat_map(|y| (0..32).map(move |x| [x, y]));
            let within = |at: i32, centre: i32| (centre - radius..centre + radius).contains(&at);
            let inside = |[x, y]: [i32; 2]| within(x, centre[0]) && within(y, centre[1]);
            cells.map(|at| f32::from(u8::from(inside(at)))).collect()
        };
        let levels = [12, 8, 4].map(square);
        pixels.extend((0..32 * 32).map(|i| levels.iter().map(|level| level[i]).sum::<f32>()));
        masks.extend(levels.concat());
    }
    let tensor = |values: Vec<f32>, channels: usize| {
        let shape = [centres.len(), channels, 32, 32];
        Tensor::from_data(TensorData::new(values, shape), device)
    };
    (tensor(pixels, 1), tensor(masks, 3))
}

/// Attention logits at three scales: each scale pools the image and weighs what exceeds each of
/// three grey levels. Four parameters a scale, `[3]` and `[1]`, which begin at 0.
struct TinyAttention {
    parameters: Vec<Tensor<1>>,
}

impl TinyAttention {
    fn new(device: &Device) -> Self {
        let parameters = (0..6).map(|i| Tensor::zeros([if i < 3 { 3 } else { 1 }], device));
        Self {
            parameters: parameters.map(Tensor::require_grad).collect(),
        }
    }

    fn forward(&self, pixels: &Tensor<4>) -> Vec<Tensor<4>> {
        let scales = [8, 16, 32].into_iter().enumerate();
        let map = scales.map(|(scale, side)| {
            let grey = adaptive_avg_pool2d(pixels.clone(), [side, side]);
            let above = |level: f64| activation::relu(grey.clone() - level);
            let features = Tensor::cat([0.0, 1.0, 2.0].map(above).to_vec(), 1);
            let weights = self.parameters[scale].clone().reshape([1, 3, 1, 1]);
            let bias = self.parameters[3 + scale].clone().reshape([1, 1, 1, 1]);
            (features * weights).sum_dim(1) + bias
        });
        map.collect()
    }

    fn descend(&mut self, loss: &Tensor<1>, rate: f64) {
        let gradients = loss.backward();
        for parameter in &mut self.parameters {
            let gradient = parameter.grad(&gradients).unwrap();
            let moved = parameter.clone().inner() - gradient * rate;
            *parameter = Tensor::from_inner(moved).require_grad();
        }
    }
}

/// IoU of every scale of a trained model with every level, at the scale's resolution.
fn trained_overlaps(levels: [Granularity; 3]) -> [[f32; 3]; 3] {
    let device = Device::flex().autodiff();
    let (pixels, masks) = drawn_objects(&device);
    let scores = Tensor::from_data([[0.95, 0.9, 0.8]], &device).repeat_dim(0, 6);
    let config = AttentionLossConfig {
        levels: levels.to_vec(),
        ..AttentionLossConfig::default()
    };
    let mut model = TinyAttention::new(&device);
    for _ in 0..200 {
        let maps = model.forward(&pixels);
        let loss =
            hierarchical_attention_loss(&maps, masks.clone(), scores.clone(), &config).unwrap();
        model.descend(&loss.total, 1.0);
    }
    let maps = model.forward(&pixels);
    [0, 1, 2].map(|scale| {
        let map = maps[scale].clone();
        let [.., height, width] = map.dims();
        let targets = adaptive_avg_pool2d(masks.clone(), [height, width]);
        [0, 1, 2].map(|level| {
            let target = targets.clone().narrow(1, level, 1);
            iou_targets(map.clone(), target).mean().into_scalar()
        })
    })
}

#[test]
fn scales_learn_to_follow_their_levels() {
    for levels in [[Whole, Part, Subpart], [Part, Subpart, Whole]] {
        let overlaps = trained_overlaps(levels);
        for (overlaps, level) in overlaps.iter().zip(levels) {
            let own = overlaps[level as usize];
            let others = Granularity::ALL.into_iter().filter(|&other| other != level);
            let best = others.map(|l| overlaps[l as usize]).fold(0.0, f32::max);
            assert!(own > 0.95 && own > best + 0.3, "{level}: {overlaps:?}");
        }
    }
}
