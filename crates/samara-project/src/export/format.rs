//! In which formats the masks of a project can be written.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ProjectError;

/// A format in which [`Project::export`](crate::Project::export) writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExportFormat {
    /// `annotations.json` of COCO with run lengths, pictures in `images/`.
    Coco,
    /// The same with polygons: each part of an object is one, holes are joined to it by cuts of no width.
    CocoPolygons,
    /// `data.yaml`, `images/` and `labels/` as Ultralytics reads them: one polygon for each object, to which holes and
    /// further parts are joined by cuts of no width.
    Yolo,
    /// A JSON file of labelme beside each picture: polygons, and masks where an object has holes or several parts.
    Labelme,
    /// `masks/` with a palette PNG for each picture whose indices are classes, named by the lines of `classes.txt`,
    /// pictures in `images/`.
    IndexPng,
    /// `labels/` with a 16-bit PNG for each picture in which each object has a value, pictures in `images/`.
    LabelMaps,
    /// Each object cut out as a PNG with transparency, in a folder for each class.
    Cutouts,
}

impl ExportFormat {
    /// All of them, in the order of a menu.
    pub const ALL: [Self; 7] = [
        Self::Coco,
        Self::CocoPolygons,
        Self::Yolo,
        Self::Labelme,
        Self::IndexPng,
        Self::LabelMaps,
        Self::Cutouts,
    ];

    /// By which it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Coco => "coco",
            Self::CocoPolygons => "coco-polygons",
            Self::Yolo => "yolo",
            Self::Labelme => "labelme",
            Self::IndexPng => "index-png",
            Self::LabelMaps => "label-maps",
            Self::Cutouts => "cutouts",
        }
    }

    /// What it is called in a menu.
    pub fn title(self) -> &'static str {
        match self {
            Self::Coco => "COCO",
            Self::CocoPolygons => "COCO with polygons",
            Self::Yolo => "YOLO segmentation",
            Self::Labelme => "labelme",
            Self::IndexPng => "Class index PNG",
            Self::LabelMaps => "Label maps",
            Self::Cutouts => "Cut-outs",
        }
    }

    /// Whether it has a place for the splits `train` and `val`.
    pub fn has_splits(self) -> bool {
        !matches!(self, Self::Labelme | Self::Cutouts)
    }

    /// A line about it in a menu.
    pub fn description(self) -> &'static str {
        match self {
            Self::Coco => {
                "One JSON file with run lengths: masks stay as they are, with holes and overlaps"
            }
            Self::CocoPolygons => {
                "One JSON file with polygons, for programs that read no run lengths"
            }
            Self::Yolo => {
                "A text file of polygons for each picture and data.yaml, to train with Ultralytics"
            }
            Self::Labelme => "A JSON file for each picture, to go on with labelme",
            Self::IndexPng => {
                "A PNG for each picture whose colours are classes: semantic segmentation"
            }
            Self::LabelMaps => {
                "A 16-bit PNG for each picture with a number for each object, without classes"
            }
            Self::Cutouts => "A PNG with transparency for each object, cut to its box",
        }
    }
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ExportFormat {
    type Err = ProjectError;

    fn from_str(name: &str) -> Result<Self, ProjectError> {
        let found = Self::ALL.into_iter().find(|format| format.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            ProjectError::Value(format!("{name:?} is no format; these are: {names}"))
        })
    }
}
