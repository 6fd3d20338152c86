//! Images, coordinate frames, masks, run lengths, polygons and overlays for
//! promptable segmentation. No tensor library, no unsafe code.

#![forbid(unsafe_code)]

#[cfg(feature = "image")]
pub mod annotation;
#[cfg(feature = "ndarray")]
mod array;
#[cfg(feature = "overlay")]
pub mod bars;
mod bits;
pub mod boundary;
#[cfg(feature = "overlay")]
mod canvas;
#[cfg(feature = "image")]
mod coco_writer;
mod complete;
pub mod components;
mod contour;
pub mod coverage;
pub mod decode;
mod decoded;
mod depth;
mod distance;
pub mod error;
mod folder_lock;
pub mod frame;
pub mod gray;
pub mod heat;
mod input;
pub mod label_map;
mod labels;
pub mod limits;
pub mod mask;
pub mod montage;
pub mod morphology;
pub mod number;
#[cfg(feature = "image")]
pub mod object_map;
#[cfg(feature = "overlay")]
pub mod overlay;
pub mod palette;
pub mod polygon;
mod rasterise;
pub mod resize;
pub mod rle;
pub mod save;
#[cfg(feature = "overlay")]
mod smooth;
#[cfg(feature = "image")]
mod tiff;
mod tones;
#[cfg(feature = "video")]
pub mod video;
mod warning;

#[cfg(feature = "image")]
pub use annotation::{Annotation, Labels, cut_out, instance_map, labelme, yolo};
#[cfg(feature = "overlay")]
pub use bars::{BarGroup, bar_chart};
pub use boundary::contour_f_measure;
#[cfg(feature = "image")]
pub use coco_writer::CocoWriter;
pub use components::{Component, Connectivity, Region, components, remove_small_regions};
pub use decode::{
    GrayImage16, ReadImage, ReadOptions, decode_image, decode_image_and_gray16, decode_image_with,
    has_image_extension, read_file, read_gray16, read_image, read_image_with,
};
pub use depth::Stretch;
pub use distance::DistanceTransform;
pub use error::{Error, one_line};
pub use folder_lock::FolderLock;
pub use frame::{Frame, ModelBox, ModelPx, OriginalBox, OriginalPx};
pub use gray::{GrayValues, read_gray};
pub use heat::heat_map;
pub use image::{GrayImage, Rgb, RgbImage};
pub use input::{InputImage, PixelFormat, Pixels};
pub use label_map::{LabelMap, label_map, read_label_map};
pub use limits::ImageLimits;
pub use mask::{BBox, Mask, decode_mask, read_mask};
pub use montage::montage;
pub use morphology::{BOUNDARY_RATIO, boundary_iou};
#[cfg(feature = "image")]
pub use object_map::{object_color, read_object_map, save_object_map};
#[cfg(feature = "overlay")]
pub use overlay::Overlay;
pub use palette::palette;
pub use polygon::{Polygon, Ring, coco_polygons_to_mask, polygons_to_mask};
pub use resize::{
    crop_image, resize_bicubic, resize_bilinear, resize_bilinear_f32, resize_bilinear_gray,
};
pub use rle::{CocoRle, Rle, RleCounts};
pub use save::{
    PngSource, SaveFormat, encode_jpeg, is_unfinished, save_image, save_png, write_atomic,
    write_atomic_with, write_folder_atomic,
};
#[cfg(feature = "video")]
pub use video::{FfmpegVideo, FrameFolder, FrameSource, FrameTimes, VideoWriter, open_video};
pub use warning::ImageWarning;
