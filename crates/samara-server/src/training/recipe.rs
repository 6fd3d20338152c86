//! The recipe of a fine-tune: a file that `samara train` takes as well.

use std::path::Path;

/// The name of its file.
pub(super) const FILE: &str = "recipe.toml";
/// The data set beside it.
pub(super) const DATA: &str = "data";
/// The run, where `samara train recipe.toml` looks for it in the same folder.
pub(super) const RUN: &str = "runs/recipe";
/// The finished model in the run.
pub(super) const MODEL: &str = "model.safetensors";

/// Steps in which the learning rate rises, at most.
const WARMUP: u64 = 20;
/// Pictures that the head which ranks the candidates is fitted to, at most.
const RANKED: u64 = 100;
/// Steps of that head, at most.
const RANKING: u64 = 2000;
/// Validations of a run.
const LOOKS: u64 = 10;

/// What a recipe is made of.
#[derive(Debug, Clone)]
pub(super) struct Settings<'a> {
    /// Of the finished model.
    pub(super) name: &'a str,
    /// Where training starts; the embedded model without it.
    pub(super) checkpoint: Option<&'a Path>,
    pub(super) steps: u64,
    /// Pictures for validation.
    pub(super) validation: usize,
    /// Percentiles of samples of more than 8 bits that are black and white, as the page shows them.
    pub(super) stretch: [f32; 2],
}

/// A text of TOML, in quotes.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

impl Settings<'_> {
    /// The recipe. It fits the heads to the masks and leaves the encoder as it is: what a model sees stays, what it
    /// makes of a prompt is learnt.
    pub(super) fn text(&self) -> String {
        let model = self.checkpoint.map_or_else(
            || quoted("embedded"),
            |path| format!("{{ checkpoint = {} }}", quoted(&path.display().to_string())),
        );
        let Self { steps, .. } = self;
        let [low, high] = self.stretch;
        let (split, validation) = if self.validation == 0 {
            ("", String::new())
        } else {
            let (every, examples) = ((steps / LOOKS).max(1), self.validation.min(8));
            let data =
                format!("{{ path = \"{DATA}\", split = \"val\", stretch = \"{low},{high}\" }}");
            let text = format!(
                "\n[validation]\nevery = {every}\nexamples = {examples}\ndata = [{data}]\n"
            );
            ("split = \"train\"\n", text)
        };
        format!(
            "# The heads of the model, fitted to the masks of a project.
#
#   samara train {FILE}
#
# does the same once more, or goes on where it was stopped.
name = {name}
model = {model}
seed = 1
ema = 0.95
# Half way between what it was and what it has learnt, the model forgets less.
blend = 0.5
checkpoint_every = 25
# The encoder stays as it is, and reads every picture once.
embedding_cache = \"features\"
groups = [{{ prefix = \"mask_decoder.iou_prediction_head.\", lr_scale = 3.0 }}]

[[data]]
path = \"{DATA}\"
{split}stretch = \"{low},{high}\"

[prompts]
recipe = \"sam2\"
first = {{ random_click = 0.5, centre_click = 0.3, box = 0.2 }}

[losses]
# A click means the object on which somebody has drawn: all three candidates learn a little of it.
relaxation = 0.1
weights = {{ focal = 20.0, dice = 1.0, iou = 1.0, object_score = 0.0 }}
iou = {{ kind = \"l1\", supervise_all = true }}

[optimizer]
lr = 3e-4
weight_decay = 0.01
clip_norm = 1.0
warmup = {warmup}

[[stages]]
steps = {steps}
images_per_step = 2
masks_per_image = 6
rounds = [1, 2]

# The head that ranks the candidates is fitted to the new masks.
[candidate_head]
examples = {examples}
steps = {ranking}
{validation}",
            name = quoted(self.name),
            warmup = (steps / 10).min(WARMUP),
            examples = (steps / 2).clamp(2, RANKED),
            ranking = (steps * 8).clamp(8, RANKING),
        )
    }
}

#[cfg(test)]
mod tests {
    use samara_train::Recipe;
    use samara_train::recipe::Start;

    use super::*;

    fn read(settings: &Settings<'_>) -> Recipe {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        std::fs::write(&path, settings.text()).unwrap();
        Recipe::read(&path).unwrap()
    }

    #[test]
    fn the_recipe_is_one() {
        let settings = Settings {
            name: "a \"b\" 'c'",
            checkpoint: None,
            steps: 300,
            validation: 12,
            stretch: [0.1, 99.9],
        };
        let recipe = read(&settings);
        assert_eq!(recipe.name.as_deref(), Some(settings.name));
        assert_eq!((recipe.steps(), recipe.optimizer.warmup), (300, 20));
        assert_eq!(recipe.data[0].split.as_deref(), Some("train"));
        let validation = recipe.validation.unwrap();
        assert_eq!((validation.every, validation.examples), (30, 8));
        let small = Settings {
            checkpoint: Some(Path::new("/a \\ \"b\"/c.pt")),
            steps: 1,
            validation: 0,
            ..settings
        };
        let recipe = read(&small);
        assert!(
            matches!(recipe.model, Start::Checkpoint(path) if path == small.checkpoint.unwrap())
        );
        assert!(recipe.validation.is_none() && recipe.data[0].split.is_none());
    }
}
