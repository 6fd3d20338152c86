//! Opening `.npy` files. A header is looked at before it is parsed: it may claim any length, and the parser's
//! time doubles with every bracket that is opened in another.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use npyz::NpyFile;

/// Most bytes of a header; NumPy itself warns above 10 000.
const LONGEST: u64 = 1 << 16;
/// Most brackets that are open at once; a structured array with shaped fields has five.
const DEEPEST: usize = 8;

/// An array whose values are still in the file.
pub(crate) fn open(path: &Path) -> Result<NpyFile<BufReader<File>>, String> {
    let failed = |e: std::io::Error| e.to_string();
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err("is no file".into());
    }
    let mut file = BufReader::new(file);
    check_header(&mut file, meta.len())?;
    file.rewind().map_err(failed)?;
    let array = NpyFile::new(file).map_err(failed)?;
    let size = match array.dtype() {
        npyz::DType::Plain(dtype) => dtype.num_bytes().unwrap_or(0) as u64,
        _ => 1,
    };
    let sides = array.shape().iter();
    let values = sides.fold(1_u64, |all, &side| all.saturating_mul(side));
    if values.saturating_mul(size) > meta.len() {
        let shape = array.shape();
        return Err(format!(
            "is truncated: it has not all values of shape {shape:?}"
        ));
    }
    Ok(array)
}

fn check_header(file: &mut impl Read, length: u64) -> Result<(), String> {
    let none = |_| "is no array of NumPy".to_owned();
    let mut start = [0; 8];
    file.read_exact(&mut start).map_err(none)?;
    if !start.starts_with(b"\x93NUMPY") {
        return Err("is no array of NumPy".into());
    }
    let mut size = [0; 4];
    // Version 1 has two bytes for the length of the header.
    let digits = if start[6] == 1 { 2 } else { 4 };
    file.read_exact(&mut size[..digits]).map_err(none)?;
    let size = u64::from(u32::from_le_bytes(size));
    if size > LONGEST.min(length) {
        return Err(format!("claims a header of {size} bytes"));
    }
    let mut header = vec![0; size as usize];
    file.read_exact(&mut header).map_err(none)?;
    let mut open = 0_usize;
    for byte in header {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > DEEPEST {
            return Err("has a header of brackets inside of brackets".into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        std::fs::write(&path, bytes).unwrap();
        open(&path).map_or_else(|why| why, |_| "none".into())
    }

    fn with_header(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\0".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    #[test]
    fn hostile_headers_cost_nothing() {
        let plain = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n";
        assert_eq!(refusal(&with_header(plain, 24)), "none");
        let large = plain.replace("(2, 3)", "(4000000000, 3)");
        let cut = "is truncated: it has not all values of shape [4000000000, 3]";
        assert_eq!(refusal(&with_header(&large, 24)), cut);
        let nested = format!("{{'descr': {}'<f4'", "[".repeat(40));
        assert!(refusal(&with_header(&nested, 0)).contains("brackets"));
        let long = b"\x93NUMPY\x02\0\xff\xff\xff\xff";
        assert_eq!(refusal(long), "claims a header of 4294967295 bytes");
        for bytes in [&b""[..], b"\x93NUMPY", b"no array at all"] {
            assert_eq!(refusal(bytes), "is no array of NumPy");
        }
    }
}
