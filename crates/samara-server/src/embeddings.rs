//! Embeddings: computed once for an image and a model, kept in memory and on disk, and asked for ahead.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use prometheus_client::metrics::histogram::Histogram;
use samara::{Embedding, Precision, RgbImage};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::config::Config;
use crate::disk_cache::DiskCache;
use crate::error::{Problem, Result};
use crate::images::{Image, ImageId, Images, is_hex, is_image_id};
use crate::metrics::Metrics;
use crate::model::Model;
use crate::models::LoadedModel;
use crate::owner::{Pause, Urgency};
use crate::running::{Progress, Running, Waits};

/// How long it is known that an embedding failed.
const FAILURES_KEPT: Duration = Duration::from_mins(10);
const FAILURES: u64 = 1000;
/// Clients of which it is known what they look at.
const CLIENTS: u64 = 1000;

/// An image as a model sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    image: ImageId,
    fingerprint: Arc<str>,
    precision: Precision,
}

impl Key {
    fn new(image: &ImageId, model: &LoadedModel) -> Self {
        Self {
            image: image.clone(),
            fingerprint: Arc::clone(&model.fingerprint),
            precision: model.segmenter().precision(),
        }
    }

    fn file(&self) -> String {
        let Self {
            image,
            fingerprint,
            precision,
        } = self;
        format!("{}-{precision}-{image}.safetensors", &fingerprint[..16])
    }
}

/// Whether a name is that of a key's file.
fn is_file(name: &str) -> bool {
    let parts = name
        .strip_suffix(".safetensors")
        .and_then(|stem| stem.split_once('-'));
    parts.is_some_and(|(fingerprint, rest)| {
        // Files from before there were others name no precision; they are told from those of other programs, too.
        let (precision, image) = rest.split_once('-').unwrap_or(("fp32", rest));
        is_hex(fingerprint, 16) && precision.parse::<Precision>().is_ok() && is_image_id(image)
    })
}

/// How far an embedding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EmbeddingState {
    /// Nobody asked for it, or it is no longer kept.
    Missing,
    /// It waits for its turn.
    Queued,
    /// It is being computed.
    Running,
    /// It is there; prompts are answered at once.
    Ready,
    /// It cannot be computed.
    Failed,
}

/// All embeddings.
pub(crate) struct Embeddings {
    memory: Cache<Key, Arc<Embedding>>,
    disk: Option<DiskCache>,
    running: Mutex<HashMap<Key, Arc<Running>>>,
    failed: Cache<Key, Problem>,
    /// Work on what each client looks at.
    looked_at: Cache<String, Weak<Running>>,
    metrics: Arc<Metrics>,
    images: Arc<Images>,
    runtime: Handle,
}

impl Embeddings {
    /// Called on a thread of the runtime.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub(crate) fn open(
        config: &Config,
        state: &Path,
        images: Arc<Images>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let most = config.limits.embeddings_disk;
        let folder = state.join(config.embeddings_folder());
        let disk = (most > 0)
            .then(|| DiskCache::open(folder, most, is_file))
            .transpose()?;
        let weight =
            |_: &Key, embedding: &Arc<Embedding>| embedding.memory().try_into().unwrap_or(u32::MAX);
        let memory = Cache::builder()
            .max_capacity(config.limits.embeddings_memory)
            .weigher(weight)
            .eviction_policy(EvictionPolicy::lru());
        Ok(Self {
            memory: memory.build(),
            disk,
            running: Mutex::default(),
            failed: Cache::builder()
                .max_capacity(FAILURES)
                .time_to_live(FAILURES_KEPT)
                .build(),
            looked_at: Cache::new(CLIENTS),
            metrics,
            images,
            runtime: Handle::current(),
        })
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Key, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The embedding of an image, computed if it is not there. Others who want the same wait for the same work.
    pub(crate) async fn get(
        self: &Arc<Self>,
        model: &Arc<LoadedModel>,
        image: Image,
    ) -> Result<Arc<Embedding>> {
        let key = Key::new(&image.info.id, model);
        // While it waits, the pixels are kept or not as there is room.
        let pixels = Arc::downgrade(&image.pixels);
        drop(image);
        loop {
            if let Some(embedding) = self.memory.get(&key) {
                self.metrics.embeddings.in_memory.inc();
                return Ok(embedding);
            }
            let running = self.start(&key, model, &pixels, Urgency::Embedding)?;
            let waits = Waits::new(&running);
            let mut progress = running.progress.subscribe();
            let ended = progress
                .wait_for(Progress::is_end)
                .await
                .map(|now| now.clone());
            // Before the last who waits has gone, which cancels it, too.
            let was_cancelled = running.cancelled.is_cancelled();
            drop(waits);
            match ended {
                Ok(Progress::Ready(embedding)) => return Ok(embedding),
                // Who waited before has gone and taken the work along; it begins anew.
                Ok(Progress::Failed(_)) if was_cancelled && !model.is_closed() => {}
                Ok(Progress::Failed(problem)) => return Err(problem),
                _ => return Err(Problem::internal("the embedding was lost")),
            }
        }
    }

    /// Asks for an embedding ahead.
    pub(crate) fn ask_ahead(
        self: &Arc<Self>,
        model: &Arc<LoadedModel>,
        image: &ImageId,
    ) -> Result<()> {
        let key = Key::new(image, model);
        if self.memory.contains_key(&key) {
            return Ok(());
        }
        // Its pixels are decoded when its turn comes.
        let running = self.start(&key, model, &Weak::new(), Urgency::Ahead)?;
        running.ahead.store(true, Ordering::Release);
        Ok(())
    }

    /// Asks for the embedding of an image at which a client looks now: before all that are asked for ahead. Work on
    /// what it looked at before is stopped, unless somebody waits for it.
    pub(crate) fn ask_now(
        self: &Arc<Self>,
        client: &str,
        model: &Arc<LoadedModel>,
        image: &Image,
    ) -> Result<()> {
        let key = Key::new(&image.info.id, model);
        let before = self.looked_at.remove(client);
        let before = before.and_then(|running| running.upgrade());
        let mut now = None;
        if !self.memory.contains_key(&key) {
            let pixels = Arc::downgrade(&image.pixels);
            let running = self.start(&key, model, &pixels, Urgency::Embedding)?;
            running.ahead.store(true, Ordering::Release);
            let known = Arc::downgrade(&running);
            self.looked_at.insert(client.to_owned(), known);
            now = Some(running);
        }
        if let Some(before) = before
            && !now.is_some_and(|now| Arc::ptr_eq(&now, &before))
        {
            before.forget_ahead();
        }
        Ok(())
    }

    /// The work on its way, or a new one.
    fn start(
        self: &Arc<Self>,
        key: &Key,
        model: &Arc<LoadedModel>,
        pixels: &Weak<RgbImage>,
        urgency: Urgency,
    ) -> Result<Arc<Running>> {
        let mut all = self.running();
        let known = all
            .get(key)
            .filter(|running| !running.cancelled.is_cancelled());
        if let Some(running) = known.cloned() {
            drop(all);
            let waits = matches!(*running.progress.borrow(), Progress::Queued);
            if urgency == Urgency::Embedding && waits {
                // It was asked for ahead; now somebody waits for it.
                self.submit(key, model, &running, urgency)?;
            }
            return Ok(running);
        }
        let running = Arc::new(Running::new(pixels, urgency == Urgency::Ahead));
        all.insert(key.clone(), Arc::clone(&running));
        drop(all);
        self.failed.invalidate(key);
        let submitted = self.submit(key, model, &running, urgency);
        if let Err(problem) = &submitted {
            self.end(key, &running, Progress::Failed(problem.clone()));
        }
        submitted.map(|()| running)
    }

    fn submit(
        self: &Arc<Self>,
        key: &Key,
        model: &Arc<LoadedModel>,
        running: &Arc<Running>,
        urgency: Urgency,
    ) -> Result<()> {
        let work = Ending {
            embeddings: Arc::clone(self),
            key: key.clone(),
            running: Arc::clone(running),
            seconds: model.metrics.embed.clone(),
        };
        let owner = Arc::clone(&model.owner);
        // Cancelled work is taken too, to say so to those who have come meanwhile.
        owner.submit(urgency, CancellationToken::new(), move |model, pause| {
            work.run(model, pause);
        })
    }

    fn end(&self, key: &Key, running: &Arc<Running>, how: Progress) {
        let mut all = self.running();
        if all
            .get(key)
            .is_some_and(|known| Arc::ptr_eq(known, running))
        {
            all.remove(key);
        }
        drop(all);
        running.progress.send_replace(how);
    }

    /// How far an embedding is, and why it failed.
    pub(crate) fn state(
        &self,
        image: &ImageId,
        model: &LoadedModel,
    ) -> (EmbeddingState, Option<Problem>) {
        let key = Key::new(image, model);
        if self.memory.contains_key(&key) {
            return (EmbeddingState::Ready, None);
        }
        if let Some(running) = self.running().get(&key) {
            return match &*running.progress.borrow() {
                Progress::Queued => (EmbeddingState::Queued, None),
                Progress::Running => (EmbeddingState::Running, None),
                Progress::Ready(_) => (EmbeddingState::Ready, None),
                Progress::Failed(problem) => (EmbeddingState::Failed, Some(problem.clone())),
            };
        }
        if let Some(problem) = self.failed.get(&key) {
            return (EmbeddingState::Failed, Some(problem));
        }
        let on_disk = self
            .disk
            .as_ref()
            .is_some_and(|disk| disk.contains(&key.file()));
        let state = if on_disk {
            EmbeddingState::Ready
        } else {
            EmbeddingState::Missing
        };
        (state, None)
    }

    /// Waits until the work on an embedding has ended, if there is any.
    pub(crate) async fn wait(&self, image: &ImageId, model: &LoadedModel) {
        let key = Key::new(image, model);
        let running = self.running().get(&key).cloned();
        if let Some(running) = running {
            let mut progress = running.progress.subscribe();
            let _ = progress.wait_for(Progress::is_end).await;
        }
    }

    /// Forgets an embedding, and stops the work on it; says whether there was anything.
    pub(crate) fn remove(&self, image: &ImageId, model: &LoadedModel) -> bool {
        let key = Key::new(image, model);
        let running = self.running().get(&key).cloned();
        if let Some(running) = &running {
            running.cancelled.cancel();
        }
        let in_memory = self.memory.remove(&key).is_some();
        let on_disk = self
            .disk
            .as_ref()
            .is_some_and(|disk| disk.remove(&key.file()));
        in_memory || on_disk || running.is_some()
    }

    /// Frees the memory of a model's embeddings; those on disk stay.
    pub(crate) fn forget_model(&self, model: &LoadedModel) {
        let keys: Vec<Arc<Key>> = self.memory.iter().map(|(key, _)| key).collect();
        for key in keys
            .iter()
            .filter(|key| key.fingerprint == model.fingerprint)
        {
            self.memory.invalidate(&**key);
        }
    }

    /// Bytes on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk.as_ref().map_or(0, DiskCache::bytes)
    }

    /// An embedding of an earlier time.
    fn load(&self, key: &Key, model: &dyn Model) -> Option<Embedding> {
        let disk = self.disk.as_ref()?;
        let path = disk.get(&key.file())?;
        let loaded = Embedding::load(&path, model.segmenter());
        if let Err(error) = &loaded {
            tracing::warn!("an embedding on disk is made anew: {error}");
            disk.remove(&key.file());
        }
        loaded.ok()
    }

    /// Keeps an embedding on disk, while others are answered.
    fn keep(self: &Arc<Self>, key: Key, embedding: Arc<Embedding>) {
        if self.disk.is_none() {
            return;
        }
        let all = Arc::clone(self);
        self.runtime.spawn_blocking(move || {
            let Some(disk) = &all.disk else { return };
            let kept = embedding
                .to_bytes()
                .map_err(|e| e.to_string())
                .and_then(|bytes| disk.put(&key.file(), &bytes).map_err(|e| e.to_string()));
            if let Err(why) = kept {
                tracing::warn!("an embedding is not kept on disk: {why}");
            }
        });
    }
}

/// Work on an embedding that ends in any case, also when it panics.
struct Ending {
    embeddings: Arc<Embeddings>,
    key: Key,
    running: Arc<Running>,
    seconds: Histogram,
}

impl Ending {
    fn run(self, model: &dyn Model, pause: &mut Pause<'_>) {
        let taken = self
            .running
            .work
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(pixels) = taken else {
            return;
        };
        self.running.progress.send_replace(Progress::Running);
        let how = match self.compute(model, &pixels, pause) {
            Ok(embedding) => Progress::Ready(embedding),
            Err(problem) => Progress::Failed(problem),
        };
        self.embeddings.end(&self.key, &self.running, how);
    }

    fn compute(
        &self,
        model: &dyn Model,
        pixels: &Weak<RgbImage>,
        pause: &mut Pause<'_>,
    ) -> Result<Arc<Embedding>> {
        let (embeddings, key, running) = (&self.embeddings, &self.key, &self.running);
        if running.cancelled.is_cancelled() {
            return Err(samara::Error::Cancelled.into());
        }
        if let Some(embedding) = embeddings.load(key, model) {
            embeddings.metrics.embeddings.on_disk.inc();
            let embedding = Arc::new(embedding);
            embeddings
                .memory
                .insert(key.clone(), Arc::clone(&embedding));
            return Ok(embedding);
        }
        let start = Instant::now();
        let mut between = || {
            pause.take()?;
            if running.cancelled.is_cancelled() {
                std::ops::ControlFlow::Break(())
            } else {
                std::ops::ControlFlow::Continue(())
            }
        };
        let pixels = match pixels.upgrade() {
            Some(pixels) => pixels,
            None => embeddings.images.read_again(&key.image)?.pixels,
        };
        let embedding = model.embed(&pixels, &mut between);
        let embedding = Arc::new(embedding.map_err(|error| {
            let cancelled = matches!(error, samara::Error::Cancelled);
            let problem = Problem::from(error);
            if !cancelled {
                embeddings.failed.insert(key.clone(), problem.clone());
            }
            problem
        })?);
        embeddings.metrics.embeddings.computed.inc();
        embeddings
            .memory
            .insert(key.clone(), Arc::clone(&embedding));
        embeddings.keep(key.clone(), Arc::clone(&embedding));
        let seconds = start.elapsed().as_secs_f64();
        self.seconds.observe(seconds);
        tracing::debug!(image = key.image.as_str(), seconds, "embedded");
        Ok(embedding)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let lost = {
            let progress = self.running.progress.borrow();
            matches!(*progress, Progress::Running)
        };
        if lost {
            let problem = Problem::internal("computing the embedding failed");
            self.embeddings
                .failed
                .insert(self.key.clone(), problem.clone());
            self.embeddings
                .end(&self.key, &self.running, Progress::Failed(problem));
        }
    }
}
