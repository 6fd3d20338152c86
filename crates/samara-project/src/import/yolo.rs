//! Data sets of YOLO: outlines or boxes.

use std::collections::BTreeMap;
use std::fmt::{self, Formatter};
use std::path::{Path, PathBuf};

use samara_image::coco_polygons_to_mask;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::Result;
use crate::import::format::has_extension;
use crate::import::pictures::Name;
use crate::import::plan::{Plan, Planned, bytes, damaged, text, text_of};

/// Files that name the classes.
pub(super) const LISTS: [&str; 3] = ["data.yaml", "data.yml", "classes.txt"];

/// The file of a folder that names the classes.
pub(super) fn list(folder: &Path) -> Option<PathBuf> {
    let beside = LISTS.map(|name| folder.join(name)).into_iter();
    let mut lists = beside.chain([folder.join("labels").join("classes.txt")]);
    lists.find(|list| list.is_file())
}

/// The files of polygons: those in folders called `labels`, or else all texts.
pub(super) fn texts(folder: &Path, files: &[PathBuf]) -> Vec<PathBuf> {
    let is_list = |file: &Path| file.file_name().is_some_and(|name| name == "classes.txt");
    let texts = files
        .iter()
        .filter(|file| has_extension(file, "txt") && !is_list(file));
    let texts: Vec<PathBuf> = texts.cloned().collect();
    let below = |file: &Path| name(folder, file).is_some();
    let labels: Vec<PathBuf> = texts.iter().filter(|file| below(file)).cloned().collect();
    if labels.is_empty() { texts } else { labels }
}

/// The path of a file below its folder `labels`, without extension.
fn name(folder: &Path, file: &Path) -> Option<String> {
    let below = file.strip_prefix(folder).ok()?.with_extension("");
    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
    let (_, folders) = parts.split_last()?;
    let labels = folders.iter().rposition(|part| part == "labels")?;
    Some(parts[labels + 1..].join("/"))
}

#[derive(Deserialize)]
struct Data {
    names: Names,
    kpt_shape: Option<IgnoredAny>,
}

/// What the values of the lines are.
struct Format {
    /// The names of the classes by their numbers.
    names: BTreeMap<u64, String>,
    /// After a box there are points on the object.
    has_points: bool,
}

/// A list, or a map from numbers.
struct Names(BTreeMap<u64, String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Names;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("names as a list, or as numbers with names")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, names: A) -> Result<Names, A::Error> {
                let names = Vec::deserialize(SeqAccessDeserializer::new(names))?;
                Ok(Names((0..).zip(names).collect()))
            }

            fn visit_map<A: MapAccess<'de>>(self, names: A) -> Result<Names, A::Error> {
                BTreeMap::deserialize(MapAccessDeserializer::new(names)).map(Names)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

fn format(list: &Path) -> Result<Format> {
    if has_extension(list, "txt") {
        let text = text(list)?;
        return Ok(Format {
            names: (0..).zip(text.lines().map(str::to_owned)).collect(),
            has_points: false,
        });
    }
    let bytes = bytes(list)?;
    let data: Data = serde_saphyr::from_slice(text_of(&bytes)).map_err(|error| {
        // What follows shows the text.
        let error = error.to_string();
        let line = error.lines().next().unwrap_or_default();
        damaged(list, line.strip_prefix("error: ").unwrap_or(line))
    })?;
    Ok(Format {
        names: data.names.0,
        has_points: data.kpt_shape.is_some(),
    })
}

/// Plans the objects of all files.
pub(super) fn read(
    list: &Path,
    folder: &Path,
    texts: &[PathBuf],
    plan: &mut Plan<'_>,
) -> Result<()> {
    let format = format(list)?;
    let below = |path: &PathBuf| {
        let below = path.strip_prefix(folder).unwrap_or(path).with_extension("");
        name(folder, path).unwrap_or_else(|| below.to_string_lossy().into_owned())
    };
    let stems = plan
        .pictures
        .without_splits(texts.iter().map(below).collect());
    plan.expect(stems.iter().map(|stem| Name::Stem(stem)));
    for (path, stem) in texts.iter().zip(&stems) {
        let text = text(path)?;
        let lines: Vec<(usize, Line<'_>)> = (1..)
            .zip(text.lines())
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(number, line)| {
                let line = Line::parse(line, &format, list);
                Ok((
                    number,
                    line.map_err(|why| damaged(path, format!("line {number}: {why}")))?,
                ))
            })
            .collect::<Result<_>>()?;
        if lines.is_empty() {
            continue;
        }
        let Some((index, size)) = plan.picture(Name::Stem(stem), lines.len()) else {
            continue;
        };
        for (number, line) in lines {
            let place = || format!("{}: line {number}", path.display());
            let sides = [f64::from(size.0), f64::from(size.1)].into_iter().cycle();
            let shares = line.shares.iter().zip(sides);
            let values: Vec<f64> = shares.map(|(share, side)| share * side).collect();
            let label = Some(line.label);
            let object = if let [x, y, w, h] = values[..] {
                let corners = [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0];
                Planned::boxed(label, corners, size)
            } else {
                coco_polygons_to_mask(&[values], size.0, size.1)
                    .map(|mask| Planned::new(label, mask.to_rle()))
                    .map_err(|error| error.reason().to_owned())
            };
            let object = object.map_err(|why| damaged(path, format!("line {number}: {why}")))?;
            if line.has_points {
                plan.count("objects have key points, which are left out", place);
            }
            plan.add(index, object, place);
        }
    }
    Ok(())
}

/// A line of a file: an object.
struct Line<'a> {
    label: &'a str,
    /// Of width and height, in turns: the corners of a polygon; or the centre and the size of a box, which are 4 values.
    shares: Vec<f64>,
    /// There were points after the box.
    has_points: bool,
}

impl<'a> Line<'a> {
    fn parse(line: &str, format: &'a Format, list: &Path) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let class = words.next().unwrap_or_default();
        let number = class.strip_suffix(".0").unwrap_or(class).parse::<u64>();
        let label = number
            .ok()
            .and_then(|number| format.names.get(&number))
            .ok_or_else(|| {
                let list = list.file_name().unwrap_or_default().to_string_lossy();
                format!(
                    "{class:?} is no number of a class of {list}, which has {}",
                    format.names.len()
                )
            })?;
        let mut shares = Vec::new();
        for word in words {
            let value = word.parse::<f64>().ok().filter(|value| value.is_finite());
            shares.push(value.ok_or_else(|| format!("{word:?} is no coordinate"))?);
        }
        let has_points = format.has_points && shares.len() > 4;
        match shares.len() {
            n if n < 4 && format.has_points => {
                return Err(format!("{n} values are no box, which has 4"));
            }
            // What predictions have after a box is how sure they are.
            5 => shares.truncate(4),
            _ if has_points => shares.truncate(4),
            n if n >= 4 && n % 2 == 0 => {}
            n => {
                return Err(format!(
                    "{n} values are no polygon, which has pairs of x and y of at least 3 corners"
                ));
            }
        }
        Ok(Self {
            label,
            shares,
            has_points,
        })
    }
}
