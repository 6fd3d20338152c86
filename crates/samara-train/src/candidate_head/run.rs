//! A whole training: collected, then fitted.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use samara::{CandidateHead, Segmenter};
use samara_data::{Augmentation, ExampleSpec, Loader, Sampler};
use samara_model::burn::tensor::Device;

use super::collect;
use super::fit::{Fit, HeadWatcher};
use super::observations::Observations;
use super::spec::CandidateHeadSpec;
use crate::error::TrainError;
use crate::recipe::Recipe;

/// Trains heads for a model as the recipe says; `None` when `stop` was set. What was collected until then is in
/// the folder `cache`, and a later call continues from there.
///
/// # Errors
/// The data ran out, the model failed, or a file cannot be written.
pub fn train_candidate_head(
    segmenter: &Segmenter,
    recipe: &Recipe,
    spec: &CandidateHeadSpec,
    cache: &Path,
    watcher: &mut dyn HeadWatcher,
    stop: &AtomicBool,
) -> Result<Option<CandidateHead>, TrainError> {
    let sampler = Sampler::open(
        &recipe.data,
        ExampleSpec {
            side: segmenter.input_side(),
            masks_per_image: spec.masks_per_image,
            ambiguous_clicks: 0.0,
            augmentation: Augmentation {
                scale: spec.scale,
                ..recipe.augmentation
            },
        },
    )?;
    let Some(observations) = collect_all(segmenter, sampler, recipe, spec, cache, watcher, stop)?
    else {
        return Ok(None);
    };
    let device = Device::flex().autodiff();
    let fit = Fit {
        observations: &observations,
        tokens: segmenter.mask_tokens(),
        spec,
        seed: recipe.seed,
        device: &device,
    };
    fit.run(watcher, stop)
}

/// Everything that is seen of the examples of a recipe, image by image.
fn collect_all(
    segmenter: &Segmenter,
    sampler: Sampler,
    recipe: &Recipe,
    spec: &CandidateHeadSpec,
    cache: &Path,
    watcher: &mut dyn HeadWatcher,
    stop: &AtomicBool,
) -> Result<Option<Observations>, TrainError> {
    let key = segmenter.fingerprint()?.to_owned();
    let (mut all, mut done) = Observations::read_images(cache, &key, spec.examples);
    watcher.collected(done, spec.examples);
    let mut loader = Loader::new(&Arc::new(sampler), recipe.workers, recipe.seed, done);
    let mut unreadable = BTreeSet::new();
    while done < spec.examples {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let Some(example) = loader.next() else {
            break;
        };
        for line in loader.skipped().unreadable() {
            if unreadable.insert(line.clone()) {
                watcher.unreadable(&line);
            }
        }
        let mut seen = Observations::default();
        collect::collect(segmenter, &example?, spec, recipe.seed ^ done, &mut seen)?;
        seen.write_image(cache, &key, done)?;
        all.extend(seen);
        done += 1;
        watcher.collected(done, spec.examples);
    }
    Ok(Some(all))
}
