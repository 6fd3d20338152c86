//! What will be added, before anything is.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use samara_image::{Rle, coco_polygons_to_mask, one_line};

use crate::Result;
use crate::classes::MOST_LETTERS;
use crate::error::ProjectError;
use crate::import::pictures::{Name, Pictures};
use crate::objects::{MOST_WORDS, Track};

/// An object that will be added.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planned {
    /// The name of its class.
    pub(super) label: Option<String>,
    /// The name was longer.
    is_cut: bool,
    pub(super) mask: Rle,
    pub(super) predicted_iou: Option<f32>,
    pub(super) attributes: BTreeMap<String, String>,
    /// In a frame of a video: which of its objects this is.
    pub(super) track: Option<Track>,
    /// Left, top, right and bottom in pixels, of what was a box without an outline.
    pub(super) rectangle: Option<[f64; 4]>,
}

impl Planned {
    pub(super) fn new(label: Option<&str>, mask: Rle) -> Self {
        let (label, is_cut) = label.map(class_name).unwrap_or_default();
        Self {
            label,
            is_cut,
            mask,
            predicted_iou: None,
            attributes: BTreeMap::new(),
            track: None,
            rectangle: None,
        }
    }

    /// What is known by its box alone: its mask is the part of the box that lies in the picture.
    pub(super) fn boxed(
        label: Option<&str>,
        [left, top, right, bottom]: [f64; 4],
        (width, height): (u32, u32),
    ) -> Result<Self, String> {
        if right < left || bottom < top {
            return Err("a box has no size below 0".into());
        }
        let corners = vec![left, top, right, top, right, bottom, left, bottom];
        let mask = coco_polygons_to_mask(&[corners], width, height);
        let mask = mask.map_err(|error| error.reason().to_owned())?;
        let (w, h) = (f64::from(width), f64::from(height));
        Ok(Self {
            rectangle: Some([left.max(0.0), top.max(0.0), right.min(w), bottom.min(h)]),
            ..Self::new(label, mask.to_rle())
        })
    }
}

/// A name of a class as projects have them, and whether it was longer.
fn class_name(label: &str) -> (Option<String>, bool) {
    let line = one_line(label);
    let mut letters = line.trim().chars();
    let name: String = letters.by_ref().take(MOST_LETTERS).collect();
    let name = name.trim();
    let is_cut = letters.next().is_some();
    ((!name.is_empty()).then(|| name.to_owned()), is_cut)
}

/// What will be added to which picture, and what will not.
pub(super) struct Plan<'a> {
    pub(super) pictures: Pictures<'a>,
    planned: BTreeMap<usize, Vec<Planned>>,
    /// What the pictures are called there.
    named: HashMap<usize, String>,
    warnings: Vec<String>,
    /// Of each kind of warning, how often and where first.
    counted: BTreeMap<&'static str, (usize, String)>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(pictures: Pictures<'a>) -> Self {
        Self {
            pictures,
            planned: BTreeMap::new(),
            named: HashMap::new(),
            warnings: Vec::new(),
            counted: BTreeMap::new(),
        }
    }

    pub(super) fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// Something that is left out, which may come often: `what` follows the number.
    pub(super) fn count(&mut self, what: &'static str, place: impl FnOnce() -> String) {
        let entry = self.counted.entry(what).or_insert_with(|| (0, place()));
        entry.0 += 1;
    }

    /// Tells which pictures there are: those whose paths these are go before those that are found otherwise.
    pub(super) fn expect<'n>(&mut self, names: impl Iterator<Item = Name<'n>>) {
        for name in names {
            if let Some(index) = self.pictures.of_path(name) {
                self.named.entry(index).or_insert_with(|| name.plain());
            }
        }
    }

    /// The picture that a file is about and its size in pixels; a warning, if there is none or another is the same.
    pub(super) fn picture(
        &mut self,
        name: Name<'_>,
        objects: usize,
    ) -> Option<(usize, (u32, u32))> {
        let found = self.pictures.find(name).and_then(|index| {
            let size = self.pictures.size(index)?;
            let plain = name.plain();
            let first = self.named.entry(index).or_insert_with(|| plain.clone());
            if *first == plain {
                Ok((index, size))
            } else {
                Err(format!("is the same picture here as {}", one_line(first)))
            }
        });
        match found {
            Ok(found) => Some(found),
            Err(why) => {
                let name = one_line(name.text());
                self.warn(format!("{name}: {why}; {objects} objects are left out"));
                None
            }
        }
    }

    /// Adds an object to a picture whose size it has; it may be one without a pixel.
    pub(super) fn add(&mut self, index: usize, mut object: Planned, place: impl Fn() -> String) {
        if object.mask.area() == 0 {
            self.count("objects without a pixel in the picture are left out", place);
            return;
        }
        if object.is_cut {
            let what = "objects are of classes whose names are cut to 200 letters";
            self.count(what, &place);
        }
        let json = serde_json::to_string(&object.attributes);
        if json.map_or(true, |json| json.len() > MOST_WORDS) {
            let what = "objects have attributes of more than 64 KiB, which are left out";
            self.count(what, &place);
            object.attributes.clear();
        }
        self.planned.entry(index).or_default().push(object);
    }

    pub(super) fn finish(self) -> (Pictures<'a>, BTreeMap<usize, Vec<Planned>>, Vec<String>) {
        let mut warnings = self.warnings;
        for (what, (count, first)) in self.counted {
            warnings.push(format!("{count} {what}; the first: {}", one_line(&first)));
        }
        (self.pictures, self.planned, warnings)
    }
}

/// Run lengths without runs of no pixel, of which there is one form for each mask.
pub(super) fn canonical(rle: &Rle) -> Rle {
    let mut counts: Vec<u32> = Vec::with_capacity(rle.counts.len());
    for (i, &count) in rle.counts.iter().enumerate() {
        // The runs at even places are unset; one of none may only be the first.
        if count == 0 && i > 0 {
            continue;
        }
        let is_set = i % 2 == 1;
        let last_is_set = counts.len().is_multiple_of(2);
        match counts.last_mut() {
            Some(last) if is_set == last_is_set => *last += count,
            None if is_set => counts.extend([0, count]),
            _ => counts.push(count),
        }
    }
    Rle {
        size: rle.size,
        counts,
    }
}

/// A file that is damaged: where, and why.
pub(super) fn damaged(path: &Path, why: impl std::fmt::Display) -> ProjectError {
    ProjectError::Format {
        path: PathBuf::from(one_line(&path.to_string_lossy())),
        why: one_line(&why.to_string()),
    }
}

/// Reads JSON, and names the place of what is wrong.
pub(super) fn json<'de, T: serde::Deserialize<'de>>(path: &Path, bytes: &'de [u8]) -> Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(text_of(bytes));
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        match error.path().to_string() {
            place if place == "." => damaged(path, error.inner()),
            place => damaged(path, format!("{place}: {}", error.inner())),
        }
    })?;
    reader.end().map_err(|error| damaged(path, error))?;
    Ok(value)
}

/// Some editors begin a file with a mark of its encoding.
pub(super) fn text_of(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Reads a file.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>> {
    let bytes = samara_image::read_file(path, &samara_image::ImageLimits::default());
    bytes.map_err(|error| damaged(path, error.reason()))
}

/// Reads a file of text.
pub(super) fn text(path: &Path) -> Result<String> {
    let bytes = bytes(path)?;
    let text = std::str::from_utf8(text_of(&bytes));
    let text = text.map_err(|error| damaged(path, format!("is no text in UTF-8: {error}")))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_lengths_of_one_mask_have_one_form() {
        let form = |counts: &[u32]| {
            canonical(&Rle {
                size: [2, 5],
                counts: counts.to_vec(),
            })
            .counts
        };
        assert_eq!(form(&[3, 0, 2, 5, 0]), [5, 5]);
        assert_eq!(form(&[0, 0, 4, 2, 0, 4]), [4, 6]);
        assert_eq!(form(&[0, 10]), [0, 10]);
        assert_eq!(form(&[10, 0]), [10]);
        assert_eq!(form(&[0, 3, 0, 3, 4]), [0, 6, 4]);
    }
}
