//! Fine-tunes are started, followed and stopped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use samara_project::{Picture, Project};

use crate::error::{Problem, Result};
use crate::models::Models;
use crate::project::OpenProject;
use crate::training::info::{TrainingInfo, TrainingState};
use crate::training::told::Told;
use crate::training::work::{Plan, VALIDATION};

/// Masks that are needed: fewer teach nothing.
const LEAST_MASKS: u64 = 8;
/// Pictures with masks of which some are for validation.
const VALIDATED: usize = 5;
/// Steps, if nothing is said.
const STEPS: u64 = 200;

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) name: Option<String>,
    pub(crate) steps: Option<u64>,
    pub(crate) checked_only: bool,
}

/// One that was started.
struct Job {
    told: Arc<Told>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Job {
    fn is_at_work(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.told.update(|info| info.stopping = true);
    }
}

/// The fine-tune that is at work, or was last.
pub(crate) struct Training {
    job: Mutex<Option<Job>>,
    threads: usize,
}

impl Training {
    /// None yet. A model has so many threads, of which a fine-tune takes half.
    pub(crate) fn new(threads: Option<usize>) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            job: Mutex::default(),
            threads: (threads.unwrap_or_else(cores) / 2).max(1),
        }
    }

    fn job(&self) -> MutexGuard<'_, Option<Job>> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known.
    pub(crate) fn info(&self) -> TrainingInfo {
        let job = self.job();
        job.as_ref().map(|job| job.told.info()).unwrap_or_default()
    }

    /// Starts one, or goes on with the one of this name.
    ///
    /// # Errors
    /// One is at work; the name is taken; there are too few masks; the model cannot be trained.
    pub(crate) async fn start(
        &self,
        request: Request,
        open: &Arc<OpenProject>,
        models: &Arc<Models>,
    ) -> Result<TrainingInfo> {
        self.refuse_second()?;
        let plan = self.plan(request, open, models).await?;
        let mut job = self.job();
        if job.as_ref().is_some_and(Job::is_at_work) {
            return Err(at_work());
        }
        let told = Arc::new(Told::new(
            Arc::clone(open),
            TrainingInfo {
                state: TrainingState::Preparing,
                name: Some(plan.name.clone()),
                folder: Some(plan.folder.display().to_string()),
                steps: plan.steps,
                ..TrainingInfo::default()
            },
        ));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("training".into());
        let thread = thread.spawn({
            let (told, stop) = (Arc::clone(&told), Arc::clone(&stop));
            let (open, models) = (Arc::clone(open), Arc::clone(models));
            move || work(&plan, &open, &models, &told, &stop)
        });
        let thread = thread.map_err(|e| Problem::internal(format!("no thread to train: {e}")))?;
        let info = told.info();
        *job = Some(Job {
            told,
            stop,
            thread: Some(thread),
        });
        Ok(info)
    }

    /// Stops the one that is at work, at the next chance.
    ///
    /// # Errors
    /// None is at work.
    pub(crate) fn stop(&self) -> Result<TrainingInfo> {
        match &*self.job() {
            Some(job) if job.is_at_work() => {
                job.stop();
                Ok(job.told.info())
            }
            _ => Err(Problem::conflict("no fine-tune is at work")),
        }
    }

    /// Stops, and waits until it has.
    pub(crate) fn end(&self) {
        let thread = self.job().as_mut().and_then(|job| {
            job.stop();
            job.thread.take()
        });
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn refuse_second(&self) -> Result<()> {
        let is_at_work = self.job().as_ref().is_some_and(Job::is_at_work);
        if is_at_work { Err(at_work()) } else { Ok(()) }
    }

    /// What a request asks for, when nothing speaks against it.
    async fn plan(
        &self,
        request: Request,
        open: &Arc<OpenProject>,
        models: &Models,
    ) -> Result<Plan> {
        let Request {
            name,
            steps,
            checked_only,
        } = request;
        let of_folder = open.folder().file_name().unwrap_or_default();
        let name = name.unwrap_or_else(|| format!("{}-tuned", of_folder.to_string_lossy()));
        if models.get(None)?.segmenter().has_memory() {
            let detail =
                "a model of SAM 2 cannot be trained here; another one has to be the default";
            return Err(Problem::conflict(detail));
        }
        let mut plan = Plan {
            folder: open.folder().with_file_name(&name),
            name,
            goes_on: false,
            checkpoint: models.file_of_default(),
            steps: steps.unwrap_or(STEPS),
            checked_only,
            validation: 0,
            threads: self.threads,
        };
        let open = Arc::clone(open);
        let known = models.knows(&plan.name);
        open.ask(move |project| {
            if plan.folder.symlink_metadata().is_ok() {
                plan.go_on(steps)?;
            } else if known {
                let detail = format!("a model is called {:?} already", plan.name);
                return Err(Problem::conflict(detail).about("name"));
            } else {
                plan.validation = pictures_for_validation(project, checked_only)?;
            }
            Ok(plan)
        })
        .await
    }
}

impl Plan {
    /// Goes on with the run that is in the folder.
    fn go_on(&mut self, steps: Option<u64>) -> Result<()> {
        let at = self.folder.display();
        let taken = |why: &str| Problem::conflict(format!("{at} {why}")).about("name");
        let recipe = self.recipe();
        let recipe = recipe.map_err(|_| taken("is there already, and is no fine-tune"))?;
        if self.is_finished() {
            return Err(taken("is finished; choose another name"));
        }
        let there = recipe.steps();
        if let Some(asked) = steps.filter(|&asked| asked != there) {
            let detail = format!("{asked}: the fine-tune that is there has {there}");
            return Err(Problem::conflict(detail).about("steps"));
        }
        self.goes_on = true;
        self.steps = there;
        Ok(())
    }
}

fn at_work() -> Problem {
    Problem::conflict("a fine-tune is at work; one at a time")
}

/// How many pictures are for validation, if there are enough masks.
fn pictures_for_validation(project: &Project, checked_only: bool) -> Result<usize> {
    let is_taken = |picture: &Picture| {
        let is_usable = !picture.is_gone && !picture.is_changed;
        is_usable && picture.objects > 0 && (picture.checked || !checked_only)
    };
    let mut pictures = project.pictures()?;
    pictures.retain(is_taken);
    let masks: u64 = pictures.iter().map(|picture| picture.objects).sum();
    if masks < LEAST_MASKS {
        let which = if checked_only { "checked " } else { "" };
        let detail =
            format!("there are {masks} masks on {which}pictures; a fine-tune needs {LEAST_MASKS}");
        return Err(Problem::conflict(detail));
    }
    let count = pictures.len();
    let share = (count as f64 * VALIDATION).round() as usize;
    Ok(if count < VALIDATED { 0 } else { share.max(1) })
}

/// Does the work, and tells how it has ended.
fn work(plan: &Plan, open: &OpenProject, models: &Models, told: &Told, stop: &AtomicBool) {
    let done = catch_unwind(AssertUnwindSafe(|| plan.run(open.project(), told, stop)));
    let failed = |error: String| {
        tracing::error!("the fine-tune {:?} has failed: {error}", plan.name);
        (TrainingState::Failed, None, Some(error))
    };
    let (state, checkpoint, error) = match done {
        Ok(Ok(Some(model))) => {
            let path = model.display().to_string();
            models.add_file(&plan.name, model);
            (TrainingState::Done, Some(path), None)
        }
        Ok(Ok(None)) => (TrainingState::Stopped, None, None),
        Ok(Err(error)) => failed(samara_image::one_line(&error.to_string())),
        Err(_) => failed("it ended without an answer; the log of the server may say why".into()),
    };
    told.update(|info| {
        info.state = state;
        info.stopping = false;
        info.seconds_left = None;
        info.checkpoint = checkpoint;
        info.error = error;
    });
}
