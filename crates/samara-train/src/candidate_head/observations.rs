//! What was seen of many answers, in memory and as files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use samara::Intent;
use samara_image::write_atomic;
use sha2::{Digest, Sha256};

use crate::TrainError;

/// Key of the model's fingerprint in a file.
const MODEL: &str = "samara.fingerprint";
/// Key of the SHA-256 of the values.
const CHECKSUM: &str = "samara.sha256";
/// Names of the tensors in a file.
const FEATURES: &str = "features";
const IOUS: &str = "ious";
const ASKED: &str = "asked";

/// One answer: what the heads see of every mask token, and its true IoU.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Observation {
    /// What was meant.
    pub(super) asked: Asked,
    /// Token by token.
    pub(super) features: Vec<f32>,
    pub(super) ious: Vec<f32>,
}

/// What a prompt was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) intent: Intent,
    /// A first click, which may mean several things: the candidates behind the first token answer it.
    pub(super) ambiguous: bool,
}

/// All that was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Observations {
    /// Of answer by answer, token by token.
    pub(super) features: Vec<f32>,
    pub(super) ious: Vec<f32>,
    pub(super) asked: Vec<Asked>,
}

impl Observations {
    pub(super) fn add(&mut self, seen: Observation) {
        self.features.extend(seen.features);
        self.ious.extend(seen.ious);
        self.asked.push(seen.asked);
    }

    pub(super) fn extend(&mut self, others: Self) {
        self.features.extend(others.features);
        self.ious.extend(others.ious);
        self.asked.extend(others.asked);
    }

    /// Mask tokens of every answer.
    pub(super) fn tokens(&self) -> usize {
        self.ious.len() / self.asked.len().max(1)
    }

    /// What is seen of a token of an answer.
    pub(super) fn row(&self, answer: usize, token: usize) -> &[f32] {
        let width = self.features.len() / self.ious.len().max(1);
        &self.features[(answer * self.tokens() + token) * width..][..width]
    }

    /// The true IoU of every token of an answer.
    pub(super) fn ious_of(&self, answer: usize) -> &[f32] {
        &self.ious[answer * self.tokens()..][..self.tokens()]
    }

    /// What was seen in the first images, as far as their files are whole and were made with the model of this
    /// fingerprint, and the number of these images.
    pub(super) fn read_images(folder: &Path, fingerprint: &str, examples: u64) -> (Self, u64) {
        let mut all = Self::default();
        let mut done = 0;
        while done < examples {
            let file = std::fs::read(image_path(folder, done)).ok();
            let Some(seen) = file.and_then(|bytes| Self::from_bytes(&bytes, fingerprint)) else {
                break;
            };
            all.extend(seen);
            done += 1;
        }
        (all, done)
    }

    /// Writes what was seen in the image of this number.
    pub(super) fn write_image(
        &self,
        folder: &Path,
        fingerprint: &str,
        image: u64,
    ) -> Result<(), TrainError> {
        std::fs::create_dir_all(folder).map_err(|e| TrainError::file(folder, &e))?;
        let path = image_path(folder, image);
        let bytes = self.to_bytes(fingerprint);
        let bytes = bytes.map_err(|e| TrainError::file(&path, &e))?;
        Ok(write_atomic(&path, &bytes)?)
    }

    fn to_bytes(&self, fingerprint: &str) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        let floats =
            |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
        let (answers, tokens) = (self.asked.len(), self.tokens());
        let width = self.features.len() / self.ious.len().max(1);
        let flag = |asked: &Asked| [asked.intent as u8, u8::from(asked.ambiguous)];
        let tensors = [
            (
                FEATURES,
                Dtype::F32,
                vec![answers, tokens, width],
                floats(&self.features),
            ),
            (IOUS, Dtype::F32, vec![answers, tokens], floats(&self.ious)),
            (
                ASKED,
                Dtype::U8,
                vec![answers, 2],
                self.asked.iter().flat_map(flag).collect(),
            ),
        ];
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            Ok((*name, TensorView::new(*dtype, shape.clone(), bytes)?))
        });
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        let metadata = HashMap::from([
            (MODEL.to_owned(), fingerprint.to_owned()),
            (
                CHECKSUM.to_owned(),
                checksum(tensors.iter().map(|t| &t.3[..])),
            ),
        ]);
        safetensors::serialize(views, Some(metadata))
    }

    /// `None` for what is damaged or of another model.
    fn from_bytes(bytes: &[u8], fingerprint: &str) -> Option<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
        let metadata = header.metadata().as_ref()?;
        if metadata.get(MODEL)? != fingerprint {
            return None;
        }
        let file = SafeTensors::deserialize(bytes).ok()?;
        let tensors = [FEATURES, IOUS, ASKED].map(|name| file.tensor(name).ok());
        let [Some(features), Some(ious), Some(asked)] = tensors else {
            return None;
        };
        let parts = [features.data(), ious.data(), asked.data()];
        if checksum(parts.into_iter()) != *metadata.get(CHECKSUM)? {
            return None;
        }
        let floats = |view: &TensorView<'_>| {
            let (words, _) = view.data().as_chunks::<4>();
            words.iter().copied().map(f32::from_le_bytes).collect()
        };
        let told = |&[intent, ambiguous]: &[u8; 2]| {
            Some(Asked {
                intent: Intent::ALL.into_iter().find(|&i| i as u8 == intent)?,
                ambiguous: ambiguous != 0,
            })
        };
        Some(Self {
            features: floats(&features),
            ious: floats(&ious),
            asked: asked
                .data()
                .as_chunks()
                .0
                .iter()
                .map(told)
                .collect::<Option<_>>()?,
        })
    }
}

fn checksum<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut digest = Sha256::new();
    parts.for_each(|part| digest.update(part));
    hex::encode(digest.finalize())
}

fn image_path(folder: &Path, image: u64) -> PathBuf {
    folder.join(format!("{image:06}.safetensors"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observation(value: f32) -> Observation {
        Observation {
            asked: Asked {
                intent: Intent::ALL[value as usize % 3],
                ambiguous: value > 2.0,
            },
            features: vec![value; 5 * 4],
            ious: vec![value / 10.0; 4],
        }
    }

    fn seen(from: u64) -> Observations {
        let mut seen = Observations::default();
        for i in 0..3 {
            seen.add(observation((from + i) as f32));
        }
        seen
    }

    #[test]
    fn rows_are_found() {
        let seen = seen(1);
        assert_eq!(seen.tokens(), 4);
        assert_eq!(seen.row(1, 3), [2.0; 5]);
        assert_eq!(seen.ious_of(2), [0.3; 4]);
    }

    #[test]
    fn whole_files_come_back_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let write = |seen: &Observations, image| {
            seen.write_image(folder.path(), "abc", image).unwrap();
        };
        for image in [0, 1, 3] {
            write(&seen(image), image);
        }
        write(&Observations::default(), 2);
        let read = |key, examples| Observations::read_images(folder.path(), key, examples);
        let (all, done) = read("abc", 9);
        assert_eq!(done, 4, "one of them without an object");
        let mut expected = seen(0);
        expected.extend(seen(1));
        expected.extend(seen(3));
        assert_eq!(all, expected);
        assert_eq!(read("other model", 9).1, 0);
        assert_eq!(read("abc", 1), (seen(0), 1));

        // A damaged one and all behind it are made anew.
        let path = image_path(folder.path(), 1);
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read("abc", 9).1, 1);
        std::fs::write(&path, &bytes[..last / 2]).unwrap();
        assert_eq!(read("abc", 9).1, 1);
    }
}
