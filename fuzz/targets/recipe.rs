//! Recipes of training.
#![no_main]

use samara_fuzz::{told, with_file};
use samara_train::Recipe;

samara_fuzz::target!(|bytes| {
    let recipe = with_file(bytes, "toml", |path| told(Recipe::read(path)));
    if let Some(recipe) = recipe {
        recipe.inputs();
        let last = recipe.steps();
        for step in [0, 1, last.saturating_sub(1)] {
            if step < last {
                recipe.stage(step);
            }
        }
    }
});
