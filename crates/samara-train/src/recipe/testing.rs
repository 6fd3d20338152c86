//! Small recipes for the tests.

use super::Recipe;

/// A recipe of one stage for a tiny MobileSAM, with the lines `more` added: keys first, or tables.
pub(crate) fn text(more: &str) -> String {
    let (keys, tables) = if more.starts_with('[') {
        ("", more)
    } else {
        (more, "")
    };
    format!(
        "{keys}
[model]
random = 'mobile_sam.pth'
[[data]]
path = 'images'
[prompts]
recipe = 'sam'
[losses]
weights = {{ focal = 20.0, dice = 1.0, iou = 1.0, object_score = 0.0 }}
iou = {{ kind = 'l1', supervise_all = true }}
[optimizer]
lr = 0.001
warmup = 2
[[stages]]
steps = 10
masks_per_image = 2
rounds = [1, 2]
{tables}
"
    )
}

/// That recipe.
pub(crate) fn recipe(more: &str) -> Recipe {
    toml::from_str(&text(more)).unwrap()
}
