//! Weights as 8-bit integers with one scale for every output channel.
//!
//! A weight `NAME` is stored as `I8` in its own shape, and beside it `NAME.i8_scale` as `F32` `[output
//! channels]`: a weight is its integer times the scale of its channel. Only weights of linear,
//! convolution and transposed convolution layers are stored so; they are `f32` again once loaded.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{DType, TensorData};
use burn_store::bridge;
use burn_store::burn_pack::{Error as StoredTensorError, Tensor as StoredTensor};
use rayon::prelude::*;

use super::file::{floats, invalid};
use super::{CheckpointError, keys};

/// What the key of the scales adds to that of the weight.
const SCALE: &str = ".i8_scale";
/// The largest integer; the smallest is its negative.
const LARGEST: f32 = 127.0;
/// A weight of fewer values stays as it is: there is little to save, and much to lose. The depthwise and the first
/// convolutions of MobileSAM are one in seventy of its weights and most of what int8 costs.
const FEWEST: usize = 32_768;
/// In small models, one of a smaller share than this of all values stays.
const SMALLEST_SHARE: usize = 300;

/// A weight as the file has it.
#[derive(Clone)]
pub(super) struct Quantised {
    pub(super) integers: StoredTensor,
    pub(super) scales: StoredTensor,
}

/// Where the values of the output channels lie in a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Channels {
    count: usize,
    /// Values of one channel that lie together.
    run: usize,
}

impl Channels {
    /// Of a tensor of two dimensions or more.
    fn of(key: &str, shape: &[usize]) -> Self {
        let axis = output_axis(key, shape.len());
        Self {
            count: shape[axis],
            // Beside a dimension of 0 the others may be of any size.
            run: shape[axis + 1..]
                .iter()
                .fold(1, |run, &size| run.saturating_mul(size)),
        }
    }

    /// The scales with which the largest weight of a channel becomes the largest integer.
    fn scales(self, values: &[f32]) -> Vec<f32> {
        let mut largest = vec![0.0_f32; self.count];
        let runs = values.chunks_exact(self.run.max(1)).enumerate();
        for (index, run) in runs {
            let largest = &mut largest[index % self.count];
            *largest = run.iter().fold(*largest, |m, value| m.max(value.abs()));
        }
        largest
            .into_iter()
            .map(|largest| largest / LARGEST)
            .collect()
    }

    /// `write` gets every run of values with the scale of its channel.
    fn for_each_run<T: Send, U: Sync>(
        self,
        (to, from): (&mut [T], &[U]),
        scales: &[f32],
        write: impl Fn(&mut [T], &[U], f32) + Sync,
    ) {
        let run = self.run.max(1);
        let runs = to.par_chunks_mut(run).zip(from.par_chunks(run));
        runs.enumerate()
            .for_each(|(index, (to, from))| write(to, from, scales[index % self.count]));
    }
}

/// The dimension of the output channels: the first, but for transposed convolutions, `[in, out,
/// height, width]`.
fn output_axis(key: &str, rank: usize) -> usize {
    let layer = key.strip_suffix(".weight");
    let transposed = ["output_upscaling.0", "output_upscaling.3"];
    let is_transposed =
        layer.is_some_and(|layer| transposed.iter().any(|end| layer.ends_with(end)));
    usize::from(rank == 4 && is_transposed)
}

/// Whether this is the weight of a linear, convolution or transposed convolution layer.
fn is_layer_weight(key: &str, rank: usize) -> bool {
    /// What the names of learnt tokens and prompts end with, whose tensors are called weights too.
    const EMBEDDINGS: [&str; 4] = ["_embed", "_embeddings", "_token", "_tokens"];
    let Some(layer) = key.strip_suffix(".weight") else {
        return false;
    };
    let is_name = |part: &&str| part.parse::<usize>().is_err();
    let name = layer.rsplit('.').find(is_name).unwrap_or(layer);
    rank >= 2 && !EMBEDDINGS.iter().any(|end| name.ends_with(end))
}

/// The weight in integers, or nothing where the tensor stays as it is; or why it cannot be. The model has so
/// many values in `all`.
pub(super) fn quantise(
    key: &str,
    tensor: &StoredTensor,
    all: usize,
) -> Result<Option<Quantised>, String> {
    let fewest = FEWEST.min(all / SMALLEST_SHARE);
    let worth_it = tensor.shape.iter().product::<usize>() >= fewest;
    if !tensor.dtype.is_float() || !is_layer_weight(key, tensor.shape.len()) || !worth_it {
        return Ok(None);
    }
    integers(key, tensor).map(Some)
}

/// The weight of a layer in integers; or why it cannot be.
pub(super) fn integers(key: &str, tensor: &StoredTensor) -> Result<Quantised, String> {
    let shape = tensor.shape.clone();
    let channels = Channels::of(key, &shape);
    let values = floats(tensor).map_err(|e| format!("key {key}: {e}"))?;
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(format!("key {key} holds {value}, which int8 cannot"));
    }
    let scales = channels.scales(&values);
    let data = TensorData::new(scales.clone(), [channels.count]);
    let source = tensor.clone();
    // Read once more when it is written, so that a conversion holds one tensor at a time.
    let read = move || {
        let values = floats(&source).map_err(StoredTensorError::ValidationError)?;
        let mut integers = vec![0_i8; values.len()];
        let round = |integers: &mut [i8], values: &[f32], scale: f32| {
            for (integer, value) in integers.iter_mut().zip(values) {
                *integer = nearest(*value, scale);
            }
        };
        channels.for_each_run((&mut integers, &values), &scales, round);
        Ok(TensorData::new(integers, source.shape.clone()))
    };
    Ok(Quantised {
        integers: bridge::deferred(key.to_owned(), DType::I8, shape, None, read),
        scales: bridge::from_data(data, format!("{key}{SCALE}"), None),
    })
}

/// The integer that stands for a value.
fn nearest(value: f32, scale: f32) -> i8 {
    if scale > 0.0 {
        (value / scale).round().clamp(-LARGEST, LARGEST) as i8
    } else {
        0
    }
}

/// Puts weights in floating point where a file has integers, and gives the integers by key.
pub(super) fn dequantise_all(
    path: &Path,
    tensors: &mut BTreeMap<String, StoredTensor>,
) -> Result<BTreeMap<String, Quantised>, CheckpointError> {
    let mut scales: BTreeMap<_, _> = tensors
        .extract_if(.., |key, _| key.ends_with(SCALE))
        .collect();
    let mut quantised = BTreeMap::new();
    for (key, tensor) in tensors {
        // Counters and tables are integers in themselves.
        if tensor.dtype != DType::I8 || keys::is_integer(key) {
            continue;
        }
        let scales = scales.remove(&format!("{key}{SCALE}"));
        let pair = pair(key, tensor, scales).map_err(|reason| invalid(path, &reason))?;
        *tensor = pair.dequantised(key);
        quantised.insert(key.clone(), pair);
    }
    if let Some(key) = scales.keys().next() {
        let reason = format!("key {key} belongs to no int8 tensor");
        return Err(invalid(path, &reason));
    }
    Ok(quantised)
}

/// Integers with their scales, if they fit each other.
fn pair(
    key: &str,
    integers: &StoredTensor,
    scales: Option<StoredTensor>,
) -> Result<Quantised, String> {
    let shape = &integers.shape[..];
    if shape.len() < 2 {
        return Err(format!("key {key} is int8, but has the shape {shape:?}"));
    }
    let scales = scales.ok_or_else(|| format!("key {key} is int8, but {key}{SCALE} is missing"))?;
    let expected = [Channels::of(key, shape).count];
    if scales.dtype != DType::F32 || scales.shape[..] != expected {
        let (dtype, found) = (scales.dtype, &scales.shape[..]);
        return Err(format!(
            "key {key}{SCALE} is {dtype:?} {found:?}, not F32 {expected:?}"
        ));
    }
    Ok(Quantised {
        integers: integers.clone(),
        scales,
    })
}

impl Quantised {
    /// Both tensors under the keys of a file.
    pub(super) fn into_tensors(self, key: &str) -> [(String, StoredTensor); 2] {
        let scales = (format!("{key}{SCALE}"), self.scales);
        [(key.to_owned(), self.integers), scales]
    }

    /// The weight as `f32`, read when it is needed.
    fn dequantised(&self, key: &str) -> StoredTensor {
        let shape = self.integers.shape.clone();
        let channels = Channels::of(key, &shape);
        let (pair, key) = (self.clone(), key.to_owned());
        let name = key.clone();
        bridge::deferred(name, DType::F32, shape.clone(), None, move || {
            let invalid = StoredTensorError::ValidationError;
            let scales = floats(&pair.scales).map_err(invalid)?;
            if let Some(bad) = scales.iter().find(|s| !s.is_finite() || **s < 0.0) {
                return Err(invalid(format!("a scale in {key}{SCALE} is {bad}")));
            }
            let integers = bridge::to_data(&pair.integers)?;
            let integers = integers.as_slice::<i8>();
            let integers = integers.map_err(|e| invalid(format!("{e:?}")))?;
            let mut values = vec![0.0_f32; integers.len()];
            let scale = |values: &mut [f32], integers: &[i8], scale: f32| {
                for (value, integer) in values.iter_mut().zip(integers) {
                    *value = f32::from(*integer) * scale;
                }
            };
            channels.for_each_run((&mut values, integers), &scales, scale);
            Ok(TensorData::new(values, shape.clone()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use burn::tensor::Device;
    use burn_store::{BurnToPyTorchAdapter, ModuleAdapter, ModuleContext, ModuleSnapshot};

    use super::*;
    use crate::Model;
    use crate::checkpoint::Checkpoint;

    /// Notes key, rank and kind of module of every tensor.
    #[derive(Clone, Default)]
    struct Kinds(Arc<Mutex<Vec<(String, usize, String)>>>);

    impl ModuleAdapter for Kinds {
        fn adapt(&self, tensor: StoredTensor, context: ModuleContext<'_>) -> StoredTensor {
            let kind = context.module_type().unwrap_or_default().to_owned();
            let tensor = BurnToPyTorchAdapter.adapt(tensor, context);
            let key = keys::OFFICIAL.restore(&tensor.name);
            self.0.lock().unwrap().push((key, tensor.shape.len(), kind));
            tensor
        }

        fn clone_box(&self) -> Box<dyn ModuleAdapter> {
            Box::new(self.clone())
        }
    }

    fn models() -> Vec<Model> {
        let golden = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/golden");
        let device = Device::flex();
        let files = ["sam_vit.pth", "mobile_sam.pth", "sam2_video.safetensors"];
        let load = |name| Model::load(&Checkpoint::open(golden.join(name)).unwrap(), &device);
        files.map(|name| load(name).unwrap()).into()
    }

    /// Keys tell the weights of layers and their output channels as well as the modules do.
    #[test]
    fn keys_tell_what_the_modules_are() {
        let mut seen = BTreeMap::new();
        for model in models() {
            let kinds = Kinds::default();
            model.collect(None, Some(Box::new(kinds.clone())), true);
            for (key, rank, kind) in kinds.0.lock().unwrap().drain(..) {
                let axis = match kind.trim_start_matches("Struct:") {
                    "Linear" | "Conv2d" if rank >= 2 => Some(0),
                    "ConvTranspose2d" if rank >= 2 => Some(1),
                    _ => None,
                };
                let told = is_layer_weight(&key, rank).then(|| output_axis(&key, rank));
                assert_eq!(told, axis, "{key} of {kind}");
                *seen.entry((kind, axis)).or_insert(0) += 1;
            }
        }
        let layers = seen.keys().filter(|(_, axis)| axis.is_some()).count();
        assert_eq!(layers, 3, "{seen:?}");
    }

    #[test]
    fn small_layers_stay_as_they_are() {
        let tensor = |rows: usize| {
            let data = TensorData::zeros::<f32, _>([rows, 64]);
            bridge::from_data(data, "a.weight".into(), None)
        };
        let becomes = |rows, all| quantise("a.weight", &tensor(rows), all).unwrap().is_some();
        assert!(becomes(512, usize::MAX) && !becomes(511, usize::MAX));
        // Of a model of 300 000 values, a layer of 1000 is worth it.
        assert!(becomes(16, 300_000) && !becomes(15, 300_000));
    }

    #[test]
    fn channels_of_a_transposed_convolution_are_its_second_dimension() {
        let shape = [2, 3, 1, 2];
        let channels = Channels::of("mask_decoder.output_upscaling.3.weight", &shape);
        assert_eq!(channels, Channels { count: 3, run: 2 });
        let values: Vec<f32> = (0..12).map(|v| v as f32 * LARGEST).collect();
        assert_eq!(channels.scales(&values), [7.0, 9.0, 11.0]);
        let mut of = [0_usize; 12];
        channels.for_each_run((&mut of, &values), &[0.0, 1.0, 2.0], |of, _, channel| {
            of.fill(channel as usize);
        });
        assert_eq!(of, [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]);
    }
}
