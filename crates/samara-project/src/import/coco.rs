//! COCO's file of annotations.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Formatter};
use std::path::Path;

use samara_image::{Rle, coco_polygons_to_mask};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::Result;
use crate::ids::TrackId;
use crate::import::pictures::Name;
use crate::import::plan::{Plan, Planned, canonical, damaged, json};
use crate::objects::Track;

#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    #[serde(default)]
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: Id,
    file_name: String,
    width: Option<u32>,
    height: Option<u32>,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: Id,
    category_id: Option<Id>,
    #[serde(default)]
    segmentation: Segmentation,
    bbox: Option<Vec<f64>>,
    #[serde(default)]
    iscrowd: Value,
    predicted_iou: Option<f32>,
    attributes: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    track_id: Value,
    #[serde(default)]
    is_keyframe: Value,
}

impl Annotation {
    /// Says of an object what is known beside its mask and its class.
    fn describe(&self, object: &mut Planned) {
        // An estimate is of a mask, and a box has none.
        if object.rectangle.is_none() {
            object.predicted_iou = self.predicted_iou.filter(|iou| iou.is_finite());
        }
        object.track = self.track_id.as_i64().map(|id| Track {
            id: TrackId(id),
            is_keyframe: self.is_keyframe != false,
        });
        for (key, value) in self.attributes.iter().flatten() {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            object.attributes.insert(key.clone(), value);
        }
        if self.iscrowd == 1 || self.iscrowd == true {
            object.attributes.insert("iscrowd".into(), "1".into());
        }
    }
}

#[derive(Deserialize)]
struct Category {
    id: Id,
    name: String,
}

/// A number or a text, as tools write them.
#[derive(PartialEq, Eq, Hash)]
struct Id(String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Number(number) => {
                let text = number.to_string();
                Ok(Self(text.strip_suffix(".0").unwrap_or(&text).to_owned()))
            }
            Value::String(text) => Ok(Self(text.trim().to_owned())),
            _ => Err(D::Error::custom("an id is a number or a text")),
        }
    }
}

#[derive(Default)]
enum Segmentation {
    #[default]
    None,
    Polygons(Vec<Vec<f64>>),
    Runs(Rle),
}

impl<'de> Deserialize<'de> for Segmentation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Segmentation;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("polygons or run lengths")
            }

            fn visit_unit<E: Error>(self) -> Result<Segmentation, E> {
                Ok(Segmentation::None)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, polygons: A) -> Result<Segmentation, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(polygons)).map(Segmentation::Polygons)
            }

            fn visit_map<A: MapAccess<'de>>(self, runs: A) -> Result<Segmentation, A::Error> {
                Rle::deserialize(MapAccessDeserializer::new(runs)).map(Segmentation::Runs)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// Plans the objects of a file.
pub(super) fn read(path: &Path, bytes: &[u8], plan: &mut Plan<'_>) -> Result<()> {
    let file: File = json(path, bytes)?;
    let mut counts: HashMap<&Id, usize> = HashMap::new();
    for annotation in &file.annotations {
        *counts.entry(&annotation.image_id).or_default() += 1;
    }
    let has_objects = |image: &&Image| counts.contains_key(&image.id);
    let drawn = file.images.iter().filter(has_objects);
    plan.expect(drawn.map(|image| Name::File(&image.file_name)));
    let mut images = HashMap::with_capacity(file.images.len());
    for (i, image) in file.images.iter().enumerate() {
        let objects = counts.get(&image.id).copied().unwrap_or(0);
        let mut found = None;
        // Of a picture without objects there is nothing to be said.
        if objects > 0 {
            found = plan.picture(Name::File(&image.file_name), objects);
        }
        if let (Some((_, (w, h))), Some(width), Some(height)) = (found, image.width, image.height)
            && (w, h) != (width, height)
        {
            plan.warn(format!(
                "{}: is {width}x{height} in the file, but the picture is {w}x{h}; {objects} objects are left out",
                samara_image::one_line(&image.file_name)
            ));
            found = None;
        }
        if images.insert(&image.id, found).is_some() {
            return Err(damaged(
                path,
                format!("images[{i}].id: another image has the same"),
            ));
        }
    }
    let categories: HashMap<&Id, &str> = file
        .categories
        .iter()
        .map(|category| (&category.id, &*category.name))
        .collect();
    for (i, annotation) in file.annotations.iter().enumerate() {
        let place = |field: &str, what: &dyn fmt::Display| {
            damaged(path, format!("annotations[{i}].{field}: {what}"))
        };
        let Some(image) = images.get(&annotation.image_id) else {
            return Err(place("image_id", &"no image has this id"));
        };
        let label = match &annotation.category_id {
            Some(id) => Some(
                *categories
                    .get(id)
                    .ok_or_else(|| place("category_id", &"no category has this id"))?,
            ),
            None => None,
        };
        let Some((index, size)) = *image else {
            continue;
        };
        let name = || format!("{}: annotations[{i}]", path.display());
        let mut object = match &annotation.segmentation {
            Segmentation::Runs(rle) if rle.size != [size.1, size.0] => {
                let [height, width] = rle.size;
                let (w, h) = size;
                plan.count(
                    "masks of another size than their pictures are left out",
                    || format!("{}: {width}x{height}, and the picture {w}x{h}", name()),
                );
                continue;
            }
            Segmentation::Runs(rle) => Planned::new(label, canonical(rle)),
            Segmentation::Polygons(polygons) if polygons.iter().any(|p| !p.is_empty()) => {
                // Points and lines have no area, and boxes are no outlines.
                let areas: Vec<Vec<f64>> =
                    polygons.iter().filter(|p| p.len() > 4).cloned().collect();
                if areas.len() < polygons.len() {
                    plan.count("polygons of fewer than 3 points are left out", name);
                }
                let mask = coco_polygons_to_mask(&areas, size.0, size.1);
                let mask = mask.map_err(|error| place("segmentation", &error.reason()))?;
                Planned::new(label, mask.to_rle())
            }
            Segmentation::None | Segmentation::Polygons(_) => {
                match annotation.bbox.as_deref().unwrap_or_default() {
                    &[x, y, w, h] => Planned::boxed(label, [x, y, x + w, y + h], size)
                        .map_err(|why| place("bbox", &why))?,
                    [] => {
                        plan.count("annotations without an outline or a box are left out", name);
                        continue;
                    }
                    _ => return Err(place("bbox", &"a box is [x, y, width, height]")),
                }
            }
        };
        annotation.describe(&mut object);
        plan.add(index, object, name);
    }
    Ok(())
}
