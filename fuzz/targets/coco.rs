//! Annotations of COCO, and their masks.
#![no_main]

use samara_data::DataSet;
use samara_fuzz::{told, with_file};
use samara_image::ImageLimits;

const LIMITS: ImageLimits = ImageLimits {
    max_pixels: 1 << 16,
    max_bytes: 1 << 20,
};

samara_fuzz::target!(|bytes| {
    let set = with_file(bytes, "json", |path| {
        told(DataSet::open(path, Some("train")));
        told(DataSet::open(path, None))
    });
    for image in set.iter().flat_map(|set| &set.images) {
        for object in &image.objects {
            told(image.mask(object, &LIMITS));
        }
    }
});
