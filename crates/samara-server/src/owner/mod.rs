//! The thread that owns a model, and the queue before it.
//!
//! Work waits in the order of its urgency. Long work asks between its stages ([`Pause`]) whether something more
//! urgent has come, and does that first: so a click waits for one stage of somebody else's embedding at most, not
//! for all of it. Clicks that wait together are answered together.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use samara::{Candidates, Embedding, Prompt, Segmenter};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::error::{Problem, Result};
use crate::metrics::ModelMetrics;
use crate::model::Model;

/// How soon work is wanted, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// Somebody has clicked.
    Click,
    /// Somebody waits for an embedding, or for a frame of a video.
    Embedding,
    /// Embeddings that are made ahead.
    Ahead,
    /// Segment everything; tracking.
    Job,
}

const URGENCIES: usize = 4;

type Work = Box<dyn FnOnce(&dyn Model, &mut Pause<'_>) + Send>;

/// Prompts on one image that wait for their answer.
struct Click {
    embedding: Arc<Embedding>,
    prompts: Vec<Prompt>,
    cancelled: CancellationToken,
    arrived: Instant,
    reply: oneshot::Sender<Result<Vec<Candidates>>>,
}

/// Prompts that are answered together, at most: so many are as fast as any number, and nobody waits for more.
pub(crate) const PROMPTS_AT_ONCE: usize = 16;

#[derive(Default)]
struct Waiting {
    clicks: VecDeque<Click>,
    /// By urgency; that of clicks is empty.
    work: [VecDeque<Work>; URGENCIES],
    /// Nothing more is taken.
    closed: bool,
}

impl Waiting {
    /// How much waits of the first `below` urgencies.
    fn before(&self, below: usize) -> usize {
        let clicks = if below > 0 { self.clicks.len() } else { 0 };
        clicks + self.work[..below].iter().map(VecDeque::len).sum::<usize>()
    }
}

struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    /// Most pieces of work of one urgency.
    capacity: usize,
    metrics: ModelMetrics,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, urgency: Urgency, put: impl FnOnce(&mut Waiting)) -> Result<()> {
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(Problem::unavailable("the model is being unloaded"));
        }
        let ahead = match urgency {
            Urgency::Click => waiting.clicks.len(),
            other => waiting.work[other as usize].len(),
        };
        if ahead >= self.capacity {
            self.metrics.refused.inc();
            let wait = match urgency {
                Urgency::Click => Duration::from_secs(1),
                Urgency::Embedding => Duration::from_secs(5),
                Urgency::Ahead | Urgency::Job => Duration::from_secs(30),
            };
            let detail = format!("{ahead} requests wait for the model already");
            return Err(Problem::overload(detail, wait));
        }
        put(&mut waiting);
        self.metrics.waiting[urgency as usize].inc();
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }
}

/// A model on a thread of its own.
pub(crate) struct Owner {
    queue: Arc<Queue>,
    segmenter: Segmenter,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Owner {
    /// Starts the thread. At most `capacity` requests of one urgency wait.
    pub(crate) fn start(
        model: Box<dyn Model>,
        capacity: usize,
        metrics: ModelMetrics,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue {
            waiting: Mutex::default(),
            arrived: Condvar::new(),
            capacity,
            metrics,
        });
        let segmenter = model.segmenter().clone();
        let thread = std::thread::Builder::new().name(format!("model-{}", segmenter.name()));
        let worker = Worker {
            model,
            queue: Arc::clone(&queue),
        };
        let thread = thread.spawn(move || worker.work())?;
        Ok(Self {
            queue,
            segmenter,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// What is known of the model without asking it.
    pub(crate) fn segmenter(&self) -> &Segmenter {
        &self.segmenter
    }

    /// How many requests of an urgency wait.
    pub(crate) fn waiting(&self, urgency: Urgency) -> usize {
        let waiting = self.queue.waiting();
        match urgency {
            Urgency::Click => waiting.clicks.len(),
            other => waiting.work[other as usize].len(),
        }
    }

    /// Answers prompts on one image. The work is left out when the caller goes away.
    pub(crate) async fn predict(
        &self,
        embedding: Arc<Embedding>,
        prompts: Vec<Prompt>,
    ) -> Result<Vec<Candidates>> {
        let cancelled = CancellationToken::new();
        let _cancel = cancelled.clone().drop_guard();
        let (reply, answer) = oneshot::channel();
        let click = Click {
            embedding,
            prompts,
            cancelled,
            arrived: Instant::now(),
            reply,
        };
        self.queue
            .put(Urgency::Click, |waiting| waiting.clicks.push_back(click))?;
        answer.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Does some work on the thread of the model, unless `cancelled` is set before; the work hears of that in its
    /// pauses.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        urgency: Urgency,
        cancelled: CancellationToken,
        work: impl FnOnce(&dyn Model, &mut Pause<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.submit(urgency, cancelled.clone(), move |model, pause| {
            // Nobody may be there to hear it.
            let _ = reply.send(work(model, pause));
        })?;
        answer.await.unwrap_or_else(|_| {
            Err(if cancelled.is_cancelled() {
                Problem::unavailable("the work was stopped")
            } else {
                lost()
            })
        })
    }

    /// The same without waiting for it.
    pub(crate) fn submit(
        &self,
        urgency: Urgency,
        cancelled: CancellationToken,
        work: impl FnOnce(&dyn Model, &mut Pause<'_>) + Send + 'static,
    ) -> Result<()> {
        let work: Work = Box::new(move |model, pause| {
            if !cancelled.is_cancelled() {
                pause.cancelled = cancelled;
                work(model, pause);
            }
        });
        self.queue.put(urgency, |waiting| {
            waiting.work[urgency as usize].push_back(work);
        })
    }

    /// Takes no more work, does what waits, and ends the thread.
    pub(crate) fn close(&self) {
        self.queue.waiting().closed = true;
        self.queue.arrived.notify_one();
    }

    /// Waits for the thread to end after [`close`](Self::close).
    pub(crate) fn join(&self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.close();
    }
}

/// The work was dropped before it answered: it was cancelled, or it panicked.
fn lost() -> Problem {
    Problem::internal("the work ended without an answer; the log of the server may say why")
}

struct Worker {
    model: Box<dyn Model>,
    queue: Arc<Queue>,
}

/// The most urgent that waits.
enum Next {
    Clicks(Vec<Click>),
    Work(Urgency, Work),
}

impl Worker {
    fn work(&self) {
        let mut clicks_were_last = false;
        loop {
            let mut waiting = self.queue.waiting();
            let next = loop {
                // Under a steady stream of clicks other work has its turn, and answers them between its stages.
                let work = clicks_were_last.then(|| self.take_work(&mut waiting, URGENCIES));
                let next = work.flatten();
                if let Some(next) = next.or_else(|| self.take(&mut waiting, URGENCIES)) {
                    break next;
                }
                if waiting.closed {
                    return;
                }
                waiting = self
                    .queue
                    .arrived
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner);
            };
            drop(waiting);
            clicks_were_last = matches!(next, Next::Clicks(_));
            self.do_next(next);
        }
    }

    /// The most urgent of the first `below` urgencies.
    fn take(&self, waiting: &mut Waiting, below: usize) -> Option<Next> {
        if below > 0 && !waiting.clicks.is_empty() {
            let mut clicks: Vec<Click> = Vec::new();
            let mut prompts = 0;
            while let Some(click) = waiting.clicks.front() {
                prompts += click.prompts.len();
                if !clicks.is_empty() && prompts > PROMPTS_AT_ONCE {
                    break;
                }
                clicks.extend(waiting.clicks.pop_front());
                self.queue.metrics.waiting[Urgency::Click as usize].dec();
            }
            return Some(Next::Clicks(clicks));
        }
        self.take_work(waiting, below)
    }

    fn take_work(&self, waiting: &mut Waiting, below: usize) -> Option<Next> {
        const ORDER: [Urgency; 3] = [Urgency::Embedding, Urgency::Ahead, Urgency::Job];
        let urgencies = ORDER
            .into_iter()
            .filter(|&urgency| (urgency as usize) < below);
        for urgency in urgencies {
            if let Some(work) = waiting.work[urgency as usize].pop_front() {
                self.queue.metrics.waiting[urgency as usize].dec();
                return Some(Next::Work(urgency, work));
            }
        }
        None
    }

    /// Whatever a piece of work does, the thread goes on with the next.
    fn do_next(&self, next: Next) {
        let work = || match next {
            Next::Clicks(clicks) => self.answer(clicks),
            Next::Work(urgency, work) => {
                let mut pause = Pause {
                    worker: self,
                    urgency,
                    cancelled: CancellationToken::new(),
                };
                work(&*self.model, &mut pause);
            }
        };
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.queue.metrics.panics.inc();
            tracing::error!(
                model = self.model.segmenter().name(),
                "work on the model panicked"
            );
        }
    }

    /// Answers clicks together, those on one image in one batch.
    fn answer(&self, mut clicks: Vec<Click>) {
        clicks.retain(|click| !click.cancelled.is_cancelled());
        let mut images: Vec<(Arc<Embedding>, Vec<Prompt>)> = Vec::new();
        // Where the prompts of a click are: in which image, from where.
        let mut places = Vec::with_capacity(clicks.len());
        for click in &mut clicks {
            let wait = click.arrived.elapsed().as_secs_f64();
            self.queue.metrics.click_wait.observe(wait);
            let known = images
                .iter()
                .position(|(embedding, _)| Arc::ptr_eq(embedding, &click.embedding));
            let image = known.unwrap_or_else(|| {
                images.push((Arc::clone(&click.embedding), Vec::new()));
                images.len() - 1
            });
            let prompts = &mut images[image].1;
            places.push((image, click.prompts.len()));
            prompts.append(&mut click.prompts);
        }
        let asked: Vec<(&Embedding, &[Prompt])> = images
            .iter()
            .map(|(e, prompts)| (&**e, &prompts[..]))
            .collect();
        let start = Instant::now();
        let answers = self.model.predict(&asked);
        self.queue
            .metrics
            .predict
            .observe(start.elapsed().as_secs_f64());
        let mut answers: Vec<Result<std::vec::IntoIter<Candidates>>> = answers
            .into_iter()
            .map(|answer| answer.map(Vec::into_iter).map_err(Problem::from))
            .collect();
        for (click, (image, prompts)) in clicks.into_iter().zip(places) {
            let answer = match answers.get_mut(image) {
                Some(Ok(rest)) => Ok(rest.by_ref().take(prompts).collect()),
                Some(Err(problem)) => Err(problem.clone()),
                None => Err(lost()),
            };
            let _ = click.reply.send(answer);
        }
    }
}

/// What long work asks between its stages.
pub(crate) struct Pause<'a> {
    worker: &'a Worker,
    urgency: Urgency,
    cancelled: CancellationToken,
}

impl Pause<'_> {
    /// Does what is more urgent and has come until now, then says whether to go on.
    pub(crate) fn take(&mut self) -> ControlFlow<()> {
        let below = self.urgency as usize;
        let mut left = self.worker.queue.waiting().before(below);
        while left > 0 {
            let next = self.worker.take(&mut self.worker.queue.waiting(), below);
            left -= match &next {
                Some(Next::Clicks(clicks)) => clicks.len().min(left),
                Some(Next::Work(..)) => 1,
                None => left,
            };
            if let Some(next) = next {
                self.worker.do_next(next);
            }
        }
        if self.cancelled.is_cancelled() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}
