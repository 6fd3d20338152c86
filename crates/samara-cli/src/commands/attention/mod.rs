//! `samara attention`.

mod analysis;
mod drawing;
mod records;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use samara::{ImageLimits, OriginalPx, Prompt, Segmenter};
use samara_attention::AttentionMap;
use samara_attention::{AttentionLevel, AttentionOptions, AttentionTargets};
use samara_image::{ReadImage, RgbImage, save_image, write_atomic};

use analysis::{Analysis, Asked, Timing, mean};

use crate::error::{CliError, Result};
use crate::files::{Files, Kind};
use crate::flags::AttentionFlags;
use crate::map_file::FileMap;
use crate::model::checkpoint;
use crate::progress::{self, Bar};
use crate::read::read;
use crate::report::timed;
use crate::{map_file, mask_file, terminal};

/// Maps that are analysed between two steps of the bar.
const BAR_STEP: usize = 8;
/// Least distance of two peaks, as a share of the image's longer side.
const PEAK_DISTANCE: f64 = 0.05;

/// Says which level of the prompted objects the maps look at.
pub(crate) fn run(flags: &AttentionFlags) -> Result<()> {
    // Everything that can be wrong is looked at before the expensive work starts.
    let checkpoint = checkpoint(&flags.model)?;
    let place = flags.model.options();
    let outputs = Outputs::resolve(flags);
    Files::new()
        .read("the input image", &flags.image)
        .read("the attention map", &flags.map)
        .read_all("the mask of --mask", &flags.mask)
        .read("the checkpoint", checkpoint.path())
        .write("--out", Kind::Image, outputs.drawing.as_deref())
        .write("--json", Kind::JsonOrStdout, outputs.json.as_deref())
        .check()?;
    let limits = ImageLimits::from(&flags.limits);
    let ReadImage { image, warnings } = read(&flags.image, &limits.into())?;
    let maps = maps(flags, &image, &limits)?;
    let asked = prompts(flags, &image, &maps, &limits)?;

    let mut timing = Timing::default();
    let segmenter = timed(&mut timing.load, || {
        progress::spin("loading the model", || {
            Segmenter::from_checkpoint(&checkpoint, place)
        })
    })?;
    let embedding = timed(&mut timing.embed, || {
        progress::spin("embedding the image", || segmenter.embed(&image))
    })?;
    let prompts: Vec<Prompt> = asked.iter().map(|asked| asked.prompt.clone()).collect();
    let targets = timed(&mut timing.decode, || {
        AttentionTargets::of(&embedding, &prompts)
    })?;
    let options = flags.options();
    let found = timed(&mut timing.analyse, || analyse(&targets, &maps, &options))?;
    let analysis = Analysis {
        image,
        warnings,
        maps,
        asked,
        targets,
        options,
        found,
        model: segmenter.name(),
        precision: segmenter.precision().name(),
        timing,
    };
    outputs.write(flags, &analysis)?;
    if outputs.json_on_stdout() {
        return Ok(());
    }
    outputs.tell(flags, &analysis)
}

/// The maps of the file, which must lie over the image.
fn maps(flags: &AttentionFlags, image: &RgbImage, limits: &ImageLimits) -> Result<Vec<FileMap>> {
    let maps = map_file::read(&flags.map, flags.grid, flags.tensor.as_deref(), limits)?;
    let (width, height) = image.dimensions();
    for FileMap { map, .. } in &maps {
        if !flags.stretch && !map.has_aspect_of(width, height) {
            return Err(CliError::failed(format!(
                "{}: a map of {}×{} cells (width × height) has another aspect ratio than the image \
                 of {width}×{height} pixels; --stretch takes it as the attention of the stretched \
                 image",
                map.name(),
                map.width(),
                map.height()
            )));
        }
    }
    Ok(maps)
}

/// A prompt for every point, box and mask; without any, for every peak of the mean map.
fn prompts(
    flags: &AttentionFlags,
    image: &RgbImage,
    maps: &[FileMap],
    limits: &ImageLimits,
) -> Result<Vec<Asked>> {
    let place = |at: &OriginalPx, peak: bool| Asked {
        name: if peak {
            format!("{:.0},{:.0}", at.x, at.y)
        } else {
            format!("{},{}", at.x, at.y)
        },
        prompt: Prompt::point(at.x, at.y),
        peak,
    };
    let mut asked: Vec<Asked> = flags.points.iter().map(|at| place(at, false)).collect();
    asked.extend(flags.boxes.iter().map(|b| Asked {
        name: format!("{},{},{},{}", b.min.x, b.min.y, b.max.x, b.max.y),
        prompt: Prompt::new().with_box(*b),
        peak: false,
    }));
    if let Some(path) = &flags.mask {
        asked.push(Asked {
            name: "mask".into(),
            prompt: Prompt::new().with_mask(mask_file::read(path, image.dimensions(), limits)?),
            peak: false,
        });
    }
    if asked.is_empty() {
        let size = image.dimensions();
        let distance = PEAK_DISTANCE * f64::from(size.0.max(size.1));
        let mean = mean(maps)?;
        let peaks = mean.peaks(size, flags.peaks.unwrap_or(1), distance);
        asked.extend(peaks.iter().map(|at| place(at, true)));
    }
    for Asked { prompt, .. } in &asked {
        prompt.check(image.width(), image.height())?;
    }
    Ok(asked)
}

/// Compares all maps with all candidates, with a bar when there are many.
fn analyse(
    targets: &AttentionTargets,
    maps: &[FileMap],
    options: &AttentionOptions,
) -> Result<Vec<Vec<AttentionLevel>>> {
    let maps: Vec<AttentionMap> = maps.iter().map(|file| file.map.clone()).collect();
    if maps.len() <= BAR_STEP {
        return Ok(targets.analyse_all(&maps, options)?);
    }
    let bar = Bar::steps(maps.len() as u64, 0, "maps");
    let mut found = Vec::with_capacity(maps.len());
    for some in maps.chunks(BAR_STEP * rayon::current_num_threads().max(1)) {
        found.extend(targets.analyse_all(some, options)?);
        bar.inc(some.len() as u64);
    }
    bar.finish();
    Ok(found)
}

/// Where the results go.
struct Outputs {
    drawing: Option<PathBuf>,
    json: Option<PathBuf>,
}

impl Outputs {
    fn resolve(flags: &AttentionFlags) -> Self {
        let drawing = match (&flags.out, &flags.json) {
            (None, None) => {
                let stem = flags.image.file_stem().unwrap_or("image".as_ref());
                Some(format!("{}.attention.png", stem.to_string_lossy()).into())
            }
            (out, _) => out.clone(),
        };
        Self {
            drawing,
            json: flags.json.clone(),
        }
    }

    fn json_on_stdout(&self) -> bool {
        self.json.as_deref() == Some(Path::new("-"))
    }

    fn write(&self, flags: &AttentionFlags, analysis: &Analysis) -> Result<()> {
        if let Some(path) = &self.drawing {
            save_image(path, &drawing::draw(analysis)?)?;
        }
        let Some(path) = &self.json else {
            return Ok(());
        };
        let json = records::json(flags, analysis)?;
        if self.json_on_stdout() {
            terminal::print_raw(&json)
        } else {
            Ok(write_atomic(path, &json)?)
        }
    }

    /// The table, and which files were written.
    fn tell(&self, flags: &AttentionFlags, analysis: &Analysis) -> Result<()> {
        let mut text = records::table(flags, analysis);
        for path in [&self.drawing, &self.json].into_iter().flatten() {
            let _ = writeln!(text, "wrote {}", terminal::name(path));
        }
        terminal::print(&text)
    }
}
