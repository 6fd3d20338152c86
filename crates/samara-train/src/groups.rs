//! Which parameters learn, and how fast.
//!
//! A group gives the parameters whose path starts with its prefix a factor of the learning rate;
//! of several groups the last that matches decides. Factor 0 freezes. So
//!
//! ```toml
//! groups = [{ prefix = "image_encoder.", lr_scale = 0.0 }]
//! ```
//!
//! trains all of SAM but its encoder, and
//!
//! ```toml
//! groups = [
//!   { prefix = "", lr_scale = 0.0 },
//!   { prefix = "mask_decoder.iou_prediction_head.", lr_scale = 1.0 },
//! ]
//! ```
//!
//! its IoU head only.

use std::collections::{BTreeSet, HashMap, HashSet};

use samara_model::Model;
use samara_model::burn::module::ParamId;

use crate::TrainError;
use crate::parameters::{Parameter, parameters};
use crate::recipe::{Recipe, Stage};

/// Where the paths of an image encoder begin.
pub(crate) const ENCODER: &str = "image_encoder.";

/// The parameters of a run and their factors of the learning rate.
#[derive(Debug)]
pub struct Groups {
    parameters: Vec<Parameter>,
    rates: HashMap<ParamId, f64>,
}

impl Groups {
    /// The groups of a recipe.
    ///
    /// # Errors
    /// A prefix matches no parameter, or nothing learns in a stage.
    pub fn new(model: &Model, recipe: &Recipe) -> Result<Self, TrainError> {
        let parameters = parameters(model);
        for (i, group) in recipe.groups.iter().enumerate() {
            must_match(&parameters, &group.prefix, || format!("groups[{i}].prefix"))?;
        }
        for (i, stage) in recipe.stages.iter().enumerate() {
            for prefix in &stage.freeze {
                must_match(&parameters, prefix, || format!("stages[{i}].freeze"))?;
            }
        }
        let blocks = block_count(parameters.iter().map(|p| p.path.as_str()));
        let cached = recipe.embedding_cache.is_some();
        let rate = |p: &Parameter| {
            let matching = |prefix: &str| p.path.starts_with(prefix);
            let mut groups = recipe.groups.iter().rev();
            let group = groups.find(|group| matching(&group.prefix));
            let frozen = cached && matching(ENCODER);
            let decay = recipe.optimizer.layer_decay.unwrap_or(1.0);
            match group {
                _ if frozen || !p.is_weight() => 0.0,
                Some(group) => group.lr_scale * decay.powi(depth_from_top(&p.path, blocks)),
                None => decay.powi(depth_from_top(&p.path, blocks)),
            }
        };
        let rates = parameters.iter().map(|p| (p.id, rate(p))).collect();
        let groups = Self { parameters, rates };
        for (i, stage) in recipe.stages.iter().enumerate() {
            if groups.learning(stage).is_empty() {
                let why = "nothing learns: groups and freeze leave no parameter";
                return Err(TrainError::setting(format!("stages[{i}]"), why));
            }
        }
        Ok(groups)
    }

    /// The parameters that learn in a stage.
    pub fn learning(&self, stage: &Stage) -> HashSet<ParamId> {
        let frozen = |p: &Parameter| stage.freeze.iter().any(|f| p.path.starts_with(f.as_str()));
        let learns = |p: &&Parameter| self.rates[&p.id] > 0.0 && !frozen(p);
        self.parameters
            .iter()
            .filter(learns)
            .map(|p| p.id)
            .collect()
    }

    /// Whether something of the image encoder learns in a stage.
    pub(crate) fn encoder_learns(&self, stage: &Stage) -> bool {
        let learning = self.learning(stage);
        let mut learning = self.parameters.iter().filter(|p| learning.contains(&p.id));
        learning.any(|p| p.path.starts_with(ENCODER))
    }

    /// The parameters by the factor of their learning rate.
    pub(crate) fn by_rate(&self) -> Vec<(f64, Vec<ParamId>)> {
        let mut by_rate: Vec<(f64, Vec<ParamId>)> = Vec::new();
        for parameter in &self.parameters {
            let rate = self.rates[&parameter.id];
            match by_rate.iter_mut().find(|(known, _)| *known == rate) {
                Some((_, ids)) => ids.push(parameter.id),
                None => by_rate.push((rate, vec![parameter.id])),
            }
        }
        by_rate
    }

    /// Biases and norms, which weight decay spares.
    pub(crate) fn spared(&self) -> Vec<ParamId> {
        let vectors = self.parameters.iter().filter(|p| p.rank == 1);
        vectors.map(|p| p.id).collect()
    }
}

fn must_match(
    parameters: &[Parameter],
    prefix: &str,
    key: impl Fn() -> String,
) -> Result<(), TrainError> {
    if parameters.iter().any(|p| p.path.starts_with(prefix)) {
        return Ok(());
    }
    let first = |p: &'_ Parameter| {
        let name = p.path.split('.').next().unwrap_or_default();
        format!("{name}.")
    };
    let known: BTreeSet<String> = parameters.iter().map(first).collect();
    let known = known.into_iter().collect::<Vec<_>>().join(", ");
    let why = format!("'{prefix}' is the start of no parameter of this model, which has {known}");
    Err(TrainError::setting(key(), &why))
}

/// The index after `image_encoder.blocks.`, of SAM's ViT.
fn block(path: &str) -> Option<i32> {
    let rest = path.strip_prefix("image_encoder.blocks.")?;
    rest.split('.').next()?.parse().ok()
}

fn block_count<'a>(paths: impl Iterator<Item = &'a str>) -> i32 {
    paths.filter_map(block).max().map_or(0, |last| last + 1)
}

/// Blocks between a parameter and the top of the encoder: 0 outside of the encoder and in its
/// neck, the number of blocks plus one in the patch embedding. 0 in an encoder without blocks.
fn depth_from_top(path: &str, blocks: i32) -> i32 {
    match block(path) {
        Some(index) => blocks - index,
        None if blocks == 0 || path.starts_with("image_encoder.neck.") => 0,
        None if path.starts_with("image_encoder.") => blocks + 1,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use samara_model::burn::tensor::Device;

    use super::*;
    use crate::recipe::testing::recipe;
    use crate::testing::tiny_sam;

    fn learning(text: &str) -> Result<Vec<String>, String> {
        let (model, recipe) = (tiny_sam(&Device::flex()), recipe(text));
        let groups = Groups::new(&model, &recipe).map_err(|e| e.to_string())?;
        let ids = groups.learning(&recipe.stages[0]);
        let all = parameters(&model).into_iter();
        Ok(all
            .filter(|p| ids.contains(&p.id))
            .map(|p| p.path)
            .collect())
    }

    #[test]
    fn the_last_group_that_matches_decides() {
        let all = learning("").unwrap();
        let model = parameters(&tiny_sam(&Device::flex()));
        assert_eq!(all.len(), model.iter().filter(|p| p.is_weight()).count());
        assert!(
            all.len() < model.len(),
            "frequencies and statistics do not learn"
        );
        let head = "groups = [{ prefix = '', lr_scale = 0.0 },\
                    { prefix = 'mask_decoder.iou_prediction_head.', lr_scale = 1.0 }]";
        let head = learning(head).unwrap();
        assert!(!head.is_empty());
        assert!(
            head.iter()
                .all(|path| path.starts_with("mask_decoder.iou_prediction_head."))
        );
        let frozen = learning("embedding_cache = 'cache'").unwrap();
        assert!(frozen.iter().any(|path| path.starts_with("mask_decoder.")));
        assert!(!frozen.iter().any(|path| path.starts_with(ENCODER)));
    }

    #[test]
    fn a_prefix_without_parameter_is_refused_by_name() {
        let error = learning("groups = [{ prefix = 'trunk.', lr_scale = 0.0 }]").unwrap_err();
        for word in ["groups[0].prefix", "'trunk.'", "mask_decoder.", ENCODER] {
            assert!(error.contains(word), "{error}");
        }
        let error = learning("groups = [{ prefix = '', lr_scale = 0.0 }]").unwrap_err();
        assert!(error.contains("stages[0]: nothing learns"), "{error}");
    }

    #[test]
    fn layer_decay_counts_from_the_top() {
        let depth = |path| depth_from_top(path, 12);
        assert_eq!(depth("image_encoder.blocks.11.norm1.gamma"), 1);
        assert_eq!(depth("image_encoder.blocks.0.norm1.gamma"), 12);
        assert_eq!(depth("image_encoder.pos_embed"), 13);
        assert_eq!(depth("image_encoder.neck.conv1.weight"), 0);
        assert_eq!(depth("mask_decoder.iou_token.weight"), 0);
        assert_eq!(depth_from_top("image_encoder.layers.0.x", 0), 0);
        let paths = ["image_encoder.blocks.3.x", "y"].into_iter();
        assert_eq!(block_count(paths), 4);
    }
}
