//! Which model the flags mean.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use samara::checkpoint::cache::ModelCache;
use samara::checkpoint::{Checkpoint, registry};

use crate::error::{CliError, Result};
use crate::flags::ModelFlags;

/// The checkpoint that the flags name; without any, the embedded model.
pub(crate) fn checkpoint(flags: &ModelFlags) -> Result<Checkpoint> {
    let checkpoint = open(flags)?;
    Ok(if flags.unchecked_weights {
        checkpoint.with_unchecked_weights()
    } else {
        checkpoint
    })
}

fn open(flags: &ModelFlags) -> Result<Checkpoint> {
    match (&flags.checkpoint, flags.model.as_deref()) {
        (Some(path), _) => Checkpoint::open(path).map_err(CliError::failed),
        #[cfg(feature = "embedded")]
        (None, None | Some(samara::EMBEDDED_MODEL)) => Ok(samara::embedded_checkpoint()?),
        (None, Some(name)) => Checkpoint::open(downloaded(name)?).map_err(CliError::failed),
        #[cfg(not(feature = "embedded"))]
        (None, None) => Err(CliError::usage(
            "no model: name a checkpoint with --checkpoint FILE, or a downloaded model with \
             --model NAME (see 'samara models list')",
        )),
    }
}

/// The checkpoint that a flag names: the embedded model, a downloaded one, or a file.
pub(crate) fn named_checkpoint(flag: &str, name: &str) -> Result<Checkpoint> {
    #[cfg(feature = "embedded")]
    if name == samara::EMBEDDED_MODEL {
        return Ok(samara::embedded_checkpoint()?);
    }
    let path = if Path::new(name).is_file() {
        name.into()
    } else if let Ok(release) = registry::find(name) {
        let cache = ModelCache::locate().map_err(CliError::failed)?;
        cache.find(release).ok_or_else(|| {
            CliError::failed(format!(
                "{flag}: model {0} is not on this machine; run 'samara models download {0}'",
                release.name
            ))
        })?
    } else {
        return Err(CliError::failed(format!(
            "{flag} {name}: neither a file nor a model of 'samara models list'"
        )));
    };
    Checkpoint::open(path).map_err(|e| CliError::failed(format!("{flag}: {e}")))
}

/// The checkpoint of a file, or else of the embedded or a downloaded model of that name.
pub(crate) fn of_name(model: &str) -> Result<Checkpoint> {
    if Path::new(model).exists() {
        return Checkpoint::open(model).map_err(CliError::failed);
    }
    #[cfg(feature = "embedded")]
    if model == samara::EMBEDDED_MODEL {
        return Ok(samara::embedded_checkpoint()?);
    }
    let Ok(release) = registry::find(model) else {
        return Err(CliError::failed(format!(
            "{model}: neither a file nor a model of 'samara models list'"
        )));
    };
    Checkpoint::open(downloaded(release.name)?).map_err(CliError::failed)
}

/// Whether a file with this extension may be a checkpoint.
fn is_checkpoint(extension: &OsStr) -> bool {
    ["pt", "pth", "safetensors", "bin", "ckpt"]
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

/// The file of a released model, which must be in the cache.
pub(crate) fn downloaded(name: &str) -> Result<PathBuf> {
    let unknown = |e| {
        let why = format!("--model: {e}");
        // A path is meant for the other flag.
        let is_path =
            Path::new(name).exists() || Path::new(name).extension().is_some_and(is_checkpoint);
        CliError::usage(if is_path {
            format!("--model {name}: a file goes with --checkpoint")
        } else {
            why
        })
    };
    let release = registry::find(name).map_err(unknown)?;
    let cache = ModelCache::locate().map_err(CliError::failed)?;
    cache.find(release).ok_or_else(|| {
        CliError::failed(format!(
            "model {0} is not on this machine; run 'samara models download {0}'",
            release.name
        ))
    })
}
