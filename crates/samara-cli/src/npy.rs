//! Reading `.npy` files. A header is looked at before it is parsed: it may claim any length, and the parser's
//! time doubles with every bracket that is opened in another.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use half::f16;
use npyz::{NpyFile, Order, TypeChar};
use samara::ImageLimits;

/// Most bytes of a header; NumPy itself warns above 10 000.
const LONGEST: u64 = 1 << 16;
/// Most brackets that are open at once; a structured array with shaped fields has five.
const DEEPEST: usize = 8;

/// An array of any type of numbers.
#[derive(Debug)]
pub(crate) struct NpyArray {
    pub(crate) shape: Vec<usize>,
    /// Whether its type is floating point.
    pub(crate) is_float: bool,
    /// In C order, whatever order the file has.
    pub(crate) values: Vec<f32>,
}

/// Most values of a file: a gigabyte of floats.
const MAX_VALUES: usize = 1 << 28;

/// Reads an array.
pub(crate) fn read(path: &Path, limits: &ImageLimits) -> Result<NpyArray, String> {
    let array = open(path, limits)?;
    let shape: Vec<usize> = array.shape().iter().map(|&n| n as usize).collect();
    let count = shape.iter().try_fold(1_usize, |all, &n| all.checked_mul(n));
    if count.is_none_or(|count| count > MAX_VALUES) {
        return Err(format!("an array of shape {shape:?} is too large"));
    }
    let npyz::DType::Plain(dtype) = array.dtype() else {
        return Err("a structured array is not read, only one of numbers".into());
    };
    let kind = (dtype.type_char(), dtype.num_bytes().unwrap_or(0));
    let order = array.order();
    macro_rules! values {
        ($kind:ty, $cast:expr) => {{
            let values = array.into_vec::<$kind>().map_err(|e| e.to_string())?;
            values.into_iter().map($cast).collect()
        }};
    }
    let values: Vec<f32> = match kind {
        (TypeChar::Float, 2) => values!(f16, f32::from),
        (TypeChar::Float, 4) => values!(f32, |v| v),
        (TypeChar::Float, 8) => values!(f64, |v| v as f32),
        (TypeChar::Bool, 1) => values!(bool, |v| f32::from(u8::from(v))),
        (TypeChar::Uint, 1) => values!(u8, f32::from),
        (TypeChar::Uint, 2) => values!(u16, f32::from),
        (TypeChar::Uint, 4) => values!(u32, |v| v as f32),
        (TypeChar::Uint, 8) => values!(u64, |v| v as f32),
        (TypeChar::Int, 1) => values!(i8, f32::from),
        (TypeChar::Int, 2) => values!(i16, f32::from),
        (TypeChar::Int, 4) => values!(i32, |v| v as f32),
        (TypeChar::Int, 8) => values!(i64, |v| v as f32),
        _ => return Err("its values are neither floating point, integers nor bool".into()),
    };
    let values = match order {
        Order::C => values,
        Order::Fortran => in_c_order(&shape, &values),
    };
    Ok(NpyArray {
        shape,
        is_float: kind.0 == TypeChar::Float,
        values,
    })
}

/// Values whose first axis runs fastest, with the last one running fastest.
fn in_c_order(shape: &[usize], values: &[f32]) -> Vec<f32> {
    let mut index = vec![0; shape.len()];
    let mut ordered = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        let at = index
            .iter()
            .zip(shape)
            .rev()
            .fold(0, |at, (i, n)| at * n + i);
        ordered.push(values[at]);
        for (i, &n) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < n {
                break;
            }
            *i = 0;
        }
    }
    ordered
}

/// An array whose values are still in the file.
fn open(path: &Path, limits: &ImageLimits) -> Result<NpyFile<BufReader<File>>, String> {
    let failed = |e: std::io::Error| e.to_string();
    // Opening a pipe would wait for its other end.
    let meta = std::fs::metadata(path).map_err(failed)?;
    if !meta.is_file() {
        return Err("is not a regular file".into());
    }
    if meta.len() > limits.max_bytes {
        let most = limits.max_bytes;
        return Err(format!(
            "the file is {} bytes, the limit is {most}",
            meta.len()
        ));
    }
    let file = File::open(path).map_err(failed)?;
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
        open(&path, &ImageLimits::default()).map_or_else(|why| why, |_| "none".into())
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

    #[test]
    fn arrays_of_every_type_and_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        let array = |descr: &str, fortran: &str, data: &[u8]| {
            let header =
                format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': (2, 3), }}\n");
            let mut bytes = with_header(&header, 0);
            bytes.extend(data);
            std::fs::write(&path, bytes).unwrap();
            read(&path, &ImageLimits::default()).unwrap()
        };
        let right = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let long: Vec<u8> = (0..6_i64).flat_map(i64::to_le_bytes).collect();
        let half: Vec<u8> = (0..6_u8).flat_map(|v| f16::from(v).to_le_bytes()).collect();
        let big: Vec<u8> = (0..6_u16).flat_map(u16::to_be_bytes).collect();
        for (descr, data, is_float) in [
            ("<i8", long, false),
            ("<f2", half, true),
            (">u2", big, false),
        ] {
            let array = array(descr, "False", &data);
            assert_eq!((&array.shape[..], array.is_float), (&[2, 3][..], is_float));
            assert_eq!(array.values, right, "{descr}");
        }
        // Column by column.
        assert_eq!(array("|u1", "True", &[0, 3, 1, 4, 2, 5]).values, right);
        assert_eq!(
            in_c_order(&[2, 2, 2], &[0.0, 4.0, 2.0, 6.0, 1.0, 5.0, 3.0, 7.0]),
            [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
        );
    }
}
