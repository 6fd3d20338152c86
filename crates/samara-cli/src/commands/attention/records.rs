//! What `attention` tells: a table for people, JSON for programs.

use std::fmt::Write;

use samara::{Candidates, Granularity};
use samara_attention::{AttentionLevel, CandidateAttention, Resampling};
use serde::Serialize;

use super::analysis::{Analysis, Timing, largest_first};
use crate::error::{CliError, Result};
use crate::flags::AttentionFlags;
use crate::map_file::FileMap;
use crate::report::{ImageRecord, MaskRecord};
use crate::terminal;

#[derive(Serialize)]
struct Report<'a> {
    image: ImageRecord,
    map: String,
    model: &'a str,
    precision: &'static str,
    stretch: bool,
    resampling: Resampling,
    thresholds: Thresholds,
    prompts: Vec<PromptRecord<'a>>,
    maps: Vec<MapRecord<'a>>,
    summary: Vec<Counts>,
    timing_ms: Timing,
}

#[derive(Serialize)]
struct Thresholds {
    min_confidence: f64,
    min_margin: f64,
}

#[derive(Serialize)]
struct PromptRecord<'a> {
    name: &'a str,
    point: Option<[f64; 2]>,
    #[serde(rename = "box")]
    bbox: Option<[f64; 4]>,
    peak: bool,
    candidates: Vec<MaskRecord>,
}

/// A map, and what was found for every prompt.
#[derive(Serialize)]
struct MapRecord<'a> {
    tensor: Option<&'a str>,
    layer: Option<usize>,
    head: Option<usize>,
    columns: u32,
    rows: u32,
    results: &'a [AttentionLevel],
}

/// How many maps look at which level.
#[derive(Clone, Copy, Default, PartialEq, Serialize)]
struct Counts {
    whole: usize,
    part: usize,
    subpart: usize,
    undecided: usize,
}

impl Counts {
    fn of<'a>(found: impl Iterator<Item = &'a AttentionLevel>) -> Self {
        let mut counts = Self::default();
        for result in found {
            *match result.level {
                Some(Granularity::Whole) => &mut counts.whole,
                Some(Granularity::Part) => &mut counts.part,
                Some(Granularity::Subpart) => &mut counts.subpart,
                None => &mut counts.undecided,
            } += 1;
        }
        counts
    }

    fn line(self) -> String {
        format!(
            "whole {}, part {}, subpart {}, undecided {}",
            self.whole, self.part, self.subpart, self.undecided
        )
    }
}

/// The JSON of `attention`. `results` and `summary` are in the order of `prompts`.
pub(super) fn json(flags: &AttentionFlags, analysis: &Analysis) -> Result<Vec<u8>> {
    let prompts = analysis.asked.iter().zip(analysis.targets.candidates());
    let maps = analysis.maps.iter().zip(&analysis.found);
    let report = Report {
        image: ImageRecord::new(&flags.image, &analysis.image, &analysis.warnings),
        map: flags.map.display().to_string(),
        model: &analysis.model,
        precision: analysis.precision,
        stretch: analysis.options.stretch,
        resampling: analysis.options.resampling,
        thresholds: Thresholds {
            min_confidence: analysis.options.min_confidence,
            min_margin: analysis.options.min_margin,
        },
        prompts: prompts
            .map(|(asked, candidates)| PromptRecord {
                name: &asked.name,
                point: asked.prompt.clicks().first().map(|c| [c.at.x, c.at.y]),
                bbox: asked
                    .prompt
                    .box_prompt()
                    .map(|b| [b.min.x, b.min.y, b.max.x, b.max.y]),
                peak: asked.peak,
                candidates: MaskRecord::of_all(candidates),
            })
            .collect(),
        maps: maps
            .map(|(file, results)| MapRecord {
                tensor: file.tensor.as_deref(),
                layer: file.layer,
                head: file.head,
                columns: file.map.width(),
                rows: file.map.height(),
                results,
            })
            .collect(),
        summary: (0..analysis.asked.len())
            .map(|prompt| Counts::of(analysis.found.iter().map(|of_map| &of_map[prompt])))
            .collect(),
        timing_ms: analysis.timing,
    };
    let mut bytes = serde_json::to_vec(&report).map_err(CliError::failed)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A line for every map and prompt, the candidates from large to small, and a summary.
pub(super) fn table(flags: &AttentionFlags, analysis: &Analysis) -> String {
    let timing = &analysis.timing;
    let mut text = format!(
        "{} {}×{}, {}: load {:.0} ms, embed {:.0} ms, decode {:.0} ms, analyse {:.0} ms\n",
        terminal::name(&flags.image),
        analysis.image.width(),
        analysis.image.height(),
        analysis.model,
        timing.load,
        timing.embed,
        timing.decode,
        timing.analyse
    );
    let names = analysis
        .asked
        .iter()
        .map(|asked| asked.name.chars().count());
    let wide = names.max().unwrap_or(0).max("prompt".len());
    let measures = "level    corr.  mass   AUC  hit";
    let columns = analysis.found.first().and_then(|of_map| of_map.first());
    let columns = columns.map_or(0, |result| result.candidates.len());
    let _ = writeln!(
        text,
        "layer  head  {:<wide$}{}  looks at   margin",
        "prompt",
        format!("  {measures}").repeat(columns)
    );
    for (file, of_map) in analysis.maps.iter().zip(&analysis.found) {
        let prompts = analysis.asked.iter().zip(analysis.targets.candidates());
        for ((asked, candidates), result) in prompts.zip(of_map) {
            let _ = writeln!(
                text,
                "{:>5}  {:>4}  {:<wide$}{}  {}",
                number(file.layer),
                number(file.head),
                asked.name,
                cells(result, candidates),
                verdict(result)
            );
        }
    }
    text + &summary(analysis)
}

fn number(place: Option<usize>) -> String {
    place.map_or("-".into(), |i| i.to_string())
}

/// The measures of the candidates, from large to small; `*` marks the best one.
fn cells(result: &AttentionLevel, candidates: &Candidates) -> String {
    let number = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.2}"));
    let cell = |i: usize| {
        let CandidateAttention {
            level, measures, ..
        } = &result.candidates[i];
        format!(
            " {}{level:<7}  {:>5}  {:.2}  {:>4}  {:<3}",
            if i == result.best { '*' } else { ' ' },
            number(measures.correlation),
            measures.mass,
            number(measures.auc),
            if measures.hit { "yes" } else { "no" }
        )
    };
    largest_first(candidates).into_iter().map(cell).collect()
}

fn verdict(result: &AttentionLevel) -> String {
    let level = result.level.map_or("undecided", Granularity::name);
    let why = result
        .undecided
        .map_or(String::new(), |why| format!("  ({why})"));
    format!("{level:<9}  {:>6.2}{why}", result.margin)
}

/// How many maps look at which level, for every prompt, and for the layers if there are several.
fn summary(analysis: &Analysis) -> String {
    let mut text = String::new();
    if analysis.maps.len() < 2 {
        return text;
    }
    let mut layers: Vec<Option<usize>> = analysis.maps.iter().map(|file| file.layer).collect();
    layers.sort_unstable();
    layers.dedup();
    for (i, asked) in analysis.asked.iter().enumerate() {
        let counts = |keep: &dyn Fn(&FileMap) -> bool| {
            let some = analysis.maps.iter().zip(&analysis.found);
            Counts::of(
                some.filter(|(file, _)| keep(file))
                    .map(|(_, of_map)| &of_map[i]),
            )
        };
        let all = counts(&|_| true).line();
        let _ = writeln!(text, "{}, {} maps: {all}", asked.name, analysis.maps.len());
        if layers.len() < 2 {
            continue;
        }
        for &layer in layers.iter().flatten() {
            let counts = counts(&|file| file.layer == Some(layer));
            let _ = writeln!(text, "  layer {layer}: {}", counts.line());
        }
    }
    text
}
