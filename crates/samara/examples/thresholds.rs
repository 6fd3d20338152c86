//! Draws what each threshold of segment-everything does: a row for each, from loose to strict.
//!
//! `cargo run --release --example thresholds -- docs/coffee.png docs/thresholds.jpg`

use std::error::Error;
use std::ops::ControlFlow;

use samara::{
    DeviceKind, ImageLimits, Mask, MaskGenerator, MaskGeneratorOptions, Segmenter, read_image,
};
use samara_image::{Overlay, RgbImage, montage, palette, resize_bilinear, save_image};

/// A name, and what it changes in the options.
type Setting = (&'static str, f64, fn(&mut MaskGeneratorOptions, f64));

const IOU: fn(&mut MaskGeneratorOptions, f64) = |o, v| o.pred_iou_thresh = Some(v as f32);
const STABILITY: fn(&mut MaskGeneratorOptions, f64) =
    |o, v| o.stability_score_thresh = Some(v as f32);
const NMS: fn(&mut MaskGeneratorOptions, f64) = |o, v| o.box_nms_thresh = v;
const AREA: fn(&mut MaskGeneratorOptions, f64) = |o, v| o.min_mask_region_area = v as u64;

const SETTINGS: [Setting; 12] = [
    ("pred_iou_thresh", 0.2, IOU),
    ("pred_iou_thresh", 0.4, IOU),
    ("pred_iou_thresh", 0.6, IOU),
    ("stability_score_thresh", 0.2, STABILITY),
    ("stability_score_thresh", 0.4, STABILITY),
    ("stability_score_thresh", 0.7, STABILITY),
    ("box_nms_thresh", 0.95, NMS),
    ("box_nms_thresh", 0.7, NMS),
    ("box_nms_thresh", 0.3, NMS),
    ("min_mask_region_area", 0.0, AREA),
    ("min_mask_region_area", 200.0, AREA),
    ("min_mask_region_area", 2000.0, AREA),
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = &arguments[..] else {
        return Err("usage: thresholds INPUT OUTPUT".into());
    };
    let photo = read_image(input, &ImageLimits::default())?;
    let segmenter = Segmenter::embedded(DeviceKind::Cpu)?;
    let embedding = segmenter.embed(&photo)?;
    let mut panels: Vec<RgbImage> = Vec::new();
    for (name, value, set) in SETTINGS {
        let mut options = MaskGeneratorOptions::default().with_points_per_side(16);
        set(&mut options, value);
        let generator = MaskGenerator::new(&segmenter, options)?;
        let records = generator.generate_from(&photo, &embedding, |_| ControlFlow::Continue(()))?;
        let masks = records.iter().map(|record| record.segmentation.to_mask());
        let mut masks: Vec<Mask> = masks.collect::<samara::Result<_>>()?;
        masks.sort_by_key(|mask| std::cmp::Reverse(mask.area()));
        let title = format!("{name} {value}: {} masks", masks.len());
        let overlay = masks
            .iter()
            .enumerate()
            .fold(Overlay::new(&photo).label(title), |overlay, (i, mask)| {
                overlay.mask(mask, palette(i))
            });
        let drawn = overlay.render();
        panels.push(resize_bilinear(
            &drawn,
            drawn.width() / 2,
            drawn.height() / 2,
        ));
    }
    save_image(output, &montage(&panels, 3))?;
    Ok(())
}
