//! Saved embeddings, and what a click on them says.
#![no_main]

use std::sync::LazyLock;

use samara::{DeviceKind, Embedding, Prompt, Segmenter};
use samara_fuzz::{golden, patched, told, with_file};

static SEGMENTER: LazyLock<Segmenter> = LazyLock::new(|| {
    Segmenter::load(golden("sam_vit.pth"), DeviceKind::Cpu).expect("the golden model loads")
});

samara_fuzz::target!(|bytes| {
    let segmenter = &*SEGMENTER;
    with_file(bytes, "embedding", |path| {
        told(Embedding::load(path, segmenter))
    });
    let fingerprint = segmenter.fingerprint().expect("weights are there");
    let file = patched(bytes.to_vec(), "samara.fingerprint", fingerprint);
    let embedding = with_file(&file, "embedding", |path| {
        told(Embedding::load(path, segmenter))
    });
    // A click takes long beside the rest.
    if let Some(embedding) = embedding
        && crc32fast::hash(bytes) % 16 == 0
    {
        let (width, height) = embedding.size();
        let click = Prompt::point(f64::from(width) / 2.0, f64::from(height) / 2.0);
        if u64::from(width) * u64::from(height) < 1 << 16 {
            told(embedding.predict(&click));
        }
    }
});
