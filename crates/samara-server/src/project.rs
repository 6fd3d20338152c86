//! The project that is open: its file, its pictures as they lie in the folder, and who hears of changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use samara_image::FrameSource;
use samara_project::{
    Class, Picture, PictureId, Placed, Project, ProjectError, VideoFile, frame_id, sha256_of,
};
use tokio::sync::{Semaphore, broadcast};

use crate::blocking::blocking;
use crate::config::Config;
use crate::disk_cache::DiskCache;
use crate::error::{Problem, Result};
use crate::frame_reader::{Seen, frame_of, open_source};
use crate::images::{Image, ImageId, Images, below, is_image_id};
use crate::tiles::{Pyramid, Tiles};
use crate::training::TrainingInfo;
use crate::turns::Turns;

/// Pictures of which it is kept in mind what their files were.
const MOST_FILES: u64 = 1_000_000;
/// Changes that a window may lag behind before it reads all pictures again.
const MOST_CHANGES: usize = 256;
/// How often it is looked whether another program has changed the project.
const LOOKED: Duration = Duration::from_secs(1);
/// Bytes of thumbnails on disk.
const THUMBNAILS_DISK: u64 = 256 << 20;
/// Quality of their JPEG.
const THUMBNAIL_QUALITY: u8 = 80;

/// What has changed.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// A picture, or its objects.
    Picture(Box<Picture>),
    /// The classes, which are now these.
    Classes(Vec<Class>),
    /// How far the fine-tune is.
    Training(Box<TrainingInfo>),
    /// Which pictures there are, or more than is told one by one.
    Pictures,
}

/// The project that is open.
pub(crate) struct OpenProject {
    project: Project,
    /// Without links.
    folder: PathBuf,
    /// What the file of a picture was when it was read last.
    files: Cache<PictureId, (ImageId, Option<Seen>)>,
    /// What the files of videos were when they were found to be those of the project.
    videos: Cache<PictureId, Option<Seen>>,
    pub(crate) turns: Turns,
    pub(crate) tiles: Tiles,
    thumbnails: DiskCache,
    /// Makes one thumbnail at a time: pictures that are looked at go before.
    thumbnail: Semaphore,
    changes: broadcast::Sender<Change>,
    /// Whether it is looked for changes of other programs.
    is_watched: AtomicBool,
}

impl OpenProject {
    /// Opens the project of a folder, and looks which pictures are there.
    ///
    /// # Errors
    /// The folder cannot be read, or the file of the project neither read nor made.
    pub(crate) fn open(folder: &Path, config: &Config, state: &Path) -> Result<Self, ProjectError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ProjectError::Folder { path, source }
        };
        let folder = folder.canonicalize().map_err(failed(folder))?;
        let project = Project::open(&folder)?;
        for line in project.scan()?.unreadable {
            tracing::warn!("{line}: pictures in it are left out");
        }
        let thumbnails = state.join("thumbnails");
        Ok(Self {
            project,
            files: Cache::new(MOST_FILES),
            videos: Cache::new(MOST_FILES),
            turns: Turns::default(),
            tiles: Tiles::new(config.limits.image_pixels),
            thumbnails: DiskCache::open(thumbnails.clone(), THUMBNAILS_DISK, is_image_id)
                .map_err(failed(&thumbnails))?,
            thumbnail: Semaphore::new(1),
            changes: broadcast::Sender::new(MOST_CHANGES),
            is_watched: AtomicBool::new(false),
            folder,
        })
    }

    /// The folder of the pictures.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// For threads that may wait; others [`ask`](Self::ask).
    pub(crate) fn project(&self) -> &Project {
        &self.project
    }

    /// Asks the project, off the threads that serve.
    pub(crate) async fn ask<T: Send + 'static, E: Into<Problem> + Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Project) -> Result<T, E> + Send + 'static,
    ) -> Result<T> {
        let open = Arc::clone(self);
        blocking(move || work(&open.project))
            .await?
            .map_err(Into::into)
    }

    /// Changes a picture, and tells everybody what it is now.
    pub(crate) async fn change<T: Send + 'static, E: Into<Problem> + Send + 'static>(
        self: &Arc<Self>,
        picture: PictureId,
        work: impl FnOnce(&Project) -> Result<T, E> + Send + 'static,
    ) -> Result<T> {
        let open = Arc::clone(self);
        blocking(move || {
            let done = work(&open.project).map_err(Into::into)?;
            open.tell_picture(picture);
            Ok(done)
        })
        .await?
    }

    /// Changes classes, and tells everybody which there are now.
    pub(crate) async fn change_classes<T: Send + 'static, E: Into<Problem> + Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Project) -> Result<T, E> + Send + 'static,
    ) -> Result<T> {
        let open = Arc::clone(self);
        blocking(move || {
            let done = work(&open.project).map_err(Into::into)?;
            open.tell_classes();
            Ok(done)
        })
        .await?
    }

    /// Does something with the project, on a thread that may wait.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&Project) -> T) -> T {
        work(&self.project)
    }

    /// Tells everybody what a picture is now; of a frame, its video as well.
    pub(crate) fn tell_picture(&self, picture: PictureId) {
        if let Ok(picture) = self.project.picture(picture) {
            let video = picture.video;
            self.tell(Change::Picture(Box::new(picture)));
            if let Some(Ok(video)) = video.map(|video| self.project.picture(video)) {
                self.tell(Change::Picture(Box::new(video)));
            }
        }
    }

    fn tell_classes(&self) {
        if let Ok(classes) = self.project.classes() {
            self.tell(Change::Classes(classes));
        }
    }

    /// Tells everybody who listens.
    pub(crate) fn tell(&self, change: Change) {
        // It fails where nobody listens.
        let _ = self.changes.send(change);
    }

    /// Hears of all changes from now on, also of those that other programs make.
    pub(crate) fn listen(self: &Arc<Self>) -> broadcast::Receiver<Change> {
        let changes = self.changes.subscribe();
        if !self.is_watched.swap(true, Ordering::AcqRel) {
            tokio::spawn(Arc::clone(self).watch());
        }
        changes
    }

    /// Looks for changes of other programs as long as somebody listens.
    async fn watch(self: Arc<Self>) {
        let mut before = None;
        loop {
            let now = self.ask(Project::version).await.ok();
            if before.is_some() && now.is_some() && now != before {
                self.tell(Change::Pictures);
                let open = Arc::clone(&self);
                let _ = blocking(move || open.tell_classes()).await;
            }
            before = now.or(before);
            tokio::time::sleep(LOOKED).await;
            if self.changes.receiver_count() > 0 {
                continue;
            }
            self.is_watched.store(false, Ordering::Release);
            // Who has come meanwhile has found it watched.
            if self.changes.receiver_count() == 0 || self.is_watched.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }

    /// The image of a picture, whose file is read now.
    pub(crate) async fn read(
        self: &Arc<Self>,
        images: &Arc<Images>,
        picture: &Picture,
    ) -> Result<Image> {
        let _turn = images.decoder().await;
        let (open, images, picture) = (Arc::clone(self), Arc::clone(images), picture.clone());
        blocking(move || open.read_file(&images, &picture, true)).await?
    }

    fn read_file(&self, images: &Images, picture: &Picture, keep: bool) -> Result<Image> {
        if picture.frames.is_some() {
            return self.read_poster(images, picture);
        }
        if let (Some(video), Some(frame)) = (picture.video, picture.frame) {
            return self.read_frame(images, picture, &self.project.picture(video)?, frame);
        }
        let path = &picture.path;
        // Before it is read: what is written meanwhile is noticed the next time.
        let seen = Seen::at(&self.folder.join(path));
        let (id, file) = images.read_in_project(&self.folder, path)?;
        let image = match self.tiles.get(&id) {
            Some(pyramid) => Ok(pyramid.image().clone()),
            None => images.of_file(&id, &file, keep),
        };
        let named = |problem: Problem| {
            let why = problem.detail();
            let why = why.strip_prefix("image: ").unwrap_or(why);
            Problem::new(problem.status(), format!("{path}: {why}"))
        };
        let image = image.map_err(named);
        self.files.insert(picture.id, (id, seen));
        image
    }

    /// The file of a video.
    fn path_of(&self, path: &str) -> Result<PathBuf> {
        let found = below(&self.folder, path).filter(|file| file.is_file());
        let missing = || Problem::not_found(format!("{path:?} is not in the project's folder"));
        found.ok_or_else(missing)
    }

    /// Opens a video for somebody who reads many frames.
    pub(crate) fn open_video(&self, images: &Images, path: &str) -> Result<Box<dyn FrameSource>> {
        open_source(&self.path_of(path)?, images.limits())
    }

    /// What stands for a video: its first frame.
    fn read_poster(&self, images: &Images, video: &Picture) -> Result<Image> {
        let path = self.path_of(&video.path)?;
        let seen = Seen::at(&path);
        let id: ImageId = frame_id(&format!("{}, {seen:?}", video.path), 0).parse()?;
        self.files.insert(video.id, (id.clone(), seen));
        images.frame(id, &path, 0)
    }

    fn read_frame(
        &self,
        images: &Images,
        picture: &Picture,
        video: &Picture,
        frame: u32,
    ) -> Result<Image> {
        let path = self.path_of(&video.path)?;
        let seen = Seen::at(&path);
        let unknown = || Problem::conflict("the video was not opened yet");
        let id: ImageId = picture.sha256.as_deref().ok_or_else(unknown)?.parse()?;
        if seen.is_none() || self.videos.get(&video.id) != Some(seen) {
            let sum = sha256_of(&path).map_err(|error| Problem::internal(error.kind()))?;
            if video.sha256.as_ref() != Some(&sum) {
                return Err(other(video));
            }
            self.videos.insert(video.id, seen);
        }
        let image = images.frame(id.clone(), &path, frame)?;
        self.files.insert(picture.id, (id, seen));
        Ok(image)
    }

    /// Reads what a video is, unless its file is known to be the same.
    pub(crate) async fn open_frames(
        self: &Arc<Self>,
        images: &Arc<Images>,
        video: &Picture,
    ) -> Result<(Picture, Vec<PictureId>, Vec<Placed>)> {
        let (open, images, video) = (Arc::clone(self), Arc::clone(images), video.clone());
        blocking(move || {
            let path = open.path_of(&video.path)?;
            let seen = Seen::at(&path);
            let known = open.videos.get(&video.id);
            if seen.is_none() || known != Some(seen) || video.is_changed {
                let file = video_file(&path, &images)?;
                let video = open.project.identify_video(video.id, &file)?;
                if video.sha256 == Some(file.sha256) {
                    open.videos.insert(video.id, seen);
                }
                open.tell_picture(video.id);
            }
            let project = &open.project;
            Ok((
                project.picture(video.id)?,
                project.frames(video.id)?,
                project.tracks(video.id)?,
            ))
        })
        .await?
    }

    /// The reductions of a picture, of its file as it was read last.
    pub(crate) async fn pyramid(
        self: &Arc<Self>,
        images: &Arc<Images>,
        picture: PictureId,
    ) -> Result<Arc<Pyramid>> {
        if let Some((id, _)) = self.files.get(&picture) {
            if let Some(pyramid) = self.tiles.get(&id) {
                return Ok(pyramid);
            }
            // Its file may be another one since, or have gone from memory.
            if let Ok(image) = images.get(&id).await {
                return self.tiles.of(image).await;
            }
        }
        let picture = self.ask(move |project| project.picture(picture)).await?;
        let image = self.read(images, &picture).await?;
        self.tiles.of(image).await
    }

    /// The thumbnail of a picture as its file is now, and the file's id.
    pub(crate) async fn thumbnail(
        self: &Arc<Self>,
        images: &Arc<Images>,
        picture: PictureId,
        known: Option<&str>,
    ) -> Result<(ImageId, Option<Vec<u8>>)> {
        let picture = self.ask(move |project| project.picture(picture)).await?;
        let open = Arc::clone(self);
        let (kept, known) = (picture.clone(), known.map(str::to_owned));
        let found = blocking(move || open.kept_thumbnail(&kept, known.as_deref())).await?;
        if let Some(found) = found {
            return Ok(found);
        }
        let _turn = self.thumbnail.acquire().await;
        let (open, images) = (Arc::clone(self), Arc::clone(images));
        blocking(move || {
            if let Some(found) = open.kept_thumbnail(&picture, None) {
                return Ok(found);
            }
            let image = open.read_file(&images, &picture, false)?;
            let jpeg = Pyramid::new(&image).thumbnail(THUMBNAIL_QUALITY)?;
            let id = image.info.id.clone();
            if let Err(error) = open.thumbnails.put(id.as_str(), &jpeg) {
                tracing::warn!("a thumbnail is not kept: {error}");
            }
            Ok((id, Some(jpeg)))
        })
        .await?
    }

    /// A thumbnail that was made, if the file is still the same; without it if it is the one that is `known`.
    fn kept_thumbnail(
        &self,
        picture: &Picture,
        known: Option<&str>,
    ) -> Option<(ImageId, Option<Vec<u8>>)> {
        let (id, seen) = self.files.get(&picture.id)?;
        let path = below(&self.folder, &picture.path)?;
        if seen.is_none() || Seen::at(&path) != seen {
            return None;
        }
        if known.is_some_and(|known| known.contains(id.as_str())) {
            return Some((id, None));
        }
        let jpeg = std::fs::read(self.thumbnails.get(id.as_str())?).ok()?;
        Some((id, Some(jpeg)))
    }
}

fn other(video: &Picture) -> Problem {
    let path = &video.path;
    let detail = format!("{path}: is another video than that on which masks were drawn");
    Problem::conflict(detail)
}

/// What the file of a video is, which is read to its end.
fn video_file(path: &Path, images: &Images) -> Result<VideoFile> {
    let mut source = open_source(path, images.limits())?;
    let times = source.times().ok().flatten();
    let frames = if let Some(times) = &times {
        times.len()
    } else {
        let frames = (0..).take_while(|frame| frame_of(&mut *source, *frame).is_ok());
        frames.count()
    };
    let (width, height) = source.size();
    let sha256 = sha256_of(path).map_err(|error| Problem::internal(error.kind()))?;
    Ok(VideoFile {
        sha256,
        width,
        height,
        frames,
        rate: source.frame_rate(),
    })
}
