//! Small data sets for tests.

use std::path::Path;

use samara_image::{Mask, Rgb, RgbImage, save_png};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::augment::Augmentation;
use crate::sampler::{DataSpec, ExampleSpec};

/// A COCO folder that goes away when dropped.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.path().join("images")).unwrap();
        folder
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn image(&self, name: &str, width: u32, height: u32) {
        let image = RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 80]));
        save_png(self.path().join(name), &image).unwrap();
    }

    pub fn annotate(&self, images: &Value, annotations: &Value) {
        let categories = json!([{"id": 1, "name": "thing"}]);
        let file = json!({
            "images": images, "annotations": annotations, "categories": categories,
        });
        let path = self.path().join("annotations.json");
        std::fs::write(path, file.to_string()).unwrap();
    }

    /// Two good images, of which the second has good and bad objects, and every kind of bad image.
    pub fn with_every_fault() -> Self {
        let folder = Self::new();
        folder.image("images/a.png", 60, 40);
        folder.image("images/b.png", 40, 60);
        folder.image("images/size.png", 20, 20);
        std::fs::write(folder.path().join("images/corrupt.png"), b"no image").unwrap();
        let image = |id: u64, name: &str, width: u32, height: u32, split: &str| json!({"id": id, "file_name": name, "width": width, "height": height, "split": split});
        let images = json!([
            image(1, "a.png", 60, 40, "train"),
            image(2, "b.png", 40, 60, "train"),
            image(3, "missing.png", 30, 30, "train"),
            image(4, "corrupt.png", 30, 30, "train"),
            image(5, "size.png", 30, 30, "train"),
            image(6, "../a.png", 60, 40, "train"),
            image(7, "a.png", 60, 40, "val"),
            image(1, "b.png", 40, 60, "train"),
        ]);
        let object = |id: u64, image: u64, segmentation: Value| json!({"id": id, "image_id": image, "category_id": 1, "segmentation": segmentation});
        let annotations = json!([
            object(1, 1, rle(&rectangle((60, 40), [5, 5, 30, 20]))),
            object(2, 1, json!([[5, 5, 35, 5, 35, 25, 5, 25]])),
            object(3, 1, uncompressed(&rectangle((60, 40), [5, 5, 30, 20]))),
            object(4, 2, rle(&rectangle((40, 60), [0, 0, 30, 50]))),
            object(5, 2, rle(&rectangle((40, 60), [10, 10, 10, 10]))),
            object(6, 2, rle(&Mask::new(40, 60))),
            object(7, 2, json!({"size": [60, 40], "counts": "~~~"})),
            object(8, 2, rle(&rectangle((39, 60), [0, 0, 9, 9]))),
            object(9, 2, json!("nonsense")),
            object(10, 3, rle(&rectangle((30, 30), [5, 5, 10, 10]))),
            object(11, 4, rle(&rectangle((30, 30), [5, 5, 10, 10]))),
            object(12, 5, rle(&rectangle((30, 30), [5, 5, 10, 10]))),
            object(13, 99, rle(&rectangle((30, 30), [5, 5, 10, 10]))),
            object(14, 2, json!([[1, 1, 5]])),
            object(15, 2, json!({"size": [60, 40], "counts": [10, 20]})),
        ]);
        folder.annotate(&images, &annotations);
        folder
    }
}

/// A mask of `size` (width, height) set in `[x, y, width, height]`.
pub fn rectangle(size: (u32, u32), [x, y, width, height]: [u32; 4]) -> Mask {
    Mask::from_fn(size.0, size.1, |i, j| {
        (x..x + width).contains(&i) && (y..y + height).contains(&j)
    })
}

pub fn rle(mask: &Mask) -> Value {
    serde_json::to_value(mask.to_rle()).unwrap()
}

pub fn uncompressed(mask: &Mask) -> Value {
    serde_json::to_value(mask.to_rle().to_uncompressed()).unwrap()
}

pub fn data_spec(folder: &Folder) -> DataSpec {
    DataSpec {
        path: folder.path().to_owned(),
        split: None,
        images: None,
        stretch: samara_image::Stretch::Off,
        weight: 1.0,
        intent: samara::Intent::default(),
        levels: None,
        min_area: 0,
        max_area_fraction: 0.9,
    }
}

/// With the augmentation by default, which also keeps objects of a few pixels.
pub fn example_spec(side: u32, masks_per_image: usize) -> ExampleSpec {
    ExampleSpec {
        side,
        masks_per_image,
        ambiguous_clicks: 0.0,
        augmentation: Augmentation {
            min_pixels: 4,
            ..Augmentation::default()
        },
    }
}
