//! From what a mask shows to its IoU: a small network, trained on masks with a known truth while
//! the model itself stays as it is.

use std::collections::HashMap;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use samara::tensors::model::with_ordered_header;
use samara::{DenseLayer, Mlp, PredictedIou, Segmenter};
use samara_image::{one_line, write_atomic};

use crate::evidence::Evidence;
use crate::{QualityError, Result};

const FINGERPRINT: &str = "samara.fingerprint";
/// Names of the layers in a file.
const LAYERS: usize = 3;

/// Estimates the IoU of an external mask with its unknown truth from its
/// [`Evidence`]: three layers with ReLU between them and a sigmoid behind.
///
/// A head belongs to the weights of the model that it was trained with, and is refused by others.
#[derive(Debug, Clone, PartialEq)]
pub struct QualityHead {
    mlp: Mlp,
    fingerprint: String,
}

impl QualityHead {
    /// A head for the model with this [fingerprint](samara::Segmenter::fingerprint).
    ///
    /// # Errors
    /// [`QualityError::Layers`]: the layers do not follow on each other, or a value is not finite.
    pub fn new(layers: [DenseLayer; LAYERS], fingerprint: String) -> Result<Self> {
        let mlp = Mlp::new(layers.into());
        Ok(Self {
            mlp: mlp?,
            fingerprint,
        })
    }

    /// Length of the evidence that it takes.
    pub fn inputs(&self) -> usize {
        self.mlp.inputs()
    }

    /// Fingerprint of the model that it belongs to.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The estimated IoU, in 0..=1, of a mask.
    ///
    /// # Errors
    /// [`QualityError::Evidence`]: the evidence is that of another model, of another length.
    pub fn estimate(&self, evidence: &Evidence) -> Result<PredictedIou> {
        let (found, expected) = (evidence.0.len(), self.inputs());
        if found != expected {
            return Err(QualityError::Evidence { found, expected });
        }
        Ok(PredictedIou(self.mlp.probability(&evidence.0)))
    }

    /// Writes the head as `safetensors`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let mut tensors = Vec::new();
        for (i, layer) in self.mlp.layers().iter().enumerate() {
            let (inputs, outputs) = (layer.inputs(), layer.bias.len());
            tensors.push((
                format!("layer{i}.weight"),
                vec![outputs, inputs],
                bytes(&layer.weight),
            ));
            tensors.push((format!("layer{i}.bias"), vec![outputs], bytes(&layer.bias)));
        }
        let failed = |e: safetensors::SafeTensorError| QualityError::file(path, e);
        let views = tensors.iter().map(|(name, shape, data)| {
            Ok((name, TensorView::new(Dtype::F32, shape.clone(), data)?))
        });
        let views: Vec<_> = views.collect::<Result<_, _>>().map_err(failed)?;
        let metadata = HashMap::from([(FINGERPRINT.to_owned(), self.fingerprint.clone())]);
        let file = safetensors::serialize(views, Some(metadata)).map_err(failed)?;
        let file = with_ordered_header(file);
        write_atomic(path, &file).map_err(|e| QualityError::from(samara::Error::from(e)))
    }

    /// Reads a head.
    ///
    /// # Errors
    /// [`QualityError::File`] names the file and what is wrong.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = samara_image::read_file(path, &samara_image::ImageLimits::default())
            .map_err(samara::Error::from)?;
        Self::from_bytes(&file).map_err(|e| QualityError::file(path, e))
    }

    /// The head in the bytes of such a file.
    ///
    /// # Errors
    /// [`QualityError::Format`] or [`QualityError::Layers`]: they are no head.
    pub fn from_bytes(file: &[u8]) -> Result<Self> {
        let failed = QualityError::Format;
        let wrong = |e: safetensors::SafeTensorError| failed(one_line(&e.to_string()));
        let (_, metadata) = SafeTensors::read_metadata(file).map_err(wrong)?;
        let tensors = SafeTensors::deserialize(file).map_err(wrong)?;
        let values = |name: String| -> Result<Vec<f32>> {
            let view = tensors.tensor(&name).map_err(wrong)?;
            if view.dtype() != Dtype::F32 {
                return Err(failed(format!("{name} is not f32")));
            }
            let (values, _) = view.data().as_chunks::<4>();
            Ok(values.iter().copied().map(f32::from_le_bytes).collect())
        };
        let layer = |i: usize| -> Result<DenseLayer> {
            Ok(DenseLayer {
                weight: values(format!("layer{i}.weight"))?,
                bias: values(format!("layer{i}.bias"))?,
            })
        };
        let known = metadata.metadata().as_ref();
        let fingerprint = known
            .and_then(|m| m.get(FINGERPRINT))
            .ok_or_else(|| failed(format!("its metadata holds no {FINGERPRINT}")))?;
        Self::new([layer(0)?, layer(1)?, layer(2)?], fingerprint.clone())
    }
}

/// The head by which the embedded model assesses masks that it did not make.
///
/// # Errors
/// Never, unless the build was tampered with.
#[cfg(feature = "embedded")]
pub fn embedded_quality_head() -> Result<QualityHead> {
    QualityHead::from_bytes(samara_lite::QUALITY_HEAD)
}

/// The head that comes with the model.
#[cfg(feature = "embedded")]
pub(crate) fn of_segmenter(segmenter: &Segmenter) -> Result<Option<QualityHead>> {
    /// Other models are spared the fingerprint, which reads all weights.
    const ARCHITECTURE: &str = "mobile-sam";
    if segmenter.architecture() != ARCHITECTURE {
        return Ok(None);
    }
    let head = embedded_quality_head()?;
    Ok((head.fingerprint() == segmenter.fingerprint()?).then_some(head))
}

#[cfg(not(feature = "embedded"))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "reading the head of the embedded model can fail"
)]
pub(crate) fn of_segmenter(_: &Segmenter) -> Result<Option<QualityHead>> {
    Ok(None)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> QualityHead {
        let layer = |weight: &[f32], bias: &[f32]| DenseLayer {
            weight: weight.into(),
            bias: bias.into(),
        };
        let layers = [
            layer(&[1.0, 0.0, 0.0, 1.0], &[0.0, -1.0]),
            layer(&[1.0, 1.0], &[0.5]),
            layer(&[2.0], &[-1.0]),
        ];
        QualityHead::new(layers, "abc".into()).unwrap()
    }

    #[test]
    fn what_is_no_head_is_refused_in_one_line() {
        let header = r#"{"layer0.bias":{"dtype":"F\n32","shape":[1],"data_offsets":[0,4]}}"#;
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.bytes());
        file.extend([0; 4]);
        let message = QualityHead::from_bytes(&file).unwrap_err().to_string();
        assert!(message.starts_with("no quality head: "), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }

    #[test]
    fn layers_follow_on_each_other() {
        let expected = 1.0 / (1.0 + (-3.0_f32).exp());
        let estimate = head().estimate(&Evidence(vec![0.5, 2.0])).unwrap();
        assert!((estimate.0 - expected).abs() < 1e-6);
        assert!(head().estimate(&Evidence(vec![0.5])).is_err());
        assert_eq!(head().inputs(), 2);
    }

    #[test]
    fn a_head_comes_back_from_its_file_and_others_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head.safetensors");
        head().save(&path).unwrap();
        assert_eq!(QualityHead::load(&path).unwrap(), head());
        std::fs::write(&path, "x").unwrap();
        let error = QualityHead::load(&path).unwrap_err().to_string();
        assert!(
            error.contains("head.safetensors") && !error.contains('\n'),
            "{error}"
        );
        let layer = head().mlp.layers()[0].clone();
        let layers = [layer.clone(), layer.clone(), layer];
        assert!(QualityHead::new(layers, String::new()).is_err());
    }
}
