//! A model whose encoder multiplies 8-bit integers, with a bounded loss on given pictures.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use samara_image::RgbImage;
use samara_kernels::threads::Threads;
use samara_model::Precision as LayerPrecision;
use samara_model::checkpoint::{Checkpoint, CheckpointError};

use crate::embedding::read;
use crate::error::OptionError;
use crate::int8_report::Int8Report;
use crate::{DeviceKind, Embedding, Error, Precision, Result, Segmenter, SegmenterOptions};

/// The strengths of smoothing that are tried; see [`Checkpoint::smoothed`].
const STRENGTHS: [f32; 4] = [0.0, 0.25, 0.5, 0.75];
/// So many pictures tell what one layer costs, and which strength is best.
const FEW: usize = 2;
/// Layers are chosen for an error below the one that is allowed, as what they cost is not quite independent.
const MARGIN: f64 = 0.95;

/// A model whose image encoder multiplies 8-bit integers, but for layers where that would cost too much: they
/// stay in bf16. Once saved, [`Precision::Auto`] is [`Precision::Int8`] for it.
///
/// Both sides are rounded: a weight with one scale for every output channel, the rows that it is multiplied with as
/// they come, with a scale and an offset for every row. What pictures are needed for is the loss, and which
/// channels are to be [smoothed](Checkpoint::smoothed).
pub struct Int8Model {
    checkpoint: Checkpoint,
    integers: BTreeSet<String>,
    report: Int8Report,
}

/// How to look for an [`Int8Model`].
#[derive(Debug, Clone)]
pub struct Int8Options {
    max_error: f64,
    segmenter: SegmenterOptions,
}

impl Default for Int8Options {
    fn default() -> Self {
        Self {
            max_error: Self::MAX_ERROR,
            segmenter: SegmenterOptions::default(),
        }
    }
}

impl Int8Options {
    /// The largest relative error of the embedding, if nothing else is asked for.
    pub const MAX_ERROR: f64 = 0.025;

    /// Layers are kept in bf16 until the [error](Int8Report::error) is no larger than this.
    pub fn with_max_error(mut self, max_error: f64) -> Self {
        self.max_error = max_error;
        self
    }

    /// On these threads.
    pub fn with_segmenter(mut self, options: SegmenterOptions) -> Self {
        self.segmenter = options;
        self
    }
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Int8Stage {
    /// Pictures in fp32.
    Pictures,
    /// Strengths of smoothing.
    Smoothing,
    /// One layer after the other in integers.
    Layers,
    /// Pictures in integers.
    Checking,
}

impl Int8Model {
    /// Key of the report in a checkpoint's metadata.
    pub const KEY: &str = Int8Report::KEY;

    /// Looks for the layers that can be integers. `progress` hears of what is being done, and how much of it is
    /// done, and can stop it. Needs about as long as 10 embeddings of every picture, and one of two pictures for
    /// every layer where not all can be integers.
    ///
    /// # Errors
    /// The checkpoint does not load; there is no picture; bf16 alone loses more than is allowed;
    /// [`Error::Cancelled`].
    pub fn find(
        checkpoint: &Checkpoint,
        pictures: &[RgbImage],
        options: &Int8Options,
        mut progress: impl FnMut(Int8Stage, usize, usize) -> ControlFlow<()>,
    ) -> Result<Self> {
        let refuse = |option: &'static str, why: String| Error::from(OptionError::new(option, why));
        if pictures.is_empty() {
            return Err(refuse("pictures", "there is none".into()));
        }
        if !(options.max_error > 0.0 && options.max_error < 1.0) {
            let why = format!("{}: must lie between 0 and 1", options.max_error);
            return Err(refuse("max_error", why));
        }
        if options.segmenter.device() != DeviceKind::Cpu {
            return Err(refuse(
                "device",
                "integers are multiplied on the CPU alone".into(),
            ));
        }
        if Int8Report::of_checkpoint(checkpoint)?.is_some() {
            let why =
                "its encoder multiplies integers already; take the model that it was made from";
            return Err(invalid(checkpoint, why));
        }
        let mut search = Search {
            threads: options.segmenter.threads()?,
            pictures,
            exact: Vec::new(),
            weights: BTreeSet::new(),
            progress: &mut progress,
            stage: (Int8Stage::Pictures, 0, pictures.len()),
        };
        let largest = search.observe(checkpoint)?;
        let bf16 = search.error(checkpoint, &BTreeSet::new())?;
        if bf16 > options.max_error {
            let why = format!(
                "{}: bf16 alone has an error of {bf16:.4} on these pictures",
                options.max_error
            );
            return Err(refuse("max_error", why));
        }
        let (smoothing, smoothed) = search.smooth(checkpoint, &largest)?;
        let all = search.weights.clone();
        let error_of_all = search.error(&smoothed, &all)?;
        let (integers, error) = if error_of_all <= options.max_error {
            (all.clone(), error_of_all)
        } else {
            search.choose(&smoothed, error_of_all, options.max_error)?
        };
        let report = Int8Report {
            error,
            error_of_all,
            error_of_bf16: bf16,
            pictures: pictures.len(),
            smoothing,
            integers: integers.len(),
            bf16: all.difference(&integers).cloned().collect(),
        };
        Ok(Self {
            checkpoint: smoothed,
            integers,
            report,
        })
    }

    /// What was found.
    pub fn report(&self) -> &Int8Report {
        &self.report
    }

    /// Writes a checkpoint (`safetensors`). It appears only when it is complete.
    ///
    /// # Errors
    /// A tensor cannot be read, or the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let report = serde_json::to_string(&self.report);
        let report = report.map_err(|e| Error::Saved {
            path: path.as_ref().into(),
            reason: e.to_string(),
        })?;
        let entries = [(Self::KEY, report)];
        Ok(self
            .checkpoint
            .convert_quantised(path.as_ref(), &self.integers, &entries)?)
    }
}

/// Trials of a model on pictures.
struct Search<'a> {
    threads: Threads,
    pictures: &'a [RgbImage],
    /// What every picture gives in fp32.
    exact: Vec<Embedding>,
    /// The weights that could be integers.
    weights: BTreeSet<String>,
    progress: &'a mut dyn FnMut(Int8Stage, usize, usize) -> ControlFlow<()>,
    /// What is being done, how many embeddings of it are done, and of how many.
    stage: (Int8Stage, usize, usize),
}

impl Search<'_> {
    fn begin(&mut self, stage: Int8Stage, embeddings: usize) {
        self.stage = (stage, 0, embeddings);
    }

    /// Called before every embedding.
    fn step(&mut self) -> Result<()> {
        let (stage, done, of) = &mut self.stage;
        let told = (self.progress)(*stage, *done, *of);
        *done += 1;
        told.continue_value().ok_or(Error::Cancelled)
    }

    fn load(
        &self,
        checkpoint: &Checkpoint,
        precision_of: impl Fn(&str) -> LayerPrecision,
    ) -> Result<Segmenter> {
        let device = DeviceKind::Cpu.open()?;
        let threads = self.threads.clone();
        let segmenter = Segmenter::on_device(checkpoint, &device, threads, Precision::Fp32)?;
        segmenter.model().set_weight_precision(precision_of);
        Ok(segmenter)
    }

    /// Computes every picture in fp32, and gives the largest values of all norms.
    fn observe(&mut self, checkpoint: &Checkpoint) -> Result<BTreeMap<String, Vec<f32>>> {
        let segmenter = self.load(checkpoint, |_| LayerPrecision::Fp32)?;
        let model = segmenter.model();
        self.weights = model.int8_weights().into_iter().collect();
        let mut largest = BTreeMap::<String, Vec<f32>>::new();
        for picture in self.pictures {
            self.step()?;
            let embed = || model.observe_norms(|| segmenter.embed(picture));
            let (embedding, found) = self.threads.run(embed);
            self.exact.push(embedding?);
            for (norm, values) in found {
                let largest = largest
                    .entry(norm)
                    .or_insert_with(|| vec![0.0; values.len()]);
                let both = largest.iter_mut().zip(values);
                both.for_each(|(largest, value)| *largest = largest.max(value));
            }
        }
        Ok(largest)
    }

    /// The strength that costs least with all layers in integers, and the model that it gives.
    fn smooth(
        &mut self,
        checkpoint: &Checkpoint,
        largest: &BTreeMap<String, Vec<f32>>,
    ) -> Result<(f32, Checkpoint)> {
        let few = FEW.min(self.pictures.len());
        let all = self.weights.clone();
        let mut best = (f64::INFINITY, 0.0, checkpoint.clone());
        self.begin(Int8Stage::Smoothing, STRENGTHS.len() * few);
        for strength in STRENGTHS {
            let smoothed = checkpoint.smoothed(largest, strength)?;
            let error = self.error_of(&smoothed, few, |key| integer_or_bf16(&all, key))?;
            if error < best.0 {
                best = (error, strength, smoothed);
            }
        }
        Ok((best.1, best.2))
    }

    /// The weights that are integers if the error is to be no larger than `max_error`, and the error; with all of
    /// them it is `error`.
    fn choose(
        &mut self,
        checkpoint: &Checkpoint,
        mut error: f64,
        max_error: f64,
    ) -> Result<(BTreeSet<String>, f64)> {
        let few = FEW.min(self.pictures.len());
        self.begin(Int8Stage::Layers, self.weights.len() * few);
        let mut costs = Vec::new();
        for weight in self.weights.clone() {
            let alone = |key: &str| {
                if key == weight {
                    LayerPrecision::Int8
                } else {
                    LayerPrecision::Fp32
                }
            };
            let error = self.error_of(checkpoint, few, alone)?;
            costs.push((error * error, weight));
        }
        costs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut costs = &costs[..];
        let mut integers = self.weights.clone();
        // Errors of layers are independent, more or less: their squares add up.
        while error > max_error
            && let Some((_, rest)) = costs.split_first()
        {
            let sum = |costs: &[(f64, String)]| costs.iter().map(|(cost, _)| cost).sum::<f64>();
            let wanted = sum(costs) * (MARGIN * max_error / error).powi(2);
            costs = rest;
            while let Some((_, rest)) = costs.split_first()
                && sum(costs) > wanted
            {
                costs = rest;
            }
            integers = costs.iter().map(|(_, weight)| weight.clone()).collect();
            error = self.error(checkpoint, &integers)?;
        }
        Ok((integers, error))
    }

    /// The error over all pictures with these weights in integers and the others in bf16.
    fn error(&mut self, checkpoint: &Checkpoint, integers: &BTreeSet<String>) -> Result<f64> {
        let all = self.pictures.len();
        self.begin(Int8Stage::Checking, all);
        self.error_of(checkpoint, all, |key| integer_or_bf16(integers, key))
    }

    /// The error over the first `count` pictures.
    fn error_of(
        &mut self,
        checkpoint: &Checkpoint,
        count: usize,
        precision_of: impl Fn(&str) -> LayerPrecision,
    ) -> Result<f64> {
        let segmenter = self.load(checkpoint, precision_of)?;
        let mut sum = 0.0;
        for index in 0..count {
            self.step()?;
            let embedding = segmenter.embed(&self.pictures[index])?;
            let error = squared_error(&embedding, &self.exact[index])?;
            if !error.is_finite() {
                let why = "its embedding of a picture is NaN or infinite";
                return Err(invalid(checkpoint, why));
            }
            sum += error;
        }
        Ok((sum / count as f64).sqrt())
    }
}

fn invalid(checkpoint: &Checkpoint, why: &str) -> Error {
    let (path, reason) = (checkpoint.path().into(), why.into());
    CheckpointError::Invalid { path, reason }.into()
}

fn integer_or_bf16(integers: &BTreeSet<String>, key: &str) -> LayerPrecision {
    if integers.contains(key) {
        LayerPrecision::Int8
    } else {
        LayerPrecision::Bf16
    }
}

/// The square of the relative error, of the tensor where it is largest.
fn squared_error(embedding: &Embedding, exact: &Embedding) -> Result<f64> {
    let mut largest = 0.0_f64;
    let tensors = embedding.features.tensors().into_iter();
    for (actual, exact) in tensors.zip(exact.features.tensors()) {
        let (actual, exact) = (read(actual)?, read(exact)?);
        let square = |value: f32| f64::from(value) * f64::from(value);
        let error: f64 = actual.iter().zip(&exact).map(|(a, e)| square(a - e)).sum();
        let all: f64 = exact.iter().map(|&e| square(e)).sum();
        let error = error / all.max(f64::MIN_POSITIVE);
        // What is no number stays so.
        largest = if error <= largest { largest } else { error };
    }
    Ok(largest)
}
