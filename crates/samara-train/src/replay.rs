//! What the head that looks at masks has seen, kept to learn from it again.
//!
//! Drawing masks takes hundreds of times as long as a step of that small head, and what it sees of
//! them are some numbers. So where nothing else learns, a stage draws masks first, and every later step
//! learns from any of them.

use std::collections::BTreeMap;

use rand::{Rng, RngExt};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use samara_model::burn::tensor::{Device, Tensor, TensorData};

use crate::TrainError;

/// What the head saw in one round of prompts, without gradient.
#[derive(Debug, Clone)]
pub(crate) struct SeenRound {
    /// Of each mask that was shown, `[objects, masks, numbers]`.
    pub(crate) numbers: Tensor<3>,
    /// Their true IoU, `[objects, masks]`.
    pub(crate) truth: Tensor<2>,
}

/// Everything that was seen in a stage, in memory: 224 bytes a mask of SAM.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Replay {
    /// By the number of masks that were shown of an object.
    groups: BTreeMap<usize, Group>,
}

#[derive(Debug, Default, PartialEq)]
struct Group {
    /// Numbers of a mask.
    width: usize,
    numbers: Vec<f32>,
    truth: Vec<f32>,
}

impl Replay {
    pub(crate) fn add(&mut self, seen: SeenRound) {
        let [_, masks, width] = seen.numbers.dims();
        let group = self.groups.entry(masks).or_default();
        group.width = width;
        group.numbers.extend(values(seen.numbers));
        group.truth.extend(values(seen.truth));
    }

    /// Draws objects, any of them several times; those with the same number of masks are together.
    pub(crate) fn draw(&self, count: usize, rng: &mut impl Rng, device: &Device) -> Vec<SeenRound> {
        let groups = || self.groups.iter().map(|(masks, group)| (*masks, group));
        let all: usize = groups().map(|(masks, group)| group.objects(masks)).sum();
        if all == 0 {
            return Vec::new();
        }
        let mut drawn: Vec<usize> = (0..count).map(|_| rng.random_range(0..all)).collect();
        drawn.sort_unstable();
        let mut drawn = &drawn[..];
        let mut begin = 0;
        let mut rounds = Vec::new();
        for (masks, group) in groups() {
            let end = begin + group.objects(masks);
            let (mine, others) = drawn.split_at(drawn.partition_point(|&i| i < end));
            if !mine.is_empty() {
                rounds.push(group.select(masks, mine.iter().map(|i| i - begin), device));
            }
            (drawn, begin) = (others, end);
        }
        rounds
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, TrainError> {
        let failed = |e: safetensors::SafeTensorError| TrainError::State(format!("replay: {e}"));
        let bytes = |values: &[f32]| -> Vec<u8> {
            let bytes = values.iter().flat_map(|v| v.to_le_bytes());
            bytes.collect()
        };
        let mut all = Vec::new();
        for (masks, group) in &self.groups {
            let shape = vec![group.objects(*masks), *masks];
            let numbers = [&shape[..], &[group.width]].concat();
            all.push((format!("numbers.{masks}"), numbers, bytes(&group.numbers)));
            all.push((format!("truth.{masks}"), shape, bytes(&group.truth)));
        }
        let views = all.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes)?;
            Ok((name, view))
        });
        let views = views.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        safetensors::serialize(views, None).map_err(failed)
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, TrainError> {
        let failed = |e: &dyn std::fmt::Display| TrainError::State(format!("replay: {e}"));
        let file = SafeTensors::deserialize(bytes).map_err(|e| failed(&e))?;
        let mut replay = Self::default();
        for (name, view) in file.iter() {
            let Some((kind, masks)) = name.split_once('.') else {
                return Err(failed(&format!("what is {name}?")));
            };
            let masks = masks.parse().map_err(|e| failed(&e))?;
            let group = replay.groups.entry(masks).or_default();
            let words = view.data().as_chunks::<4>().0;
            let values = words.iter().map(|word| f32::from_le_bytes(*word));
            if kind == "truth" {
                group.truth = values.collect();
            } else {
                group.width = view.shape().last().copied().unwrap_or_default();
                group.numbers = values.collect();
            }
        }
        for (masks, group) in &replay.groups {
            let numbers = group.truth.len() * group.width;
            if *masks == 0
                || !group.truth.len().is_multiple_of(*masks)
                || group.numbers.len() != numbers
            {
                return Err(failed(&format!(
                    "truth.{masks} does not fit numbers.{masks}"
                )));
            }
        }
        Ok(replay)
    }
}

impl Group {
    fn objects(&self, masks: usize) -> usize {
        self.truth.len() / masks
    }

    fn select(
        &self,
        masks: usize,
        objects: impl ExactSizeIterator<Item = usize>,
        device: &Device,
    ) -> SeenRound {
        let (count, size) = (objects.len(), masks * self.width);
        let mut numbers = Vec::with_capacity(count * size);
        let mut truth = Vec::with_capacity(count * masks);
        for i in objects {
            numbers.extend_from_slice(&self.numbers[i * size..][..size]);
            truth.extend_from_slice(&self.truth[i * masks..][..masks]);
        }
        let numbers = TensorData::new(numbers, [count, masks, self.width]);
        let truth = TensorData::new(truth, [count, masks]);
        SeenRound {
            numbers: Tensor::from_data(numbers, device),
            truth: Tensor::from_data(truth, device),
        }
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// `objects` objects with `masks` masks each; numbers and truth tell which they are.
    fn round(first: usize, objects: usize, masks: usize) -> SeenRound {
        let ids = (first..first + objects).flat_map(|i| vec![i as f32; masks]);
        let ids: Vec<f32> = ids.collect();
        let numbers: Vec<f32> = ids.iter().flat_map(|&i| [i, -i]).collect();
        let device = Device::flex();
        SeenRound {
            numbers: Tensor::from_data(TensorData::new(numbers, [objects, masks, 2]), &device),
            truth: Tensor::from_data(TensorData::new(ids, [objects, masks]), &device),
        }
    }

    fn filled() -> Replay {
        let mut replay = Replay::default();
        replay.add(round(0, 3, 3));
        replay.add(round(3, 2, 1));
        replay.add(round(5, 4, 3));
        replay
    }

    #[test]
    fn all_are_drawn_alike_and_stay_together() {
        let (replay, device) = (filled(), Device::flex());
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut seen = [0; 9];
        for _ in 0..90 {
            let rounds = replay.draw(20, &mut rng, &device);
            let objects: usize = rounds.iter().map(|round| round.truth.dims()[0]).sum();
            assert_eq!(objects, 20);
            for round in rounds {
                let [_, masks, width] = round.numbers.dims();
                let (numbers, truth) = (values(round.numbers), values(round.truth));
                for (numbers, truth) in numbers.chunks(masks * width).zip(truth.chunks(masks)) {
                    let id = truth[0];
                    assert!(truth.iter().all(|&v| v == id));
                    assert!(numbers.chunks(2).all(|pair| pair == [id, -id]));
                    assert_eq!(masks, if (3.0..5.0).contains(&id) { 1 } else { 3 });
                    seen[id as usize] += 1;
                }
            }
        }
        assert!(
            seen.iter().all(|&times| (150..=250).contains(&times)),
            "{seen:?}"
        );
        assert!(Replay::default().draw(5, &mut rng, &device).is_empty());
    }

    #[test]
    fn what_is_written_is_read() {
        let replay = filled();
        let bytes = replay.to_bytes().unwrap();
        assert_eq!(Replay::from_bytes(&bytes).unwrap(), replay);
        assert!(Replay::from_bytes(&bytes[..40]).is_err());
        // The same file with another name for some of its tensors.
        let at = bytes
            .windows(7)
            .position(|word| word == b"truth.3")
            .unwrap();
        for (name, word) in [
            (*b"truth.2", "numbers.2"),
            (*b"truth.0", "truth.0"),
            (*b"trutha3", "what is"),
        ] {
            let mut damaged = bytes.clone();
            damaged[at..at + name.len()].copy_from_slice(&name);
            let error = Replay::from_bytes(&damaged).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains('\n'), "{error}");
        }
    }
}
