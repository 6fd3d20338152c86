//! Arrays of NumPy, as masks and as attention maps.
#![no_main]
#![allow(
    dead_code,
    reason = "not all of a file of the command line is used here"
)]

#[path = "../../crates/samara-cli/src/map_file.rs"]
mod map_file;
#[path = "../../crates/samara-cli/src/mask_file.rs"]
mod mask_file;
#[path = "../../crates/samara-cli/src/mask_json.rs"]
mod mask_json;
#[path = "../../crates/samara-cli/src/npy.rs"]
mod npy;

use samara_fuzz::cli::{error, terminal};
use samara_fuzz::{told, with_file};
use samara_image::ImageLimits;

samara_fuzz::target!(|bytes| {
    with_file(bytes, "npy", |path| {
        told(mask_file::read(path, (24, 16), &ImageLimits::default()));
        let grid = "4x4".parse().ok();
        told(map_file::read(path, grid, None, &ImageLimits::default()));
        told(map_file::read(path, None, None, &ImageLimits::default()));
    });
});
