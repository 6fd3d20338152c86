//! The embedding of an image: computed once, asked many times, saved to a file.

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use safetensors::tensor::SafeTensors;
use samara_image::{Frame, ImageLimits, InputImage, RgbImage, one_line, read_file, write_atomic};
use samara_model::burn::tensor::{Tensor, TensorData};
use samara_model::sam::ImageTokens;
use samara_model::{FeaturesError, ImageFeatures};
use sha2::{Digest, Sha256};

use crate::error::DeviceError;
use crate::precision::Precision;
use crate::preprocess::normalise_values;
use crate::segmenter::Segmenter;
use crate::zoom::LastView;
use crate::{Error, Result};

const FINGERPRINT: &str = "samara.fingerprint";
const ARCHITECTURE: &str = "samara.architecture";
const FRAME: &str = "samara.frame";
const PRECISION: &str = "samara.precision";
const IMAGE: &str = "samara.image_sha256";

/// What a model knows of one image. Prompts are answered from it in milliseconds.
#[derive(Clone)]
pub struct Embedding {
    segmenter: Segmenter,
    frame: Frame,
    pub(crate) features: ImageFeatures,
    image: String,
    precision: Precision,
    /// What prompts without a mask share, made for the first of them.
    pub(crate) shared: Arc<OnceLock<ImageTokens>>,
    /// The crop that was looked at last.
    pub(crate) last_view: LastView<Embedding>,
}

impl Embedding {
    pub(crate) fn new(
        segmenter: Segmenter,
        frame: Frame,
        features: ImageFeatures,
        image: String,
    ) -> Self {
        Self {
            precision: segmenter.precision(),
            segmenter,
            frame,
            features,
            image,
            shared: Arc::default(),
            last_view: LastView::default(),
        }
    }

    /// How original and model pixels relate.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The model that made the embedding.
    pub fn segmenter(&self) -> &Segmenter {
        &self.segmenter
    }

    /// The numbers in which it was computed. Prompts are answered in those of the [segmenter](Self::segmenter).
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Width and height of the image, in original pixels.
    pub fn size(&self) -> (u32, u32) {
        self.frame().original_size()
    }

    /// True if the embedding was made from exactly these pixels.
    pub fn is_of(&self, image: &RgbImage) -> bool {
        self.image == image_digest(image)
    }

    /// The embedding's values and shape, `[1, channels, rows, columns]` as in the official code.
    /// Finer features of the decoder are not included.
    ///
    /// # Errors
    /// The device failed.
    pub fn values(&self) -> Result<(Vec<f32>, [usize; 4])> {
        let embedding = self.features.image_embed.clone().permute([0, 3, 1, 2]);
        let shape = embedding.dims();
        Ok((read(embedding)?, shape))
    }

    /// The embedding of an image of `size` (width, height) with these [`values`](Self::values), as other programs
    /// keep them. It is of no known image, so nothing looks at the pixels again.
    ///
    /// # Errors
    /// There are not as many values as the model has, one is not finite, or the model has finer features beside
    /// them (SAM 2).
    pub fn from_values(segmenter: &Segmenter, values: Vec<f32>, size: (u32, u32)) -> Result<Self> {
        let refuse = |why: String| Error::from(samara_image::Error::parameter("embedding", why));
        let &[[_, rows, columns, channels]] = &segmenter.config().feature_shapes()[..] else {
            let name = segmenter.name();
            return Err(refuse(format!(
                "that of {name} has finer features beside its values; keep it with Embedding::save"
            )));
        };
        if values.len() != channels * rows * columns {
            return Err(refuse(format!(
                "{} values, expected {channels}x{rows}x{columns}",
                values.len()
            )));
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(refuse("a value is not a finite number".into()));
        }
        let frame = segmenter.frame(size.0, size.1)?;
        let values = TensorData::new(values, [1, channels, rows, columns]);
        let features = ImageFeatures {
            image_embed: Tensor::from_data(values, segmenter.device()).permute([0, 2, 3, 1]),
            high_res_feats: Vec::new(),
        };
        Ok(Self::new(segmenter.clone(), frame, features, String::new()))
    }

    /// How many bytes of memory it takes, about: its values, and three times as many that its first prompt adds.
    pub fn memory(&self) -> usize {
        let ImageFeatures {
            image_embed,
            high_res_feats,
        } = &self.features;
        let values = |tensor: &Tensor<4>| tensor.dims().iter().product::<usize>();
        let finer: usize = high_res_feats.iter().map(values).sum();
        size_of::<f32>() * (4 * values(image_embed) + finer)
    }

    /// Saves the embedding to one file (`safetensors`), bound to the weights that made it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        Ok(write_atomic(path, &self.file(path)?)?)
    }

    /// The embedding as the bytes of such a file.
    ///
    /// # Errors
    /// The device failed.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.file(Path::new("embedding"))
    }

    /// The bytes of a file, which is called so in errors.
    fn file(&self, path: &Path) -> Result<Vec<u8>> {
        let failed = |reason: String| Error::Saved {
            path: path.into(),
            reason,
        };
        let frame = serde_json::to_string(&self.frame).map_err(|e| failed(e.to_string()))?;
        let metadata = HashMap::from([
            (
                FINGERPRINT.to_owned(),
                self.segmenter.fingerprint()?.to_owned(),
            ),
            (ARCHITECTURE.to_owned(), self.segmenter.architecture()),
            (FRAME.to_owned(), frame),
            (PRECISION.to_owned(), self.precision.to_string()),
            (IMAGE.to_owned(), self.image.clone()),
        ]);
        let file = self.features.to_safetensors(metadata);
        file.map_err(|error| match error {
            FeaturesError::Device(why) => DeviceError::Failed(why).into(),
            other => failed(other.to_string()),
        })
    }

    /// Loads an embedding that the same weights made.
    ///
    /// # Errors
    /// [`Error::Saved`] when the file is missing, damaged, no embedding, or made by other
    /// weights.
    pub fn load(path: impl AsRef<Path>, segmenter: &Segmenter) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read_file(path, &ImageLimits::default());
        let bytes = bytes.map_err(|e| Error::Saved {
            path: path.into(),
            reason: e.reason().to_owned(),
        })?;
        Self::of_file(&bytes, path, segmenter)
    }

    /// The embedding of the bytes of a file.
    ///
    /// # Errors
    /// As [`load`](Self::load), about an "embedding".
    pub fn from_bytes(bytes: &[u8], segmenter: &Segmenter) -> Result<Self> {
        Self::of_file(bytes, Path::new("embedding"), segmenter)
    }

    fn of_file(bytes: &[u8], path: &Path, segmenter: &Segmenter) -> Result<Self> {
        let failed = |reason: String| Error::Saved {
            path: path.into(),
            reason,
        };
        let damaged = |e: &dyn fmt::Display| failed(one_line(&format!("no saved embedding: {e}")));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(&e))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let field = |key: &str| {
            metadata
                .get(key)
                .ok_or_else(|| damaged(&format!("{key} is missing in its metadata")))
        };
        let made_by = field(FINGERPRINT)?;
        if made_by != segmenter.fingerprint()? {
            return Err(failed(format!(
                "this embedding was made by other weights ({}, fingerprint {}…), not by these ({}, {}…)",
                field(ARCHITECTURE)?.escape_debug(),
                made_by.get(..12).unwrap_or(made_by).escape_debug(),
                segmenter.architecture(),
                &segmenter.fingerprint()?[..12],
            )));
        }
        let frame: Frame = serde_json::from_str(field(FRAME)?).map_err(|e| damaged(&e))?;
        let (width, height) = frame.original_size();
        if segmenter.frame(width, height)? != frame {
            return Err(damaged(&format!("{FRAME} is none that this model makes")));
        }
        let image = field(IMAGE)?.clone();
        let config = segmenter.config();
        let shapes = config.feature_shapes();
        let features = ImageFeatures::from_safetensors(bytes, &shapes, segmenter.device())
            .map_err(|e| damaged(&e))?;
        // Files from before there were others have none.
        let precision = match metadata.get(PRECISION) {
            Some(name) => match name.parse().map_err(|e| damaged(&e))? {
                Precision::Auto => return Err(damaged(&format!("{PRECISION} is {name:?}"))),
                precision => precision,
            },
            None => Precision::Fp32,
        };
        Ok(Self {
            precision,
            ..Self::new(segmenter.clone(), frame, features, image)
        })
    }
}

impl Segmenter {
    /// Computes the image embedding: the expensive step, done once per image. Takes anything that
    /// [`InputImage`] is made from: `RgbImage`, `DynamicImage`, [`Pixels`](crate::Pixels) in memory, arrays.
    ///
    /// ```no_run
    /// # fn run(segmenter: samara::Segmenter, frame: &[u8]) -> samara::Result<()> {
    /// use samara::{PixelFormat, Pixels};
    ///
    /// let camera = Pixels::new(frame, 1920, 1080, PixelFormat::Bgr8).with_stride(5888);
    /// let embedding = segmenter.embed(camera)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The image has no pixels or is none, or the device failed.
    pub fn embed<'a>(
        &self,
        image: impl TryInto<InputImage<'a>, Error: Into<Error>>,
    ) -> Result<Embedding> {
        self.embed_between(image, || ControlFlow::Continue(()))
    }

    /// As [`embed`](Self::embed), for programs that have something else to do meanwhile, or may have to stop: `between`
    /// is called before every block of the image encoder, 10 to 100 times, on a thread of the model's pool, where
    /// other prompts may be answered.
    ///
    /// # Errors
    /// As [`embed`](Self::embed); [`Error::Cancelled`] when `between` broke off.
    pub fn embed_between<'a>(
        &self,
        image: impl TryInto<InputImage<'a>, Error: Into<Error>>,
        between: impl FnMut() -> ControlFlow<()> + Send,
    ) -> Result<Embedding> {
        let image = image.try_into().map_err(Into::into)?;
        let image: &RgbImage = &image;
        let frame = self.frame(image.width(), image.height())?;
        let features = self.threads().run(|| {
            let pixels = self.preprocess(image, &frame);
            self.model().try_encode_image(pixels, between)
        });
        let features = features.continue_value().ok_or(Error::Cancelled)?;
        let digest = image_digest(image);
        Ok(Embedding::new(self.clone(), frame, features, digest))
    }

    /// Computes the embedding of an image that was scaled as the model takes it, as `set_torch_image` of the
    /// official code does: `pixels` are red, green and blue from 0 to 255, row by row, of an image whose longest
    /// side is the model's input side, and `size` is the width and height of the original.
    ///
    /// # Errors
    /// There are not as many values as such an image has, one is not finite, or the model takes stretched images
    /// (SAM 2).
    pub fn embed_scaled(&self, pixels: &[f32], size: (u32, u32)) -> Result<Embedding> {
        let refuse = |why: String| Error::from(samara_image::Error::parameter("scaled image", why));
        let frame = self.frame(size.0, size.1)?;
        let (width, height) = frame.content_size();
        if frame.is_stretched() {
            return Err(refuse(format!("{} takes images as they are", self.name())));
        }
        if pixels.len() != 3 * (width * height) as usize {
            return Err(refuse(format!(
                "{} values for an image of {}x{}, which is scaled to {width}x{height} in 3 colours",
                pixels.len(),
                size.0,
                size.1
            )));
        }
        if pixels.iter().any(|value| !value.is_finite()) {
            return Err(refuse("a value is not a finite number".into()));
        }
        let features = self.threads().run(|| {
            let side = self.input_side() as usize;
            let pixels = normalise_values(pixels, width as usize, side, self.device());
            self.model().encode_image(pixels)
        });
        Ok(Embedding::new(self.clone(), frame, features, String::new()))
    }

    /// Computes the embeddings of images, one after the other. `progress` hears of every image how many are
    /// done, and can stop the work.
    ///
    /// # Errors
    /// As [`embed`](Self::embed); [`Error::Cancelled`] when `progress` broke off.
    pub fn embed_batch<'a>(
        &self,
        images: impl IntoIterator<Item: TryInto<InputImage<'a>, Error: Into<Error>>>,
        mut progress: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Embedding>> {
        let mut embeddings = Vec::new();
        for image in images {
            embeddings.push(self.embed(image)?);
            if progress(embeddings.len()).is_break() {
                return Err(Error::Cancelled);
            }
        }
        Ok(embeddings)
    }
}

impl fmt::Debug for Embedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedding")
            .field("segmenter", &self.segmenter)
            .field("frame", &self.frame)
            .finish_non_exhaustive()
    }
}

/// SHA-256 over size and pixels, in hexadecimal: tells one image from another.
pub(crate) fn image_digest(image: &RgbImage) -> String {
    let size = format!("{}×{}\n", image.width(), image.height());
    let hash = Sha256::new()
        .chain_update(size)
        .chain_update(image.as_raw());
    hex::encode(hash.finalize())
}

/// Reads a tensor back from its device.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor
        .try_into_vec_as::<f32>()
        .map_err(|e| DeviceError::Failed(e.to_string()).into())
}
