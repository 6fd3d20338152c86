//! Prompts for training and evaluation: a simulated user who sees the true mask.
//!
//! Coordinates are pixels of the true mask, whatever its resolution; they are continuous, so the
//! centre of the top-left pixel is (0.5, 0.5) and the box of that pixel is 0,0,1,1. A mask of the
//! size of the image makes them [original pixels](samara::OriginalPx).

mod batch;
mod click;
mod error;
mod first;
mod placement;
mod recipe;
mod simulation;

pub use batch::PromptBatchData;
pub use click::{ErrorRegions, error_regions, eval_click};
pub use error::PromptError;
pub use first::{BoxNoise, FirstPrompt, NoiseShape, centre_of, noisy_box, random_pixel};
pub use placement::{DepthWeights, Placement, correction_at};
pub use recipe::{FirstPromptWeights, Plan, Recipe, Simulation};
pub use simulation::{ObjectSimulation, PromptState};
