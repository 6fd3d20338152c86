//! What was seen of many answers, in memory and as files.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use samara::Intent;
use samara_image::write_atomic;
use sha2::{Digest, Sha256};

use crate::TrainError;

/// Pictures of a file.
pub(super) const CHUNK: u64 = 16;

/// Key of the model's fingerprint in a file.
const MODEL: &str = "samara.fingerprint";
/// Key of the SHA-256 of the values.
const CHECKSUM: &str = "samara.sha256";

/// One answer: what the heads see of the candidates that were shown, and their true IoU.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Observation {
    pub(super) intent: Intent,
    /// Candidate by candidate.
    pub(super) features: Vec<f32>,
    pub(super) ious: Vec<f32>,
}

/// Answers with the same number of candidates.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Group {
    pub(super) features: Vec<f32>,
    pub(super) ious: Vec<f32>,
    pub(super) intents: Vec<Intent>,
}

/// All that was seen, by the number of candidates: three after a first click, one after further ones.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Observations {
    pub(super) groups: BTreeMap<usize, Group>,
}

impl Observations {
    pub(super) fn add(&mut self, seen: Observation) {
        let group = self.groups.entry(seen.ious.len()).or_default();
        group.features.extend(seen.features);
        group.ious.extend(seen.ious);
        group.intents.push(seen.intent);
    }

    pub(super) fn extend(&mut self, others: Self) {
        for (candidates, other) in others.groups {
            let group = self.groups.entry(candidates).or_default();
            group.features.extend(other.features);
            group.ious.extend(other.ious);
            group.intents.extend(other.intents);
        }
    }

    /// The chunks from the first on that are whole and were collected with the model of this fingerprint, and
    /// the number of pictures in them.
    pub(super) fn read_chunks(folder: &Path, fingerprint: &str, examples: u64) -> (Self, u64) {
        let mut all = Self::default();
        let mut done = 0;
        while done < examples {
            let file = std::fs::read(chunk_path(folder, done)).ok();
            let Some(chunk) = file.and_then(|bytes| Self::from_bytes(&bytes, fingerprint)) else {
                break;
            };
            all.extend(chunk);
            done = examples.min(done + CHUNK);
        }
        (all, done)
    }

    /// Writes the chunk that begins with the picture `begin`.
    pub(super) fn write_chunk(
        &self,
        folder: &Path,
        fingerprint: &str,
        begin: u64,
    ) -> Result<(), TrainError> {
        std::fs::create_dir_all(folder).map_err(|e| TrainError::file(folder, &e))?;
        let path = chunk_path(folder, begin);
        let bytes = self.to_bytes(fingerprint);
        let bytes = bytes.map_err(|e| TrainError::file(&path, &e))?;
        Ok(write_atomic(&path, &bytes)?)
    }

    fn to_bytes(&self, fingerprint: &str) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        let floats =
            |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
        let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        for (&candidates, group) in &self.groups {
            let count = group.intents.len();
            let width = group.features.len() / (count * candidates).max(1);
            let intents = group.intents.iter().map(|&intent| intent as u8).collect();
            let mut add = |kind: &str, dtype, shape, bytes| {
                tensors.push((format!("{kind}.{candidates}"), dtype, shape, bytes));
            };
            let features = floats(&group.features);
            add(
                "features",
                Dtype::F32,
                vec![count, candidates, width],
                features,
            );
            add(
                "ious",
                Dtype::F32,
                vec![count, candidates],
                floats(&group.ious),
            );
            add("intents", Dtype::U8, vec![count], intents);
        }
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?))
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
        let mut all = Self::default();
        let mut parts: Vec<&[u8]> = Vec::new();
        let counts = file.names().into_iter().filter_map(|name| {
            let candidates = name.strip_prefix("ious.")?;
            candidates.parse::<usize>().ok().filter(|&n| n > 0)
        });
        let mut counts: Vec<usize> = counts.collect();
        counts.sort_unstable();
        for candidates in counts {
            let tensor = |kind: &str| file.tensor(&format!("{kind}.{candidates}")).ok();
            let (features, ious, intents) =
                (tensor("features")?, tensor("ious")?, tensor("intents")?);
            parts.extend([features.data(), ious.data(), intents.data()]);
            let floats = |view: &TensorView<'_>| {
                let (words, _) = view.data().as_chunks::<4>();
                words.iter().copied().map(f32::from_le_bytes).collect()
            };
            let intent = |&byte: &u8| Intent::ALL.into_iter().find(|&i| i as u8 == byte);
            let group = Group {
                features: floats(&features),
                ious: floats(&ious),
                intents: intents.data().iter().map(intent).collect::<Option<_>>()?,
            };
            if group.ious.len() != group.intents.len() * candidates {
                return None;
            }
            all.groups.insert(candidates, group);
        }
        (checksum(parts.into_iter()) == *metadata.get(CHECKSUM)?).then_some(all)
    }
}

fn checksum<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut digest = Sha256::new();
    parts.for_each(|part| digest.update(part));
    hex::encode(digest.finalize())
}

fn chunk_path(folder: &Path, begin: u64) -> PathBuf {
    folder.join(format!("{begin:06}.safetensors"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observation(value: f32, candidates: usize) -> Observation {
        Observation {
            intent: Intent::ALL[value as usize % 3],
            features: vec![value; 5 * candidates],
            ious: vec![value / 10.0; candidates],
        }
    }

    fn chunk(from: u64) -> Observations {
        let mut chunk = Observations::default();
        for i in 0..3 {
            chunk.add(observation((from + i) as f32, 3));
            chunk.add(observation((from + i) as f32, 1));
        }
        chunk
    }

    #[test]
    fn whole_chunks_come_back_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for begin in [0, CHUNK, 2 * CHUNK] {
            chunk(begin)
                .write_chunk(folder.path(), "abc", begin)
                .unwrap();
        }
        let read = |key, examples| Observations::read_chunks(folder.path(), key, examples);
        let (all, done) = read("abc", 3 * CHUNK - 1);
        assert_eq!(done, 3 * CHUNK - 1);
        let mut expected = chunk(0);
        expected.extend(chunk(CHUNK));
        expected.extend(chunk(2 * CHUNK));
        assert_eq!(all, expected);
        assert_eq!(read("other model", 9).1, 0);
        assert_eq!(read("abc", CHUNK).0, chunk(0));

        // A damaged one and all behind it are made anew.
        let path = chunk_path(folder.path(), CHUNK);
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read("abc", 3 * CHUNK).1, CHUNK);
        std::fs::write(&path, &bytes[..last / 2]).unwrap();
        assert_eq!(read("abc", 3 * CHUNK).1, CHUNK);
    }
}
