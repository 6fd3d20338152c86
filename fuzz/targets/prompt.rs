//! Prompts, answers, masks and options as JSON.
#![no_main]

use samara::{Candidates, Mask, MaskGeneratorOptions, Prompt, Rle, Select, Selection, Zoom};
use samara_fuzz::told;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads a value; what was read is the same when it is written and read again.
fn read<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let text = serde_json::to_vec(&value).expect("what was read can be written");
    let again: T = serde_json::from_slice(&text).expect("what was written can be read");
    let second = serde_json::to_vec(&again).expect("what was read can be written");
    assert_eq!(text, second);
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
