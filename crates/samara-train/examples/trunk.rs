#![allow(clippy::unwrap_used, clippy::print_stdout)]
use samara_model::ModelConfig;
use samara_model::burn::tensor::Device;
use samara_model::lite::LiteConfig;
fn main() {
    let m = ModelConfig::Lite(LiteConfig::new()).init(&Device::flex());
    for p in samara_train::parameters::parameters(&m).iter().step_by(20) {
        println!("{} {}", p.path, p.rank);
    }
}
