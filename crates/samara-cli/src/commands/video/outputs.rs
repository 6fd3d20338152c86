//! The files that `samara video` leaves.

use std::io::{self, Error, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use samara::Mask;
use samara_image::{
    FrameSource, FrameTimes, Overlay, Rgb, VideoWriter, object_color, save_object_map,
    write_atomic_with,
};
use serde::Serialize;
use serde_json::json;

use super::prompts::Prompts;
use super::records::{FrameRecord, ObjectRecord, in_order, span};
use crate::commands::journal::Journal;
use crate::error::{CliError, Result};
use crate::files::result_in;
use crate::flags::VideoFormat;
use crate::progress;

/// Frames per second of the overlay of a folder, which has none.
const FRAME_RATE: f64 = 24.0;
pub(super) const MASKS: &str = "masks";
const JSON: &str = "masklets.json";
const OVERLAY: &str = "overlay.mp4";
/// All files and folders of results.
pub(super) const NAMES: [&str; 3] = [MASKS, JSON, OVERLAY];

/// When the frames of the video up to the last one that was tracked are shown: as the file says, or else at its
/// rate. A folder has neither.
fn times(source: &dyn FrameSource, tracked: &Range<usize>) -> io::Result<Option<FrameTimes>> {
    let times = source.times().map_err(Error::other)?;
    let times = times.filter(|times| times.len() >= tracked.end);
    Ok(times.or_else(|| FrameTimes::at_rate(tracked.end, source.frame_rate()?)))
}

/// Writes what `formats` ask for into the folder `out`. Returns the paths.
pub(super) fn write(
    out: &Path,
    formats: &[VideoFormat],
    journal: &Journal<FrameRecord>,
    source: &mut dyn FrameSource,
    prompts: &Prompts,
) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for format in formats {
        let (path, outcome) = match format {
            VideoFormat::Masks => {
                let folder = result_in(out, MASKS)?;
                (folder.clone(), masks(&folder, journal, source))
            }
            VideoFormat::Json => {
                let file = result_in(out, JSON)?;
                (file.clone(), masklets(&file, journal, source))
            }
            VideoFormat::Overlay => {
                let file = result_in(out, OVERLAY)?;
                let done = progress::spin("drawing the overlay", || {
                    overlay(&file, journal, source, prompts)
                });
                (file, done)
            }
        };
        outcome.map_err(|e| {
            // What went wrong with the file itself names it already.
            let (name, why) = (path.display().to_string(), e.to_string());
            CliError::failed(if why.starts_with(&name) {
                why
            } else {
                format!("{name}: {why}")
            })
        })?;
        written.push(path);
    }
    Ok(written)
}

/// Whether an overlay could be written: ffmpeg may be missing.
pub(super) fn check_overlay(out: &Path, source: &dyn FrameSource) -> Result<()> {
    let rate = source.frame_rate().unwrap_or(FRAME_RATE);
    let writer = VideoWriter::create(out.join(OVERLAY), source.size(), rate);
    let failed = |e| CliError::failed(format!("--format overlay: {e}"));
    writer.map(drop).map_err(failed)
}

/// One palette image for each frame.
fn masks(
    folder: &Path,
    journal: &Journal<FrameRecord>,
    source: &dyn FrameSource,
) -> io::Result<()> {
    in_order(journal, |record| {
        let masks = decoded(record)?;
        // An object has a number of two bytes, as the flags were checked for.
        let objects: Vec<(u16, &Mask)> =
            masks.iter().map(|(id, mask)| (*id as u16, mask)).collect();
        let name = format!("{}.png", source.frame_name(record.frame));
        let path = result_in(folder, name).map_err(|e| Error::other(e.line()))?;
        save_object_map(path, source.size(), &objects).map_err(Error::other)
    })
}

fn decoded(record: &FrameRecord) -> io::Result<Vec<(u32, Mask)>> {
    let objects = record.objects.iter();
    let decode = |object: &ObjectRecord| {
        let mask = object.segmentation.to_mask().map_err(Error::other)?;
        Ok((object.id, mask))
    };
    objects.map(decode).collect()
}

/// What the SA-V data set says of an object.
#[derive(Default)]
struct Masklet {
    first_appeared: Option<usize>,
    frames: usize,
    area: u64,
    changes: usize,
    visible: bool,
}

#[derive(Serialize)]
struct Scores<'a> {
    object_score: &'a [f32],
    predicted_iou: &'a [f32],
    occlusion_probability: &'a [f32],
}

/// All masks in one file: `masklet` holds a list of masks for every frame from `first_frame`, in the
/// order of `masklet_id`; the scores of a frame follow in the same order.
fn masklets(
    file: &Path,
    journal: &Journal<FrameRecord>,
    source: &dyn FrameSource,
) -> io::Result<()> {
    let tracked = span(journal)?;
    let times = times(source, &tracked)?;
    let seconds = |seconds: f64| (seconds * 1e6).round() / 1e6;
    let starts: Option<Vec<f64>> = times.as_ref().and_then(|times| {
        let starts = tracked
            .clone()
            .map(|frame| Some(seconds(times.start(frame)?)));
        starts.collect()
    });
    let duration = times.and_then(|times| {
        let end = times.end(tracked.end.checked_sub(1)?)?;
        Some(seconds(end - times.start(tracked.start)?))
    });
    let write = |file: &mut dyn Write| {
        let mut ids: Vec<u32> = Vec::new();
        let mut all: Vec<Masklet> = Vec::new();
        let (mut first, mut count) = (None, 0_u32);
        file.write_all(b"{\"masklet\":[")?;
        in_order(journal, |record| {
            if ids.is_empty() {
                ids = record.objects.iter().map(|object| object.id).collect();
                all.resize_with(ids.len(), Masklet::default);
            }
            first.get_or_insert(record.frame);
            file.write_all(if count == 0 { b"\n" } else { b",\n" })?;
            count += 1;
            let rles: Vec<_> = record.objects.iter().map(|o| &o.segmentation).collect();
            serde_json::to_writer(&mut *file, &rles)?;
            for (masklet, rle) in all.iter_mut().zip(rles) {
                let (area, visible) = (rle.area(), rle.area() > 0);
                masklet.changes += usize::from(count > 1 && visible != masklet.visible);
                masklet.visible = visible;
                masklet.area += area;
                masklet.frames += usize::from(visible);
                if visible {
                    masklet.first_appeared.get_or_insert(record.frame);
                }
            }
            Ok(())
        })?;
        file.write_all(b"],\n\"scores\":[")?;
        let mut some = false;
        in_order(journal, |record| {
            let of = |value: fn(&ObjectRecord) -> f32| -> Vec<f32> {
                record.objects.iter().map(value).collect()
            };
            file.write_all(if some { b",\n" } else { b"\n" })?;
            some = true;
            let scores = Scores {
                object_score: &of(|o| o.object_score),
                predicted_iou: &of(|o| o.predicted_iou),
                occlusion_probability: &of(|o| o.occlusion_probability),
            };
            Ok(serde_json::to_writer(&mut *file, &scores)?)
        })?;
        file.write_all(b"],\n")?;
        let (width, height) = source.size();
        let size = |masklet: &Masklet| masklet.area as f64 / masklet.frames.max(1) as f64;
        let pixels = f64::from(width) * f64::from(height);
        let rest = json!({
            "video_frame_count": count,
            "video_duration": duration,
            "frame_times": starts,
            "video_height": height,
            "video_width": width,
            "first_frame": first,
            "masklet_id": ids,
            "masklet_num": ids.len(),
            "masklet_type": "auto",
            "masklet_size_abs": all.iter().map(size).collect::<Vec<_>>(),
            "masklet_size_rel": all.iter().map(|m| size(m) / pixels).collect::<Vec<_>>(),
            "masklet_frame_count": all.iter().map(|m| m.frames).collect::<Vec<_>>(),
            "masklet_visibility_changes": all.iter().map(|m| m.changes).collect::<Vec<_>>(),
            "masklet_first_appeared_frame":
                all.iter().map(|m| m.first_appeared).collect::<Vec<_>>(),
        });
        // The object of the rest, without its opening brace.
        file.write_all(&rest.to_string().as_bytes()[1..])?;
        file.write_all(b"\n")
    };
    write_atomic_with(file, write).map_err(Error::other)
}

/// The video with its masks, and the prompts on their frames.
fn overlay(
    file: &Path,
    journal: &Journal<FrameRecord>,
    source: &mut dyn FrameSource,
    prompts: &Prompts,
) -> io::Result<()> {
    let tracked = span(journal)?;
    let times = times(source, &tracked)?.and_then(|times| times.part(tracked));
    let rate = source.frame_rate().unwrap_or(FRAME_RATE);
    let mut writer = match times.filter(|times| !times.is_at_rate(rate)) {
        Some(times) => VideoWriter::create_timed(file, source.size(), times),
        None => VideoWriter::create(file, source.size(), rate),
    }
    .map_err(Error::other)?;
    in_order(journal, |record| {
        let image = source.read(record.frame).map_err(Error::other)?;
        let Some(image) = image else {
            return Err(Error::other(format!("frame {} is gone", record.frame)));
        };
        let masks = decoded(record)?;
        let mut drawn = Overlay::new(&image);
        for ((id, mask), object) in masks.iter().zip(&record.objects) {
            let label = if object.object_score > 0.0 {
                format!("{id}")
            } else {
                format!("{id} hidden")
            };
            // Colours repeat after those of a palette.
            let color = Rgb(object_color((id.saturating_sub(1) % 255 + 1) as u8));
            if !mask.is_empty() {
                drawn = drawn.mask(mask, color).label(label);
            }
        }
        for prompt in prompts.get(&record.frame).iter().flat_map(|o| o.values()) {
            for click in prompt.clicks() {
                drawn = drawn.point(click.at, click.positive);
            }
            if let Some(bbox) = prompt.box_prompt() {
                drawn = drawn.prompt_box(bbox);
            }
        }
        writer.write(&drawn.render()).map_err(Error::other)
    })?;
    writer.finish().map_err(Error::other)
}
