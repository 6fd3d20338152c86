//! The models that are loaded.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use samara::checkpoint::cache::ModelCache;
use samara::checkpoint::{Checkpoint, registry};
use samara::{RgbImage, Segmenter, SegmenterOptions};
use serde::Serialize;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::blocking::blocking;
use crate::config::Config;
use crate::error::{Problem, Result};
use crate::metrics::{Metrics, ModelMetrics};
use crate::model::Model;
use crate::owner::{Owner, Pause, Urgency};

/// A model, ready to answer.
pub(crate) struct LoadedModel {
    /// By which requests name it.
    pub(crate) name: String,
    pub(crate) owner: Arc<Owner>,
    /// Of its weights.
    pub(crate) fingerprint: Arc<str>,
    pub(crate) metrics: ModelMetrics,
    /// Held by the job whose turn it is.
    pub(crate) jobs: Semaphore,
    /// Set when it takes no more work.
    closed: CancellationToken,
}

impl LoadedModel {
    pub(crate) fn segmenter(&self) -> &Segmenter {
        self.owner.segmenter()
    }

    /// Whether it takes no more work.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    fn close(&self) {
        self.closed.cancel();
        self.owner.close();
    }
}

/// A model, as the server lists it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ModelInfo {
    /// By which requests name it.
    #[schema(example = "lite")]
    name: String,
    /// Whether it answers now; others can be loaded.
    loaded: bool,
    /// Whether it answers requests that name none.
    default: bool,
    /// Its architecture, such as `mobile-sam`; null if it is not loaded.
    architecture: Option<String>,
    /// SHA-256 of its weights; null if it is not loaded.
    fingerprint: Option<String>,
    /// Side of its square input, in model pixels; null if it is not loaded.
    input_side: Option<u32>,
    /// Numbers that it multiplies: `fp32`, `bf16` or `int8`; null if it is not loaded.
    precision: Option<String>,
    /// Whether it remembers the frames of videos (SAM 2); null if it is not loaded.
    video_memory: Option<bool>,
    /// Requests that wait for it; null if it is not loaded.
    queue: Option<QueueInfo>,
}

/// Requests that wait for a model.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct QueueInfo {
    /// Clicks.
    click: usize,
    /// Embeddings that somebody waits for.
    embedding: usize,
    /// Embeddings that are made ahead.
    ahead: usize,
    /// Segment everything, and tracking.
    job: usize,
}

/// All models.
pub(crate) struct Models {
    loaded: RwLock<BTreeMap<String, Arc<LoadedModel>>>,
    /// The name of the one that answers requests that name none.
    default: RwLock<String>,
    /// Checkpoints by the names of their models: that of the configuration, and those that were trained here.
    files: RwLock<BTreeMap<String, PathBuf>>,
    options: SegmenterOptions,
    queue: usize,
    most: usize,
    metrics: Arc<Metrics>,
    /// Loads one at a time.
    loading: Mutex<()>,
}

impl Models {
    /// No model yet.
    pub(crate) fn new(config: &Config, metrics: Arc<Metrics>) -> Self {
        let of_file = config.checkpoint.as_ref().and_then(|path| path.file_stem());
        let of_file = of_file.map(|stem| stem.to_string_lossy().into_owned());
        let own_pool = SegmenterOptions::new().with_threads(config.threads.unwrap_or(0));
        let default = config.model.clone().or(of_file);
        let default = default.unwrap_or_else(|| EMBEDDED.to_owned());
        let file = config.checkpoint.clone();
        Self {
            loaded: RwLock::default(),
            files: RwLock::new(
                file.map(|file| (default.clone(), file))
                    .into_iter()
                    .collect(),
            ),
            default: RwLock::new(default),
            // One pool for all models, which take turns on the processor.
            options: shared_pool(config.threads)
                .unwrap_or(own_pool)
                .with_pinned_threads(true)
                .with_precision(config.precision),
            queue: config.limits.queue,
            most: config.limits.models,
            metrics,
            loading: Mutex::default(),
        }
    }

    /// The model that a request names, or the default one.
    pub(crate) fn get(&self, name: Option<&str>) -> Result<Arc<LoadedModel>> {
        let default = self.default_name();
        let name = name.unwrap_or(&default);
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        loaded.get(name).cloned().ok_or_else(|| {
            let detail = if self.can_load(name) {
                format!("model {name:?} is not loaded; POST /v1/models loads it")
            } else {
                format!("there is no model {name:?}; GET /v1/models lists them")
            };
            Problem::not_found(detail).about("model")
        })
    }

    /// The name of the default one.
    pub(crate) fn default_name(&self) -> String {
        let default = self.default.read();
        default.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets a loaded model answer from now on where a request names none.
    pub(crate) fn set_default(&self, model: &LoadedModel) {
        let mut default = self.default.write().unwrap_or_else(PoisonError::into_inner);
        default.clone_from(&model.name);
    }

    /// A further model that can be loaded.
    pub(crate) fn add_file(&self, name: &str, path: PathBuf) {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        files.insert(name.to_owned(), path);
    }

    /// The checkpoint of the default model; the embedded one has none.
    pub(crate) fn file_of_default(&self) -> Option<PathBuf> {
        let name = self.default_name();
        let downloaded = || downloaded(&name).filter(|_| name != EMBEDDED);
        let file = self.file(&name).or_else(downloaded)?;
        Some(std::path::absolute(&file).unwrap_or(file))
    }

    /// Whether a model is called so, even if it is not here.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.get(Some(name)).is_ok() || self.can_load(name) || registry::find(name).is_ok()
    }

    fn can_load(&self, name: &str) -> bool {
        self.file(name).is_some() || name == EMBEDDED || downloaded(name).is_some()
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.get(name).cloned()
    }

    fn file_names(&self) -> Vec<String> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.keys().cloned().collect()
    }

    /// Loads a model: the embedded one, one that was downloaded or trained here, or that of the configuration. One that is loaded
    /// stays as it is.
    pub(crate) async fn load(&self, name: &str) -> Result<Arc<LoadedModel>> {
        let _one = self.loading.lock().await;
        if let Ok(model) = self.get(Some(name)) {
            return Ok(model);
        }
        if !self.can_load(name) {
            let known = registry::releases()
                .iter()
                .any(|release| release.name == name);
            let detail = if known {
                format!(
                    "model {name:?} is not on this machine; 'samara models download {name}' fetches it"
                )
            } else {
                format!("there is no model {name:?}; GET /v1/models lists them")
            };
            return Err(Problem::not_found(detail).about("name"));
        }
        let count = self.all().len();
        if count >= self.most {
            let detail = format!("{count} models are loaded, the limit; unload one first");
            return Err(Problem::conflict(detail));
        }
        let file = self.file(name);
        let (owned, options) = (name.to_owned(), self.options.clone());
        let segmenter = blocking(move || open(&owned, file, options)).await??;
        self.add(name, Box::new(segmenter))
    }

    /// Takes a model under a name.
    pub(crate) fn add(&self, name: &str, model: Box<dyn Model>) -> Result<Arc<LoadedModel>> {
        let fingerprint = model.segmenter().fingerprint()?.into();
        let metrics = self.metrics.of_model(name);
        let owner = Owner::start(model, self.queue, metrics.clone());
        let owner =
            owner.map_err(|e| Problem::internal(format!("no thread for the model: {e}")))?;
        let model = Arc::new(LoadedModel {
            name: name.to_owned(),
            owner: Arc::new(owner),
            fingerprint,
            metrics,
            jobs: Semaphore::new(1),
            closed: CancellationToken::new(),
        });
        // Weights are brought into their final form by the first image: better before somebody waits for it.
        let blank = RgbImage::new(64, 64);
        let warm_up = move |model: &dyn Model, pause: &mut Pause<'_>| {
            let _ = model.embed(&blank, &mut || pause.take());
        };
        model
            .owner
            .submit(Urgency::Ahead, model.closed.clone(), warm_up)?;
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        loaded.insert(name.to_owned(), Arc::clone(&model));
        tracing::info!(model = name, "loaded");
        Ok(model)
    }

    /// Takes a model out; what waits for it is still answered.
    pub(crate) fn unload(&self, name: &str) -> Result<Arc<LoadedModel>> {
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        let missing = || Problem::not_found(format!("model {name:?} is not loaded")).about("name");
        let model = loaded.remove(name).ok_or_else(missing)?;
        drop(loaded);
        model.close();
        tracing::info!(model = name, "unloaded");
        Ok(model)
    }

    /// Those that are loaded.
    pub(crate) fn all(&self) -> Vec<Arc<LoadedModel>> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        loaded.values().cloned().collect()
    }

    /// Takes no more work, and waits until what was taken is done.
    pub(crate) fn close_all(&self) {
        let all = self.all();
        all.iter().for_each(|model| model.close());
        all.iter().for_each(|model| model.owner.join());
    }

    /// Those that are loaded, and those that can be.
    pub(crate) fn list(&self) -> Vec<ModelInfo> {
        let mut models: Vec<ModelInfo> = self.all().iter().map(|model| self.info(model)).collect();
        let released = registry::releases().iter();
        let released = released.map(|release| release.name.to_owned());
        let default = self.default_name();
        for name in self
            .file_names()
            .into_iter()
            .chain([EMBEDDED.to_owned()])
            .chain(released)
        {
            if !models.iter().any(|model| model.name == name) && self.can_load(&name) {
                models.push(ModelInfo {
                    default: name == default,
                    name,
                    loaded: false,
                    architecture: None,
                    fingerprint: None,
                    input_side: None,
                    precision: None,
                    video_memory: None,
                    queue: None,
                });
            }
        }
        models
    }

    /// What is known of a loaded one.
    pub(crate) fn info(&self, model: &LoadedModel) -> ModelInfo {
        let segmenter = model.segmenter();
        let waiting = |urgency| model.owner.waiting(urgency);
        ModelInfo {
            name: model.name.clone(),
            loaded: true,
            default: model.name == self.default_name(),
            architecture: Some(segmenter.architecture()),
            fingerprint: Some(model.fingerprint.to_string()),
            input_side: Some(segmenter.input_side()),
            precision: Some(segmenter.precision().to_string()),
            video_memory: Some(segmenter.has_memory()),
            queue: Some(QueueInfo {
                click: waiting(Urgency::Click),
                embedding: waiting(Urgency::Embedding),
                ahead: waiting(Urgency::Ahead),
                job: waiting(Urgency::Job),
            }),
        }
    }
}

/// The name of the model that is compiled in.
pub(crate) const EMBEDDED: &str = "lite";

/// One pool for all models.
fn shared_pool(threads: Option<usize>) -> Option<SegmenterOptions> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0));
    let pool = pool
        .thread_name(|index| format!("samara-{index}"))
        .build()
        .ok()?;
    Some(SegmenterOptions::new().with_thread_pool(Arc::new(pool)))
}

fn downloaded(name: &str) -> Option<PathBuf> {
    let release = registry::find(name).ok()?;
    ModelCache::locate().ok()?.find(release)
}

fn open(name: &str, file: Option<PathBuf>, options: SegmenterOptions) -> Result<Segmenter> {
    let checkpoint = match file {
        Some(file) => Checkpoint::open(file),
        None if name == EMBEDDED => {
            #[cfg(feature = "embedded")]
            return Ok(Segmenter::embedded(options)?);
            #[cfg(not(feature = "embedded"))]
            return Err(Problem::not_found("this build has no embedded model").about("name"));
        }
        None => match downloaded(name) {
            Some(path) => Checkpoint::open(path),
            None => {
                return Err(Problem::not_found(format!("model {name:?} has gone")).about("name"));
            }
        },
    };
    let checkpoint = checkpoint.map_err(samara::Error::from)?;
    Ok(Segmenter::from_checkpoint(&checkpoint, options)?)
}
