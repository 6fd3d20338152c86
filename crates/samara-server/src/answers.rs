//! Answers that are kept for a while, so that a correction can name what it corrects.

use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use samara::{Candidates, Logits, Mask, Selection};
use uuid::Uuid;

use crate::error::{Problem, Result};
use crate::images::ImageId;

/// How long an answer is kept that nobody asks for.
const KEPT: Duration = Duration::from_hours(1);

/// What can be corrected of an answer.
pub(crate) struct Answer {
    /// Of which image it is.
    pub(crate) image: ImageId,
    /// The selected mask.
    pub(crate) mask: Mask,
    /// Which of the candidates it is; `None` if it was made of several.
    selected: Option<usize>,
    logits: Vec<Logits>,
}

impl Answer {
    /// Bytes of memory.
    fn memory(&self) -> u32 {
        let mask = 8 * self.mask.words_per_row() * self.mask.height() as usize;
        let values = self.logits.iter().map(|logits| logits.values().len());
        let logits = size_of::<f32>() * values.sum::<usize>();
        (mask + logits).try_into().unwrap_or(u32::MAX)
    }

    /// The logits of a candidate, or of the selected one, which has none if it was made of several.
    pub(crate) fn logits(&self, candidate: Option<usize>) -> Result<Option<&Logits>> {
        let Some(index) = candidate.or(self.selected) else {
            return Ok(None);
        };
        let missing = || {
            let count = self.logits.len();
            Problem::field(
                "candidate",
                format!("{index}: the answer has {count} candidates, which count from 0"),
            )
        };
        self.logits.get(index).map(Some).ok_or_else(missing)
    }
}

/// The answers that are kept.
pub(crate) struct Answers(Cache<String, Arc<Answer>>);

impl Answers {
    pub(crate) fn new(most_bytes: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(most_bytes)
            .weigher(|_: &String, answer: &Arc<Answer>| answer.memory())
            .time_to_idle(KEPT)
            .eviction_policy(EvictionPolicy::lru());
        Self(cache.build())
    }

    /// Keeps an answer, and names it.
    pub(crate) fn keep(
        &self,
        image: &ImageId,
        candidates: &Candidates,
        selection: &Selection,
    ) -> String {
        let id = Uuid::new_v4().to_string();
        let answer = Answer {
            image: image.clone(),
            mask: selection.mask.clone(),
            selected: selection.index,
            logits: candidates
                .iter()
                .map(|c| c.low_res_logits.clone())
                .collect(),
        };
        self.0.insert(id.clone(), Arc::new(answer));
        id
    }

    pub(crate) fn get(&self, id: &str) -> Result<Arc<Answer>> {
        let gone = "there is no such answer, or it is no longer kept; give the mask itself";
        self.0.get(id).ok_or_else(|| Problem::field("id", gone))
    }
}
