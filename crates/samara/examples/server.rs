//! One model for several threads, as a server uses it: a pool of its own, embeddings kept by image.
//!
//! `cargo run --release --example server -- docs/coffee.png docs/gallery/rocket.jpg`

#![allow(clippy::print_stderr, reason = "this is its output")]

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::thread;

use samara::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let images: Vec<String> = std::env::args().skip(1).collect();
    let options = SegmenterOptions::new().with_threads(2); // the host's rayon pool is left alone
    let segmenter = Segmenter::embedded(options)?;
    let empty = |path: &String| (path.clone(), Mutex::new(None::<Embedding>));
    let cache: HashMap<String, Mutex<Option<Embedding>>> = images.iter().map(empty).collect();
    let answer = |path: &str, x, y| -> samara::Result<u64> {
        let mut known = cache[path].lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            // Others who ask for this image wait; those who ask for another one do not.
            *known = Some(segmenter.embed(read_image(path, &ImageLimits::default())?)?);
        }
        let embedding = known.clone();
        drop(known);
        let candidates = embedding
            .map(|e| e.predict(&Prompt::point(x, y)))
            .transpose()?;
        Ok(candidates.map_or(0, |candidates| candidates.best().mask.area()))
    };
    thread::scope(|scope| {
        let ask = |path, x| scope.spawn(move || (path, x, answer(path, x, 150.0)));
        let requests: Vec<_> = images
            .iter()
            .flat_map(|p| [100.0, 200.0, 300.0].map(|x| ask(p.as_str(), x)))
            .collect();
        for (path, x, pixels) in requests
            .into_iter()
            .filter_map(|request| request.join().ok())
        {
            eprintln!("{path} at {x},150: {} pixels", pixels?);
        }
        Ok(())
    })
}
