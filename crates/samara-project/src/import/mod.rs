//! Masks of other programs, into a project.

mod coco;
mod format;
mod labelme;
mod maps;
mod pictures;
mod plan;
mod source;
mod yolo;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use samara_image::Rle;
use serde::Serialize;
use serde_json::json;

use crate::Result;
use crate::error::ProjectError;
use crate::export::NO_CLASS;
use crate::history::{Applied, Edit};
use crate::ids::{ClassId, PictureId};
use crate::objects::NewObject;
use crate::project::Project;

pub use format::ImportFormat;
use pictures::Pictures;
use plan::{Plan, Planned, canonical};

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Imported {
    /// In which format it was.
    pub format: ImportFormat,
    /// How many pictures have got objects.
    pub pictures: usize,
    /// How many objects.
    pub objects: usize,
    /// How many of them were boxes without an outline: their masks are rectangles, and their prompts are the boxes.
    pub boxes: usize,
    /// How many classes were made.
    pub classes: usize,
    /// The pictures, in the order in which they have got their objects: undoing goes from the last to the first.
    pub took: Vec<Took>,
    /// What was left out, a line each.
    pub warnings: Vec<String>,
}

/// A picture that has got objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Took {
    /// Which.
    pub picture: PictureId,
    /// The revision that it has since.
    pub revision: u64,
}

/// What a picture has got.
struct Added {
    objects: usize,
    /// How many of them are boxes.
    boxes: usize,
    revision: u64,
}

/// Classes by their names, and the other way round.
struct Classes<'a> {
    project: &'a Project,
    known: HashMap<String, ClassId>,
    names: HashMap<ClassId, String>,
    made: usize,
}

impl<'a> Classes<'a> {
    /// Those of these names, which are made where there are none.
    fn new(project: &'a Project, names: &[&str]) -> Result<Self> {
        let mut classes = Self {
            project,
            known: HashMap::new(),
            names: HashMap::new(),
            made: 0,
        };
        classes.make(names)?;
        Ok(classes)
    }

    fn make(&mut self, names: &[&str]) -> Result<()> {
        let (known, made) = self.project.classes_of(names)?;
        let names = known.iter().map(|(name, id)| (*id, name.clone()));
        self.names.extend(names);
        self.known = known;
        self.made += made;
        Ok(())
    }

    /// The class of this name, which is made if there is none.
    fn of(&mut self, name: &str) -> Result<ClassId> {
        if !self.known.contains_key(name) {
            self.make(&[name])?;
        }
        let id = self.known.get(name).copied();
        id.ok_or_else(|| ProjectError::Name(name.to_owned()))
    }

    /// What objects of a class are called.
    fn name(&mut self, class: Option<ClassId>) -> Result<String> {
        let Some(class) = class else {
            return Ok(NO_CLASS.to_owned());
        };
        if !self.names.contains_key(&class) {
            // Somebody has made it meanwhile.
            self.make(&[])?;
        }
        let name = self.names.get(&class).map_or(NO_CLASS, String::as_str);
        Ok(name.to_owned())
    }
}

impl Project {
    /// Adds the masks of a file or folder of another program. Its format is told by its content:
    ///
    /// - a JSON file of COCO (run lengths, polygons or boxes) or labelme, or a folder of them;
    /// - a folder with `data.yaml` or `classes.txt` and `labels/*.txt` of YOLO: outlines, boxes, or boxes with
    ///   key points, which are left out;
    /// - a folder of images whose values are objects, or classes if they have palettes or there is `classes.txt`.
    ///
    /// Pictures are found by their paths below the folder of the project, by the names that
    /// [`export`](Self::export) gives them, or by names of files or stems that only one has. Two names of one picture are
    /// two pictures elsewhere: the second is left out. What is on a picture is
    /// one action of `author`. Classes are made where they are missing. Objects that are there already, with the same
    /// mask and class, are left out. All that is left out is told by a warning.
    ///
    /// # Errors
    /// The file is damaged or in no format that is known: then nothing is imported. The file of the project cannot be
    /// written: then the pictures before are.
    pub fn import(&self, path: &Path, author: &str) -> Result<Imported> {
        let mut plan = Plan::new(Pictures::new(self)?);
        let format = source::read(path, &mut plan)?;
        let (pictures, planned, warnings) = plan.finish();
        let mut imported = Imported {
            format,
            pictures: 0,
            objects: 0,
            boxes: 0,
            classes: 0,
            took: Vec::new(),
            warnings,
        };
        let labels = planned.values().flatten();
        let labels = labels.filter_map(|object| object.label.as_deref());
        // Objects without a class may be there already under that name.
        let labels: Vec<&str> = labels.filter(|label| *label != NO_CLASS).collect();
        let mut classes = Classes::new(self, &labels)?;
        let mut same = 0;
        for (index, objects) in planned {
            pictures.identify(index)?;
            let picture = pictures.id(index);
            same += objects.len();
            if let Some(added) = self.add(picture, &objects, author, &mut classes)? {
                let revision = added.revision;
                imported.took.push(Took { picture, revision });
                imported.pictures += 1;
                imported.objects += added.objects;
                imported.boxes += added.boxes;
                same -= added.objects;
            }
        }
        imported.classes = classes.made;
        if same > 0 {
            imported.warnings.push(format!(
                "{same} objects are there already with the same mask and class, and are left out"
            ));
        }
        Ok(imported)
    }

    /// Adds the objects that are not there yet as one action; `None` if all are.
    fn add(
        &self,
        picture: PictureId,
        objects: &[Planned],
        author: &str,
        classes: &mut Classes<'_>,
    ) -> Result<Option<Added>> {
        // Somebody else may change the picture meanwhile.
        const TRIES: usize = 20;
        let mut tries = 0;
        loop {
            let before = self.picture(picture)?;
            let mut there: HashMap<Rle, HashSet<String>> = HashMap::new();
            let mut tracks = HashSet::new();
            for object in self.objects(picture)? {
                tracks.extend(object.content.track.map(|track| track.id));
                let name = classes.name(object.content.class)?;
                let mask = canonical(&object.content.mask);
                there.entry(mask).or_default().insert(name);
            }
            let mut edits = Vec::new();
            let mut boxes = 0;
            for object in objects {
                let known = there.entry(object.mask.clone()).or_default();
                let is_there = match &object.label {
                    Some(label) => known.contains(label),
                    // Nothing is said of its class.
                    None => !known.is_empty(),
                };
                if is_there {
                    continue;
                }
                let label = object.label.as_deref();
                known.insert(label.unwrap_or(NO_CLASS).to_owned());
                let class = label.map(|label| classes.of(label)).transpose()?;
                // One mask of a track in a frame, and one class or none; another is an object of its own.
                let own = class.filter(|_| label != Some(NO_CLASS));
                let track = object.track.filter(|track| track.id.is_valid());
                let track = match track.zip(before.video) {
                    Some((track, video)) => self
                        .takes(video, track.id, &[class, own])?
                        .then_some(track)
                        .filter(|track| tracks.insert(track.id)),
                    None => None,
                };
                boxes += usize::from(object.rectangle.is_some());
                edits.push(Edit::Add(NewObject {
                    class,
                    prompt: object.rectangle.map(|corners| json!({"box": corners})),
                    predicted_iou: object.predicted_iou,
                    attributes: object.attributes.clone(),
                    track,
                    ..NewObject::new(object.mask.clone())
                }));
            }
            if edits.is_empty() {
                return Ok(None);
            }
            match self.apply(picture, author, &edits, Some(before.revision)) {
                Err(ProjectError::Conflict { .. }) if tries < TRIES => tries += 1,
                applied => {
                    let objects = edits.len();
                    return applied.map(|Applied { revision, .. }| {
                        Some(Added {
                            objects,
                            boxes,
                            revision,
                        })
                    });
                }
            }
        }
    }
}
