//! Prompts, answers, masks and options as JSON.
#![no_main]

use samara::{Candidates, Mask, MaskGeneratorOptions, Prompt, Rle, Select, Selection, Zoom};
use samara_fuzz::told;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Whether two values are the same. A number of many digits may come back as its neighbour.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-12 * a.abs(),
            _ => a == b,
        },
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let equal = |(key, value)| b.get(key).is_some_and(|other| same(value, other));
            a.len() == b.len() && a.iter().all(equal)
        }
        _ => a == b,
    }
}

/// Reads a value; what was read is the same when it is written and read again.
fn read<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let text = serde_json::to_value(&value).expect("what was read can be written");
    // A number that is infinite in 32 bits is written as null; whoever uses the value refuses it.
    let text_of = text.to_string();
    let again: T = match serde_json::from_str(&text_of) {
        Ok(again) => again,
        Err(error) if text_of.contains("null") => {
            told(Err::<(), _>(error));
            return Some(value);
        }
        Err(error) => panic!("what was written cannot be read: {error}"),
    };
    let second = serde_json::to_value(&again).expect("what was read can be written");
    assert!(same(&text, &second), "{text} {second}");
    Some(value)
}

samara_fuzz::target!(|bytes| {
    if let Some(prompt) = read::<Prompt>(bytes) {
        told(prompt.check(640, 480));
    }
    // Small ones: a mask of a few bytes may have millions of pixels.
    if let Some(rle) = read::<Rle>(bytes)
        && u64::from(rle.size[0]) * u64::from(rle.size[1]) < 1 << 20
    {
        let mask: Mask = told(rle.to_mask()).expect("its runs were checked");
        assert_eq!(mask.area(), rle.area());
        assert_eq!(mask.bbox(), rle.bbox());
        assert_eq!(mask.to_rle().to_mask().expect("it was one"), mask);
    }
    read::<Candidates>(bytes);
    read::<Selection>(bytes);
    read::<MaskGeneratorOptions>(bytes);
    read::<Select>(bytes);
    read::<Zoom>(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        told(text.parse::<Select>());
        told(Rle::from_compressed_string([30, 40], text));
    }
});
