//! A folder of images as a video.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use image::RgbImage;

use super::FrameSource;
use crate::decode::read_image;
use crate::error::Error;
use crate::limits::ImageLimits;

/// What [`read_image`] reads, by the extensions it comes with.
const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif"];

/// The images of a folder, in the natural order of their names: `2.jpg` before `10.jpg`.
#[derive(Debug, Clone)]
pub struct FrameFolder {
    frames: Vec<PathBuf>,
    stems: Vec<String>,
    size: (u32, u32),
    limits: ImageLimits,
}

impl FrameFolder {
    /// Lists the images in `path`, by extension, and reads the first for the size. Hidden files,
    /// other files and folders in it are ignored.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be listed, [`Error::Decoding`] when it holds
    /// no image, [`Error::Unsupported`] when two images differ in their extension only (as
    /// results are named after frames), and those of [`read_image`] for the first image.
    pub fn open(path: impl AsRef<Path>, limits: &ImageLimits) -> Result<Self, Error> {
        let path = path.as_ref();
        let mut frames = images(path)?;
        frames.sort_by_cached_key(|frame| NaturalKey(name_of(frame)));
        let stems: Vec<String> = frames.iter().map(|frame| stem_of(frame)).collect();
        refuse_same_stems(path, &frames, &stems)?;
        let Some(first) = frames.first() else {
            return Err(Error::decoding(
                &path.display().to_string(),
                "the folder holds no images",
            ));
        };
        Ok(Self {
            size: read_image(first, limits)?.dimensions(),
            frames,
            stems,
            limits: *limits,
        })
    }

    /// The file name of frame `index` without its extension; `None` past the end.
    pub fn file_stem(&self, index: usize) -> Option<&str> {
        self.stems.get(index).map(String::as_str)
    }
}

impl FrameSource for FrameFolder {
    fn size(&self) -> (u32, u32) {
        self.size
    }

    fn len_hint(&self) -> Option<usize> {
        Some(self.frames.len())
    }

    fn frame_rate(&self) -> Option<f64> {
        None
    }

    fn frame_name(&self, index: usize) -> String {
        self.file_stem(index)
            .map_or_else(|| format!("{index:05}"), str::to_owned)
    }

    fn read(&mut self, index: usize) -> Result<Option<RgbImage>, Error> {
        let Some(path) = self.frames.get(index) else {
            return Ok(None);
        };
        let frame = read_image(path, &self.limits)?;
        if frame.dimensions() == self.size {
            return Ok(Some(frame));
        }
        let ((width, height), first) = (self.size, name_of(&self.frames[0]));
        Err(Error::unsupported(
            &path.display().to_string(),
            format!(
                "the frame is {}x{}, the first frame ({first}) {width}x{height}; \
                 all must have one size",
                frame.width(),
                frame.height()
            ),
        ))
    }
}

fn images(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let fail = |source| Error::io(folder, "cannot be listed", source);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        // One that cannot be read is told when it comes; without it all others would be other frames.
        if is_image(&path) && !path.is_dir() {
            found.push(path);
        }
    }
    Ok(found)
}

fn is_image(path: &Path) -> bool {
    let extension = path
        .extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase());
    extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str())) && !name_of(path).starts_with('.')
}

fn refuse_same_stems(folder: &Path, frames: &[PathBuf], stems: &[String]) -> Result<(), Error> {
    let mut seen = HashMap::new();
    for (frame, stem) in frames.iter().zip(stems) {
        if let Some(other) = seen.insert(stem, frame) {
            return Err(Error::unsupported(
                &folder.display().to_string(),
                format!(
                    "{} and {} would be one frame; keep one kind of image in the folder",
                    name_of(other),
                    name_of(frame)
                ),
            ));
        }
    }
    Ok(())
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn stem_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

/// A name that sorts by the numbers in it.
#[derive(PartialEq, Eq)]
struct NaturalKey(String);

impl Ord for NaturalKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut a, mut b) = (self.0.as_str(), other.0.as_str());
        while let (Some(x), Some(y)) = (a.chars().next(), b.chars().next()) {
            let order = if x.is_ascii_digit() && y.is_ascii_digit() {
                let (m, n);
                (m, a) = split_number(a);
                (n, b) = split_number(b);
                m.len().cmp(&n.len()).then_with(|| m.cmp(n))
            } else {
                (a, b) = (&a[x.len_utf8()..], &b[y.len_utf8()..]);
                x.cmp(&y)
            };
            if order.is_ne() {
                return order;
            }
        }
        // `1.jpg` and `01.jpg` are the same number; their names decide.
        a.len().cmp(&b.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for NaturalKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The number that `text` begins with, without leading zeros, and what follows it.
fn split_number(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    (number.trim_start_matches('0'), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_their_numbers() {
        let sorted = [
            "0.png",
            "1.jpg",
            "01.jpg",
            "2.jpg",
            "10.jpg",
            "18446744073709551616.jpg",
            "18446744073709551617.jpg",
            "a1b2.png",
            "a1b10.png",
            "a2b1.png",
            "frame.png",
            "frame_9.png",
            "frame_0010.png",
            "é2.png",
            "é10.png",
        ];
        let mut names: Vec<&str> = sorted.to_vec();
        names.reverse();
        names.sort_by_cached_key(|&name| NaturalKey(name.to_owned()));
        // The longer spelling of a number comes second only where nothing else differs.
        assert_eq!(names[1..3], ["01.jpg", "1.jpg"]);
        names.swap(1, 2);
        assert_eq!(names, sorted);
    }
}
