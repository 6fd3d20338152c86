//! A picture that is exported.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;

use samara_image::{Mask, RgbImage, decode_image};
use sha2::{Digest, Sha256};

use crate::Result;
use crate::error::ProjectError;
use crate::export::frames::{Frames, OTHER};
use crate::export::names;
use crate::export::target::Target;
use crate::header;
use crate::objects::Object;
use crate::pictures::Picture;
use crate::project::Project;

/// An object with the number and the name of its class.
pub(super) struct Drawn {
    pub(super) number: usize,
    pub(super) label: String,
    pub(super) object: Object,
}

impl Drawn {
    pub(super) fn mask(&self) -> Result<Mask> {
        let mask = self.object.content.mask.to_mask();
        mask.map_err(|error| ProjectError::damaged("a mask", error))
    }
}

/// A picture that is exported.
pub(super) struct Page<'a> {
    pub(super) picture: &'a Picture,
    /// Of files of their own, without folders and extension.
    pub(super) name: &'a str,
    /// In pixels.
    pub(super) size: (u32, u32),
    /// The lowest first.
    pub(super) objects: Vec<Drawn>,
    /// If the format needs them.
    pub(super) pixels: Option<RgbImage>,
    /// The name of its split, if the export has any.
    pub(super) split: Option<&'static str>,
    file: PathBuf,
    /// Of which there is no file if it is a frame of a video.
    project: &'a Project,
}

impl<'a> Page<'a> {
    pub(super) fn new(
        project: &'a Project,
        (picture, name): (&'a Picture, &'a str),
        split: Option<&'static str>,
    ) -> Self {
        Self {
            picture,
            name,
            split,
            size: (picture.width, picture.height),
            objects: Vec::new(),
            pixels: None,
            file: project.folder().join(&picture.path),
            project,
        }
    }

    /// A file of it in a folder of the export, which has one for each split.
    pub(super) fn below(&self, folder: &str, file: &str) -> String {
        match self.split {
            Some(split) => format!("{folder}/{split}/{file}"),
            None => format!("{folder}/{file}"),
        }
    }

    /// The file's name without folders, for programs that want one.
    pub(super) fn file_name(&self) -> String {
        names::with_extension(self.name, &self.picture.path)
    }

    /// Copies the picture to a path below the folder of the target, reads its pixels if they are needed, and makes sure
    /// of its size. If it cannot be used: why.
    pub(super) fn open(
        &mut self,
        target: &Target<'_>,
        frames: &mut Frames,
        copy: Option<String>,
        needs_pixels: bool,
    ) -> Result<Option<String>> {
        let refuse = |why: &str| Ok(Some(why.to_owned()));
        let copy = copy.filter(|_| target.options.pictures);
        if self.picture.video.is_some() {
            return self.open_frame(target, frames, copy, needs_pixels);
        }
        if !names::is_below(&self.picture.path) {
            return refuse("leads out of the folder");
        }
        if !self.file.is_file() {
            return refuse("is gone");
        }
        if self.picture.is_changed {
            return refuse(OTHER);
        }
        if let Some(copy) = copy {
            let to = target.folder.path().join(copy);
            let sum = match copied(&self.file, &to) {
                Ok(sum) => sum,
                Err(Copying::From(error)) => return Ok(Some(format!("cannot be read: {error}"))),
                Err(Copying::To(error)) => return Err(target.folder.failed(error)),
            };
            if self
                .picture
                .sha256
                .as_ref()
                .is_some_and(|known| *known != sum)
            {
                fs::remove_file(&to).map_err(|error| target.folder.failed(error))?;
                return refuse(OTHER);
            }
        }
        if needs_pixels {
            match self.read() {
                Ok(pixels) => self.pixels = Some(pixels),
                Err(why) => return Ok(Some(why)),
            }
        }
        if self.size.0 == 0 {
            match header::read(&self.file) {
                Ok(header) => self.size = (header.width, header.height),
                Err(why) => return Ok(Some(why)),
            }
        }
        Ok(None)
    }

    fn open_frame(
        &mut self,
        target: &Target<'_>,
        frames: &mut Frames,
        copy: Option<String>,
        needs_pixels: bool,
    ) -> Result<Option<String>> {
        if copy.is_none() && !needs_pixels {
            return Ok(None);
        }
        let pixels = match frames.read(self.project, self.picture) {
            Ok(pixels) => pixels,
            Err(why) => return Ok(Some(why)),
        };
        if let Some(copy) = copy {
            target.write_png(&copy, &pixels)?;
        }
        self.pixels = Some(pixels);
        Ok(None)
    }

    fn read(&self) -> Result<RgbImage, String> {
        let limits = samara_image::ImageLimits::default();
        let bytes = samara_image::read_file(&self.file, &limits);
        let bytes = bytes.map_err(|error| error.reason().to_owned())?;
        let sum = hex::encode(Sha256::digest(&bytes));
        if self
            .picture
            .sha256
            .as_ref()
            .is_some_and(|known| *known != sum)
        {
            return Err(OTHER.to_owned());
        }
        let image = decode_image(&bytes, "", &limits);
        let image = image.map_err(|error| error.reason().to_owned())?;
        if self.size.0 > 0 && self.size != image.dimensions() {
            return Err(OTHER.to_owned());
        }
        Ok(image)
    }
}

/// Which side of a copy has failed.
enum Copying {
    From(io::Error),
    To(io::Error),
}

/// Copies a file, and tells its SHA-256.
fn copied(from: &PathBuf, to: &PathBuf) -> Result<String, Copying> {
    let mut from = File::open(from).map_err(Copying::From)?;
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(Copying::To)?;
    }
    let mut to = File::create_new(to).map_err(Copying::To)?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let count = from.read(&mut buffer).map_err(Copying::From)?;
        if count == 0 {
            return Ok(hex::encode(sum.finalize()));
        }
        sum.update(&buffer[..count]);
        to.write_all(&buffer[..count]).map_err(Copying::To)?;
    }
}
