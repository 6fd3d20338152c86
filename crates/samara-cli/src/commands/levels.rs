//! `samara levels`.

use samara::{ImageLimits, Segmenter};
use samara_quality::{LevelsOptions, propose_levels};

use super::eval::with_bar;
use crate::error::Result;
use crate::files::{Files, Kind};
use crate::flags::LevelsFlags;
use crate::model::checkpoint;
use crate::progress;
use crate::terminal;

pub(crate) fn run(flags: &LevelsFlags) -> Result<()> {
    // Everything that can be wrong is looked at before the expensive work starts.
    let checkpoint = checkpoint(&flags.model)?;
    let (images, stretch) = (flags.read.images.as_ref(), flags.read.depth.stretch);
    let data = super::open_data(&flags.data, &flags.split, images, stretch)?;
    Files::new()
        .read_data(&data)
        .read("the checkpoint", checkpoint.path())
        .write("--out", Kind::Json, Some(&flags.out))
        .check()?;

    let place = flags.model.options();
    let segmenter = progress::spin("loading the model", || {
        Segmenter::from_checkpoint(&checkpoint, place)
    })?;
    let options = LevelsOptions {
        limit: flags.limit,
        min_score: flags.min_score,
        with_annotations: flags.with_annotations,
        limits: ImageLimits::from(&flags.limits),
    };
    let levels = with_bar(&data.name, |progress| {
        propose_levels(&segmenter, &data, &options, progress)
    })?;
    levels.write(&flags.out)?;
    super::tell_elsewhere("--out", &flags.out, &data);
    let wrote = terminal::name(&flags.out);
    terminal::print(&format!("{}\nwrote {wrote}\n", levels.outline()))?;
    super::left_out(&levels.skipped.unreadable(), "image")
}
