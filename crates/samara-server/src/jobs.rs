//! Work that takes longer than a request should: its progress, its result, and how to stop it.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samara::{Granularity, Hierarchy, Mask, MaskGenerator, MaskGeneratorOptions, MaskRecord};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::embeddings::Embeddings;
use crate::error::{Problem, Result};
use crate::images::{ImageId, ImageInfo, Images};
use crate::masks::{MaskAnswer, MaskStyle};
use crate::models::LoadedModel;
use crate::owner::Urgency;

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum JobState {
    /// It waits for its turn.
    Queued,
    /// It is at work.
    Running,
    /// Its result can be fetched.
    Done,
    /// It went wrong.
    Failed,
    /// It was stopped.
    Cancelled,
}

/// A job.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct JobInfo {
    /// Its name.
    id: String,
    state: JobState,
    /// How much is done, from 0 to 1.
    progress: f64,
    /// Why it failed; null otherwise.
    error: Option<Problem>,
}

#[derive(Clone)]
pub(crate) enum Progress {
    Queued,
    Running(f64),
    Done(Arc<EverythingAnswer>),
    Failed(Problem),
    Cancelled,
}

impl Progress {
    pub(crate) fn is_end(&self) -> bool {
        !matches!(self, Self::Queued | Self::Running(_))
    }
}

/// A job that is known.
pub(crate) struct Job {
    id: String,
    pub(crate) progress: watch::Sender<Progress>,
    cancelled: CancellationToken,
}

impl Job {
    pub(crate) fn info(&self) -> JobInfo {
        self.info_of(&self.progress.borrow())
    }

    pub(crate) fn info_of(&self, progress: &Progress) -> JobInfo {
        let (state, progress, error) = match progress {
            Progress::Queued => (JobState::Queued, 0.0, None),
            Progress::Running(share) => (JobState::Running, *share, None),
            Progress::Done(_) => (JobState::Done, 1.0, None),
            Progress::Failed(problem) => (JobState::Failed, 0.0, Some(problem.clone())),
            Progress::Cancelled => (JobState::Cancelled, 0.0, None),
        };
        JobInfo {
            id: self.id.clone(),
            state,
            progress,
            error,
        }
    }

    /// The result.
    pub(crate) fn result(&self) -> Result<Arc<EverythingAnswer>> {
        match &*self.progress.borrow() {
            Progress::Done(answer) => Ok(Arc::clone(answer)),
            Progress::Failed(problem) => Err(problem.clone()),
            Progress::Cancelled => Err(Problem::conflict("the job was cancelled")),
            Progress::Queued | Progress::Running(_) => {
                Err(Problem::conflict("the job is not done yet"))
            }
        }
    }

    /// Bytes of its result, if it has one.
    fn memory(&self) -> Option<u64> {
        match &*self.progress.borrow() {
            Progress::Done(answer) => Some(answer.memory()),
            _ => None,
        }
    }

    /// Stops it when whoever waits for it goes away.
    pub(crate) fn stopped_when_dropped(self: &Arc<Self>) -> Stops {
        Stops(Arc::clone(self))
    }

    /// Stops it.
    pub(crate) fn cancel(&self) {
        self.cancelled.cancel();
        self.progress.send_if_modified(|now| {
            let ends = !now.is_end();
            if ends {
                *now = Progress::Cancelled;
            }
            ends
        });
    }

    /// Goes on, unless it has ended.
    fn set(&self, next: Progress) {
        self.progress.send_if_modified(|now| {
            let goes_on = !now.is_end();
            if goes_on {
                *now = next;
            }
            goes_on
        });
    }
}

/// Stops a job when it is dropped.
pub(crate) struct Stops(Arc<Job>);

impl Drop for Stops {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// All jobs.
pub(crate) struct Jobs {
    /// The oldest first.
    all: Mutex<VecDeque<Arc<Job>>>,
    most: usize,
    /// Of results.
    most_bytes: u64,
}

impl Jobs {
    pub(crate) fn new(most: usize, most_bytes: u64) -> Self {
        Self {
            all: Mutex::default(),
            most,
            most_bytes,
        }
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<Arc<Job>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: &str) -> Result<Arc<Job>> {
        let found = self.all().iter().find(|job| job.id == id).cloned();
        found.ok_or_else(|| Problem::not_found(format!("there is no job {id:?}")).about("id"))
    }

    pub(crate) fn list(&self) -> Vec<JobInfo> {
        self.all().iter().map(|job| job.info()).collect()
    }

    /// Stops a job and forgets it.
    pub(crate) fn remove(&self, id: &str) -> Result<()> {
        let job = self.get(id)?;
        job.cancel();
        self.all().retain(|known| !Arc::ptr_eq(known, &job));
        Ok(())
    }

    /// Stops all.
    pub(crate) fn cancel_all(&self) {
        self.all().iter().for_each(|job| job.cancel());
    }

    /// A new job, in the place of the oldest that have ended if there are too many, or their results too large.
    fn add(&self) -> Result<Arc<Job>> {
        let mut all = self.all();
        let mut bytes: u64 = all.iter().filter_map(|job| job.memory()).sum();
        all.retain(|job| match job.memory() {
            Some(own) if bytes > self.most_bytes => {
                bytes -= own;
                false
            }
            _ => true,
        });
        if all.len() >= self.most {
            let ended = all.iter().position(|job| job.progress.borrow().is_end());
            let Some(ended) = ended else {
                let wait = std::time::Duration::from_secs(30);
                return Err(Problem::overload(
                    format!("{} jobs wait already", all.len()),
                    wait,
                ));
            };
            all.remove(ended);
        }
        let job = Arc::new(Job {
            id: Uuid::new_v4().to_string(),
            progress: watch::Sender::new(Progress::Queued),
            cancelled: CancellationToken::new(),
        });
        all.push_back(Arc::clone(&job));
        Ok(job)
    }

    /// Segments everything in an image.
    pub(crate) fn everything(
        &self,
        model: &Arc<LoadedModel>,
        embeddings: &Arc<Embeddings>,
        images: &Arc<Images>,
        image: &ImageInfo,
        options: MaskGeneratorOptions,
        style: MaskStyle,
    ) -> Result<Arc<Job>> {
        MaskGenerator::new(model.segmenter(), options.clone())
            .map_err(|e| Problem::from(e).about("options"))?;
        let job = self.add()?;
        let everything = Everything {
            job: Arc::clone(&job),
            model: Arc::clone(model),
            image: image.id.clone(),
            options,
            style,
        };
        let (embeddings, images) = (Arc::clone(embeddings), Arc::clone(images));
        tokio::spawn(async move {
            let job = Arc::clone(&everything.job);
            let cancelled = job.cancelled.clone();
            let work = everything.run(&embeddings, &images);
            if let Some(Err(problem)) = cancelled.run_until_cancelled(work).await {
                job.set(Progress::Failed(problem));
            }
        });
        Ok(job)
    }
}

/// Segments everything.
struct Everything {
    job: Arc<Job>,
    model: Arc<LoadedModel>,
    image: ImageId,
    options: MaskGeneratorOptions,
    style: MaskStyle,
}

impl Everything {
    async fn run(self, embeddings: &Arc<Embeddings>, images: &Arc<Images>) -> Result<()> {
        let Self {
            job,
            model,
            image,
            options,
            style,
        } = self;
        // One job of a model has its image in memory; the others wait without.
        let turn = model.jobs.acquire().await;
        let embedding = embeddings.get(&model, images.get(&image).await?).await?;
        let image = images.get(&image).await?;
        let (known, progress) = (Arc::clone(&image.info), Arc::clone(&job));
        let cancelled = job.cancelled.clone();
        let masks = model
            .owner
            .run(Urgency::Job, cancelled, move |model, pause| {
                let mut progress = |share| {
                    progress.set(Progress::Running(share));
                    pause.take()
                };
                if progress(0.0) == ControlFlow::Break(()) {
                    return Err(Problem::unavailable("the work was stopped"));
                }
                Ok(model.generate(&image.pixels, &embedding, &options, &mut progress)?)
            });
        let masks = masks.await?;
        drop(turn);
        let answer =
            crate::blocking::blocking(move || EverythingAnswer::new(&known, &model, &masks, style));
        job.set(Progress::Done(Arc::new(answer.await??)));
        Ok(())
    }
}

/// All masks of an image.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EverythingAnswer {
    image: ImageInfo,
    /// The model that made them.
    model: String,
    /// Numbers that it multiplied: `fp32`, `bf16` or `int8`.
    precision: &'static str,
    /// Best first.
    masks: Vec<EverythingMask>,
}

/// One of all masks.
#[derive(Debug, Serialize, ToSchema)]
struct EverythingMask {
    #[serde(flatten)]
    mask: MaskAnswer,
    /// The estimated IoU of the mask with what it depicts.
    predicted_iou: f32,
    stability_score: f32,
    /// The point that was asked, `[x, y]` in pixels.
    point: [f64; 2],
    /// What the mask is among all: `whole`, `part` or `subpart`.
    #[schema(value_type = String)]
    level: Granularity,
    /// Position of the smallest mask around it; null without one.
    parent: Option<usize>,
}

impl EverythingAnswer {
    fn memory(&self) -> u64 {
        let masks = self.masks.iter().map(|found| found.mask.memory());
        masks.sum()
    }

    /// The masks, with their predicted IoU.
    pub(crate) fn each_mask(&self) -> impl Iterator<Item = (Result<Mask>, f32)> + '_ {
        self.masks
            .iter()
            .map(|found| (found.mask.to_mask(), found.predicted_iou))
    }

    fn new(
        image: &ImageInfo,
        model: &LoadedModel,
        records: &[MaskRecord],
        style: MaskStyle,
    ) -> Result<Self> {
        let tree = Hierarchy::of(records);
        let masks = records.iter().zip(tree.nodes()).map(|(record, node)| {
            Ok(EverythingMask {
                mask: MaskAnswer::new(&record.segmentation.to_mask()?, style)?,
                predicted_iou: record.predicted_iou.0,
                stability_score: record.stability_score.0,
                point: record.point_coords[0],
                level: node.level,
                parent: node.parent,
            })
        });
        Ok(Self {
            image: image.clone(),
            model: model.name.clone(),
            precision: model.segmenter().precision().name(),
            masks: masks.collect::<Result<_>>()?,
        })
    }
}
