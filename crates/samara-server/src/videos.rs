//! All video sessions, also those of before the server was started.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use samara::{ImageLimits, VideoOptions};
use samara_image::is_unfinished;

use uuid::Uuid;

use crate::blocking::blocking;
use crate::config::Config;
use crate::error::{Problem, Result};
use crate::frames::Source;
use crate::models::LoadedModel;
use crate::video::{Rules, Video};

/// Sessions whose state is in memory; the others are read again from disk.
const IN_MEMORY: usize = 8;

/// All sessions.
pub(crate) struct Videos {
    folder: PathBuf,
    all: Mutex<BTreeMap<String, Arc<Video>>>,
    /// Those whose state is in memory, the least recently used first.
    in_memory: Mutex<Vec<String>>,
    most: usize,
    most_bytes: u64,
    rules: Rules,
}

impl Videos {
    /// Finds the sessions of an earlier time.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub(crate) fn open(config: &Config, state: &Path) -> io::Result<Self> {
        let folder = state.join("videos");
        fs::create_dir_all(&folder)?;
        let rules = Rules {
            limits: ImageLimits {
                max_pixels: config.limits.image_pixels,
                ..ImageLimits::default()
            },
            most_objects: config.limits.objects,
            root: config
                .root
                .as_ref()
                .map(|root| root.canonicalize())
                .transpose()?,
        };
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if is_unfinished(&path) || !path.is_dir() {
                continue;
            }
            if let Some(video) = Video::found(path.clone(), &rules) {
                all.insert(video.id.clone(), Arc::new(video));
            } else if path
                .file_name()
                .is_some_and(|name| Uuid::try_parse(&name.to_string_lossy()).is_ok())
            {
                tracing::warn!(
                    "{}: a session that was not made to its end is removed",
                    path.display()
                );
                fs::remove_dir_all(&path)?;
            }
        }
        Ok(Self {
            folder,
            all: Mutex::new(all),
            in_memory: Mutex::default(),
            most: config.limits.videos,
            most_bytes: config.limits.videos_disk,
            rules,
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
        let missing = || Problem::not_found(format!("there is no video {id:?}")).about("id");
        let video = found.ok_or_else(missing)?;
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
            video.iter().for_each(|video| video.sleep());
        }
    }

    /// A new session of frames from a source; an upload is moved to it. A `transient` one makes room for others.
    pub(crate) async fn add(
        &self,
        model: &LoadedModel,
        options: VideoOptions,
        source: Source,
        upload: Option<tempfile::TempPath>,
        transient: bool,
    ) -> Result<Arc<Video>> {
        self.make_room().await?;
        let (folder, model, rules) = (self.folder.clone(), model.name.clone(), self.rules.clone());
        let create =
            move || Video::create(&folder, &model, options, source, upload, transient, &rules);
        let video = Arc::new(blocking(create).await??);
        // Others may have come meanwhile.
        let added = {
            let mut all = self.all();
            let has_room = all.len() < self.most;
            if has_room {
                all.insert(video.id.clone(), Arc::clone(&video));
            }
            has_room
        };
        if !added {
            video.delete().await?;
            return Err(self.full());
        }
        self.used(&video.id);
        Ok(video)
    }

    /// Removes the oldest session that makes room, if there is no place for another one.
    async fn make_room(&self) -> Result<()> {
        let (count, oldest) = {
            let all = self.all();
            let transient = all
                .values()
                .filter_map(|v| Some((v.transient_since()?, &v.id)));
            (all.len(), transient.min().map(|(_, id)| id.clone()))
        };
        if count < self.most {
            return Ok(());
        }
        match oldest {
            Some(id) => self.remove(&id).await,
            None => Err(self.full()),
        }
    }

    fn full(&self) -> Problem {
        let most = self.most;
        Problem::conflict(format!(
            "there are {most} video sessions, the limit; delete one"
        ))
    }

    /// Refuses more bytes than may lie on the disk.
    pub(crate) fn check_disk(&self, more: u64) -> Result<()> {
        let bytes: u64 = self.all().values().map(|video| video.bytes()).sum();
        if bytes + more <= self.most_bytes {
            return Ok(());
        }
        let most = self.most_bytes;
        let detail = format!(
            "the videos of all sessions would have more than {most} bytes; delete a session"
        );
        Err(Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail))
    }

    /// Where an upload is written until it is whole.
    pub(crate) fn upload(&self) -> io::Result<tempfile::NamedTempFile> {
        unfinished().tempfile_in(&self.folder)
    }

    /// A folder for frames until they are pushed.
    pub(crate) fn upload_folder(&self) -> io::Result<tempfile::TempDir> {
        unfinished().tempdir_in(&self.folder)
    }

    /// Stops what a session does, and forgets it with all that is kept of it.
    pub(crate) async fn remove(&self, id: &str) -> Result<()> {
        let video = self.get(id)?;
        self.all().remove(id);
        video.delete().await
    }

    /// Lets all sessions come to rest.
    pub(crate) async fn stop_all(&self) {
        let all = self.list();
        all.iter().for_each(|video| video.stop());
        for video in all {
            if let Err(problem) = video.rest().await {
                tracing::error!(
                    video = video.id,
                    "a session is not saved: {}",
                    problem.detail()
                );
            }
        }
    }
}

/// What has such a name is removed at the next start.
fn unfinished() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".samara-").suffix(".tmp");
    builder
}
