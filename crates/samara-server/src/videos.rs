//! Video sessions: objects that are followed from frame to frame, saved so that they outlive the process.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samara::{
    Direction, FrameMasks, ImageLimits, ObjectMask, Prompt, RgbImage, VideoFrame, VideoOptions,
    VideoSession,
};
use samara_image::{
    FrameSource, decode_image, is_unfinished, open_video, read_image, write_atomic,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, mpsc};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::blocking::blocking;
use crate::config::Config;
use crate::error::{Problem, Result};
use crate::masks::{MaskAnswer, MaskFormat};
use crate::model::Model;
use crate::models::LoadedModel;
use crate::owner::{Pause, Urgency};

/// A session is saved after so many tracked frames, and whenever it rests.
const SAVED_AFTER: usize = 30;
/// Sessions whose state is in memory; the others are read again from disk.
const IN_MEMORY: usize = 8;

/// What a session is of, in its folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Description {
    model: String,
    source: Source,
    options: VideoOptions,
}

/// Where the frames come from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Source {
    /// A file or folder below the root.
    Path(PathBuf),
    /// A file that was uploaded, in the session's folder.
    Upload,
    /// Frames that are pushed one by one.
    Frames,
}

/// A video session.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct VideoInfo {
    /// Its name.
    id: String,
    /// The model that follows the objects.
    model: String,
    /// Width of the frames in pixels; null before the first frame.
    width: Option<u32>,
    /// Height of the frames in pixels; null before the first frame.
    height: Option<u32>,
    /// How many frames there are; null if that is not known. Of a file it is what the file says.
    frames: Option<usize>,
    /// Frames a second; null if that is not known.
    frame_rate: Option<f64>,
    /// The objects that are followed.
    objects: Vec<u32>,
    /// The frame that was tracked last; null before any.
    position: Option<usize>,
}

impl VideoInfo {
    /// Width and height in pixels.
    pub(crate) fn size(&self) -> (f64, f64) {
        let side = |side: Option<u32>| f64::from(side.unwrap_or(0));
        (side(self.width), side(self.height))
    }

    /// How many frames are known of.
    pub(crate) fn frame_count(&self) -> usize {
        self.frames.unwrap_or(0)
    }
}

/// An object in a frame.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct VideoObject {
    /// Which object.
    pub(crate) object: u32,
    /// The estimated IoU of the mask.
    predicted_iou: f32,
    /// Logit of the object being in the frame: it is there if this is positive.
    object_score: f32,
    #[serde(flatten)]
    mask: MaskAnswer,
}

impl VideoObject {
    pub(crate) fn new(found: &ObjectMask, format: MaskFormat) -> Result<Self> {
        Ok(Self {
            object: found.object,
            predicted_iou: found.predicted_iou.0,
            object_score: found.object_score,
            mask: MaskAnswer::new(&found.mask, format)?,
        })
    }
}

/// All objects in a frame.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct VideoFrameAnswer {
    /// Number of the frame, from 0.
    frame: usize,
    objects: Vec<VideoObject>,
}

impl VideoFrameAnswer {
    pub(crate) fn new(found: &FrameMasks, format: MaskFormat) -> Result<Self> {
        let objects = found
            .objects
            .iter()
            .map(|object| VideoObject::new(object, format));
        Ok(Self {
            frame: found.index,
            objects: objects.collect::<Result<_>>()?,
        })
    }
}

/// A session that is known.
pub(crate) struct Video {
    pub(crate) id: String,
    folder: PathBuf,
    description: Description,
    limits: ImageLimits,
    /// Frames that were pushed.
    pushed: AtomicUsize,
    state: Arc<AsyncMutex<State>>,
    /// Set when the session is deleted, or the server ends.
    ending: CancellationToken,
}

/// What is in memory of a session.
#[derive(Default)]
struct State {
    session: Option<VideoSession>,
    source: Option<Box<dyn FrameSource>>,
    /// The frame that was embedded last.
    frame: Option<VideoFrame>,
    unsaved: usize,
}

type Held = OwnedMutexGuard<State>;

/// Pushed frames, as a folder that grows.
struct PushedFrames {
    folder: PathBuf,
    limits: ImageLimits,
    size: (u32, u32),
}

impl FrameSource for PushedFrames {
    fn size(&self) -> (u32, u32) {
        self.size
    }

    fn len_hint(&self) -> Option<usize> {
        None
    }

    fn frame_rate(&self) -> Option<f64> {
        None
    }

    fn read(&mut self, index: usize) -> Result<Option<RgbImage>, samara_image::Error> {
        let path = frame_path(&self.folder, index);
        if !path.exists() {
            return Ok(None);
        }
        read_image(path, &self.limits).map(Some)
    }
}

fn frame_path(folder: &Path, index: usize) -> PathBuf {
    folder.join("frames").join(format!("{index:06}"))
}

/// All sessions.
pub(crate) struct Videos {
    folder: PathBuf,
    all: Mutex<BTreeMap<String, Arc<Video>>>,
    /// Those whose state is in memory, the least recently used first.
    in_memory: Mutex<Vec<String>>,
    most: usize,
    limits: ImageLimits,
}

impl Videos {
    /// Finds the sessions of an earlier time.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub(crate) fn open(config: &Config, state: &Path) -> io::Result<Self> {
        let folder = state.join("videos");
        fs::create_dir_all(&folder)?;
        let limits = ImageLimits {
            max_pixels: config.limits.image_pixels,
            ..ImageLimits::default()
        };
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(&folder)? {
            let folder = entry?.path();
            if is_unfinished(&folder) {
                continue;
            }
            let id = folder
                .file_name()
                .and_then(|name| name.to_str())
                .map(str::to_owned);
            let text = fs::read(folder.join("video.json"));
            let description = text
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok());
            let (Some(id), Some(description)) = (id, description) else {
                tracing::warn!("{}: no video session, left alone", folder.display());
                continue;
            };
            let video = Video::new(id.clone(), folder, description, limits);
            let pushed = (0..).take_while(|&index| frame_path(&video.folder, index).exists());
            video.pushed.store(pushed.count(), Ordering::Release);
            all.insert(id, Arc::new(video));
        }
        Ok(Self {
            folder,
            all: Mutex::new(all),
            in_memory: Mutex::default(),
            most: config.limits.videos,
            limits,
        })
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Video>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn list(&self) -> Vec<Arc<Video>> {
        self.all().values().cloned().collect()
    }

    pub(crate) fn get(&self, id: &str) -> Result<Arc<Video>> {
        let found = self.all().get(id).cloned();
        let video = found
            .ok_or_else(|| Problem::not_found(format!("there is no video {id:?}")).about("id"))?;
        self.used(id);
        Ok(video)
    }

    /// Drops the state of sessions that were not used for long from memory.
    fn used(&self, id: &str) {
        let mut in_memory = self
            .in_memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        in_memory.retain(|known| known != id);
        in_memory.push(id.to_owned());
        while in_memory.len() > IN_MEMORY {
            let oldest = in_memory.remove(0);
            let video = self.all().get(&oldest).cloned();
            // One at work is used, and saves itself.
            if let Some(mut state) = video.as_ref().and_then(|video| video.state.try_lock().ok())
                && state.unsaved == 0
            {
                *state = State::default();
            }
        }
    }

    /// A session of frames that are pushed.
    pub(crate) async fn of_frames(
        &self,
        model: &LoadedModel,
        options: VideoOptions,
    ) -> Result<Arc<Video>> {
        self.add(model, options, Source::Frames, None).await
    }

    /// A session of a video file or a folder of frames.
    pub(crate) async fn of_path(
        &self,
        model: &LoadedModel,
        options: VideoOptions,
        path: PathBuf,
    ) -> Result<Arc<Video>> {
        self.add(model, options, Source::Path(path), None).await
    }

    /// A session of a video file that was uploaded to `file`, which is moved.
    pub(crate) async fn of_upload(
        &self,
        model: &LoadedModel,
        options: VideoOptions,
        file: tempfile::TempPath,
    ) -> Result<Arc<Video>> {
        self.add(model, options, Source::Upload, Some(file)).await
    }

    /// Where an upload is written until it is whole.
    pub(crate) fn upload(&self) -> io::Result<tempfile::NamedTempFile> {
        tempfile::Builder::new()
            .prefix(".samara-")
            .suffix(".tmp")
            .tempfile_in(&self.folder)
    }

    /// A folder for frames until they are pushed.
    pub(crate) fn upload_folder(&self) -> io::Result<tempfile::TempDir> {
        tempfile::Builder::new()
            .prefix(".samara-")
            .suffix(".tmp")
            .tempdir_in(&self.folder)
    }

    async fn add(
        &self,
        model: &LoadedModel,
        options: VideoOptions,
        source: Source,
        upload: Option<tempfile::TempPath>,
    ) -> Result<Arc<Video>> {
        let count = self.all().len();
        if count >= self.most {
            let detail = format!("there are {count} video sessions, the limit; delete one");
            return Err(Problem::conflict(detail));
        }
        let id = Uuid::new_v4().to_string();
        let description = Description {
            model: model.name.clone(),
            source,
            options,
        };
        let video = Video::new(id.clone(), self.folder.join(&id), description, self.limits);
        let video = blocking(move || video.create(upload)).await??;
        let video = Arc::new(video);
        self.all().insert(id.clone(), Arc::clone(&video));
        self.used(&id);
        Ok(video)
    }

    /// Stops what a session does, and forgets it with all that is kept of it.
    pub(crate) async fn remove(&self, id: &str) -> Result<()> {
        let video = self.get(id)?;
        video.ending.cancel();
        let mut state = Arc::clone(&video.state).lock_owned().await;
        *state = State::default();
        self.all().remove(id);
        let folder = video.folder.clone();
        let removed = blocking(move || {
            // In one step for whoever starts after a crash: without its description it is no session.
            fs::remove_file(folder.join("video.json"))?;
            fs::remove_dir_all(&folder)
        });
        removed
            .await?
            .map_err(|e| Problem::internal(format!("the session's files stay: {e}")))
    }

    /// Lets all sessions come to rest.
    pub(crate) async fn stop_all(&self) {
        let all = self.list();
        all.iter().for_each(|video| video.ending.cancel());
        for video in all {
            let state = Arc::clone(&video.state).lock_owned().await;
            if let Err(problem) = video.save(state).await {
                tracing::error!(
                    video = video.id,
                    "a session is not saved: {}",
                    problem.detail()
                );
            }
        }
    }
}

impl Video {
    fn new(id: String, folder: PathBuf, description: Description, limits: ImageLimits) -> Self {
        Self {
            id,
            folder,
            description,
            limits,
            pushed: AtomicUsize::new(0),
            state: Arc::default(),
            ending: CancellationToken::new(),
        }
    }

    /// Makes its folder; what goes wrong leaves nothing.
    fn create(self, upload: Option<tempfile::TempPath>) -> Result<Self> {
        let failed = |e: &dyn std::fmt::Display| {
            Problem::internal(format!("the session cannot be kept: {e}"))
        };
        let made = fs::create_dir_all(self.folder.join("frames")).map_err(|e| failed(&e));
        let made = made.and_then(|()| match upload {
            Some(file) => file.persist(self.upload_path()).map_err(|e| failed(&e)),
            None => Ok(()),
        });
        let made = made.and_then(|()| match &self.description.source {
            Source::Frames => Ok(()),
            Source::Path(_) => self.open_source().map(drop).map_err(|e| e.about("path")),
            Source::Upload => self.open_source().map(drop),
        });
        let made = made.and_then(|()| {
            let text = serde_json::to_vec(&self.description).map_err(|e| failed(&e))?;
            write_atomic(self.folder.join("video.json"), &text).map_err(|e| failed(&e))
        });
        if let Err(problem) = made {
            let _ = fs::remove_dir_all(&self.folder);
            return Err(problem);
        }
        Ok(self)
    }

    /// The name of its model.
    pub(crate) fn model(&self) -> &str {
        &self.description.model
    }

    fn upload_path(&self) -> PathBuf {
        self.folder.join("upload")
    }

    fn session_path(&self) -> PathBuf {
        self.folder.join("session.safetensors")
    }

    fn open_source(&self) -> Result<Box<dyn FrameSource>> {
        let source = match &self.description.source {
            Source::Path(path) => open_video(path, &self.limits),
            Source::Upload => open_video(self.upload_path(), &self.limits),
            Source::Frames => {
                let size =
                    read_image(frame_path(&self.folder, 0), &self.limits).map(|i| i.dimensions());
                let size =
                    size.map_err(|_| Problem::conflict("the session has no frame yet; push one"))?;
                return Ok(Box::new(PushedFrames {
                    folder: self.folder.clone(),
                    limits: self.limits,
                    size,
                }));
            }
        };
        source.map_err(|error| match Problem::from(error) {
            // Where it lies is nobody's business.
            problem if matches!(self.description.source, Source::Upload) => problem.naming("video"),
            problem => problem,
        })
    }

    /// The session for one request; another one that works on it must end first.
    fn hold(&self) -> Result<Held> {
        let busy = |_| {
            Problem::conflict(format!(
                "video {} is at work; wait until it is done, or delete it",
                self.id
            ))
        };
        Arc::clone(&self.state).try_lock_owned().map_err(busy)
    }

    /// The state with session and source in it.
    fn wake(&self, state: &mut State, model: &LoadedModel) -> Result<()> {
        if state.source.is_none() {
            state.source = Some(self.open_source()?);
        }
        if state.session.is_none() {
            let path = self.session_path();
            state.session = Some(if path.exists() {
                VideoSession::load(&path, model.segmenter())
                    .map_err(|e| Problem::from(e).naming("session"))?
            } else {
                let hint = state.source.as_ref().and_then(|source| source.len_hint());
                let mut options = self.description.options.clone();
                if options.num_frames.is_none()
                    && matches!(self.description.source, Source::Path(_))
                {
                    options.num_frames = hint.filter(|_| self.is_folder());
                }
                VideoSession::new(model.segmenter(), options)
            });
        }
        Ok(())
    }

    fn is_folder(&self) -> bool {
        matches!(&self.description.source, Source::Path(path) if path.is_dir())
    }

    /// What is known of it.
    pub(crate) async fn info(self: &Arc<Self>, model: &Arc<LoadedModel>) -> Result<VideoInfo> {
        let pushes = matches!(self.description.source, Source::Frames);
        let pushed = self.pushed.load(Ordering::Acquire);
        let mut info = VideoInfo {
            id: self.id.clone(),
            model: self.description.model.clone(),
            width: None,
            height: None,
            frames: pushes.then_some(pushed),
            frame_rate: None,
            objects: Vec::new(),
            position: None,
        };
        if pushes && pushed == 0 {
            return Ok(info);
        }
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let (video, model) = (Arc::clone(self), Arc::clone(model));
        blocking(move || {
            video.wake(&mut state, &model)?;
            if let Some(source) = &state.source {
                let (width, height) = source.size();
                (info.width, info.height) = (Some(width), Some(height));
                info.frames = info.frames.or(source.len_hint());
                info.frame_rate = source.frame_rate();
            }
            if let Some(session) = &state.session {
                info.objects = session.objects().collect();
                info.position = session.position().map(|position| position.frame);
            }
            Ok(info)
        })
        .await?
    }

    /// Takes the next frame; answers with its number.
    pub(crate) async fn push(self: &Arc<Self>, file: Vec<u8>) -> Result<usize> {
        if !matches!(self.description.source, Source::Frames) {
            return Err(Problem::conflict(
                "this session has a video; only sessions of frames take more",
            ));
        }
        let state = self.hold()?;
        let video = Arc::clone(self);
        blocking(move || {
            let _one_at_a_time = state;
            let image = decode_image(&file, "frame", &video.limits)?;
            let index = video.pushed.load(Ordering::Acquire);
            if index > 0 {
                let (width, height) = video.open_source()?.size();
                if (width, height) != image.dimensions() {
                    let (w, h) = image.dimensions();
                    let detail =
                        format!("frame {index} has {w}×{h} pixels, the video has {width}×{height}");
                    return Err(Problem::field("frame", detail));
                }
            }
            let written = write_atomic(frame_path(&video.folder, index), &file);
            written.map_err(|e| Problem::internal(e.reason()))?;
            video.pushed.store(index + 1, Ordering::Release);
            Ok(index)
        })
        .await?
    }

    /// Answers a prompt for an object on a frame.
    pub(crate) async fn prompt(
        self: &Arc<Self>,
        model: &Arc<LoadedModel>,
        frame: usize,
        object: u32,
        prompt: Prompt,
    ) -> Result<ObjectMask> {
        let cancelled = self.ending.child_token();
        let _cancel = cancelled.clone().drop_guard();
        let state = self.hold()?;
        let (state, image) = self.frame(state, model, frame).await?;
        let Some(image) = image else {
            let detail = format!("there is no frame {frame}");
            return Err(Problem::field("frame", detail));
        };
        let work = model
            .owner
            .run(Urgency::Embedding, cancelled, move |model, pause| {
                let mut state = state;
                let found = state.with_frame(model, pause, frame, image, |session, frame| {
                    session.prompt(frame, object, &prompt)
                });
                let found = found.map_err(|error| match error {
                    samara::Error::Prompt(error) => Problem::field("prompt", error),
                    other => other.into(),
                })?;
                state.unsaved += 1;
                Ok((state, found))
            });
        let (state, found) = work.await?;
        self.save(state).await?;
        Ok(found)
    }

    /// Changes the session without a frame.
    async fn change(
        self: &Arc<Self>,
        model: &Arc<LoadedModel>,
        change: impl FnOnce(&mut VideoSession) -> samara::Result<()> + Send + 'static,
    ) -> Result<()> {
        let mut state = self.hold()?;
        let (video, model) = (Arc::clone(self), Arc::clone(model));
        let changed = blocking(move || {
            video.wake(&mut state, &model)?;
            if let Some(session) = &mut state.session {
                change(session)?;
            }
            state.unsaved += 1;
            Ok::<_, Problem>(state)
        });
        self.save(changed.await??).await.map(drop)
    }

    /// Takes the prompts for an object on a frame back.
    pub(crate) async fn clear_prompt(
        self: &Arc<Self>,
        model: &Arc<LoadedModel>,
        frame: usize,
        object: u32,
    ) -> Result<()> {
        let clear = move |session: &mut VideoSession| session.clear_prompt(frame, object);
        self.change(model, clear).await
    }

    /// Forgets an object.
    pub(crate) async fn remove_object(
        self: &Arc<Self>,
        model: &Arc<LoadedModel>,
        object: u32,
    ) -> Result<()> {
        self.change(model, move |session| session.remove(object))
            .await
    }

    /// Reads a frame; `None` past the end. The frame that was embedded last need not be read again.
    async fn frame(
        self: &Arc<Self>,
        mut state: Held,
        model: &Arc<LoadedModel>,
        index: usize,
    ) -> Result<(Held, Option<Option<RgbImage>>)> {
        let (video, model) = (Arc::clone(self), Arc::clone(model));
        blocking(move || {
            video.wake(&mut state, &model)?;
            if state
                .frame
                .as_ref()
                .is_some_and(|frame| frame.index() == index)
            {
                return Ok((state, Some(None)));
            }
            let image = match &mut state.source {
                Some(source) => source.read(index)?,
                None => None,
            };
            Ok((state, image.map(Some)))
        })
        .await?
    }

    /// Saves what is not saved.
    async fn save(self: &Arc<Self>, mut state: Held) -> Result<Held> {
        if state.unsaved == 0 {
            return Ok(state);
        }
        let path = self.session_path();
        blocking(move || {
            if let Some(session) = &state.session {
                session
                    .save(&path)
                    .map_err(|e| Problem::from(e).naming("session"))?;
            }
            state.unsaved = 0;
            Ok(state)
        })
        .await?
    }

    /// Tracks all objects through frames from `start` on, `count` of them or to the end, and hands each over. Stops
    /// when nobody listens; what was found until then is kept.
    pub(crate) fn propagate(
        self: &Arc<Self>,
        model: &Arc<LoadedModel>,
        start: usize,
        count: usize,
        direction: Direction,
    ) -> Result<mpsc::Receiver<Result<FrameMasks>>> {
        let state = self.hold()?;
        let (sender, receiver) = mpsc::channel(4);
        let (video, model) = (Arc::clone(self), Arc::clone(model));
        tokio::spawn(async move {
            let order = (0..count).map_while(move |step| match direction {
                Direction::Forward => start.checked_add(step),
                Direction::Backward => start.checked_sub(step),
            });
            if let Err(problem) = video.track(&model, state, order, direction, &sender).await {
                let _ = sender.send(Err(problem)).await;
            }
        });
        Ok(receiver)
    }

    async fn track(
        self: &Arc<Self>,
        model: &Arc<LoadedModel>,
        mut state: Held,
        order: impl Iterator<Item = usize>,
        direction: Direction,
        sender: &mpsc::Sender<Result<FrameMasks>>,
    ) -> Result<()> {
        for index in order {
            let (held, image) = self.frame(state, model, index).await?;
            state = held;
            let Some(image) = image else { break };
            let cancelled = self.ending.child_token();
            let work = model
                .owner
                .run(Urgency::Job, cancelled.clone(), move |model, pause| {
                    let found = state.with_frame(model, pause, index, image, |session, frame| {
                        model.track(session, frame, direction)
                    });
                    state.unsaved += 1;
                    Ok((state, found))
                });
            let ended = tokio::select! {
                ended = work => ended,
                () = sender.closed() => {
                    cancelled.cancel();
                    return Ok(());
                }
            };
            let found;
            (state, found) = ended?;
            if state.unsaved >= SAVED_AFTER {
                state = self.save(state).await?;
            }
            if sender.send(Ok(found?)).await.is_err() || self.ending.is_cancelled() {
                break;
            }
        }
        self.save(state).await.map(drop)
    }
}

impl State {
    /// Does something with a frame, which is embedded if it is not the last one.
    fn with_frame<T>(
        &mut self,
        model: &dyn Model,
        pause: &mut Pause<'_>,
        index: usize,
        image: Option<RgbImage>,
        work: impl FnOnce(&mut VideoSession, &VideoFrame) -> samara::Result<T>,
    ) -> samara::Result<T> {
        if let Some(image) = image {
            let mut between = || pause.take();
            self.frame = Some(model.embed_frame(index, &image, &mut between)?);
        }
        if pause.take() == ControlFlow::Break(()) {
            return Err(samara::Error::Cancelled);
        }
        match (&mut self.session, &self.frame) {
            (Some(session), Some(frame)) => work(session, frame),
            _ => Err(samara::Error::Cancelled),
        }
    }
}
