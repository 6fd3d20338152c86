//! Files of tensors that are the same bytes for the same content: `safetensors` with its header in order, as the
//! library writes metadata in an order of chance.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::Value;

/// Bytes of the number that a file begins with: the length of its header.
const LENGTH: usize = 8;
const METADATA: &str = "__metadata__";

/// The bytes of a `safetensors` file with the keys of its header in the order of their names. The tensors
/// stay where they are.
pub fn with_ordered_header(mut file: Vec<u8>) -> Vec<u8> {
    let length = file
        .first_chunk()
        .map_or(0, |n| u64::from_le_bytes(*n) as usize);
    if let Some(header) = file.get_mut(LENGTH..LENGTH.saturating_add(length)) {
        order(header);
    }
    file
}

/// As [`with_ordered_header`], for a file on the disk.
///
/// # Errors
/// The file cannot be read or written.
pub(crate) fn order_header(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut length = [0; LENGTH];
    file.read_exact(&mut length)?;
    let mut header = vec![0; u64::from_le_bytes(length) as usize];
    file.read_exact(&mut header)?;
    order(&mut header);
    file.seek(SeekFrom::Start(LENGTH as u64))?;
    file.write_all(&header)?;
    file.sync_all()
}

/// Puts the keys of a header in order, which changes nothing of its length.
fn order(header: &mut [u8]) {
    let Ok(mut keys) = serde_json::from_slice::<BTreeMap<String, Value>>(header) else {
        return;
    };
    let metadata = keys.remove(METADATA).map(serde_json::from_value);
    let mut ordered = Vec::with_capacity(header.len());
    let mut field = |key: &str, value: String| {
        ordered.extend(if ordered.is_empty() { b"{" } else { b"," });
        ordered.extend(Value::from(key).to_string().bytes());
        ordered.push(b':');
        ordered.extend(value.bytes());
    };
    if let Some(metadata) = metadata {
        let metadata: serde_json::Result<BTreeMap<String, Value>> = metadata;
        let Ok(text) = metadata.and_then(|map| serde_json::to_string(&map)) else {
            return;
        };
        field(METADATA, text);
    }
    keys.iter()
        .for_each(|(key, value)| field(key, value.to_string()));
    ordered.push(b'}');
    if ordered.len() <= header.len() {
        // A header is padded with spaces.
        ordered.resize(header.len(), b' ');
        header.copy_from_slice(&ordered);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use safetensors::tensor::{Dtype, SafeTensors, TensorView};

    use super::*;

    fn file() -> Vec<u8> {
        let metadata: HashMap<_, _> = (0..20)
            .map(|i| (format!("key \"{i}"), i.to_string()))
            .collect();
        let data = [[1_u8; 4], [2; 4], [3; 4]];
        let views = ["b", "c", "a"].iter().zip(&data);
        let views =
            views.map(|(name, data)| (name, TensorView::new(Dtype::F32, vec![1], data).unwrap()));
        with_ordered_header(safetensors::serialize(views, Some(metadata)).unwrap())
    }

    #[test]
    fn the_same_content_is_the_same_bytes() {
        let first = file();
        assert!((0..8).all(|_| file() == first));
        let read = SafeTensors::deserialize(&first).unwrap();
        assert_eq!(read.tensor("c").unwrap().data(), [2; 4]);
        let (_, header) = SafeTensors::read_metadata(&first).unwrap();
        assert_eq!(header.metadata().as_ref().unwrap()["key \"7"], "7");
    }

    #[test]
    fn what_is_no_such_file_stays_as_it_is() {
        for bytes in [
            vec![],
            vec![9; 3],
            vec![255; 20],
            b"\x02\0\0\0\0\0\0\0[]".to_vec(),
        ] {
            assert_eq!(with_ordered_header(bytes.clone()), bytes);
        }
    }
}
