//! Annotated videos on disk: sequences, their frames, and where their objects are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use samara::ImageLimits;
use samara_image::{Mask, Rle, one_line, read_object_map};

use crate::error::EvalError;
use samara_data::DataError;

/// Where frames and annotations lie in a data set; the first pair whose annotations exist counts.
const LAYOUTS: [(&str, &str); 4] = [
    ("JPEGImages_24fps", "Annotations_6fps"),
    ("JPEGImages/480p", "Annotations/480p"),
    ("JPEGImages/Full-Resolution", "Annotations/Full-Resolution"),
    ("JPEGImages", "Annotations"),
];
/// The index that DAVIS has for pixels that nobody is asked about.
const VOID: u32 = 255;

/// A data set of annotated videos.
///
/// The layout is that of DAVIS, `JPEGImages/[480p/]SEQ/*.jpg` with one palette image a frame in
/// `Annotations/[480p/]SEQ/*.png`, or that of SA-V, `JPEGImages_24fps/SEQ/*.jpg` with a folder of
/// binary images for every object, `Annotations_6fps/SEQ/OBJ/*.png`. Annotations are named as
/// their frames, and may be missing for frames in between.
#[derive(Debug, Clone)]
pub struct VideoDataSet {
    /// Name of the folder.
    pub name: String,
    /// The split that they are of, if the data set has splits and one was asked for.
    pub split: Option<String>,
    /// The videos, in the order of the split's file or by name.
    pub sequences: Vec<VideoSequence>,
}

/// One annotated video.
#[derive(Debug, Clone)]
pub struct VideoSequence {
    /// Its name.
    pub name: String,
    /// The folder of its frames.
    pub frames: PathBuf,
    /// The folder of its annotations.
    pub annotations: PathBuf,
}

/// The annotations of one object.
pub(super) struct Track {
    pub(super) name: String,
    /// Names of frames, and where the object is in them, if it is there.
    pub(super) frames: Vec<(String, Option<Rle>)>,
    /// The first of the frames in which it is.
    pub(super) prompt: usize,
}

/// The annotations of a video.
pub(super) struct Annotations {
    /// Width and height in pixels.
    pub(super) size: (u32, u32),
    /// Whether every object has images of its own, in which objects may overlap.
    pub(super) per_object: bool,
    pub(super) tracks: Vec<Track>,
}

impl VideoDataSet {
    /// Lists the sequences of a data set without reading images. `ImageSets/2017/SPLIT.txt` or
    /// `ImageSets/SPLIT.txt` names those of a split; a data set without `ImageSets` has no splits,
    /// and all sequences are meant, as with `None`.
    ///
    /// # Errors
    /// [`EvalError::Data`], one line naming the file or folder: no such data set, no annotations in
    /// it, no file for the split, no sequence, or a sequence of the split without annotations.
    pub fn open(path: impl AsRef<Path>, split: Option<&str>) -> Result<Self, EvalError> {
        let path = path.as_ref();
        if !path.is_dir() {
            return Err(fault(path, "no such file or folder"));
        }
        let exists = |(_, annotations): &&(&str, &str)| path.join(annotations).is_dir();
        let Some((frames, annotations)) = LAYOUTS.iter().find(exists) else {
            let what = "no folder Annotations (DAVIS) or Annotations_6fps (SA-V) in it";
            return Err(fault(path, what));
        };
        let root = path.join(annotations);
        let names = match split {
            Some(split) => listed(path, split)?,
            None => None,
        };
        let split = names.as_ref().and(split).map(str::to_owned);
        let names = match names {
            Some(names) => names,
            None => entries(&root, Path::is_dir, Path::file_name)?,
        };
        if names.is_empty() {
            return Err(fault(&root, "no sequence in it"));
        }
        let sequence = |name: String| {
            let annotations = root.join(&name);
            if !annotations.is_dir() {
                return Err(fault(&annotations, "the sequence has no annotations"));
            }
            let frames = path.join(frames).join(&name);
            Ok(VideoSequence {
                name,
                frames,
                annotations,
            })
        };
        let name = path.file_name().map(|n| one_line(&n.to_string_lossy()));
        Ok(Self {
            name: name.unwrap_or_else(|| path.display().to_string()),
            split,
            sequences: names.into_iter().map(sequence).collect::<Result<_, _>>()?,
        })
    }
}

impl VideoSequence {
    /// Files in the folder of frames.
    pub(super) fn count(&self) -> Result<usize, EvalError> {
        Ok(entries(&self.frames, Path::is_file, Path::file_name)?.len())
    }

    /// Reads the annotations.
    pub(super) fn load(&self, limits: &ImageLimits) -> Result<Annotations, EvalError> {
        let folder = &self.annotations;
        let objects = entries(folder, Path::is_dir, Path::file_name)?;
        let mut size = None;
        let per_object = !objects.is_empty();
        let tracks = if per_object {
            let track = |name: String| self.object(name, limits, &mut size);
            objects.into_iter().map(track).collect::<Result<_, _>>()?
        } else {
            self.palettes(limits, &mut size)?
        };
        Ok(Annotations {
            size: size.unwrap_or_default(),
            per_object,
            tracks,
        })
    }

    /// The objects of palette images, at least one.
    fn palettes(
        &self,
        limits: &ImageLimits,
        size: &mut Option<(u32, u32)>,
    ) -> Result<Vec<Track>, EvalError> {
        let folder = &self.annotations;
        let names = images(folder)?;
        let mut maps = Vec::new();
        for name in &names {
            maps.push(read_map(&folder.join(format!("{name}.png")), limits, size)?);
        }
        let first = maps.first().filter(|map| !map.is_empty());
        let Some(first) = first else {
            let file = folder.join(format!("{}.png", names[0]));
            return Err(fault(&file, "the first annotation holds no object"));
        };
        // White alone is an object, as in DAVIS 2016; beside others it is void.
        let void = (!first.keys().eq(&[VOID])).then_some(VOID);
        let labels = maps.iter().flat_map(BTreeMap::keys).copied();
        let labels: BTreeSet<u32> = labels.filter(|&label| Some(label) != void).collect();
        let tracks = labels.into_iter().filter_map(|label| {
            let frames = names.iter().zip(&maps);
            let frames = frames.map(|(name, map)| (name.clone(), map.get(&label).cloned()));
            Track::new(label.to_string(), frames.collect())
        });
        let tracks: Vec<Track> = tracks.collect();
        if tracks.is_empty() {
            return Err(fault(folder, "no object in the annotations"));
        }
        Ok(tracks)
    }

    /// An object with images of its own.
    fn object(
        &self,
        name: String,
        limits: &ImageLimits,
        size: &mut Option<(u32, u32)>,
    ) -> Result<Track, EvalError> {
        let folder = self.annotations.join(&name);
        let mut frames = Vec::new();
        for frame in images(&folder)? {
            let map = read_map(&folder.join(format!("{frame}.png")), limits, size)?;
            frames.push((frame, union(map)?));
        }
        Track::new(name, frames)
            .ok_or_else(|| fault(&folder, "all annotations of the object are empty"))
    }
}

impl Track {
    fn new(name: String, frames: Vec<(String, Option<Rle>)>) -> Option<Self> {
        let prompt = frames.iter().position(|(_, rle)| rle.is_some())?;
        Some(Self {
            name,
            frames,
            prompt,
        })
    }

    /// The annotations that count: all but the first and the last one.
    pub(super) fn scored(&self) -> &[(String, Option<Rle>)] {
        match &self.frames[..] {
            [_, middle @ .., _] => middle,
            _ => &[],
        }
    }

    /// The name of the frame that shows the object first, and the object in it.
    pub(super) fn prompt(&self, size: (u32, u32)) -> Result<(&str, Mask), EvalError> {
        let (name, rle) = &self.frames[self.prompt];
        Ok((name, mask_of(rle.as_ref(), size)?))
    }
}

/// The mask, empty if there is none.
pub(super) fn mask_of(rle: Option<&Rle>, (width, height): (u32, u32)) -> Result<Mask, EvalError> {
    let mask = rle.map(Rle::to_mask).transpose().map_err(image)?;
    Ok(mask.unwrap_or_else(|| Mask::new(width, height)))
}

/// One line that names a file or folder.
pub(super) fn fault(path: &Path, what: impl Into<String>) -> EvalError {
    EvalError::Data(DataError::DataSet {
        path: path.to_owned(),
        what: what.into(),
    })
}

pub(super) fn image(error: samara_image::Error) -> EvalError {
    EvalError::Model(error.into())
}

/// The objects of an image, which has to have the size of the images before it.
pub(super) fn read_map(
    path: &Path,
    limits: &ImageLimits,
    size: &mut Option<(u32, u32)>,
) -> Result<BTreeMap<u32, Rle>, EvalError> {
    let map = read_object_map(path, limits).map_err(image)?;
    let (width, height) = *size.get_or_insert((map.width, map.height));
    if (map.width, map.height) != (width, height) {
        let what = format!(
            "{}×{} pixels, the annotations before it have {width}×{height}",
            map.width, map.height
        );
        return Err(fault(path, what));
    }
    Ok(map.objects)
}

/// All that is set in an image of one object.
pub(super) fn union(map: BTreeMap<u32, Rle>) -> Result<Option<Rle>, EvalError> {
    let mut all: Option<Rle> = None;
    for rle in map.into_values() {
        all = Some(match all {
            None => rle,
            Some(before) => {
                let (a, b) = (before.to_mask(), rle.to_mask());
                let both = a.and_then(|a| a.or(&b?)).map_err(image)?;
                both.to_rle()
            }
        });
    }
    Ok(all)
}

/// The sequences of a split, if the data set has splits.
fn listed(path: &Path, split: &str) -> Result<Option<Vec<String>>, EvalError> {
    let sets = path.join("ImageSets");
    if !sets.is_dir() {
        return Ok(None);
    }
    let files = [format!("2017/{split}.txt"), format!("{split}.txt")];
    let Some(file) = files.iter().map(|f| sets.join(f)).find(|f| f.is_file()) else {
        let what = format!("no list of sequences for the split '{split}': {split}.txt");
        return Err(fault(&sets, what));
    };
    let text = fs::read_to_string(&file).map_err(|e| fault(&file, e.to_string()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let names: Vec<String> = lines.map(str::to_owned).collect();
    let leads_out = |name: &&String| Path::new(name).file_name() != Some(name.as_str().as_ref());
    if let Some(name) = names.iter().find(leads_out) {
        return Err(fault(
            &file,
            format!("'{name}' is not the name of a sequence"),
        ));
    }
    if names.is_empty() {
        return Err(fault(&file, "no sequence in it"));
    }
    Ok(Some(names))
}

/// The names of the PNG files in a folder without their extension, at least one, by number.
fn images(folder: &Path) -> Result<Vec<String>, EvalError> {
    let is_png = |path: &Path| {
        path.extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("png"))
    };
    let mut names = entries(folder, |p| is_png(p) && p.is_file(), Path::file_stem)?;
    if names.is_empty() {
        return Err(fault(folder, "no annotation (.png) in it"));
    }
    names.sort_by_cached_key(|name| (name.parse::<u64>().ok(), name.clone()));
    Ok(names)
}

/// Names in a folder, sorted, without hidden ones.
fn entries(
    folder: &Path,
    wanted: impl Fn(&Path) -> bool,
    name: impl Fn(&Path) -> Option<&std::ffi::OsStr>,
) -> Result<Vec<String>, EvalError> {
    let fail = |e: std::io::Error| fault(folder, format!("cannot be listed: {e}"));
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = name(&path).map(|n| n.to_string_lossy().into_owned());
        if let Some(name) = name.filter(|n| !n.starts_with('.') && wanted(&path)) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
