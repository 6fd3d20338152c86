//! How often the analysis of attention maps names the right level.
//!
//! On images of people with annotated garments, synthetic attention maps are made from the mask of
//! the person (whole), of a garment (part) and of a small thing (subpart): blurred, with noise, on
//! the grids of vision transformers. Every garment and every small thing is clicked where it is
//! deepest, so the map of the person and the map of the thing contain the same click.
//!
//! `cargo run --release -p samara-attention --example attention_levels -- data/ccp`
//!
//! `--split NAME` takes another split than `val`, `--limit N` only N images, evenly spread, and
//! `--any-size` also garments of less than a tenth of the person's area and small things of more.
#![allow(clippy::print_stdout, reason = "this is its output")]

use std::error::Error;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use samara::{DeviceKind, Granularity, ImageLimits, Mask, Prompt, Segmenter};
use samara_attention::{AttentionLevel, AttentionMap, AttentionOptions, AttentionTargets};
use samara_data::prompts::eval_click;
use samara_data::{DataSet, ImageRecord};
use samara_image::{Connectivity, components};

/// Categories of small things; all others are garments.
const SMALL: [&str; 27] = [
    "accessories",
    "bag",
    "belt",
    "boots",
    "bra",
    "bracelet",
    "flats",
    "glasses",
    "gloves",
    "hair",
    "hat",
    "heels",
    "loafers",
    "necklace",
    "pumps",
    "purse",
    "sandals",
    "scarf",
    "shoes",
    "skin",
    "sneakers",
    "socks",
    "sunglasses",
    "tie",
    "wallet",
    "watch",
    "wedges",
];
/// A garment has at least this share of the person's area, a small thing less.
const SMALL_SHARE: f64 = 0.1;
/// Smaller things are skipped, in pixels.
const MIN_AREA: u64 = 150;
/// Cells of a map: squares see the image stretched, 64 is the longer side of a map of its shape.
const GRIDS: [u32; 4] = [14, 24, 37, 64];
/// Standard deviations as shares of the longer side.
const BLURS: [f64; 3] = [0.0, 0.02, 0.04];
/// Uniform noise in every cell, up to this share of the map's maximum.
const NOISES: [f32; 3] = [0.0, 0.1, 0.25];
/// A candidate covers the source of a map when their IoU reaches this.
const COVERED: f64 = 0.5;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// A map, what it was made from and what was found.
struct Case {
    source: Granularity,
    /// Level of the candidate that covers the source best, if any does.
    covering: Option<Granularity>,
    grid: u32,
    blur: f64,
    noise: f32,
    found: AttentionLevel,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |flag: &str| {
        let at = arguments.iter().position(|a| a == flag)?;
        arguments.get(at + 1)
    };
    let data = arguments.first().ok_or("usage: attention_levels DATA")?;
    let split = after("--split").map_or("val", String::as_str);
    let any_size = arguments.iter().any(|a| a == "--any-size");
    let set = DataSet::open(data, Some(split))?;
    let limit = match after("--limit") {
        Some(text) => text.parse::<usize>()?.clamp(1, set.images.len()),
        None => set.images.len(),
    };
    let segmenter = Segmenter::embedded(DeviceKind::Cpu)?;
    let mut cases = Vec::new();
    for i in 0..limit {
        let record = &set.images[i * set.images.len() / limit];
        cases.extend(image(&segmenter, record, any_size)?);
    }
    println!(
        "{limit} images of {} ({split}), {} maps\n",
        set.name,
        cases.len()
    );
    report(&cases);
    Ok(())
}

/// The cases of one image.
fn image(segmenter: &Segmenter, record: &ImageRecord, any_size: bool) -> Result<Vec<Case>> {
    let things = things(record, any_size)?;
    let limits = ImageLimits::default();
    let embedding = segmenter.embed(&record.load_image(&limits)?)?;
    let mut rng = ChaCha8Rng::seed_from_u64(record.id);
    let mut cases = Vec::new();
    for (level, thing, person) in things {
        let inside = thing.and(&person)?;
        let Some(click) = eval_click(&inside, None, &[])? else {
            continue;
        };
        let targets = AttentionTargets::of(&embedding, &[Prompt::new().with_click(click)])?;
        for (source, mask) in [(Granularity::Whole, &person), (level, &thing)] {
            let picked = GRIDS.map(|grid| {
                let blur = BLURS[rng.random_range(0..BLURS.len())];
                (grid, blur, NOISES[rng.random_range(0..NOISES.len())])
            });
            let maps: Vec<AttentionMap> = picked
                .iter()
                .map(|&(grid, blur, noise)| attention(mask, grid, blur, noise, &mut rng))
                .collect::<Result<_>>()?;
            let options = AttentionOptions {
                stretch: true,
                ..AttentionOptions::default()
            };
            let found = targets.analyse_all(&maps, &options)?;
            for ((grid, blur, noise), found) in picked.into_iter().zip(found.into_iter().flatten())
            {
                cases.push(Case {
                    source,
                    covering: covering(&targets, mask, &found),
                    grid,
                    blur,
                    noise,
                    found,
                });
            }
        }
    }
    Ok(cases)
}

/// Garments and the largest connected piece of small things, each with the person.
fn things(record: &ImageRecord, any_size: bool) -> Result<Vec<(Granularity, Mask, Mask)>> {
    let limits = ImageLimits::default();
    let is = |level: &str| {
        let level = level.to_owned();
        move |o: &&samara_data::ObjectRecord| o.level.as_deref() == Some(level.as_str())
    };
    let Some(person) = record.objects.iter().find(is("whole")) else {
        return Ok(Vec::new());
    };
    let person = record.mask(person, &limits)?;
    let mut things = Vec::new();
    for object in record.objects.iter().filter(is("part")) {
        let mut mask = record.mask(object, &limits)?;
        let category = object.category.as_deref().unwrap_or_default();
        let is_small = SMALL.contains(&category);
        if is_small {
            let pieces = components(&mask, Connectivity::Eight);
            let Some(piece) = pieces.iter().max_by_key(|piece| piece.area) else {
                continue;
            };
            mask = piece.mask();
        }
        let share = mask.area() as f64 / person.area() as f64;
        if mask.area() < MIN_AREA || (!any_size && (share < SMALL_SHARE) != is_small) {
            continue;
        }
        let level = if is_small {
            Granularity::Subpart
        } else {
            Granularity::Part
        };
        things.push((level, mask, person.clone()));
    }
    Ok(things)
}

/// A synthetic attention map of what the mask shows.
fn attention(
    mask: &Mask,
    grid: u32,
    blur: f64,
    noise: f32,
    rng: &mut ChaCha8Rng,
) -> Result<AttentionMap> {
    let scaled = |side: u32| {
        let longest = mask.width().max(mask.height());
        let along = |length: u32| (length * side).div_ceil(longest);
        (along(mask.width()), along(mask.height()))
    };
    let values = mask
        .to_bools()
        .iter()
        .map(|&b| f32::from(u8::from(b)))
        .collect();
    let full = AttentionMap::new("mask", mask.width(), mask.height(), values)?;
    let (width, height) = scaled(128);
    let small = full.resized(width, height, samara_attention::Resampling::Area);
    let blurred = gaussian(&small, width as usize, 128.0 * blur);
    let blurred = AttentionMap::new("blurred", width, height, blurred)?;
    let (columns, rows) = if grid == 64 { scaled(64) } else { (grid, grid) };
    let mut cells = blurred.resized(columns, rows, samara_attention::Resampling::Area);
    let max = cells.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    for cell in &mut cells {
        *cell = *cell / max + noise * rng.random::<f32>();
    }
    Ok(AttentionMap::new("attention", columns, rows, cells)?)
}

/// Gaussian blur, with nothing beyond the edge.
fn gaussian(values: &[f32], width: usize, sigma: f64) -> Vec<f32> {
    if sigma == 0.0 {
        return values.to_vec();
    }
    let height = values.len() / width;
    let weight = |d: usize| (-0.5 * (d as f64 / sigma).powi(2)).exp() as f32;
    let reach = (4.0 * sigma).ceil() as usize;
    let near = |i: usize, count: usize| i.saturating_sub(reach)..(i + reach + 1).min(count);
    let cells = || (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let across: Vec<f32> = cells()
        .map(|(x, y)| {
            let taps = near(x, width).map(|at| weight(x.abs_diff(at)) * values[y * width + at]);
            taps.sum()
        })
        .collect();
    cells()
        .map(|(x, y)| {
            let taps = near(y, height).map(|at| weight(y.abs_diff(at)) * across[at * width + x]);
            taps.sum()
        })
        .collect()
}

/// The level of the candidate that covers the source of a map best, if one does.
fn covering(
    targets: &AttentionTargets,
    source: &Mask,
    found: &AttentionLevel,
) -> Option<Granularity> {
    let masks = targets.candidates()[0].iter().map(|c| c.mask.iou(source));
    let (best, iou) = masks.enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    (iou >= COVERED).then(|| found.candidates[best].level)
}

fn report(cases: &[Case]) {
    let named = |case: &Case| Some(case.source);
    let covered = |case: &Case| case.covering;
    let all: Vec<&Case> = cases.iter().collect();
    println!(
        "| maps | n | undecided | right: covering candidate | right: name |\n|---|---|---|---|---|"
    );
    let line = |name: &str, cases: &[&Case]| {
        let decided: Vec<&&Case> = cases.iter().filter(|c| c.found.level.is_some()).collect();
        let right = |truth: &dyn Fn(&Case) -> Option<Granularity>| {
            let right = decided.iter().filter(|c| c.found.level == truth(c)).count();
            percent(right, decided.len())
        };
        let undecided = percent(cases.len() - decided.len(), cases.len());
        println!(
            "| {name} | {} | {undecided} | {} | {} |",
            cases.len(),
            right(&covered),
            right(&named)
        );
    };
    line("all", &all);
    let group = |name: &str, keep: &dyn Fn(&Case) -> bool| {
        let some: Vec<&Case> = cases.iter().filter(|c| keep(c)).collect();
        line(name, &some);
    };
    for level in Granularity::ALL {
        group(&format!("of a {level}"), &|c| c.source == level);
    }
    group("of parts and subparts that a candidate covers", &|c| {
        c.source != Granularity::Whole && c.covering.is_some()
    });
    group("that no candidate covers", &|c| c.covering.is_none());
    for grid in GRIDS {
        group(&format!("grid {grid}"), &|c| c.grid == grid);
    }
    for blur in BLURS {
        group(&format!("blur {blur}"), &|c| c.blur == blur);
    }
    for noise in NOISES {
        group(&format!("noise {noise}"), &|c| c.noise == noise);
    }
    confusion("name", cases, &named);
    confusion("covering candidate", cases, &covered);
    baseline(cases);
}

/// Truth by what was said.
fn confusion(title: &str, cases: &[Case], truth: &dyn Fn(&Case) -> Option<Granularity>) {
    println!("\n| {title} | whole | part | subpart | undecided |\n|---|---|---|---|---|");
    let name = |level: Option<Granularity>| level.map_or("none", Granularity::name);
    let levels = Granularity::ALL.map(Some);
    for expected in levels.into_iter().chain([None]) {
        let row: Vec<&Case> = cases.iter().filter(|c| truth(c) == expected).collect();
        if row.is_empty() {
            continue;
        }
        let count = |said| row.iter().filter(|c| c.found.level == said).count();
        let counts = levels.map(count);
        let [whole, part, subpart] = counts;
        println!(
            "| {} | {whole} | {part} | {subpart} | {} |",
            name(expected),
            count(None)
        );
    }
}

/// What always taking the highest correlation, or the highest agreement, would give.
fn baseline(cases: &[Case]) {
    for (name, agreement) in [("correlation", false), ("agreement", true)] {
        let best = |case: &Case| {
            let value = |i: &usize| {
                let candidate = &case.found.candidates[*i];
                let of = if agreement {
                    candidate.agreement
                } else {
                    candidate.measures.correlation
                };
                of.unwrap_or(-1.0)
            };
            let best =
                (0..case.found.candidates.len()).max_by(|a, b| value(a).total_cmp(&value(b)));
            best.map(|i| case.found.candidates[i].level)
        };
        let right = |truth: &dyn Fn(&Case) -> Option<Granularity>| {
            percent(
                cases.iter().filter(|c| best(c) == truth(c)).count(),
                cases.len(),
            )
        };
        println!(
            "\nalways the highest {name}: {} of the covering candidate, {} by name",
            right(&|c| c.covering),
            right(&|c| Some(c.source))
        );
    }
}

fn percent(part: usize, of: usize) -> String {
    if of == 0 {
        return "–".into();
    }
    format!("{:.1} %", 100.0 * part as f64 / of as f64)
}
