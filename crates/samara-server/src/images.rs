//! Images that requests are about, kept by their content.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use samara::{ImageLimits, RgbImage};
use samara_image::{
    GrayImage16, ReadOptions, Stretch, decode_image_and_gray16, decode_image_with, read_file,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};
use utoipa::ToSchema;

use crate::blocking::blocking;
use crate::config::Config;
use crate::disk_cache::DiskCache;
use crate::error::{Problem, Result};
use crate::fetch::Fetch;
use crate::frame_reader::{FramePlace, FrameReader};

/// Images below the root whose places are known.
const MOST_PATHS: u64 = 100_000;

/// Bytes of decoded images that are kept, as an embedding or a job often follows.
const DECODED_BYTES: u64 = 256 << 20;

/// SHA-256 of an image's file, in hexadecimal: the same file has the same id wherever it came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub(crate) struct ImageId(Arc<str>);

impl ImageId {
    fn of(file: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(file)).into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text is an [`ImageId`].
pub(crate) fn is_image_id(text: &str) -> bool {
    is_hex(text, 64)
}

/// Whether a text is so many hexadecimal digits, as we write them.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == digits && text.bytes().all(is_digit)
}

impl FromStr for ImageId {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self> {
        if !is_image_id(text) {
            let detail =
                "an image is named by the 64 hexadecimal digits that its upload was answered with";
            return Err(Problem::field("id", detail));
        }
        Ok(Self(text.into()))
    }
}

/// Which image: exactly one of these.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageRef {
    /// The id with which an upload was answered.
    #[schema(example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub(crate) id: Option<String>,
    /// A file below the server's `--root`, relative to it.
    pub(crate) path: Option<String>,
    /// Where to fetch it, by http or https; the server must allow the host.
    pub(crate) url: Option<String>,
    /// The file as base64, or as a data URI.
    pub(crate) data: Option<String>,
}

/// An image that the server has.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ImageInfo {
    /// SHA-256 of the file.
    #[schema(value_type = String)]
    pub(crate) id: ImageId,
    /// Width in pixels, after EXIF orientation.
    pub(crate) width: u32,
    /// Height in pixels, after EXIF orientation.
    pub(crate) height: u32,
    /// Bytes of the file; of a frame of a video, of its pixels.
    pub(crate) bytes: u64,
    /// How the pixels may not be what the author of the file sees.
    pub(crate) warnings: Vec<String>,
}

/// An image with its pixels.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) info: Arc<ImageInfo>,
    pub(crate) pixels: Arc<RgbImage>,
    /// The samples as they are of one that is 16-bit grey, while a project is open.
    pub(crate) gray: Option<Arc<GrayImage16>>,
}

impl Image {
    /// Bytes of its pixels.
    pub(crate) fn memory(&self) -> u32 {
        let gray = self.gray.as_ref().map_or(0, |gray| 2 * gray.as_raw().len());
        let bytes = self.pixels.as_raw().len() + gray;
        bytes.try_into().unwrap_or(u32::MAX)
    }
}

/// The images that the server has.
pub(crate) struct Images {
    files: DiskCache,
    decoded: Cache<ImageId, Image>,
    /// Images below the root, which are read where they lie.
    paths: Cache<ImageId, PathBuf>,
    /// Frames of videos, which are read again where they lie.
    frames: Cache<ImageId, FramePlace>,
    reader: FrameReader,
    limits: ImageLimits,
    root: Option<PathBuf>,
    fetch: Fetch,
    /// Bounds the memory of decoders.
    decoding: Semaphore,
    /// Which values of samples of more than 8 bits become black and white.
    stretch: Stretch,
    /// Whether samples of 16-bit grey are kept as they are, too.
    keeps_gray: bool,
}

impl Images {
    /// # Errors
    /// The folder cannot be used.
    pub(crate) fn open(config: &Config, state: &Path) -> std::io::Result<Self> {
        let limits = ImageLimits {
            max_pixels: config.limits.image_pixels,
            max_bytes: (config.limits.body_bytes as u64).max(3 * config.limits.image_pixels),
        };
        Ok(Self {
            files: DiskCache::open(state.join("images"), config.limits.images_disk, is_image_id)?,
            decoded: Cache::builder()
                .max_capacity(DECODED_BYTES)
                .weigher(|_: &ImageId, image: &Image| image.memory())
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            paths: Cache::new(MOST_PATHS),
            frames: Cache::new(MOST_PATHS),
            reader: FrameReader::default(),
            limits,
            root: config
                .root
                .as_ref()
                .map(|root| root.canonicalize())
                .transpose()?,
            fetch: Fetch::new(config),
            decoding: Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from)),
            stretch: config.stretch(),
            keeps_gray: config.project.is_some(),
        })
    }

    /// The image that a request names in its field `image`.
    pub(crate) async fn find(self: &Arc<Self>, image: ImageRef) -> Result<Image> {
        let ImageRef {
            id,
            path,
            url,
            data,
        } = image;
        let (field, found) = match (id, path, url, data) {
            (Some(id), None, None, None) => ("", async { self.get(&id.parse()?).await }.await),
            (None, Some(path), None, None) => ("path", self.read(&path).await),
            (None, None, Some(url), None) => (
                "url",
                async { self.add(self.fetch.get(&url).await?).await }.await,
            ),
            (None, None, None, Some(data)) => ("data", self.add_base64(data).await),
            _ => {
                let detail = "exactly one of id, path, url and data says which image";
                ("", Err(Problem::field("", detail)))
            }
        };
        let found = found.map_err(|problem| problem.about(field));
        found.map_err(|problem| problem.about("image"))
    }

    /// The file of an image that a task of Label Studio names.
    pub(crate) async fn fetch_for_label_studio(
        &self,
        url: &str,
        task: Option<u64>,
    ) -> Result<Vec<u8>> {
        self.fetch.label_studio(url, task).await
    }

    /// The same of a file as base64, or as a data URI.
    pub(crate) async fn add_base64(self: &Arc<Self>, text: String) -> Result<Image> {
        let file = blocking(move || decode_base64(&text)).await??;
        self.add(file).await
    }

    /// Takes the file of an image, which is decoded to know that it is one.
    pub(crate) async fn add(self: &Arc<Self>, file: Vec<u8>) -> Result<Image> {
        let (id, file) = blocking(move || (ImageId::of(&file), file)).await?;
        let image = self.decode_once(&id, file, true).await?;
        self.files.get(id.as_str());
        Ok(image)
    }

    /// The image of a file, decoded if it is not in memory, and kept on disk if it is not to be found elsewhere.
    async fn decode_once(
        self: &Arc<Self>,
        id: &ImageId,
        file: Vec<u8>,
        keep: bool,
    ) -> Result<Image> {
        if let Some(image) = self.decoded.get(id) {
            return Ok(image);
        }
        let _permit = self.decoding.acquire().await;
        let (images, id) = (Arc::clone(self), id.clone());
        blocking(move || {
            let image = images.decode(id.clone(), &file)?;
            if keep
                && !images.files.contains(id.as_str())
                && let Err(error) = images.files.put(id.as_str(), &file)
            {
                // Requests that name it work as long as it is in memory.
                tracing::warn!("an image is not kept: {error}");
            }
            Ok(image)
        })
        .await?
    }

    fn decode(&self, id: ImageId, file: &[u8]) -> Result<Image> {
        let image = self.decode_unkept(id.clone(), file)?;
        self.decoded.insert(id, image.clone());
        Ok(image)
    }

    /// The same of one that nobody else is expected to want.
    fn decode_unkept(&self, id: ImageId, file: &[u8]) -> Result<Image> {
        let options = ReadOptions {
            stretch: self.stretch,
            ..ReadOptions::from(self.limits)
        };
        let (read, gray) = if self.keeps_gray {
            decode_image_and_gray16(file, "image", &options)?
        } else {
            (decode_image_with(file, "image", &options)?, None)
        };
        Ok(Image {
            info: Arc::new(ImageInfo {
                id,
                width: read.image.width(),
                height: read.image.height(),
                bytes: file.len() as u64,
                warnings: read.warnings.iter().map(ToString::to_string).collect(),
            }),
            pixels: Arc::new(read.image),
            gray: gray.map(Arc::new),
        })
    }

    /// An image that was uploaded, or named by its path.
    pub(crate) async fn get(self: &Arc<Self>, id: &ImageId) -> Result<Image> {
        if let Some(image) = self.decoded.get(id) {
            self.files.get(id.as_str());
            return Ok(image);
        }
        if !self.is_known(id) {
            return Err(unknown(id));
        }
        let _permit = self.decoding.acquire().await;
        let (images, id) = (Arc::clone(self), id.clone());
        blocking(move || images.read_again(&id)).await?
    }

    fn is_known(&self, id: &ImageId) -> bool {
        self.decoded.contains_key(id)
            || self.files.contains(id.as_str())
            || self.paths.contains_key(id)
            || self.frames.contains_key(id)
    }

    /// The same, decoded on this thread.
    pub(crate) fn read_again(&self, id: &ImageId) -> Result<Image> {
        if let Some(place) = self.frames.get(id).filter(FramePlace::is_same) {
            return self.read_frame(id.clone(), &place);
        }
        let uploaded = self.files.get(id.as_str());
        let path = uploaded.or_else(|| self.paths.get(id));
        let file = path.and_then(|path| read_file(path, &self.limits).ok());
        match file {
            Some(file) if ImageId::of(&file) == *id => self.decode(id.clone(), &file),
            // It was damaged, or is another one since.
            _ => {
                self.files.remove(id.as_str());
                self.paths.invalidate(id);
                self.frames.invalidate(id);
                Err(unknown(id))
            }
        }
    }

    /// The id of an image that a request names in its field `image`, which need not be decoded for it.
    pub(crate) async fn identify(self: &Arc<Self>, image: ImageRef) -> Result<ImageId> {
        let about = |e: Problem| e.about("image");
        match image {
            ImageRef {
                id: Some(id),
                path: None,
                url: None,
                data: None,
            } => {
                let id: ImageId = id.parse().map_err(about)?;
                if self.is_known(&id) {
                    Ok(id)
                } else {
                    Err(about(unknown(&id)))
                }
            }
            ImageRef {
                id: None,
                path: Some(path),
                url: None,
                data: None,
            } => {
                let read = self.read_file_below_root(&path).await;
                Ok(read.map_err(|e| about(e.about("path")))?.0)
            }
            other => Ok(self.find(other).await?.info.id.clone()),
        }
    }

    /// The path of a file below the root that a request may name.
    pub(crate) fn below_root(&self, path: &str) -> Result<PathBuf> {
        let Some(root) = &self.root else {
            let detail = "this server reads no files by path; start it with --root";
            return Err(Problem::field("", detail));
        };
        let found = below(root, path);
        // One answer to all that is not there or not for others, so that nothing is learned of what lies elsewhere.
        found.ok_or_else(|| Problem::not_found(format!("there is no file {path:?} below the root")))
    }

    /// A file of the project's folder, read now; its id, by which it is known from now on, and its bytes.
    pub(crate) fn read_in_project(&self, folder: &Path, path: &str) -> Result<(ImageId, Vec<u8>)> {
        let missing = || Problem::not_found(format!("{path:?} is not in the project's folder"));
        let file = below(folder, path).filter(|file| file.is_file());
        let file = file.ok_or_else(missing)?;
        let read = read_file(&file, &self.limits);
        let bytes = read.map_err(|e| Problem::of_file(path, &e))?;
        let id = ImageId::of(&bytes);
        self.paths.insert(id.clone(), file);
        Ok((id, bytes))
    }

    /// A frame of a video, counted from 0, by an id of its own, by which it is known from now on.
    pub(crate) fn frame(&self, id: ImageId, video: &Path, frame: u32) -> Result<Image> {
        let place = FramePlace::new(video, frame);
        self.frames.insert(id.clone(), place.clone());
        match self.decoded.get(&id) {
            Some(image) => Ok(image),
            None => self.read_frame(id, &place),
        }
    }

    fn read_frame(&self, id: ImageId, place: &FramePlace) -> Result<Image> {
        let pixels = self.reader.read(place, &self.limits)?;
        let image = Image {
            info: Arc::new(ImageInfo {
                id: id.clone(),
                width: pixels.width(),
                height: pixels.height(),
                bytes: pixels.as_raw().len() as u64,
                warnings: Vec::new(),
            }),
            pixels: Arc::new(pixels),
            gray: None,
        };
        self.decoded.insert(id, image.clone());
        Ok(image)
    }

    /// What may be decoded.
    pub(crate) fn limits(&self) -> &ImageLimits {
        &self.limits
    }

    /// The image of a file that was read, decoded unless it is in memory, on this thread; `keep` it there for others.
    pub(crate) fn of_file(&self, id: &ImageId, file: &[u8], keep: bool) -> Result<Image> {
        match self.decoded.get(id) {
            Some(image) => Ok(image),
            None if keep => self.decode(id.clone(), file),
            None => self.decode_unkept(id.clone(), file),
        }
    }

    async fn read(self: &Arc<Self>, path: &str) -> Result<Image> {
        let (id, file) = self.read_file_below_root(path).await?;
        self.decode_once(&id, file, false).await
    }

    /// A file that a request may name, and its id, by which it is known from now on.
    async fn read_file_below_root(self: &Arc<Self>, path: &str) -> Result<(ImageId, Vec<u8>)> {
        let (images, path) = (Arc::clone(self), path.to_owned());
        blocking(move || {
            let file = images.below_root(&path)?;
            if !file.is_file() {
                let detail = format!("there is no file {path:?} below the root");
                return Err(Problem::not_found(detail));
            }
            let read = read_file(&file, &images.limits);
            let bytes = read.map_err(|e| Problem::of_file(&format!("{path:?}"), &e))?;
            let id = ImageId::of(&bytes);
            images.paths.insert(id.clone(), file);
            Ok((id, bytes))
        })
        .await?
    }

    /// A turn to decode something; few have one at a time.
    pub(crate) async fn decoder(&self) -> Option<SemaphorePermit<'_>> {
        self.decoding.acquire().await.ok()
    }

    /// Forgets an image; says whether it was there.
    pub(crate) fn remove(&self, id: &ImageId) -> bool {
        let in_memory = self.decoded.remove(id).is_some();
        let has_path = self.paths.remove(id).is_some() | self.frames.remove(id).is_some();
        self.files.remove(id.as_str()) || in_memory || has_path
    }

    /// Ids of the images on disk, those used last first.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.files.keys()
    }
}

/// The file that a path names below a folder, if it is there and links do not lead out.
pub(crate) fn below(folder: &Path, path: &str) -> Option<PathBuf> {
    let relative = Path::new(path);
    let plain = relative
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain || path.contains('\0') {
        return None;
    }
    let file = folder.join(relative).canonicalize().ok()?;
    file.starts_with(folder).then_some(file)
}

fn unknown(id: &ImageId) -> Problem {
    Problem::not_found(format!(
        "there is no image {id}; upload it, or name its path"
    ))
    .about("id")
}

/// The bytes of base64, or of a data URI.
pub(crate) fn decode_base64(text: &str) -> Result<Vec<u8>> {
    let text = match text.strip_prefix("data:") {
        Some(uri) => match uri.split_once(";base64,") {
            Some((_, data)) => data,
            None => return Err(Problem::field("", "a data URI is expected to hold base64")),
        },
        None => text,
    };
    let refuse = |e| Problem::field("", format!("is no base64: {e}"));
    let text = text.trim_ascii();
    // As programs write it that break lines.
    if text.contains(|c: char| c.is_ascii_whitespace()) {
        let joined: String = text.split_ascii_whitespace().collect();
        return BASE64_STANDARD.decode(joined).map_err(refuse);
    }
    BASE64_STANDARD.decode(text).map_err(refuse)
}
