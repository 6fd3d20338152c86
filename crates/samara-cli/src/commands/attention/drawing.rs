//! The image of `attention`: map, candidates and measures in a row.

use samara::{Candidates, Granularity, OriginalBox, OriginalPx};
use samara_attention::AttentionLevel;
use samara_attention::AttentionMap;
use samara_image::{
    BarGroup, Overlay, RgbImage, bar_chart, heat_map, montage, palette, resize_bilinear,
};

use super::analysis::{Analysis, Asked, largest_first, mean};
use crate::error::Result;

/// Longest side of a panel, in pixels.
const PANEL: u32 = 480;
/// Most rows; more maps are shown by their mean.
const ROWS: usize = 6;

/// Rows of the map over the image, the candidates from large to small, and bars of their measures:
/// one row for every map and prompt, or, where these are many, one of the mean map for every prompt.
pub(super) fn draw(analysis: &Analysis) -> Result<RgbImage> {
    let photo = shrunk(&analysis.image);
    let mut panels = Vec::new();
    let many = analysis.maps.len() * analysis.asked.len() > ROWS;
    let averaged: Vec<(AttentionMap, Vec<AttentionLevel>)> = if many {
        let mean = mean(&analysis.maps)?;
        let found = analysis.targets.analyse(&mean, &analysis.options)?;
        vec![(mean, found)]
    } else {
        Vec::new()
    };
    let maps: Vec<(&AttentionMap, &Vec<AttentionLevel>, String)> = if many {
        let title = format!("mean of {} maps", analysis.maps.len());
        averaged
            .iter()
            .map(|(map, found)| (map, found, title.clone()))
            .collect()
    } else {
        let maps = analysis.maps.iter().zip(&analysis.found);
        maps.map(|(file, found)| (&file.map, found, file.title()))
            .collect()
    };
    for (map, found, title) in maps {
        let prompts = analysis.asked.iter().zip(analysis.targets.candidates());
        for ((asked, candidates), result) in prompts.zip(found).take(ROWS) {
            panels.extend(row(
                &photo,
                analysis,
                (map, &title),
                asked,
                candidates,
                result,
            ));
        }
    }
    let candidates = analysis.targets.candidates().first();
    let columns = candidates.map_or(panels.len(), |candidates| candidates.len() + 2);
    Ok(montage(&panels, columns))
}

fn row(
    photo: &RgbImage,
    analysis: &Analysis,
    (map, title): (&AttentionMap, &str),
    asked: &Asked,
    candidates: &Candidates,
    result: &AttentionLevel,
) -> Vec<RgbImage> {
    let (width, height) = photo.dimensions();
    let scale = f64::from(width) / f64::from(analysis.image.width());
    let heat = heat_map(
        photo,
        &map.resized(width, height, analysis.options.resampling),
    );
    let mut panels = vec![prompted(Overlay::new(&heat).label(title), asked, scale).render()];
    let mut groups = Vec::new();
    for (place, i) in largest_first(candidates).into_iter().enumerate() {
        let (candidate, of_map) = (&candidates.as_slice()[i], &result.candidates[i]);
        let level = of_map.level;
        let color = palette(place);
        let overlay = Overlay::new(photo).mask(&candidate.mask, color);
        let label = format!("{level} {:.2}", candidate.predicted_iou);
        panels.push(prompted(overlay.label(label), asked, scale).render());
        let measures = &of_map.measures;
        let bars = [
            ("correlation", measures.correlation),
            ("mass inside", Some(measures.mass)),
            ("AUC", measures.auc),
            ("hit", Some(f64::from(u8::from(measures.hit)))),
        ];
        groups.push(BarGroup {
            title: if of_map.duplicate_of.is_some() {
                format!("{level} (the same again)")
            } else {
                level.to_string()
            },
            color,
            bars: bars.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        });
    }
    let verdict = match (result.level, result.undecided) {
        (None, Some(why)) => format!("undecided ({why})"),
        (level, _) => {
            let level = level.map_or("undecided", Granularity::name);
            format!("{level}, margin {:.2}", result.margin)
        }
    };
    panels.push(bar_chart(width, height, &verdict, &groups));
    panels
}

/// The prompt over a panel.
fn prompted<'a>(mut overlay: Overlay<'a>, asked: &Asked, scale: f64) -> Overlay<'a> {
    let scaled = |at: OriginalPx| OriginalPx::new(at.x * scale, at.y * scale);
    for click in asked.prompt.clicks() {
        overlay = overlay.point(scaled(click.at), click.positive);
    }
    if let Some(b) = asked.prompt.box_prompt() {
        overlay = overlay.prompt_box(&OriginalBox {
            min: scaled(b.min),
            max: scaled(b.max),
        });
    }
    overlay
}

/// The image at the size of a panel, if it is larger.
fn shrunk(image: &RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    let longest = width.max(height);
    if longest <= PANEL {
        return image.clone();
    }
    let side = |length: u32| {
        let scaled = f64::from(length) * f64::from(PANEL) / f64::from(longest);
        (scaled.round() as u32).max(1)
    };
    resize_bilinear(image, side(width), side(height))
}
