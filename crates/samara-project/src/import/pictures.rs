//! Which pictures other files are about.

use std::collections::{HashMap, HashSet};

use crate::Result;
use crate::export::{SPLITS, names};
use crate::header::{self, Header};
use crate::ids::PictureId;
use crate::pictures::Picture;
use crate::project::Project;

/// By which a file names a picture.
#[derive(Debug, Clone, Copy)]
pub(super) enum Name<'a> {
    /// A path or name of a file.
    File(&'a str),
    /// The same without its extension.
    Stem(&'a str),
}

impl<'a> Name<'a> {
    pub(super) fn text(self) -> &'a str {
        let (Self::File(text) | Self::Stem(text)) = self;
        text
    }
}

impl Name<'_> {
    /// The same for all forms of a path.
    pub(super) fn plain(self) -> String {
        parts_of(&self.text().replace('\\', "/")).join("/")
    }
}

/// Which pictures have a name.
#[derive(Default)]
struct Index(HashMap<String, Vec<usize>>);

impl Index {
    fn of(names: impl Iterator<Item = impl Into<String>>) -> Self {
        let mut index = Self::default();
        for (i, name) in names.enumerate() {
            index.0.entry(name.into()).or_default().push(i);
        }
        index
    }

    fn get(&self, name: &str) -> Option<&[usize]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// The picture that alone has a name.
    fn only(&self, name: &str) -> Option<usize> {
        match self.get(name) {
            Some([index]) => Some(*index),
            _ => None,
        }
    }
}

/// The pictures of a project, by their names.
pub(super) struct Pictures<'a> {
    project: &'a Project,
    all: Vec<Picture>,
    headers: HashMap<usize, Header>,
    paths: Index,
    stems_of_paths: Index,
    /// As they are exported.
    exported: Index,
    stems_of_exported: Index,
    names: Index,
    stems: Index,
    /// Paths of videos whose frames are not known yet.
    unopened: Vec<String>,
}

impl<'a> Pictures<'a> {
    pub(super) fn new(project: &'a Project) -> Result<Self> {
        let videos = project.pictures()?.into_iter();
        let unopened = videos.filter(|picture| picture.frames == Some(0));
        let unopened = unopened.map(|video| video.path).collect();
        Ok(Self::of(project, project.pictures_and_frames()?, unopened))
    }

    fn of(project: &'a Project, all: Vec<Picture>, unopened: Vec<String>) -> Self {
        let paths: Vec<&str> = all.iter().map(|picture| &*picture.path).collect();
        let exported = names::unique(&paths);
        let files = exported.iter().zip(&paths);
        let files = files.map(|(name, path)| names::with_extension(name, path));
        let by = |name: fn(&str) -> &str| Index::of(paths.iter().map(|path| name(path)));
        Self {
            project,
            headers: HashMap::new(),
            paths: by(|path| path),
            stems_of_paths: by(names::stem),
            exported: Index::of(files),
            stems_of_exported: Index::of(exported.iter()),
            names: by(last),
            stems: by(|path| names::stem(last(path))),
            all,
            unopened,
        }
    }

    /// Without those that are files of masks themselves.
    pub(super) fn without(self, paths: &HashSet<String>) -> Self {
        if paths.is_empty() {
            return self;
        }
        let all = self
            .all
            .into_iter()
            .filter(|picture| !paths.contains(&picture.path));
        Self::of(self.project, all.collect(), self.unopened)
    }

    pub(super) fn project(&self) -> &'a Project {
        self.project
    }

    pub(super) fn id(&self, index: usize) -> PictureId {
        self.all[index].id
    }

    /// The path of a picture that has exactly this one, with `.` and `..` in it.
    pub(super) fn exact(&self, path: &str) -> Option<String> {
        let path = parts_of(&path.replace('\\', "/")).join("/");
        self.paths.get(&path).map(|_| path)
    }

    /// The picture whose path a name is.
    pub(super) fn of_path(&self, name: Name<'_>) -> Option<usize> {
        let paths = match name {
            Name::File(_) => &self.paths,
            Name::Stem(_) => &self.stems_of_paths,
        };
        paths.only(&name.plain())
    }

    /// The names of the files of an export without the folders of its splits, if all of them can be that, each of
    /// another picture.
    pub(super) fn without_splits(&self, stems: Vec<String>) -> Vec<String> {
        let bare = |stem: &String| {
            let name = without_split(stem)?;
            self.stems_of_exported.only(name).map(|_| name.to_owned())
        };
        let is_path = |stem: &String| self.of_path(Name::Stem(stem)).is_some();
        let mut seen = HashSet::new();
        let bare: Option<Vec<String>> = stems
            .iter()
            .map(|stem| bare(stem).filter(|name| seen.insert(name.clone())))
            .collect();
        bare.filter(|_| !stems.iter().all(is_path)).unwrap_or(stems)
    }

    /// The picture of this name, or why there is none.
    pub(super) fn find<'s>(&'s self, name: Name<'_>) -> Result<usize, String> {
        let text = name.text().replace('\\', "/");
        let parts = parts_of(&text);
        let Some(file) = parts.last().copied() else {
            return Err("is no name of a picture".into());
        };
        // The whole path, or the end of one that begins elsewhere.
        let paths = (0..parts.len()).filter(|start| *start == 0 || parts.len() - start > 1);
        let paths: Vec<String> = paths.map(|start| parts[start..].join("/")).collect();
        let first = |index: &'s Index| paths.iter().find_map(|path| index.get(path));
        // What is exported has no folders, but that of a split.
        let exported = if parts.len() == 1 { file } else { "" };
        let split = without_split(&text).unwrap_or_default();
        let found = match name {
            Name::File(_) => [
                first(&self.paths),
                self.exported.get(exported),
                self.exported.get(split),
                self.names.get(file),
                self.stems.get(names::stem(file)),
            ],
            Name::Stem(_) => [
                self.stems_of_exported.get(exported),
                first(&self.stems_of_paths),
                self.stems_of_exported.get(split),
                self.names.get(file),
                self.stems.get(file),
            ],
        };
        match found.into_iter().flatten().next() {
            Some([index]) => Ok(*index),
            Some(several) => Err(format!("{} pictures have this name", several.len())),
            None if self.unopened.iter().any(|video| is_frame(&text, video)) => {
                Err("the video was not opened yet; open it, and import again".into())
            }
            None => Err("no picture has this name".into()),
        }
    }

    /// Width and height of a picture, or why it cannot have masks.
    pub(super) fn size(&mut self, index: usize) -> Result<(u32, u32), String> {
        let picture = &self.all[index];
        if picture.is_changed {
            return Err(
                "the picture is another file than that on which its masks were drawn".into(),
            );
        }
        if picture.sha256.is_some() && picture.width > 0 {
            return Ok((picture.width, picture.height));
        }
        if !self.headers.contains_key(&index) {
            if picture.is_gone || !names::is_below(&picture.path) {
                return Err("the picture is gone".into());
            }
            let header = header::read(&self.project.folder().join(&picture.path))?;
            self.headers.insert(index, header);
        }
        let header = &self.headers[&index];
        Ok((header.width, header.height))
    }

    /// Tells the project what the picture is, if it did not know.
    pub(super) fn identify(&self, index: usize) -> Result<()> {
        if let Some(header) = self.headers.get(&index) {
            let id = self.id(index);
            self.project
                .identify(id, &header.sha256, header.width, header.height)?;
        }
        Ok(())
    }
}

/// Whether a path is that of a frame of a video.
fn is_frame(path: &str, video: &str) -> bool {
    let rest = path.strip_prefix(video);
    rest.is_some_and(|rest| rest.starts_with('/'))
}

/// What is in the folder of a split, not in one below.
fn without_split(path: &str) -> Option<&str> {
    let (folder, file) = path.split_once('/')?;
    (SPLITS.contains(&folder) && !file.contains('/')).then_some(file)
}

/// The file of a path.
fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The names of a path, without those that lead nowhere.
fn parts_of(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts
}
