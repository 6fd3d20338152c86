//! The crop that was looked at last.

use std::sync::{Arc, Mutex, PoisonError};

use super::region::PixelRect;

/// The crop that was looked at last, with its embedding.
#[derive(Clone)]
pub(crate) struct LastView<E>(Arc<Mutex<Views<E>>>);

pub(crate) struct Views<E> {
    pub(super) last: Option<(PixelRect, E)>,
    /// How many crops were embedded.
    pub(super) embedded: usize,
}

impl<E> Default for LastView<E> {
    fn default() -> Self {
        let views = Views {
            last: None,
            embedded: 0,
        };
        Self(Arc::new(Mutex::new(views)))
    }
}

impl<E: Clone> LastView<E> {
    /// Nothing is computed while this is held, and a thread that panicked left nothing half done.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Views<E>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The crop that is there, if it will do.
    pub(super) fn suitable(&self, suits: impl Fn(&PixelRect) -> bool) -> Option<(PixelRect, E)> {
        self.with(|views| views.last.clone().filter(|(rect, _)| suits(rect)))
    }
}
