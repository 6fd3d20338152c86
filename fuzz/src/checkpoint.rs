//! Everything that reads a checkpoint.

use samara_model::burn::tensor::Device;
use samara_model::checkpoint::{CANDIDATE_HEAD, Checkpoint, StorageType};
use samara_model::{Model, ModelConfig};

use crate::{told, with_file};

/// Opens, recognises, converts and loads it.
pub fn read(bytes: &[u8]) {
    with_file(bytes, "checkpoint", |path| {
        let Some(checkpoint) = told(Checkpoint::open(path)) else {
            return;
        };
        told(checkpoint.info());
        told(checkpoint.head_tensors(CANDIDATE_HEAD));
        let config: Option<ModelConfig> = told(checkpoint.config());
        if let Some(config) = config {
            told(Model::load_with(&checkpoint, &config, &Device::flex()));
            let out = path.with_extension("converted");
            told(checkpoint.convert(&out, Some(StorageType::F16)));
            let _ = std::fs::remove_file(out);
        }
    });
}

/// A zip archive of stored entries without checksums, as those are not what is tried.
pub fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let (offset, length) = (file.len() as u32, data.len() as u32);
        let mut header = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        header.extend(length.to_le_bytes());
        header.extend(length.to_le_bytes());
        header.extend((name.len() as u16).to_le_bytes());
        header.extend([0, 0]);
        file.extend(b"PK\x03\x04");
        file.extend(&header);
        file.extend(name.bytes());
        file.extend(*data);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&header);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.bytes());
    }
    let (start, size) = (file.len() as u32, directory.len() as u32);
    let count = (entries.len() as u16).to_le_bytes();
    file.extend(directory);
    file.extend(b"PK\x05\x06\x00\x00\x00\x00");
    file.extend(count);
    file.extend(count);
    file.extend(size.to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}
