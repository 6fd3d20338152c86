//! `samara levels`.

use samara::{ImageLimits, Segmenter};
use samara_data::DataSet;
use samara_quality::{LevelsOptions, propose_levels};

use super::eval::with_bar;
use crate::error::{CliError, Result};
use crate::files::{Files, Kind};
use crate::flags::LevelsFlags;
use crate::model::checkpoint;
use crate::progress;
use crate::terminal;

pub(crate) fn run(flags: &LevelsFlags) -> Result<()> {
    // Everything that can be wrong is looked at before the expensive work starts.
    let checkpoint = checkpoint(&flags.model)?;
    let split = (flags.split != super::eval::ALL).then_some(flags.split.as_str());
    let data = DataSet::open(&flags.data, split).map_err(CliError::failed)?;
    Files::new()
        .read_all("the annotations of the data set", &data.annotations)
        .read("the checkpoint", checkpoint.path())
        .write("--out", Kind::Json, Some(&flags.out))
        .check()?;
    super::tell_elsewhere("--out", &flags.out, &data);

    let place = flags.model.device.options();
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
    let wrote = terminal::name(&flags.out);
    terminal::print(&format!("{}\nwrote {wrote}\n", levels.outline()))
}
