//! What annotation tools speak, so that they need no plugin.

pub(crate) mod brush_rle;
pub(crate) mod cvat;
pub(crate) mod label_studio;
mod labeling_config;
pub(crate) mod x_anylabeling;
pub(crate) mod x_anylabeling_video;

use samara::{Candidates, Select, Selection};

use crate::error::Result;

/// The mask that a tool which takes one is given.
fn best(candidates: &Candidates) -> Result<Selection> {
    Ok(candidates.select(&Select::Best)?)
}
