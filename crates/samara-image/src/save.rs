//! Writing files so that a reader never sees half of one.

use std::fs;
use std::io::{BufWriter, Cursor, Write};
use std::path::Path;

use image::{GrayImage, ImageFormat, RgbImage, RgbaImage};
use tempfile::{Builder, NamedTempFile};

use crate::decode::GrayImage16;
use crate::error::Error;

/// JPEG quality of saved overlays: no visible artefacts on thin contours.
const JPEG_QUALITY: u8 = 92;

/// Writes `bytes` to `path`: first to a temporary file in the same folder, which is renamed over
/// `path` when the disk has it, so that an interrupted run or a power failure leaves the old file or the
/// new one, never a part.
///
/// A symbolic link is followed and stays a link. Something that is not a regular file
/// (`/dev/stdout`, a pipe) is written directly, because renaming would replace it.
///
/// # Errors
/// [`Error::Io`] naming `path` when the folder is missing or not writable, `path` is a
/// folder, or the disk is full.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), Error> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// As [`write_atomic`], for a file that is too large to hold: `write` is given the file, buffered.
///
/// # Errors
/// As [`write_atomic`], and what `write` returns.
pub fn write_atomic_with(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), Error> {
    let path = path.as_ref();
    let fail = |source| Error::io(path, "cannot be written", source);
    let buffered = |file: &mut dyn Write| {
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.flush()
    };
    let target = match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {
            return Err(fail(std::io::ErrorKind::IsADirectory.into()));
        }
        Ok(meta) if !meta.is_file() => {
            let mut file = fs::File::create(path).map_err(fail)?;
            return buffered(&mut file).map_err(fail);
        }
        Ok(_) => fs::canonicalize(path).map_err(fail)?,
        Err(_) => path.to_path_buf(),
    };
    let mut file = temporary_beside(&target).map_err(fail)?;
    buffered(&mut file).map_err(fail)?;
    file.as_file().sync_data().map_err(fail)?;
    file.persist(&target).map_err(|e| fail(e.error))?;
    sync_folder(&target);
    Ok(())
}

/// Waits until the disk has the names in the folder of `path`. Not every system can be asked for that.
fn sync_folder(path: &Path) {
    let _ = fs::File::open(folder_of(path)).and_then(|folder| folder.sync_all());
}

/// An empty temporary file in the folder of `target`.
pub(crate) fn temporary_beside(target: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = temporary();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The default of a temporary file is 0600; the user's umask still applies to this.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder_of(target))
}

/// Makes the folder `path` with the files that `fill` puts into it: first under another name, then renamed
/// when the disk has them. A folder of that name is replaced.
///
/// # Errors
/// [`Error::Io`] naming `path` when it cannot be made, and what `fill` returns.
pub fn write_folder_atomic<E: From<Error>>(
    path: impl AsRef<Path>,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let path = path.as_ref();
    let fail = |source| Error::io(path, "cannot be written", source);
    let mut builder = temporary();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    let folder = builder.tempdir_in(folder_of(path)).map_err(fail)?;
    fill(folder.path())?;
    for entry in fs::read_dir(folder.path()).map_err(fail)? {
        let file = fs::File::open(entry.map_err(fail)?.path()).map_err(fail)?;
        file.sync_data().map_err(fail)?;
    }
    if path.exists() {
        fs::remove_dir_all(path).map_err(fail)?;
    }
    fs::rename(folder.keep(), path).map_err(fail)?;
    sync_folder(path);
    Ok(())
}

/// What the names of temporary files and folders begin and end with.
const TEMPORARY: (&str, &str) = (".samara-", ".tmp");

fn temporary() -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(TEMPORARY.0).suffix(TEMPORARY.1);
    builder
}

/// Whether a file or folder was being written when its process was killed (or still is, by another
/// one).
pub fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(TEMPORARY.0) && name.ends_with(TEMPORARY.1)
}

/// The folder that holds `path`.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// An image that can be encoded as PNG: [`RgbImage`], [`RgbaImage`], [`GrayImage`] or
/// [`GrayImage16`].
pub trait PngSource {
    /// The image as the bytes of a PNG file.
    ///
    /// # Errors
    /// The encoder's error, for instance for an image with a side of zero pixels.
    fn to_png(&self) -> Result<Vec<u8>, image::ImageError>;
}

macro_rules! png_source {
    ($($image:ty),*) => {$(
        impl PngSource for $image {
            fn to_png(&self) -> Result<Vec<u8>, image::ImageError> {
                let mut bytes = Cursor::new(Vec::new());
                self.write_to(&mut bytes, ImageFormat::Png)?;
                Ok(bytes.into_inner())
            }
        }
    )*};
}
png_source!(RgbImage, RgbaImage, GrayImage, GrayImage16);

/// Saves an image as PNG, whatever the extension of `path`, [atomically](write_atomic).
///
/// # Errors
/// [`Error::Io`] when the file cannot be written, [`Error::Parameter`] when the image
/// has no pixels.
pub fn save_png(path: impl AsRef<Path>, image: &impl PngSource) -> Result<(), Error> {
    let bytes = image.to_png().map_err(|e| encoding(path.as_ref(), &e))?;
    write_atomic(path, &bytes)
}

/// Saves an image [atomically](write_atomic) in the format that the extension of `path` names:
/// `.png`, or `.jpg`/`.jpeg` (quality 92). A path without extension becomes PNG.
///
/// # Errors
/// [`Error::Unsupported`] for another extension, otherwise as [`save_png`].
pub fn save_image(path: impl AsRef<Path>, image: &RgbImage) -> Result<(), Error> {
    let path = path.as_ref();
    match SaveFormat::of(path)? {
        SaveFormat::Png => save_png(path, image),
        SaveFormat::Jpeg => {
            let bytes = jpeg(image, JPEG_QUALITY).map_err(|e| encoding(path, &e))?;
            write_atomic(path, &bytes)
        }
    }
}

/// The image as the bytes of a JPEG file; `quality` is 1 to 100.
///
/// # Errors
/// [`Error::Parameter`] when the image has no pixels or a side above 65 535.
pub fn encode_jpeg(image: &RgbImage, quality: u8) -> Result<Vec<u8>, Error> {
    jpeg(image, quality).map_err(|e| encoding(Path::new("JPEG"), &e))
}

#[cfg(feature = "image")]
fn jpeg(image: &RgbImage, quality: u8) -> image::ImageResult<Vec<u8>> {
    use image::ImageEncoder;
    use image::codecs::jpeg::JpegEncoder;

    let mut bytes = Vec::new();
    let (width, height) = image.dimensions();
    JpegEncoder::new_with_quality(&mut bytes, quality).write_image(
        image,
        width,
        height,
        image::ExtendedColorType::Rgb8,
    )?;
    Ok(bytes)
}

/// This build has no encoder.
#[cfg(not(feature = "image"))]
fn jpeg(image: &RgbImage, _: u8) -> image::ImageResult<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Jpeg)?;
    Ok(bytes.into_inner())
}

/// What [`save_image`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveFormat {
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
}

impl SaveFormat {
    /// The format that the extension of `path` names; PNG without an extension.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another extension.
    pub fn of(path: &Path) -> Result<Self, Error> {
        let extension = path
            .extension()
            .map(|e| e.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            None | Some("png") => Ok(Self::Png),
            Some("jpg" | "jpeg") => Ok(Self::Jpeg),
            Some(other) => Err(Error::unsupported(
                &path.display().to_string(),
                format!("images are saved as .png, .jpg or .jpeg, not .{other}"),
            )),
        }
    }
}

fn encoding(path: &Path, error: &image::ImageError) -> Error {
    Error::parameter(
        &path.display().to_string(),
        format!("cannot be encoded: {error}"),
    )
}
