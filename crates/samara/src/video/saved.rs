//! A session in a file, to go on with later.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use half::bf16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use samara_image::{ImageLimits, one_line, read_file, write_atomic};
use samara_model::{ModelConfig, with_ordered_header};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::bank::{MemoryBank, Output, Role, Visited};
use super::{ObjectId, Position, VideoOptions, VideoSession};
use crate::{Error, Result, Segmenter};

const FINGERPRINT: &str = "samara.fingerprint";
const SESSION: &str = "samara.video_session";
const CHECKSUM: &str = "samara.checksum";

/// All of a session but the tensors.
#[derive(Serialize, Deserialize)]
struct Saved {
    options: VideoOptions,
    size: Option<(u32, u32)>,
    position: Option<Position>,
    objects: BTreeMap<ObjectId, SavedObject>,
}

#[derive(Serialize, Deserialize)]
struct SavedObject {
    outputs: Vec<SavedOutput>,
    visited: Visited,
}

#[derive(Serialize, Deserialize)]
struct SavedOutput {
    frame: usize,
    role: Role,
    seen: bool,
    iou: f32,
    object_score: f32,
}

/// Most frames of a video: numbers of frames are added to each other.
const MOST_FRAMES: usize = i32::MAX as usize;

impl Saved {
    fn check_frames(&self) -> Result<(), String> {
        let objects = self.objects.values();
        let of_objects = objects.flat_map(|object| {
            let outputs = object.outputs.iter().map(|output| output.frame);
            outputs.chain(object.visited.frames())
        });
        let position = self.position.iter().map(|position| position.frame);
        match of_objects
            .chain(position)
            .find(|&frame| frame >= MOST_FRAMES)
        {
            Some(frame) => Err(format!("frame {frame} is none of a video")),
            None => Ok(()),
        }
    }
}

impl SavedOutput {
    /// The start of its tensors' names.
    fn name(&self, object: ObjectId) -> String {
        let (frame, role) = (self.frame, self.role);
        let pending = if self.seen { "" } else { ".pending" };
        format!("{object}.{frame}.{role:?}{pending}").to_lowercase()
    }
}

impl VideoSession {
    /// Saves the session to one file (`safetensors`), bound to the model's weights.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let failed = |e: &dyn std::fmt::Display| wrong(path, e);
        let mut tensors: Vec<(String, Dtype, Vec<u8>)> = Vec::new();
        let mut objects = BTreeMap::new();
        for (&object, bank) in &self.objects {
            let mut outputs = Vec::new();
            for (frame, role, seen, output) in bank.outputs() {
                let saved = SavedOutput {
                    frame,
                    role,
                    seen,
                    iou: output.iou,
                    object_score: output.object_score,
                };
                let name = saved.name(object);
                let mut keep = |what: &str, dtype, bytes| {
                    tensors.push((format!("{name}.{what}"), dtype, bytes));
                };
                keep("low_res", Dtype::F32, bytes_of(&output.low_res));
                keep("pointer", Dtype::F32, bytes_of(&output.pointer));
                let memory = output.memory.iter().flat_map(|v| v.to_le_bytes());
                keep("memory", Dtype::BF16, memory.collect());
                outputs.push(saved);
            }
            let visited = bank.visited.clone();
            objects.insert(object, SavedObject { outputs, visited });
        }
        let saved = Saved {
            options: self.options.clone(),
            size: self.size,
            position: self.position,
            objects,
        };
        let saved = serde_json::to_string(&saved).map_err(|e| failed(&e))?;
        let fingerprint = self.segmenter.fingerprint()?.to_owned();
        tensors.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        let sum = checksum(&saved, tensors.iter().map(|(_, _, bytes)| &bytes[..]));
        let metadata = HashMap::from([
            (SESSION.to_owned(), saved),
            (FINGERPRINT.to_owned(), fingerprint),
            (CHECKSUM.to_owned(), sum),
        ]);
        let views = tensors.iter().map(|(name, dtype, bytes)| {
            let values = bytes.len() / (dtype.bitsize() / 8);
            Ok((name, TensorView::new(*dtype, vec![values], bytes)?))
        });
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
        let file = views.and_then(|views| safetensors::serialize(views, Some(metadata)));
        let file = with_ordered_header(file.map_err(|e| failed(&e))?);
        Ok(write_atomic(path, &file)?)
    }

    /// Loads a session that was saved with the same weights.
    ///
    /// # Errors
    /// [`Error::Saved`] when the file is missing, damaged, no session, or of other weights.
    pub fn load(path: impl AsRef<Path>, segmenter: &Segmenter) -> Result<Self> {
        let path = path.as_ref();
        let limits = ImageLimits {
            max_bytes: u64::MAX,
            ..ImageLimits::default()
        };
        let bytes = read_file(path, &limits).map_err(|e| wrong(path, &e.reason()))?;
        let damaged =
            |e: &dyn std::fmt::Display| wrong(path, &one_line(&format!("no saved session: {e}")));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(&e))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(&e))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let field = |key: &str| {
            let found = metadata.get(key);
            found.ok_or_else(|| damaged(&format!("{key} is missing in its metadata")))
        };
        if field(FINGERPRINT)? != segmenter.fingerprint()? {
            return Err(wrong(path, &"this session is of other weights"));
        }
        let saved = field(SESSION)?;
        let mut names = header.offset_keys();
        names.sort();
        let values = names
            .iter()
            .filter_map(|name| Some(file.tensor(name).ok()?.data()));
        if *field(CHECKSUM)? != checksum(saved, values) {
            return Err(wrong(
                path,
                &"the session is damaged: its checksum is another",
            ));
        }
        let saved: Saved = serde_json::from_str(saved).map_err(|e| damaged(&e))?;
        saved.check_frames().map_err(|e| damaged(&e))?;
        let mut objects = BTreeMap::new();
        for (object, saved) in saved.objects {
            let mut bank = MemoryBank {
                visited: saved.visited,
                ..MemoryBank::default()
            };
            for saved in saved.outputs {
                let output = read_output(&file, segmenter, object, &saved);
                let output = output.map_err(|e| damaged(&e))?;
                bank.insert(saved.frame, saved.role, saved.seen, output);
            }
            objects.insert(object, bank);
        }
        Ok(Self {
            segmenter: segmenter.clone(),
            options: saved.options,
            size: saved.size,
            position: saved.position,
            objects,
        })
    }
}

/// SHA-256 of what is saved beside the tensors and of their values, in the order of their names.
fn checksum<'a>(saved: &str, values: impl Iterator<Item = &'a [u8]>) -> String {
    let mut sum = Sha256::new_with_prefix(saved);
    values.for_each(|bytes| sum.update(bytes));
    hex::encode(sum.finalize())
}

fn wrong(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::Saved {
        path: path.into(),
        reason: why.to_string(),
    }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn read_output(
    file: &SafeTensors<'_>,
    segmenter: &Segmenter,
    object: ObjectId,
    saved: &SavedOutput,
) -> Result<Output, String> {
    let name = saved.name(object);
    let tensor = |what: &str, dtype: Dtype| {
        let name = format!("{name}.{what}");
        let tensor = file.tensor(&name).map_err(|e| format!("{name}: {e}"))?;
        if tensor.dtype() != dtype {
            return Err(format!("{name} is {:?}, not {dtype:?}", tensor.dtype()));
        }
        Ok(tensor.data().to_vec())
    };
    let floats = |bytes: Vec<u8>| -> Vec<f32> {
        let words = bytes.as_chunks::<4>().0.iter();
        words.map(|b| f32::from_le_bytes(*b)).collect()
    };
    let low_res = floats(tensor("low_res", Dtype::F32)?);
    let pointer = floats(tensor("pointer", Dtype::F32)?);
    let memory = tensor("memory", Dtype::BF16)?;
    let halves = memory.as_chunks::<2>().0.iter();
    let memory: Vec<bf16> = halves.map(|b| bf16::from_le_bytes(*b)).collect();
    let check = |what: &str, found: usize, expected: usize| {
        if found == expected {
            return Ok(());
        }
        Err(format!("{name}.{what} has {found} values, not {expected}"))
    };
    check("low_res", low_res.len(), segmenter.logits_side().pow(2))?;
    // Models without memory keep what they like there.
    if let ModelConfig::Sam2(config) = segmenter.config() {
        let cells = config.prompt_encoder.grid.pow(2);
        check(
            "memory",
            memory.len(),
            cells * config.memory_encoder.out_dim,
        )?;
        check("pointer", pointer.len(), config.memory_attention.d_model)?;
    }
    Ok(Output {
        low_res,
        iou: saved.iou,
        object_score: saved.object_score,
        memory,
        pointer,
    })
}
