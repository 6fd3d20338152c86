//! A loaded model.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use samara_image::Frame;
use samara_kernels::threads::Threads;
use samara_model::burn::tensor::Device;
use samara_model::checkpoint::{CANDIDATE_HEAD, Checkpoint, CheckpointError};
use samara_model::{Model, ModelConfig};

use crate::calibration::Calibration;
use crate::candidate_head::CandidateHead;
use crate::error::{DeviceError, OptionError};
use crate::everything::MaskThresholds;
use crate::int8_report::Int8Report;
use crate::precision::Precision;
use crate::score::PredictedIou;
use crate::segmenter_options::SegmenterOptions;
use crate::{DeviceKind, Result};

/// A promptable segmentation model, ready to use. Cheap to clone; clones share the weights.
///
/// ```no_run
/// use samara::{DeviceKind, ImageLimits, Prompt, Segmenter, Select, read_image};
///
/// # fn main() -> samara::Result<()> {
/// let segmenter = Segmenter::load("sam_vit_b_01ec64.pth", DeviceKind::Cpu)?;
/// let image = read_image("photo.jpg", &ImageLimits::default())?;
/// let embedding = segmenter.embed(&image)?;
/// let candidates = embedding.predict(&Prompt::point(520.0, 360.0))?;
/// let chosen = candidates.select(&Select::Best)?;
/// chosen.mask.save_png("mask.png")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Segmenter {
    inner: Arc<Inner>,
    candidate_head: Option<Arc<CandidateHead>>,
    calibration: Option<Arc<Calibration>>,
    name: Option<Arc<str>>,
    thresholds: Option<MaskThresholds>,
}

struct Inner {
    model: Model,
    config: ModelConfig,
    device: Device,
    threads: Threads,
    precision: Precision,
    /// Where the weights are that `model` has rounded.
    unrounded: Option<Checkpoint>,
    fingerprint: OnceLock<String>,
}

impl Inner {
    fn new(model: Model, config: ModelConfig, device: &Device, threads: Threads) -> Self {
        Self {
            model,
            config,
            device: device.clone(),
            threads,
            precision: Precision::Fp32,
            unrounded: None,
            fingerprint: OnceLock::new(),
        }
    }
}

impl Segmenter {
    /// Key of a model's name in a checkpoint's metadata.
    pub const NAME_KEY: &str = "samara.name";

    /// Loads a checkpoint of any supported format; the architecture is recognised from its keys.
    ///
    /// # Errors
    /// The checkpoint is unreadable or does not fit, the device is not available, or it is a GPU and the precision
    /// is none that it computes in.
    pub fn load(
        checkpoint: impl AsRef<Path>,
        options: impl Into<SegmenterOptions>,
    ) -> Result<Self> {
        Self::from_checkpoint(&Checkpoint::open(checkpoint)?, options)
    }

    /// Loads an opened checkpoint, with the [`CandidateHead`] and the [`Calibration`] in it, if there are any.
    ///
    /// # Errors
    /// The tensors do not fit the model, or the head, the calibration or the name is damaged.
    pub fn from_checkpoint(
        checkpoint: &Checkpoint,
        options: impl Into<SegmenterOptions>,
    ) -> Result<Self> {
        let options = options.into();
        if options.device() != DeviceKind::Cpu
            && let precision @ (Precision::Bf16 | Precision::Int8) = options.precision()
        {
            let why = format!("{precision}: a GPU computes in fp32; {precision} is for the CPU");
            return Err(OptionError::new("precision", why).into());
        }
        let device = options.device().open()?;
        let is_int8 = Int8Report::of_checkpoint(checkpoint)?.is_some();
        let precision = options.precision().resolved(options.device(), is_int8);
        Self::on_device(checkpoint, &device, options.threads()?, precision)
    }

    pub(crate) fn on_device(
        checkpoint: &Checkpoint,
        device: &Device,
        threads: Threads,
        precision: Precision,
    ) -> Result<Self> {
        let config = checkpoint.config()?;
        let model = threads.run(|| Model::load_with(checkpoint, &config, device))?;
        let calibration = Calibration::of_checkpoint(checkpoint)?;
        let head = checkpoint.head_tensors(CANDIDATE_HEAD)?;
        let head = CandidateHead::from_tensors(head, config.mask_tokens());
        let invalid = |reason: String| CheckpointError::Invalid {
            path: checkpoint.path().into(),
            reason,
        };
        let head = head.map_err(|error| invalid(error.to_string()))?;
        let name = checkpoint.metadata().get(Self::NAME_KEY);
        if let Some(name) = name.filter(|n| n.trim().is_empty() || n.contains(char::is_control)) {
            let key = Self::NAME_KEY;
            return Err(invalid(format!("bad {key} in its metadata: {name:?} is no name")).into());
        }
        let thresholds = MaskThresholds::of_checkpoint(checkpoint)?;
        let rounds = precision != Precision::Fp32;
        if rounds {
            model.set_precision(precision.of_model(), checkpoint);
        }
        let inner = Inner {
            precision,
            unrounded: rounds.then(|| checkpoint.clone()),
            ..Inner::new(model, config, device, threads)
        };
        Ok(Self {
            name: name.map(|name| name.as_str().into()),
            thresholds,
            ..Self::from_inner(inner)
                .with_candidate_head(head)
                .with_calibration(calibration)
        })
    }

    /// Wraps a model that is already there.
    #[cfg(feature = "tensors")]
    pub(crate) fn from_model(
        model: Model,
        config: ModelConfig,
        device: &Device,
        threads: Threads,
    ) -> Self {
        Self::from_inner(Inner::new(model, config, device, threads))
    }

    fn from_inner(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
            candidate_head: None,
            calibration: None,
            name: None,
            thresholds: None,
        }
    }

    /// Answers with scores and match probabilities of this head, or with the decoder's own scores.
    pub fn with_candidate_head(mut self, head: Option<CandidateHead>) -> Self {
        self.candidate_head = head.map(Arc::new);
        self
    }

    /// The head that ranks the candidates, if there is one.
    pub fn candidate_head(&self) -> Option<&CandidateHead> {
        self.candidate_head.as_deref()
    }

    /// Answers with [`Candidate::predicted_iou`](crate::Candidate) calibrated so, or raw.
    pub fn with_calibration(mut self, calibration: Option<Calibration>) -> Self {
        self.calibration = calibration.map(Arc::new);
        self
    }

    /// The score of a mask token as a predicted IoU: calibrated, or as it is without a calibration.
    pub(crate) fn calibrated(&self, token: usize, score: PredictedIou) -> PredictedIou {
        let calibration = self.calibration();
        calibration.map_or(score, |calibration| calibration.apply(token, score))
    }

    /// How raw scores become the predicted IoU of a candidate; raw scores are used without.
    pub fn calibration(&self) -> Option<&Calibration> {
        self.calibration.as_deref()
    }

    /// What the model calls itself, such as `lite`: a name in its checkpoint, or else its architecture.
    pub fn name(&self) -> String {
        let name = self.name.as_ref().map(ToString::to_string);
        name.unwrap_or_else(|| self.architecture())
    }

    /// The thresholds of segment-everything: those in the checkpoint, or else the official ones of the
    /// model's family.
    pub fn thresholds(&self) -> MaskThresholds {
        let official = || MaskThresholds::official(self.config());
        self.thresholds.unwrap_or_else(official)
    }

    /// A short name of the architecture, such as `sam-vit-b`.
    pub fn architecture(&self) -> String {
        self.inner.config.architecture()
    }

    /// Side of the model's square input, in model pixels.
    pub fn input_side(&self) -> u32 {
        self.inner.config.input_side() as u32
    }

    /// Side of the grid of mask logits: four cells for every cell of the image embedding.
    pub fn logits_side(&self) -> usize {
        self.inner.config.logits_side()
    }

    /// Mask tokens of the decoder: one for the single mask, the others for the candidates.
    pub fn mask_tokens(&self) -> usize {
        self.inner.config.mask_tokens()
    }

    /// Whether the model remembers the frames of a video (SAM 2).
    pub fn has_memory(&self) -> bool {
        matches!(self.inner.config, ModelConfig::Sam2(_))
    }

    /// The model's configuration.
    pub(crate) fn config(&self) -> &ModelConfig {
        &self.inner.config
    }

    /// How an image of this size, in original pixels, lies in the model's input.
    ///
    /// # Errors
    /// The image has no pixels, or more than can be counted.
    pub fn frame(&self, width: u32, height: u32) -> Result<Frame> {
        let side = self.input_side();
        Ok(match self.inner.config {
            ModelConfig::Sam2(_) => Frame::stretch(width, height, side)?,
            ModelConfig::Sam(_) => Frame::longest_side(width, height, side)?,
        })
    }

    /// The numbers that the model multiplies: anything but [`Precision::Auto`].
    pub fn precision(&self) -> Precision {
        self.inner.precision
    }

    /// SHA-256 over the names, shapes and values of all weights, in hexadecimal. Computed on
    /// first use; the same weights give the same fingerprint whatever file they came from, and whatever they
    /// are rounded to.
    ///
    /// # Errors
    /// The device failed; or the model computes in another precision than `f32`, and its checkpoint cannot be read
    /// any more.
    pub fn fingerprint(&self) -> Result<&str> {
        if let Some(known) = self.inner.fingerprint.get() {
            return Ok(known);
        }
        let fingerprint = match &self.inner.unrounded {
            Some(checkpoint) => {
                let Inner { config, device, .. } = &*self.inner;
                Model::load_with(checkpoint, config, device)?.fingerprint()
            }
            None => self.inner.model.fingerprint(),
        };
        let fingerprint = fingerprint.map_err(|e| DeviceError::Failed(e.to_string()))?;
        Ok(self.inner.fingerprint.get_or_init(|| fingerprint))
    }

    /// The model itself.
    pub(crate) fn model(&self) -> &Model {
        &self.inner.model
    }

    pub(crate) fn threads(&self) -> &Threads {
        &self.inner.threads
    }

    pub(crate) fn device(&self) -> &Device {
        &self.inner.device
    }
}

impl fmt::Debug for Segmenter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segmenter")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}
