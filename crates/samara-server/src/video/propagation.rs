//! A session tracked from frame to frame, while somebody listens.

use std::sync::Arc;

use samara::{Direction, FrameMasks};
use tokio::sync::mpsc;

use super::{Held, SAVED_AFTER, UNREAD, Video};
use crate::error::{Problem, Result};
use crate::models::LoadedModel;
use crate::owner::Urgency;

impl Video {
    /// Tracks all objects through frames from `start` on, `count` of them or to the end, and hands each over. Stops
    /// when nobody listens; what was found until then is kept.
    pub(crate) async fn propagate(
        self: &Arc<Self>,
        model: &Arc<LoadedModel>,
        start: usize,
        count: usize,
        direction: Direction,
    ) -> Result<mpsc::Receiver<Result<FrameMasks>>> {
        let state = self.hold().await?;
        let (sender, receiver) = mpsc::channel(4);
        let (video, model) = (Arc::clone(self), Arc::clone(model));
        tokio::spawn(async move {
            let order = (0..count).map_while(move |step| match direction {
                Direction::Forward => start.checked_add(step),
                Direction::Backward => start.checked_sub(step),
            });
            if let Err(problem) = video.track(&model, state, order, direction, &sender).await {
                let _ = sender.send_timeout(Err(problem), UNREAD).await;
            }
        });
        Ok(receiver)
    }

    async fn track(
        self: &Arc<Self>,
        model: &Arc<LoadedModel>,
        mut state: Held,
        order: impl Iterator<Item = usize>,
        direction: Direction,
        sender: &mpsc::Sender<Result<FrameMasks>>,
    ) -> Result<()> {
        let mut is_first = true;
        for index in order {
            let (held, image) = self.frame(state, model, index).await?;
            state = held;
            let Some(image) = image else {
                if is_first {
                    let detail = format!("there is no frame {index}");
                    return Err(Problem::field("start", detail));
                }
                break;
            };
            is_first = false;
            let cancelled = self.ending.child_token();
            let work = model
                .owner
                .run(Urgency::Job, cancelled.clone(), move |model, pause| {
                    let found = state.with_frame(model, pause, index, image, |session, frame| {
                        model.track(session, frame, direction)
                    });
                    state.unsaved += 1;
                    Ok((state, found))
                });
            let ended = tokio::select! {
                ended = work => ended,
                () = sender.closed() => {
                    cancelled.cancel();
                    return Ok(());
                }
            };
            let found;
            (state, found) = ended?;
            self.tell(&state);
            if state.unsaved >= SAVED_AFTER {
                state = self.save(state).await?;
            }
            let found = found?;
            let told = tokio::select! {
                told = sender.send_timeout(Ok(found), UNREAD) => told.is_ok(),
                () = self.ending.cancelled() => false,
            };
            if !told {
                break;
            }
        }
        self.save(state).await.map(drop)
    }
}
