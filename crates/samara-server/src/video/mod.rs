//! A video session: objects that are followed from frame to frame, saved so that they outlive the process.

mod propagation;
mod state;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use samara::{ImageLimits, ObjectMask, Prompt, RgbImage, VideoOptions, VideoSession};
use samara_image::{FrameSource, decode_image, write_atomic};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::blocking::blocking;
use crate::error::{Problem, Result};
use crate::frames::{Source, frame_path, frames_path, upload_path};
use crate::models::LoadedModel;
use crate::owner::Urgency;
use crate::video_answers::VideoInfo;
use state::State;

/// A session is saved after so many tracked frames, and whenever it rests.
const SAVED_AFTER: usize = 30;
/// How long a request waits for another one that works on the session.
const A_MOMENT: Duration = Duration::from_millis(500);
/// How long a client may leave events unread.
const UNREAD: Duration = Duration::from_secs(30);
/// The file that says what a session is of; a folder without it is none.
const DESCRIPTION: &str = "video.json";

/// What holds for all sessions.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) limits: ImageLimits,
    /// Most objects of a session.
    pub(crate) most_objects: usize,
    /// Videos are read below it only.
    pub(crate) root: Option<PathBuf>,
}

/// What a session is of, in its folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Description {
    model: String,
    source: Source,
    options: VideoOptions,
    /// Of a tool that does not say when it has done: it makes room for others.
    #[serde(default)]
    transient: bool,
    /// Seconds since 1970.
    #[serde(default)]
    created: u64,
}

/// A session that is known.
pub(crate) struct Video {
    pub(crate) id: String,
    folder: PathBuf,
    description: Description,
    limits: ImageLimits,
    most_objects: usize,
    /// Videos are read below it only.
    root: Option<PathBuf>,
    /// Frames that were pushed.
    pushed: AtomicUsize,
    /// Width and height of frames that are pushed, once one was seen.
    size: OnceLock<(u32, u32)>,
    state: Arc<AsyncMutex<State>>,
    /// What was known of it last, for those who ask while it is at work.
    known: Mutex<Option<VideoInfo>>,
    /// Bytes of its video and its frames.
    bytes: AtomicU64,
    /// Set when the session is deleted, or the server ends.
    ending: CancellationToken,
}

type Held = OwnedMutexGuard<State>;

impl Video {
    fn new(id: String, folder: PathBuf, description: Description, rules: &Rules) -> Self {
        let frames = (0..).map_while(|index| frame_path(&folder, index).metadata().ok());
        let (pushed, bytes) = frames.fold((0, 0), |(count, bytes), file| {
            (count + 1, bytes + file.len())
        });
        let upload = upload_path(&folder).metadata().map_or(0, |file| file.len());
        Self {
            pushed: AtomicUsize::new(pushed),
            id,
            folder,
            description,
            limits: rules.limits,
            most_objects: rules.most_objects,
            root: rules.root.clone(),
            size: OnceLock::new(),
            state: Arc::default(),
            known: Mutex::default(),
            bytes: AtomicU64::new(bytes + upload),
            ending: CancellationToken::new(),
        }
    }

    /// The session in a folder of an earlier time.
    pub(crate) fn found(folder: PathBuf, rules: &Rules) -> Option<Self> {
        let id = folder.file_name()?.to_str()?.to_owned();
        let text = fs::read(folder.join(DESCRIPTION)).ok()?;
        let description = serde_json::from_slice(&text).ok()?;
        Some(Self::new(id, folder, description, rules))
    }

    /// A new session below a folder; an upload is moved there. What goes wrong leaves nothing.
    pub(crate) fn create(
        videos: &Path,
        model: &str,
        options: VideoOptions,
        source: Source,
        upload: Option<tempfile::TempPath>,
        transient: bool,
        rules: &Rules,
    ) -> Result<Self> {
        let id = Uuid::new_v4().to_string();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let description = Description {
            model: model.to_owned(),
            source,
            options,
            transient,
            created: now.map_or(0, |since| since.as_secs()),
        };
        let folder = videos.join(&id);
        Self::new(id, folder, description, rules).made(upload)
    }

    fn made(self, upload: Option<tempfile::TempPath>) -> Result<Self> {
        let failed = |e: &io::Error| Problem::of_writing("the session", e);
        let made = fs::create_dir_all(frames_path(&self.folder)).map_err(|e| failed(&e));
        let made = made.and_then(|()| match upload {
            Some(file) => file
                .persist(upload_path(&self.folder))
                .map_err(|e| failed(&e.error)),
            None => Ok(()),
        });
        let made = made.and_then(|()| match &self.description.source {
            Source::Frames => Ok(()),
            Source::Path(_) => self.open_source().map(drop).map_err(|e| e.about("path")),
            Source::Upload => self.open_source().map(drop).map_err(|e| e.about("body")),
        });
        let made = made.and_then(|()| {
            let text = serde_json::to_vec(&self.description).map_err(Problem::internal)?;
            let written = write_atomic(self.folder.join(DESCRIPTION), &text);
            written.map_err(|e| Problem::of_kept("session", e.into()))
        });
        if let Err(problem) = made {
            let _ = fs::remove_dir_all(&self.folder);
            return Err(problem);
        }
        let bytes = upload_path(&self.folder)
            .metadata()
            .map_or(0, |file| file.len());
        self.bytes.store(bytes, Ordering::Release);
        Ok(self)
    }

    /// When it was made, if it makes room for others.
    pub(crate) fn transient_since(&self) -> Option<u64> {
        self.description
            .transient
            .then_some(self.description.created)
    }

    /// Bytes of its video and its frames.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// The name of its model.
    pub(crate) fn model(&self) -> &str {
        &self.description.model
    }

    fn session_path(&self) -> PathBuf {
        self.folder.join("session.safetensors")
    }

    fn open_source(&self) -> Result<Box<dyn FrameSource>> {
        let root = self.root.as_deref();
        self.description
            .source
            .open(&self.folder, root, &self.limits)
    }

    /// The session for one request. What takes a moment is waited for; a propagation must end first.
    async fn hold(&self) -> Result<Held> {
        let held = Arc::clone(&self.state).lock_owned();
        tokio::time::timeout(A_MOMENT, held).await.map_err(|_| {
            let id = &self.id;
            Problem::conflict(format!(
                "video {id} is at work; wait until it is done, or delete it"
            ))
        })
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
                    .map_err(|e| Problem::of_kept("session", e))?
            } else {
                let hint = state.source.as_ref().and_then(|source| source.len_hint());
                let mut options = self.description.options.clone();
                let known = hint.filter(|_| self.description.source.is_folder());
                options.num_frames = options.num_frames.or(known);
                VideoSession::new(model.segmenter(), options)
            });
        }
        Ok(())
    }

    /// Drops what is in memory, unless it is at work or not saved.
    pub(crate) fn sleep(&self) {
        if let Ok(mut state) = self.state.try_lock()
            && state.unsaved == 0
        {
            *state = State::default();
        }
    }

    /// Stops what it does.
    pub(crate) fn stop(&self) {
        self.ending.cancel();
    }

    /// Waits until it has come to rest after [`stop`](Self::stop), and saves it.
    pub(crate) async fn rest(self: &Arc<Self>) -> Result<()> {
        let state = Arc::clone(&self.state).lock_owned().await;
        self.save(state).await.map(drop)
    }

    /// Stops it, and deletes all that is kept of it.
    pub(crate) async fn delete(self: &Arc<Self>) -> Result<()> {
        self.stop();
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let folder = self.folder.clone();
        let removed = blocking(move || {
            *state = State::default();
            // In one step for whoever starts after a crash: without its description it is no session.
            let removed = fs::remove_file(folder.join(DESCRIPTION));
            match removed.and_then(|()| fs::remove_dir_all(&folder)) {
                // Somebody else has removed them.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            }
        });
        removed
            .await?
            .map_err(|e| Problem::internal(format!("the session's files stay: {}", e.kind())))
    }

    /// What is known of it.
    pub(crate) async fn info(self: &Arc<Self>, model: &Arc<LoadedModel>) -> Result<VideoInfo> {
        let pushes = matches!(self.description.source, Source::Frames);
        if pushes && self.pushed.load(Ordering::Acquire) == 0 {
            return Ok(self.describe(&State::default()));
        }
        let Ok(mut state) = Arc::clone(&self.state).try_lock_owned() else {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let known = known.clone();
            return Ok(VideoInfo {
                busy: true,
                ..known.unwrap_or_else(|| self.describe(&State::default()))
            });
        };
        let (video, model) = (Arc::clone(self), Arc::clone(model));
        blocking(move || {
            video.wake(&mut state, &model)?;
            Ok(video.tell(&state))
        })
        .await?
    }

    /// What its state says.
    fn describe(&self, state: &State) -> VideoInfo {
        let (source, session) = (state.source.as_ref(), state.session.as_ref());
        let size = source.map(|source| source.size());
        let pushes = matches!(self.description.source, Source::Frames);
        let pushed = pushes.then(|| self.pushed.load(Ordering::Acquire));
        VideoInfo {
            id: self.id.clone(),
            model: self.description.model.clone(),
            width: size.map(|(width, _)| width),
            height: size.map(|(_, height)| height),
            frames: pushed.or_else(|| source?.len_hint()),
            frame_rate: source.and_then(|source| source.frame_rate()),
            objects: session.map_or_else(Vec::new, |session| session.objects().collect()),
            position: session.and_then(|session| Some(session.position()?.frame)),
            busy: false,
        }
    }

    /// Keeps what its state says for those who ask while it is at work.
    fn tell(&self, state: &State) -> VideoInfo {
        let info = self.describe(state);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(info.clone());
        info
    }

    /// Takes the next frame; answers with its number.
    pub(crate) async fn push(self: &Arc<Self>, file: Vec<u8>, most: usize) -> Result<usize> {
        if !matches!(self.description.source, Source::Frames) {
            return Err(Problem::conflict(
                "this session has a video; only sessions of frames take more",
            ));
        }
        let state = self.hold().await?;
        let video = Arc::clone(self);
        blocking(move || {
            let _one_at_a_time = state;
            let image = decode_image(&file, "frame", &video.limits)?;
            let index = video.pushed.load(Ordering::Acquire);
            if index >= most {
                let detail = format!("the session has {index} frames, the limit of this server");
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
            }
            if index > 0 && video.size.get().is_none() {
                let _ = video.size.set(video.open_source()?.size());
            }
            let (width, height) = *video.size.get_or_init(|| image.dimensions());
            if (width, height) != image.dimensions() {
                let (w, h) = image.dimensions();
                let detail =
                    format!("frame {index} has {w}×{h} pixels, the video has {width}×{height}");
                return Err(Problem::field("frame", detail));
            }
            let written = write_atomic(frame_path(&video.folder, index), &file);
            written.map_err(|e| Problem::internal(e.reason()))?;
            video.bytes.fetch_add(file.len() as u64, Ordering::AcqRel);
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
        let most_objects = self.most_objects;
        let cancelled = self.ending.child_token();
        let _cancel = cancelled.clone().drop_guard();
        let state = self.hold().await?;
        let (state, image) = self.frame(state, model, frame).await?;
        let Some(image) = image else {
            let detail = format!("there is no frame {frame}");
            return Err(Problem::field("frame", detail));
        };
        let work = model
            .owner
            .run(Urgency::Embedding, cancelled, move |model, pause| {
                let mut state = state;
                if state.has_no_place(object, most_objects) {
                    let detail = format!("a session has at most {most_objects} objects");
                    return Err(Problem::field("object", detail));
                }
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
        self.tell(&state);
        self.save(state).await?;
        Ok(found)
    }

    /// Changes the session without a frame.
    async fn change(
        self: &Arc<Self>,
        model: &Arc<LoadedModel>,
        change: impl FnOnce(&mut VideoSession) -> samara::Result<()> + Send + 'static,
    ) -> Result<()> {
        let mut state = self.hold().await?;
        let (video, model) = (Arc::clone(self), Arc::clone(model));
        let changed = blocking(move || {
            video.wake(&mut state, &model)?;
            if let Some(session) = &mut state.session {
                change(session)?;
            }
            state.unsaved += 1;
            Ok::<_, Problem>(state)
        });
        let state = changed.await??;
        self.tell(&state);
        self.save(state).await.map(drop)
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
                Some(source) => {
                    let name = format!("frame {index}");
                    source
                        .read(index)
                        .map_err(|e| Problem::of_file(&name, &e))?
                }
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
                    .map_err(|e| Problem::of_kept("session", e))?;
            }
            state.unsaved = 0;
            Ok(state)
        })
        .await?
    }
}
