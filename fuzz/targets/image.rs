//! Files of images: decoded as photographs, masks, 16-bit grey, label maps and object maps.
#![no_main]

use samara_fuzz::{told, with_file};
use samara_image::{
    ImageLimits, decode_image, decode_mask, read_gray, read_gray16, read_label_map, read_object_map,
};

const LIMITS: ImageLimits = ImageLimits {
    max_pixels: 1 << 16,
    max_bytes: 1 << 20,
};

samara_fuzz::target!(|bytes| {
    if let Some(image) = told(decode_image(bytes, "image", &LIMITS)) {
        assert!(u64::from(image.width()) * u64::from(image.height()) <= LIMITS.max_pixels);
    }
    told(decode_mask(bytes, "image", &LIMITS));
    // What is no image at all is refused in the same way by all that follow.
    if bytes.len() < 16 {
        return;
    }
    with_file(bytes, "png", |path| {
        told(read_object_map(path, &LIMITS));
        if bytes.len() % 4 == 0 {
            told(read_label_map(path, &LIMITS));
            told(read_gray16(path, &LIMITS));
            told(read_gray(path, &LIMITS));
        }
    });
});
