//! The files of a command: what it reads and what it writes. Nothing that is read is written over, two
//! outputs are two files, and a name that promises another format is refused. All that before any work.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use samara_data::DataSet;
use same_file::Handle;
use walkdir::WalkDir;

use crate::error::{CliError, Result};

/// What an output holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An image for the eye: PNG or JPEG.
    Image,
    /// A mask: PNG.
    Mask,
    /// JSON.
    Json,
    /// JSON; `-` is the standard output.
    JsonOrStdout,
    /// An HTML page.
    Page,
    /// Tensors, or a model.
    Tensors,
    /// A model; its name must say so.
    Model,
    /// A saved embedding.
    Embedding,
    /// A folder of results.
    Folder,
}

/// Extensions that promise a format.
const KNOWN: [&str; 36] = [
    "png",
    "jpg",
    "jpeg",
    "webp",
    "tif",
    "tiff",
    "bmp",
    "gif",
    "svg",
    "pdf",
    "npy",
    "npz",
    "safetensors",
    "pth",
    "pt",
    "onnx",
    "bin",
    "json",
    "jsonl",
    "toml",
    "yaml",
    "yml",
    "xml",
    "csv",
    "tsv",
    "txt",
    "md",
    "html",
    "htm",
    "mp4",
    "mkv",
    "mov",
    "avi",
    "webm",
    "zip",
    "emb",
];

impl Kind {
    /// The extensions that it is written under.
    fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Image => &["png", "jpg", "jpeg"],
            Self::Mask => &["png"],
            Self::Json | Self::JsonOrStdout => &["json"],
            Self::Page => &["html", "htm"],
            Self::Tensors | Self::Model => &["safetensors"],
            Self::Embedding => &["emb", "safetensors"],
            Self::Folder => &[],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Image => "an image",
            Self::Mask => "a mask",
            Self::Json | Self::JsonOrStdout => "JSON",
            Self::Page => "a page",
            Self::Tensors => "a file of tensors",
            Self::Model => "a model",
            Self::Embedding => "an embedding",
            Self::Folder => "a folder",
        }
    }

    /// Why it cannot be written under this name.
    fn objection(self, path: &Path) -> Option<String> {
        if path == Path::new("-") {
            let why = format!("{} is not written to the standard output", self.name());
            return (self != Self::JsonOrStdout).then_some(why);
        }
        if self == Self::Folder {
            return None;
        }
        let own = self.extensions();
        let Some(extension) = path.extension() else {
            let needed = format!("{} is written as .{}", self.name(), own.join(", ."));
            return (self == Self::Model).then_some(needed);
        };
        let extension = extension.to_string_lossy().to_lowercase();
        let strict = matches!(self, Self::Image | Self::Model);
        let promised = strict || KNOWN.contains(&extension.as_str());
        let refused = promised && !own.contains(&extension.as_str());
        refused.then(|| {
            let own = own.join(", .");
            format!("{} is written as .{own}, not .{extension}", self.name())
        })
    }
}

/// The files of a command.
#[derive(Debug, Default)]
pub(crate) struct Files {
    reads: Vec<(String, PathBuf)>,
    /// Images of data sets, which may be many; they are looked at only where an output is there already.
    images: Vec<PathBuf>,
    writes: Vec<(&'static str, PathBuf)>,
    /// Folders of which every file may be written over.
    filled: Vec<(&'static str, PathBuf)>,
    /// The first thing that is wrong.
    objection: Option<CliError>,
}

impl Files {
    /// A command without any.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// An input; `what` it is, for messages. What is not there cannot be lost.
    pub(crate) fn read(mut self, what: &str, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        if path.exists() {
            self.reads.push((what.to_owned(), path.to_path_buf()));
        }
        self
    }

    /// Inputs; `what` each of them is.
    pub(crate) fn read_all<P: AsRef<Path>>(
        mut self,
        what: &str,
        paths: impl IntoIterator<Item = P>,
    ) -> Self {
        for path in paths {
            self = self.read(what, path);
        }
        self
    }

    /// The annotations, the images and the label maps of a data set.
    pub(crate) fn read_data(mut self, data: &DataSet) -> Self {
        self.images
            .extend(data.images.iter().map(|image| image.path.clone()));
        if data.annotations.is_none() {
            let labels = WalkDir::new(data.root.join("labels")).into_iter();
            self.images
                .extend(labels.flatten().map(walkdir::DirEntry::into_path));
        }
        self.read_all("the annotations of a data set", &data.annotations)
    }

    /// An output, if the flag is given.
    pub(crate) fn write(mut self, flag: &'static str, kind: Kind, path: Option<&Path>) -> Self {
        let Some(path) = path else {
            return self;
        };
        let name = path.display();
        let failed = |why: String| CliError::failed(format!("{flag} {name}: {why}"));
        let objection = if let Some(why) = kind.objection(path) {
            Some(CliError::usage(format!("{flag} {name}: {why}")))
        } else if kind == Kind::Folder {
            // It is made once there is something to put in it.
            let is_file = |p: &&Path| p.exists() && !p.is_dir();
            let file = path.ancestors().find(is_file);
            let to_nothing = path.is_symlink() && !path.exists();
            to_nothing
                .then(|| failed("is a link to nothing".into()))
                .or(file.map(|file| failed(format!("{} is not a folder", file.display()))))
        } else if path.is_dir() {
            Some(failed("is a folder, not a file".into()))
        } else {
            let folder = missing_folder(path);
            folder.map(|folder| failed(format!("folder {} does not exist", folder.display())))
        };
        self.objection = self.objection.or(objection);
        if path != Path::new("-") {
            self.writes.push((flag, path.to_path_buf()));
        }
        self
    }

    /// The files that go into a folder of results.
    pub(crate) fn write_inside(
        mut self,
        flag: &'static str,
        paths: impl IntoIterator<Item = PathBuf>,
    ) -> Self {
        self.writes
            .extend(paths.into_iter().map(|path| (flag, path)));
        self
    }

    /// A folder whose files are results.
    pub(crate) fn fill(mut self, flag: &'static str, folder: PathBuf) -> Self {
        self.filled.push((flag, folder));
        self
    }

    /// Whether all of it can be done without a loss.
    ///
    /// # Errors
    /// The first objection; or an output that is an input or another output, through links and by other
    /// spellings of its path too.
    pub(crate) fn check(self) -> Result<()> {
        let reads: Vec<(&String, Place)> = self
            .reads
            .iter()
            .map(|(what, path)| (what, Place::of(path)))
            .collect();
        let mut before: Vec<(&str, Place)> = Vec::new();
        for (flag, path) in &self.writes {
            let place = Place::of(path);
            let name = path.display();
            if let Some((what, _)) = reads.iter().find(|(_, read)| read.is_lost_by(&place)) {
                return Err(CliError::usage(format!(
                    "{flag} {name}: this is {what}; write to another place"
                )));
            }
            if let Some(image) = self.image_lost_by(path, &place) {
                let image = image.display();
                let why = format!("this is {image} of the data set; write to another place");
                return Err(CliError::usage(format!("{flag} {name}: {why}")));
            }
            if let Some((other, _)) = before.iter().find(|(_, other)| other.is_lost_by(&place)) {
                return Err(CliError::usage(format!(
                    "{flag} {name}: {other} writes there too"
                )));
            }
            before.push((flag, place));
        }
        for (flag, folder) in &self.filled {
            let within = resolved(folder);
            if let Some((what, _)) = reads
                .iter()
                .find(|(_, read)| read.path.starts_with(&within))
            {
                let folder = folder.display();
                let why = format!("{flag} {folder}: holds {what}; write to another place");
                return Err(CliError::usage(why));
            }
        }
        self.objection.map_or(Ok(()), Err)
    }

    /// The image of a data set that an output would be written over.
    fn image_lost_by(&self, path: &Path, place: &Place) -> Option<&PathBuf> {
        let is_there = path.is_file();
        let mut images = self.images.iter().filter(|_| is_there);
        images.find(|image| Place::of(image).is_lost_by(place))
    }
}

/// The folder that should hold a file, if it is not there.
fn missing_folder(path: &Path) -> Option<&Path> {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
}

/// Readies the place of a result inside of the folder of a run. A link of that name is removed: what it leads
/// to is not a result of the run, and stays.
pub(crate) fn result_in(folder: &Path, name: impl AsRef<Path>) -> Result<PathBuf> {
    let path = folder.join(name);
    let failed = |e: std::io::Error| CliError::failed(format!("{}: {e}", path.display()));
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .map_err(|e| CliError::failed(format!("{}: {e}", parent.display())))?;
        if !resolved(parent).starts_with(resolved(folder)) {
            let parent = parent.display();
            let why = format!("{parent}: leads out of the folder of the results");
            return Err(CliError::failed(why));
        }
    }
    if path.is_symlink() {
        fs::remove_file(&path).map_err(failed)?;
    }
    Ok(path)
}

/// Whether a result is there and has its end: JSON ends with a line break, other files with something.
pub(crate) fn is_whole(path: &Path) -> bool {
    if path.is_dir() {
        return true;
    }
    let last = || -> std::io::Result<u8> {
        let mut file = fs::File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut byte = [0];
        file.read_exact(&mut byte)?;
        Ok(byte[0])
    };
    let is_json = path.extension().is_some_and(|e| e == "json");
    path.is_file() && last().is_ok_and(|last| !is_json || last == b'\n')
}

/// Where a path leads.
#[derive(Debug)]
struct Place {
    /// Without links and detours, as far as it exists.
    path: PathBuf,
    /// A regular file or a folder under all its names.
    file: Option<Handle>,
    /// A terminal, a pipe or `/dev/null`: nothing is lost there.
    is_device: bool,
}

impl Place {
    fn of(path: &Path) -> Self {
        let is_device = path.exists() && !path.is_file() && !path.is_dir();
        Self {
            path: resolved(path),
            is_device,
            // A pipe would wait for its other end.
            file: (!is_device).then(|| Handle::from_path(path).ok()).flatten(),
        }
    }

    fn is_lost_by(&self, write: &Self) -> bool {
        let same_file = self.file.is_some() && self.file == write.file;
        !write.is_device && (same_file || self.path == write.path)
    }
}

/// The path without links and detours; what does not exist yet is taken by its name.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    // A link to nothing yet is written through.
    if let Ok(target) = path.read_link() {
        let folder = path.parent().unwrap_or(Path::new(""));
        return resolved(&folder.join(target));
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return path.to_path_buf();
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    resolved(folder).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objection(files: Files) -> String {
        files.check().map_or_else(|e| e.line(), |()| "none".into())
    }

    #[test]
    fn an_output_is_no_input_under_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let photo = dir.path().join("a.png");
        fs::write(&photo, b"x").unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        let mut names = vec![photo.clone(), dir.path().join("b/../a.png")];
        #[cfg(unix)]
        {
            let link = dir.path().join("link.png");
            std::os::unix::fs::symlink("a.png", &link).unwrap();
            let hard = dir.path().join("hard.png");
            fs::hard_link(&photo, &hard).unwrap();
            names.extend([link, hard]);
        }
        for name in names {
            let files = Files::new().read("the input image", &photo);
            let files = files.write("--out", Kind::Image, Some(&name));
            let why = objection(files);
            assert!(
                why.ends_with("this is the input image; write to another place"),
                "{why}"
            );
        }
        let other = dir.path().join("c.png");
        let files = Files::new().read("the input image", &photo);
        assert_eq!(
            objection(files.write("--out", Kind::Image, Some(&other))),
            "none"
        );
    }

    #[test]
    fn two_outputs_are_two_files() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.png"), dir.path().join("./a.png"));
        let files = Files::new().write("--out", Kind::Image, Some(&a));
        let why = objection(files.write("--out-mask", Kind::Mask, Some(&b)));
        assert!(why.ends_with("--out writes there too"), "{why}");
        #[cfg(unix)]
        {
            let null = Path::new("/dev/null");
            let files = Files::new().write("--json", Kind::JsonOrStdout, Some(null));
            assert_eq!(
                objection(files.write("--raw", Kind::Tensors, Some(null))),
                "none"
            );
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_link_to_nothing_yet_is_its_target() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link.json");
        std::os::unix::fs::symlink("later.json", &link).unwrap();
        let files = Files::new().write("--json", Kind::Json, Some(&link));
        let later = dir.path().join("later.json");
        let why = objection(files.write("--keep", Kind::Json, Some(&later)));
        assert!(why.ends_with("--json writes there too"), "{why}");
    }

    #[test]
    fn a_name_keeps_what_it_promises() {
        for (kind, name, right) in [
            (Kind::Mask, "m.npy", "a mask is written as .png, not .npy"),
            (Kind::Mask, "m.JPG", "a mask is written as .png, not .jpg"),
            (
                Kind::Mask,
                "-",
                "a mask is not written to the standard output",
            ),
            (
                Kind::Json,
                "-",
                "JSON is not written to the standard output",
            ),
            (
                Kind::Folder,
                "-",
                "a folder is not written to the standard output",
            ),
            (Kind::Folder, "/dev/null/a", "/dev/null is not a folder"),
            (
                Kind::Image,
                "m.tga",
                "an image is written as .png, .jpg, .jpeg, not .tga",
            ),
            (Kind::Json, "m.png", "JSON is written as .json, not .png"),
            (Kind::Model, "m", "a model is written as .safetensors"),
            (
                Kind::Model,
                "m.v2",
                "a model is written as .safetensors, not .v2",
            ),
            (
                Kind::Embedding,
                "m.png",
                "an embedding is written as .emb, .safetensors, not .png",
            ),
            (Kind::Json, "/", "is a folder, not a file"),
            (
                Kind::Json,
                "no/such/folder/a.json",
                "folder no/such/folder does not exist",
            ),
        ] {
            let why = objection(Files::new().write("--flag", kind, Some(Path::new(name))));
            assert_eq!(why, format!("--flag {name}: {right}"));
        }
        for (kind, name) in [
            (Kind::JsonOrStdout, "-"),
            (Kind::Json, "result"),
            (Kind::Json, "result.v2"),
            (Kind::Mask, "m.PNG"),
            (Kind::Embedding, "photo.jpg.embedding"),
        ] {
            let why = objection(Files::new().write("--flag", kind, Some(Path::new(name))));
            assert_eq!(why, "none", "{name}");
        }
    }
}
