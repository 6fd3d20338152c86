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

use samara_image::{Rle, palette};
use serde::Serialize;
use serde_json::json;

use crate::Result;
use crate::classes::Class;
use crate::error::ProjectError;
use crate::export::NO_CLASS;
use crate::history::Edit;
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
    /// What was left out, a line each.
    pub warnings: Vec<String>,
}

/// So many colours are looked through for one that no class has.
const COLOURS: usize = 500;

/// Classes by their names.
struct Classes<'a> {
    project: &'a Project,
    known: HashMap<String, ClassId>,
    made: usize,
}

impl<'a> Classes<'a> {
    fn new(project: &'a Project) -> Result<Self> {
        let known = project.classes()?;
        Ok(Self {
            project,
            known: known
                .into_iter()
                .map(|class| (class.name, class.id))
                .collect(),
            made: 0,
        })
    }

    /// The class of this name, which is made if there is none, in a colour that no other has as long as there are some.
    fn of(&mut self, name: &str) -> Result<ClassId> {
        if let Some(id) = self.known.get(name) {
            return Ok(*id);
        }
        let classes = self.project.classes()?;
        let found = classes.iter().find(|class| class.name == name);
        let id = if let Some(class) = found {
            class.id
        } else {
            let next = classes.len();
            let colour = |i: usize| format!("#{}", hex::encode(palette(i).0));
            let is_new = |colour: &String| {
                let same = |class: &Class| class.colour.eq_ignore_ascii_case(colour);
                !classes.iter().any(same)
            };
            // There are some hundreds of them.
            let free = (next..next + COLOURS).map(colour).find(is_new);
            self.made += 1;
            self.project
                .add_class(name, &free.unwrap_or_else(|| colour(next)))?
        };
        self.known.insert(name.to_owned(), id);
        Ok(id)
    }
}

impl Project {
    /// Adds the masks of a file or folder of another program. Its format is told by its content:
    ///
    /// - a JSON file of COCO (run lengths, polygons or boxes) or labelme, or a folder of them;
    /// - a folder with `data.yaml` or `classes.txt` and `labels/*.txt` of YOLO segmentation or detection;
    /// - a folder of images whose values are objects, or classes if they have palettes or there is `classes.txt`.
    ///
    /// Pictures are found by their paths below the folder of the project, by the names that
    /// [`export`](Self::export) gives them, or by names of files or stems that only one has. What is on a picture is
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
            warnings,
        };
        let mut classes = Classes::new(self)?;
        let mut same = 0;
        for (index, objects) in planned {
            pictures.identify(index)?;
            let all = objects.len();
            let (added, boxes) = self.add(pictures.id(index), &objects, author, &mut classes)?;
            imported.pictures += usize::from(added > 0);
            imported.objects += added;
            imported.boxes += boxes;
            same += all - added;
        }
        imported.classes = classes.made;
        if same > 0 {
            imported.warnings.push(format!(
                "{same} objects are there already with the same mask and class, and are left out"
            ));
        }
        Ok(imported)
    }

    /// Adds the objects that are not there yet as one action, and tells how many, and how many of them are boxes.
    fn add(
        &self,
        picture: PictureId,
        objects: &[Planned],
        author: &str,
        classes: &mut Classes<'_>,
    ) -> Result<(usize, usize)> {
        // Somebody else may change the picture meanwhile.
        const TRIES: usize = 20;
        let mut tries = 0;
        loop {
            let before = self.picture(picture)?;
            let names: HashMap<ClassId, String> = self
                .classes()?
                .into_iter()
                .map(|class| (class.id, class.name))
                .collect();
            let mut there: HashMap<Rle, HashSet<String>> = HashMap::new();
            let mut tracks = HashSet::new();
            for object in self.objects(picture)? {
                tracks.extend(object.content.track.map(|track| track.id));
                let name = object.content.class.and_then(|class| names.get(&class));
                let name = name.map_or(NO_CLASS, String::as_str).to_owned();
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
                return Ok((0, 0));
            }
            match self.apply(picture, author, &edits, Some(before.revision)) {
                Err(ProjectError::Conflict { .. }) if tries < TRIES => tries += 1,
                applied => return applied.map(|_| (edits.len(), boxes)),
            }
        }
    }
}
