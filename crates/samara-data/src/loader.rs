//! Examples made ahead of time on several threads.

use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::error::{DataError, Skipped};
use super::sampler::{Example, Sampler};

/// Examples that each thread holds ready.
const AHEAD: usize = 2;

/// An endless stream of examples.
///
/// Example `i` depends on the data, the recipe, the seed and `i` only: the number of threads
/// changes nothing, and a stream that starts at `i` goes on as one that came there.
#[derive(Debug)]
pub struct Loader {
    /// Thread `k` makes the examples `start + k`, `start + k + workers`, …
    results: Vec<Receiver<Result<Example, DataError>>>,
    threads: Vec<JoinHandle<()>>,
    start: u64,
    next: u64,
    skipped: Arc<Mutex<Skipped>>,
}

impl Loader {
    /// Starts `workers` threads (at least one) that make the examples from `start` on.
    pub fn new(sampler: &Arc<Sampler>, workers: usize, seed: u64, start: u64) -> Self {
        let workers = workers.max(1);
        let skipped = Arc::new(Mutex::new(sampler.skipped().clone()));
        let mut loader = Self {
            results: Vec::with_capacity(workers),
            threads: Vec::with_capacity(workers),
            start,
            next: start,
            skipped,
        };
        for first in (start..).take(workers) {
            let (sender, receiver) = sync_channel(AHEAD);
            let (sampler, skipped) = (Arc::clone(sampler), Arc::clone(&loader.skipped));
            loader.results.push(receiver);
            loader.threads.push(thread::spawn(move || {
                for index in (first..).step_by(workers) {
                    let mut here = Skipped::default();
                    let example = sampler.draw(&mut example_rng(seed, index), &mut here);
                    if !here.is_empty() {
                        let all = skipped.lock();
                        all.unwrap_or_else(PoisonError::into_inner).merge(here);
                    }
                    // The receiver goes away when the loader is dropped.
                    if sender.send(example).is_err() {
                        break;
                    }
                }
            }));
        }
        loader
    }

    /// The number of the next example, from which a later run resumes.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// What was skipped so far, including examples that are made but not yet taken.
    pub fn skipped(&self) -> Skipped {
        let all = self.skipped.lock();
        all.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Iterator for Loader {
    type Item = Result<Example, DataError>;

    /// Never `None`. Waits for the example if it is not ready.
    fn next(&mut self) -> Option<Self::Item> {
        let index = self.next;
        self.next += 1;
        let worker = (index - self.start) % self.results.len() as u64;
        let result = self.results[worker as usize].recv();
        Some(result.unwrap_or(Err(DataError::Worker { index })))
    }
}

impl Drop for Loader {
    /// Ends the threads; each finishes at most the example that it is making.
    fn drop(&mut self) {
        self.results.clear();
        for thread in self.threads.drain(..) {
            // A thread that panicked was already reported as a missing example.
            let _ = thread.join();
        }
    }
}

/// The random numbers of example `index`.
fn example_rng(seed: u64, index: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index);
    rng
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::sampler::{DataSpec, ExampleSpec};
    use super::*;
    use crate::Fault;
    use crate::testing::{Folder, data_spec, example_spec};

    fn sampler(folder: &Folder) -> Arc<Sampler> {
        let spec = ExampleSpec {
            ambiguous_clicks: 0.5,
            ..example_spec(48, 3)
        };
        Arc::new(Sampler::open(&[data_spec(folder)], spec).unwrap())
    }

    fn take(sampler: &Arc<Sampler>, workers: usize, start: u64, n: usize) -> Vec<Example> {
        let loader = Loader::new(sampler, workers, 7, start);
        loader.take(n).map(Result::unwrap).collect()
    }

    #[test]
    fn examples_depend_on_seed_and_index_only() {
        let folder = Folder::with_every_fault();
        let sampler = sampler(&folder);
        let one = take(&sampler, 1, 0, 40);
        assert_eq!(one, take(&sampler, 4, 0, 40));
        assert_eq!(one[13..], take(&sampler, 3, 13, 27), "resumed");
        assert!(one.windows(2).any(|pair| pair[0].source != pair[1].source));
        let other: Vec<_> = Loader::new(&sampler, 1, 8, 0)
            .take(40)
            .map(Result::unwrap)
            .collect();
        assert_ne!(one, other, "another seed");
    }

    #[test]
    fn bad_records_are_counted_and_replaced() {
        let folder = Folder::with_every_fault();
        let sampler = sampler(&folder);
        let mut loader = Loader::new(&sampler, 2, 1, 0);
        assert!((0..200).all(|_| loader.next().unwrap().is_ok()));
        assert_eq!(loader.position(), 200);
        let skipped = loader.skipped();
        for fault in [
            Fault::MissingImage,
            Fault::CorruptImage,
            Fault::ImageSize,
            Fault::EmptyMask,
            Fault::BadSegmentation,
            Fault::MaskSize,
            Fault::UnknownImage,
        ] {
            assert!(skipped.count(fault) > 0, "{fault:?}: {skipped}");
        }
    }

    #[test]
    fn a_data_set_without_any_good_image_is_an_error_and_not_an_endless_loop() {
        let folder = Folder::with_every_fault();
        std::fs::remove_dir_all(folder.path().join("images")).unwrap();
        std::fs::create_dir(folder.path().join("images")).unwrap();
        let error = Loader::new(&sampler(&folder), 1, 0, 0)
            .next()
            .unwrap()
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("100 draws") && text.contains("missing images"),
            "{text}"
        );
    }

    #[test]
    fn dropping_the_loader_ends_its_threads() {
        let folder = Folder::with_every_fault();
        let sampler = sampler(&folder);
        let began = Instant::now();
        for _ in 0..10 {
            let mut loader = Loader::new(&sampler, 4, 0, 0);
            loader.next().unwrap().unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(Arc::strong_count(&sampler), 1);
    }

    /// `SAMARA_DATA=/path/to/sets cargo test --release --workspace --lib real_data -- --ignored
    /// --nocapture` prints the cost of an example of every data set in a folder.
    #[test]
    #[ignore = "needs data sets"]
    fn real_data() {
        let root = std::env::var("SAMARA_DATA").unwrap();
        let mut sets: Vec<_> = std::fs::read_dir(root)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        sets.sort();
        for path in sets.into_iter().filter(|path| path.is_dir()) {
            let data = DataSpec {
                path: path.clone(),
                split: Some("train".to_owned()),
                images: None,
                stretch: samara_image::Stretch::Off,
                weight: 1.0,
                intent: samara::Intent::default(),
                levels: None,
                min_area: 0,
                max_area_fraction: 0.9,
            };
            let spec = ExampleSpec {
                ambiguous_clicks: 0.5,
                augmentation: crate::Augmentation::default(),
                ..example_spec(512, 16)
            };
            let began = Instant::now();
            let sampler = Sampler::open(&[data], spec).unwrap();
            let opened = began.elapsed();
            let (mut skipped, mut objects, mut shared) = (sampler.skipped().clone(), 0, 0);
            let began = Instant::now();
            for index in 0..200 {
                let example = sampler
                    .draw(&mut example_rng(0, index), &mut skipped)
                    .unwrap();
                objects += example.objects.len();
                shared += usize::from(example.objects[0].first_click.is_some());
            }
            println!(
                "{}: {} images, opened in {} ms, {:.1} ms an example of {:.1} objects, {shared} of \
                 200 share a click, skipped {skipped}",
                path.display(),
                sampler.images(),
                opened.as_millis(),
                began.elapsed().as_secs_f64() * 1e3 / 200.0,
                objects as f64 / 200.0,
            );
        }
    }
}
