//! The random numbers of the tensor library, which has one generator for the whole process.

use std::sync::{Mutex, PoisonError};

use samara_model::burn::tensor::Device;

/// Runs `work` with the generator of the tensor library started at `seed`. No other call draws from
/// it meanwhile, so the result is the same however many threads train at once. Parameters draw when
/// they are first read: `work` must read those that it creates.
pub(crate) fn seeded<T>(device: &Device, seed: u64, work: impl FnOnce() -> T) -> T {
    static GENERATOR: Mutex<()> = Mutex::new(());
    let _guard = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    device.seed(seed);
    work()
}

#[cfg(test)]
mod tests {
    use samara_model::burn::tensor::{Device, Distribution, Tensor};

    use super::seeded;

    #[test]
    fn threads_do_not_draw_from_the_numbers_of_others() {
        let device = Device::flex();
        let draw = |seed| {
            seeded(&device, seed, || {
                let one = || Tensor::<1>::random([8], Distribution::Default, &device);
                let drawn: Vec<f32> = (0..64)
                    .flat_map(|_| one().into_data().try_into_vec::<f32>().unwrap())
                    .collect();
                drawn
            })
        };
        let expected = [draw(0), draw(1)];
        assert_ne!(expected[0], expected[1]);
        std::thread::scope(|scope| {
            for (seed, expected) in expected.iter().enumerate() {
                scope.spawn(move || {
                    for _ in 0..50 {
                        assert_eq!(&draw(seed as u64), expected);
                    }
                });
            }
        });
    }
}
