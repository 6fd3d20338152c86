//! Who follows objects through which video of the project.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use samara_project::PictureId;

use crate::error::{Problem, Result};

/// How long the end of a frame is waited for that somebody does not want any more.
const A_FRAME: Duration = Duration::from_secs(5);

/// Videos through which objects are being followed; one at a time each.
#[derive(Default)]
pub(crate) struct Turns(Arc<Mutex<HashSet<PictureId>>>);

/// As long as it is there, nobody else follows objects through the video.
pub(crate) struct Turn(Arc<Mutex<HashSet<PictureId>>>, PictureId);

impl Turns {
    /// A turn, for which somebody who was stopped is waited: a frame is done to its end.
    pub(crate) async fn turn(&self, video: PictureId) -> Result<Turn> {
        let end = Instant::now() + A_FRAME;
        loop {
            if self.all().insert(video) {
                return Ok(Turn(Arc::clone(&self.0), video));
            }
            if Instant::now() > end {
                let detail = "objects are being followed through this video already";
                return Err(Problem::conflict(detail));
            }
            tokio::time::sleep(A_FRAME / 100).await;
        }
    }

    fn all(&self) -> MutexGuard<'_, HashSet<PictureId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&self.1);
    }
}
