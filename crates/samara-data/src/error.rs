//! Errors of data sets, and the count of what was skipped.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// What can go wrong with a data set as a whole; every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder that is not a readable data set.
    #[error("{}: {what}", path.display())]
    DataSet {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A split that no image belongs to.
    #[error("{}: no image in split '{split}'; {available}", path.display())]
    Split {
        /// The data set.
        path: PathBuf,
        /// The split that was asked for.
        split: String,
        /// The splits that there are.
        available: String,
    },
    /// A single record.
    #[error(transparent)]
    Record(#[from] BadRecord),
    /// A value of a recipe.
    #[error("{key}: {what}")]
    Setting {
        /// The key in the recipe.
        key: &'static str,
        /// What is wrong with its value.
        what: String,
    },
    /// Draw after draw gave no example.
    #[error("{draws} draws in a row gave no example; skipped: {skipped}")]
    Exhausted {
        /// Number of draws.
        draws: u32,
        /// What was skipped in these draws.
        skipped: Box<Skipped>,
    },
    /// A thread of the loader ended early.
    #[error("example {index}: the loading thread ended unexpectedly")]
    Worker {
        /// The example that it should have made.
        index: u64,
    },
}

/// What is wrong with one image or one of its objects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{record}: {what}")]
pub struct BadRecord {
    /// The kind of the fault.
    pub fault: Fault,
    /// The file, and the ids of image and annotation.
    pub record: String,
    /// What is wrong.
    pub what: String,
}

impl BadRecord {
    pub(crate) fn new(fault: Fault, record: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            fault,
            record: record.into(),
            what: what.into(),
        }
    }
}

/// Kinds of faults for which a record is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fault {
    /// The image does not exist.
    MissingImage,
    /// The image cannot be decoded, or is too large.
    CorruptImage,
    /// The image has another size than the annotations say.
    ImageSize,
    /// A file name that leads out of the data set.
    ImagePath,
    /// A second image with the same id.
    DuplicateImage,
    /// An annotation of an image that is not in the file.
    UnknownImage,
    /// An image without a label map.
    MissingLabelMap,
    /// A label map that cannot be decoded.
    BadLabelMap,
    /// A mask without a pixel.
    EmptyMask,
    /// Run lengths or polygons that make no sense.
    BadSegmentation,
    /// A mask of another size than its image.
    MaskSize,
    /// An image without an object of acceptable size.
    NoObject,
    /// An image that the model does not take.
    UnusableImage,
}

impl Fault {
    /// Whether a file could not be read: the annotations may be as good as they are.
    pub fn is_of_file(self) -> bool {
        matches!(
            self,
            Self::MissingImage | Self::CorruptImage | Self::BadLabelMap | Self::UnusableImage
        )
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::MissingImage => ("missing image", "missing images"),
            Self::CorruptImage => ("corrupt image", "corrupt images"),
            Self::ImageSize => ("image of wrong size", "images of wrong size"),
            Self::ImagePath => ("image path outside", "image paths outside"),
            Self::DuplicateImage => ("duplicate image id", "duplicate image ids"),
            Self::UnknownImage => (
                "annotation of an unknown image",
                "annotations of unknown images",
            ),
            Self::MissingLabelMap => ("missing label map", "missing label maps"),
            Self::BadLabelMap => ("corrupt label map", "corrupt label maps"),
            Self::EmptyMask => ("empty mask", "empty masks"),
            Self::BadSegmentation => ("bad segmentation", "bad segmentations"),
            Self::MaskSize => ("mask of wrong size", "masks of wrong size"),
            Self::NoObject => (
                "image without a usable object",
                "images without a usable object",
            ),
            Self::UnusableImage => ("unusable image", "unusable images"),
        }
    }
}

/// What was skipped, by kind. A record counts once, however often it is met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// What is wrong with each of them.
    records: BTreeMap<Fault, BTreeMap<String, String>>,
    first: Option<BadRecord>,
}

impl Skipped {
    /// Counts a record.
    pub fn add(&mut self, bad: BadRecord) {
        let records = self.records.entry(bad.fault).or_default();
        let what = || bad.what.clone();
        records.entry(bad.record.clone()).or_insert_with(what);
        self.first.get_or_insert(bad);
    }

    /// Adds all that `other` counted.
    pub fn merge(&mut self, other: Self) {
        for (fault, records) in other.records {
            self.records.entry(fault).or_default().extend(records);
        }
        self.first = self.first.take().or(other.first);
    }

    /// Number of records with this fault.
    pub fn count(&self, fault: Fault) -> usize {
        self.records.get(&fault).map_or(0, BTreeMap::len)
    }

    /// Number of records with any fault.
    pub fn total(&self) -> usize {
        self.records.values().map(BTreeMap::len).sum()
    }

    /// Whether nothing was skipped.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Every file that could not be read, with what is wrong with it, a line for each.
    pub fn unreadable(&self) -> Vec<String> {
        let of_files = self.records.iter().filter(|(fault, _)| fault.is_of_file());
        let records = of_files.flat_map(|(_, records)| records);
        records
            .map(|(record, what)| format!("{record}: {what}"))
            .collect()
    }

    /// The record that was met first.
    pub fn first(&self) -> Option<&BadRecord> {
        self.first.as_ref()
    }
}

impl fmt::Display for Skipped {
    /// One line: "3 empty masks, 1 corrupt image (first: …)", or "nothing".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = &self.first else {
            return f.write_str("nothing");
        };
        for (i, (fault, records)) in self.records.iter().enumerate() {
            let (one, many) = fault.words();
            let words = if records.len() == 1 { one } else { many };
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} {words}", records.len())?;
        }
        write!(f, " (first: {first})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_once_and_the_line_names_the_first() {
        let bad = |fault, record: &str| BadRecord::new(fault, record, "broken");
        let mut skipped = Skipped::default();
        assert_eq!(skipped.to_string(), "nothing");
        skipped.add(bad(Fault::EmptyMask, "b"));
        skipped.add(bad(Fault::EmptyMask, "b"));
        let mut other = Skipped::default();
        other.add(bad(Fault::EmptyMask, "c"));
        other.add(bad(Fault::CorruptImage, "a"));
        skipped.merge(other);
        assert_eq!(
            skipped.to_string(),
            "1 corrupt image, 2 empty masks (first: b: broken)"
        );
        assert_eq!((skipped.total(), skipped.count(Fault::EmptyMask)), (3, 2));
        assert_eq!(skipped.unreadable(), ["a: broken"]);
    }
}
