//! Long work: its progress is told, and it stops at Ctrl-C.

use std::ops::ControlFlow;

use pyo3::prelude::*;

use crate::error::raise;

/// Who hears of the progress of a call: a function of the share that is done, 0 to 1, or a bar of `tqdm`.
pub(crate) struct Progress {
    listener: Option<Py<PyAny>>,
    /// The total of the bar, and how much of it was told.
    bar: Option<(f64, f64)>,
    /// What the listener raised, or Ctrl-C.
    raised: Option<PyErr>,
}

impl Progress {
    pub(crate) fn new(listener: Option<Bound<'_, PyAny>>) -> PyResult<Self> {
        let bar = match &listener {
            Some(bar) if bar.hasattr("update")? => {
                let total = bar
                    .getattr("total")
                    .ok()
                    .and_then(|total| total.extract().ok());
                Some((total.unwrap_or(1.0), 0.0))
            }
            _ => None,
        };
        Ok(Self {
            listener: listener.map(Bound::unbind),
            bar,
            raised: None,
        })
    }

    /// Tells the share that is done. Called without the interpreter.
    pub(crate) fn tell(&mut self, share: f64) -> ControlFlow<()> {
        let told = Python::attach(|py| {
            py.check_signals()?;
            let Some(listener) = &self.listener else {
                return Ok(());
            };
            if let Some((total, told)) = &mut self.bar {
                let step = *total * share - *told;
                *told += step;
                listener.call_method1(py, "update", (step,))?;
            } else {
                listener.call1(py, (share,))?;
            }
            Ok(())
        });
        match told {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.raised = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// The outcome of the call: what was raised comes first.
    pub(crate) fn finish<T>(self, outcome: samara::Result<T>) -> PyResult<T> {
        self.finish_with(outcome, raise)
    }

    /// The same for another kind of error.
    pub(crate) fn finish_with<T, E>(
        self,
        outcome: Result<T, E>,
        raise: impl FnOnce(E) -> PyErr,
    ) -> PyResult<T> {
        match self.raised {
            Some(error) => Err(error),
            None => outcome.map_err(raise),
        }
    }
}
