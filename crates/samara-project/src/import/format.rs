//! The formats that are read.

use std::path::Path;

use serde::Serialize;

/// A format from which [`Project::import`](crate::Project::import) reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ImportFormat {
    /// COCO's file of annotations, or a folder of them.
    Coco,
    /// Files of labelme.
    Labelme,
    /// A folder with `data.yaml` or `classes.txt` and files of polygons.
    Yolo,
    /// A folder of images whose values are classes or objects.
    Maps,
}

impl ImportFormat {
    /// What it is called.
    pub fn title(self) -> &'static str {
        match self {
            Self::Coco => "COCO",
            Self::Labelme => "labelme",
            Self::Yolo => "YOLO segmentation",
            Self::Maps => "label maps",
        }
    }
}

/// Whether the name of a file ends so, in any case.
pub(super) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension()
        .is_some_and(|e| e.eq_ignore_ascii_case(extension))
}
