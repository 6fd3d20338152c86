//! The folder in which downloaded checkpoints are kept.
//!
//! `SAMARA_HOME` names it: the files are in `$SAMARA_HOME/models`. Without it the convention of
//! the platform holds: `$XDG_CACHE_HOME/samara/models` or `~/.cache/samara/models` on Linux,
//! `~/Library/Caches/samara/models` on macOS, `%LOCALAPPDATA%\samara\models` on Windows.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;

use crate::checkpoint::registry::Release;

/// The environment variable that names the folder of Samara.
pub const HOME_VARIABLE: &str = "SAMARA_HOME";

const MODELS: &str = "models";

/// A folder of checkpoints, one file a release, under the released file names.
///
/// Making one touches no file; the folder may not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCache {
    dir: PathBuf,
}

impl ModelCache {
    /// The folder of this user: see the [module](self) for the rules.
    ///
    /// # Errors
    /// [`CacheError`] if `SAMARA_HOME` is not set and the user has no home folder.
    pub fn locate() -> Result<Self, CacheError> {
        Self::from_home(std::env::var_os(HOME_VARIABLE), || {
            etcetera::base_strategy::choose_native_strategy()
                .map(|strategy| strategy.cache_dir())
                .map_err(|error| CacheError {
                    reason: error.to_string(),
                })
        })
    }

    /// The given folder itself.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn from_home(
        home: Option<OsString>,
        platform_cache: impl FnOnce() -> Result<PathBuf, CacheError>,
    ) -> Result<Self, CacheError> {
        let base = match home.filter(|home| !home.is_empty()) {
            Some(home) => PathBuf::from(home),
            None => platform_cache()?.join("samara"),
        };
        Ok(Self::at(base.join(MODELS)))
    }

    /// The folder that holds the files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the file of a release is, or would be.
    pub fn path(&self, release: &Release) -> PathBuf {
        self.dir.join(release.file_name)
    }

    /// Whether the file of a release is present, by its size. The hash is checked on download only.
    pub fn contains(&self, release: &Release) -> bool {
        self.find(release).is_some()
    }

    /// The file of a release, if it is present as [`contains`](Self::contains) tells.
    pub fn find(&self, release: &Release) -> Option<PathBuf> {
        let path = self.path(release);
        let metadata = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let complete = match release.size {
            Some(size) => metadata.len() == size,
            None => metadata.len() > 0,
        };
        complete.then_some(path)
    }
}

/// No folder for checkpoints could be determined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no folder for checkpoints ({reason}): set SAMARA_HOME to one")]
pub struct CacheError {
    reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::registry;

    const PLATFORM: &str = "/home/ada/.cache";

    #[test]
    fn the_variable_wins_over_the_platform() {
        let cache = ModelCache::from_home(Some("/data/samara".into()), || Ok(PLATFORM.into()));
        assert_eq!(cache, Ok(ModelCache::at("/data/samara/models")));
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        for home in [None, Some(OsString::new())] {
            let cache = ModelCache::from_home(home, || Ok(PLATFORM.into()));
            assert_eq!(cache, Ok(ModelCache::at("/home/ada/.cache/samara/models")));
        }
    }

    #[test]
    fn no_home_is_an_error_that_names_the_way_out() {
        let homeless = || {
            Err(CacheError {
                reason: "no home".to_owned(),
            })
        };
        let error = ModelCache::from_home(None, homeless).expect_err("no folder");
        assert!(error.to_string().contains("SAMARA_HOME"), "{error}");
    }

    #[test]
    fn a_file_is_present_if_its_size_is_right() {
        let dir = tempfile::tempdir().expect("a folder");
        let cache = ModelCache::at(dir.path());
        let mut release = registry::find("mobile-sam").expect("listed").clone();
        release.size = Some(3);
        assert!(!cache.contains(&release));
        for (content, present) in [("", false), ("ab", false), ("abc", true), ("abcd", false)] {
            std::fs::write(cache.path(&release), content).expect("written");
            assert_eq!(cache.contains(&release), present, "{content:?}");
        }
        release.size = None;
        assert_eq!(cache.find(&release), Some(cache.path(&release)));
    }
}
