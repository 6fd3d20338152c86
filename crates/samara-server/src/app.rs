//! What all requests share.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use samara_image::FolderLock;
use samara_project::ProjectError;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::answers::Answers;
use crate::config::Config;
use crate::embeddings::Embeddings;
use crate::error::{Problem, Result};
use crate::images::Images;
use crate::jobs::Jobs;
use crate::metrics::Metrics;
use crate::models::{LoadedModel, Models};
use crate::project::OpenProject;
use crate::tracks::Tracks;
use crate::training::Training;
use crate::video::Video;
use crate::videos::Videos;

/// The file by which a folder is known to be a server's.
const MARKER: &str = "samara-server.txt";

/// What [`App::body_memory`] is counted in.
pub(crate) const BODY_UNIT: usize = 1 << 10;

/// Refuses a folder with files of somebody else, which would be taken for what the server keeps.
fn check_own(state: &Path) -> std::io::Result<()> {
    let is_empty = match std::fs::read_dir(state) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(error),
    };
    if is_empty || state.join(MARKER).is_file() {
        return Ok(());
    }
    let why = format!("there are other files in it (and no {MARKER}); name an empty folder");
    Err(std::io::Error::other(why))
}

/// Keeps other users of the machine away from pictures that were sent.
fn keep_private(folder: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    }
    let _ = folder;
    Ok(())
}

/// Why the server's state is not opened.
pub(crate) enum OpenError {
    /// The folder of what is kept.
    State(std::io::Error),
    /// Another server works there.
    Busy,
    /// The project.
    Project(ProjectError),
}

impl From<std::io::Error> for OpenError {
    fn from(error: std::io::Error) -> Self {
        Self::State(error)
    }
}

impl From<ProjectError> for OpenError {
    fn from(error: ProjectError) -> Self {
        Self::Project(error)
    }
}

/// The server's state.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) models: Arc<Models>,
    pub(crate) images: Arc<Images>,
    pub(crate) embeddings: Arc<Embeddings>,
    pub(crate) answers: Answers,
    pub(crate) jobs: Jobs,
    pub(crate) videos: Arc<Videos>,
    project: Option<Arc<OpenProject>>,
    pub(crate) training: Training,
    /// Objects that tools follow frame by frame.
    pub(crate) tracks: Tracks,
    pub(crate) metrics: Arc<Metrics>,
    /// Large bodies that are received.
    pub(crate) uploads: Semaphore,
    /// The memory for bodies of requests at work, in units of [`BODY_UNIT`].
    pub(crate) body_memory: Arc<Semaphore>,
    /// Set when the server is asked to end.
    pub(crate) ending: CancellationToken,
    /// Keeps other servers away from the folder of what is kept.
    _lock: FolderLock,
}

impl App {
    /// Opens what is kept in `state`. No model is loaded yet. Called on a thread of the runtime.
    ///
    /// # Errors
    /// The folder cannot be used, or another server works in it.
    pub(crate) fn open(config: Config, state: &Path) -> Result<Self, OpenError> {
        check_own(state)?;
        let lock = FolderLock::acquire(state).map_err(|error| match error.kind() {
            std::io::ErrorKind::ResourceBusy => OpenError::Busy,
            _ => OpenError::State(error),
        })?;
        let marker = state.join(MARKER);
        if !marker.exists() {
            keep_private(state)?;
            std::fs::write(marker, "The state of `samara serve`; see docs/server.md.\n")?;
        }
        let metrics = Metrics::new();
        let images = Arc::new(Images::open(&config, state)?);
        let kept = Embeddings::open(&config, state, Arc::clone(&images), Arc::clone(&metrics));
        let project = config.project.as_deref();
        let project = project.map(|folder| OpenProject::open(folder, &config, state));
        let project = project.transpose()?.map(Arc::new);
        Ok(Self {
            models: Arc::new(Models::new(&config, Arc::clone(&metrics))),
            training: Training::new(config.threads),
            images,
            embeddings: Arc::new(kept?),
            answers: Answers::new(config.limits.answers_memory),
            jobs: Jobs::new(config.limits.jobs, config.limits.jobs_memory),
            videos: Arc::new(Videos::open(&config, state)?),
            tracks: Tracks::new(),
            uploads: Semaphore::new(config.limits.uploads),
            body_memory: Arc::new(Semaphore::new(config.limits.bodies_memory / BODY_UNIT)),
            ending: CancellationToken::new(),
            project,
            metrics,
            config,
            _lock: lock,
        })
    }

    /// The project that is open.
    pub(crate) fn project(&self) -> Result<&Arc<OpenProject>> {
        let none = || Problem::not_found("no project is open; `samara studio FOLDER` opens one");
        self.project.as_ref().ok_or_else(none)
    }

    /// A video session with its model.
    pub(crate) fn video(&self, id: &str) -> Result<(Arc<Video>, Arc<LoadedModel>)> {
        let video = self.videos.get(id)?;
        let model = self.models.get(Some(video.model()))?;
        Ok((video, model))
    }

    /// The work, unless it takes longer than a request may; what is left of it is cancelled then.
    pub(crate) async fn in_time<T>(
        &self,
        deadline_ms: Option<u64>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let most = Duration::from_secs(self.config.limits.request_seconds);
        let deadline = deadline_ms.map_or(most, |ms| Duration::from_millis(ms).min(most));
        let late = |_| {
            let detail = format!("no answer within {} ms", deadline.as_millis());
            // The client's own time in most cases, so none of the errors of a server.
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail))
        };
        tokio::time::timeout(deadline, work)
            .await
            .unwrap_or_else(late)
    }
}
