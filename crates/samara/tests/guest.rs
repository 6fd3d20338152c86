//! The library as a guest: what it leaves alone in the program that uses it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{HEIGHT, WIDTH, checkpoint, photo};
use samara::{
    DeviceKind, Hierarchy, MaskGenerator, MaskGeneratorOptions, Prompt, Segmenter,
    SegmenterOptions, Select,
};

/// A click and everything, with all that belongs to it.
fn work(segmenter: &Segmenter) -> usize {
    let image = photo(WIDTH, HEIGHT);
    let embedding = segmenter.embed(&image).unwrap();
    let candidates = embedding.predict(&Prompt::point(70.0, 60.0)).unwrap();
    candidates.select(&Select::Best).unwrap();
    let options = MaskGeneratorOptions::default()
        .with_points_per_side(4)
        .with_pred_iou_thresh(0.0)
        .with_stability_score_thresh(0.0)
        .with_min_mask_region_area(10);
    let masks = MaskGenerator::new(segmenter, options)
        .unwrap()
        .generate(&image)
        .unwrap();
    Hierarchy::of(&masks).nodes().len()
}

/// One test, as the global pool belongs to the whole process.
#[test]
fn the_hosts_global_pool_is_neither_made_nor_used() {
    let shared = Segmenter::load(checkpoint(), DeviceKind::Cpu).unwrap();
    let own = SegmenterOptions::new().with_threads(3);
    let own = Segmenter::load(checkpoint(), own).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1);
    let pool = Arc::new(pool.build().unwrap());
    let given = SegmenterOptions::new().with_thread_pool(Arc::clone(&pool));
    let given = Segmenter::load(checkpoint(), given).unwrap();
    let masks = work(&shared);
    assert!(masks > 0);
    assert_eq!([work(&own), work(&given)], [masks; 2]);
    // From threads of several, at once.
    let counts: Vec<usize> = std::thread::scope(|scope| {
        let threads = [&shared, &own, &given, &shared].map(|s| scope.spawn(|| work(s)));
        threads.map(|thread| thread.join().unwrap()).to_vec()
    });
    assert_eq!(counts, [masks; 4]);
    // It can still be built, so nobody did so before.
    let global = rayon::ThreadPoolBuilder::new().num_threads(1);
    assert!(global.build_global().is_ok());
}
