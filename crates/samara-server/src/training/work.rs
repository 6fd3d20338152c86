//! The work of a fine-tune: a data set, a recipe, a run, and what it was good for.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use samara::checkpoint::Checkpoint;
use samara::{DeviceKind, Segmenter, SegmenterOptions, tensors};
use samara_data::prompts::Placement;
use samara_data::{DataOptions, DataSet};
use samara_eval::{EvalError, EvalOptions, Evaluation, evaluate_together};
use samara_image::{Stretch, write_atomic};
use samara_kernels::denormals::flushing_pool;
use samara_project::{ExportFormat, ExportOptions, Project, ProjectError};
use samara_train::recipe::Start;
use samara_train::{Recipe, TrainError, train};

use crate::config::SHOWN;
use crate::training::info::{Measured, TrainingState};
use crate::training::recipe::{DATA, FILE, MODEL, RUN, Settings};
use crate::training::told::{Told, Watch};

/// The share of the pictures that are for validation.
pub(super) const VALIDATION: f64 = 0.2;
/// Pictures that are measured, at most.
const MEASURED: usize = 20;
/// Objects of each.
const OBJECTS: usize = 10;

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    /// Of the folder, and of the model.
    pub(super) name: String,
    /// Beside that of the pictures.
    pub(super) folder: PathBuf,
    /// Whether the folder is there, and its run goes on.
    pub(super) goes_on: bool,
    /// Where it starts; the embedded model without it.
    pub(super) checkpoint: Option<PathBuf>,
    pub(super) steps: u64,
    pub(super) checked_only: bool,
    /// Pictures for validation.
    pub(super) validation: usize,
    /// Threads of the arithmetic: the rest is for those who draw.
    pub(super) threads: usize,
}

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Project(#[from] ProjectError),
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error(transparent)]
    Eval(#[from] EvalError),
    #[error(transparent)]
    Samara(#[from] samara::Error),
    #[error("{0}")]
    Other(String),
}

impl Failure {
    fn of_file(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::Other(format!("{}: {error}", path.display()))
    }
}

type Result<T, E = Failure> = std::result::Result<T, E>;

impl Plan {
    /// The file of the finished model.
    pub(super) fn model(&self) -> PathBuf {
        self.folder.join(RUN).join(MODEL)
    }

    /// Whether the folder has a model that is finished.
    pub(super) fn is_finished(&self) -> bool {
        // A model gets its name last.
        let named = |model: Checkpoint| model.metadata().contains_key(Segmenter::NAME_KEY);
        Checkpoint::open(self.model()).is_ok_and(named)
    }

    /// The recipe of the run that is there.
    pub(super) fn recipe(&self) -> Result<Recipe> {
        Ok(Recipe::read(&self.folder.join(FILE)).map_err(TrainError::from)?)
    }

    /// Does it. The file of the finished model, or `None` if it was stopped.
    pub(super) fn run(
        &self,
        project: &Project,
        told: &Told,
        stop: &AtomicBool,
    ) -> Result<Option<PathBuf>> {
        if !self.goes_on {
            match self.prepare(project, told, stop) {
                Err(Failure::Project(ProjectError::Stopped)) => return Ok(None),
                prepared => prepared?,
            }
        }
        let recipe = self.recipe()?;
        let out = self.folder.join(RUN);
        let pool =
            flushing_pool(self.threads).map_err(|error| Failure::Other(error.to_string()))?;
        told.begin(TrainingState::Training);
        let model = pool.install(|| {
            let device = tensors::open_device(DeviceKind::Cpu)?;
            let mut watch = Watch::new(told, &out);
            Ok::<_, Failure>(train(&recipe, &out, &device, &mut watch, stop)?)
        })?;
        let Some(model) = model else {
            return Ok(None);
        };
        if recipe.validation.is_some() {
            self.measure(&recipe, &model, told, stop)?;
        }
        Ok(Some(model))
    }

    /// Writes the folder with the data set and the recipe: as a whole, or not at all.
    fn prepare(&self, project: &Project, told: &Told, stop: &AtomicBool) -> Result<()> {
        let failed = |error: io::Error| Failure::of_file(&self.folder, error);
        let parent = self.folder.parent().unwrap_or(Path::new("/"));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".samara-").suffix(".tmp");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        let temporary = builder.tempdir_in(parent).map_err(failed)?;
        let options = ExportOptions {
            checked_only: self.checked_only,
            validation: if self.validation > 0 { VALIDATION } else { 0.0 },
            ..ExportOptions::default()
        };
        let into = temporary.path().join(DATA);
        let exported = project.export(ExportFormat::Coco, &options, &into, &mut |done, all| {
            told.set_progress(done as f64 / all.max(1) as f64);
            if stop.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        let settings = Settings {
            name: &self.name,
            checkpoint: self.checkpoint.as_deref(),
            steps: self.steps,
            validation: self.validation,
            stretch: SHOWN,
        };
        let recipe = temporary.path().join(FILE);
        write_atomic(&recipe, settings.text().as_bytes()).map_err(samara::Error::from)?;
        if self.folder.symlink_metadata().is_ok() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        fs::rename(temporary.path(), &self.folder).map_err(failed)?;
        let _ = temporary.keep();
        let (masks, pictures) = (exported.objects, exported.pictures);
        told.note(&format!("{masks} masks of {pictures} pictures"));
        exported.warnings.iter().for_each(|line| told.note(line));
        Ok(())
    }

    /// Clicks on the objects of the pictures for validation, with the model as it was and as it is.
    fn measure(&self, recipe: &Recipe, model: &Path, told: &Told, stop: &AtomicBool) -> Result<()> {
        told.begin(TrainingState::Measuring);
        let data = DataSet::open_with(
            self.folder.join(DATA),
            &DataOptions {
                split: Some("val".into()),
                stretch: Stretch::Percentiles(SHOWN[0], SHOWN[1]),
                ..DataOptions::default()
            },
        );
        let data = data.map_err(TrainError::from)?;
        let options = SegmenterOptions::new().with_threads(self.threads);
        let open = |path: &Path| -> Result<Segmenter> {
            let checkpoint = Checkpoint::open(path).map_err(samara::Error::from)?;
            Ok(Segmenter::from_checkpoint(&checkpoint, options.clone())?)
        };
        let before = match &recipe.model {
            Start::Checkpoint(path) | Start::Random(path) => open(path)?,
            Start::Embedded => embedded(options.clone())?,
        };
        let after = open(model)?;
        let options = EvalOptions {
            clicks_at: vec![Placement::Human],
            clicks: 1,
            max_objects: Some(OBJECTS),
            limit: Some(MEASURED),
            ..EvalOptions::default()
        };
        let measured = evaluate_together([&before, &after], &data, &options, &mut |done, all| {
            told.set_progress(done as f64 / all.max(1) as f64);
            if stop.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        match measured {
            Ok([before, after]) => told.update(|info| {
                info.before = Some(figures(&before));
                info.after = Some(figures(&after));
            }),
            // The model is there all the same.
            Err(EvalError::Cancelled) => {}
            Err(error) => told.note(&format!("not measured: {error}")),
        }
        Ok(())
    }
}

#[cfg(feature = "embedded")]
fn embedded(options: SegmenterOptions) -> Result<Segmenter> {
    Ok(Segmenter::embedded(options)?)
}

#[cfg(not(feature = "embedded"))]
fn embedded(_: SegmenterOptions) -> Result<Segmenter> {
    Err(Failure::Other("this build has no embedded model".into()))
}

fn figures(evaluation: &Evaluation) -> Measured {
    let clicks = || evaluation.objects.iter().flat_map(|object| &object.first);
    let share = 1.0 / clicks().count().max(1) as f64;
    Measured {
        chosen: clicks().map(|click| share * click.chosen().iou).sum(),
        best: clicks().map(|click| share * click.best().iou).sum(),
        objects: evaluation.objects.len(),
    }
}
