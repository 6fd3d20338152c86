//! The thread that owns a model, and the queue before it.
//!
//! Work waits in the order of its urgency. Long work asks between its stages ([`Pause`]) whether something more
//! urgent has come, and does that first: so a click waits for one stage of somebody else's embedding at most, not
//! for all of it. Clicks that wait together are answered together.

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
const PROMPTS_AT_ONCE: usize = 16;

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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use samara::{DeviceKind, RgbImage};

    use super::*;
    use crate::metrics::Metrics;
    use crate::model::Between;

    const STAGES: usize = 20;
    const STAGE: Duration = Duration::from_millis(40);

    /// A model whose embeddings take their time, and whose clicks do not.
    struct Slow {
        segmenter: Segmenter,
        stages: Arc<AtomicUsize>,
    }

    impl Model for Slow {
        fn segmenter(&self) -> &Segmenter {
            &self.segmenter
        }

        fn embed(&self, image: &RgbImage, between: Between<'_>) -> samara::Result<Embedding> {
            assert_ne!(image.width(), 13, "an image that a fault is put into");
            for _ in 0..STAGES {
                if between().is_break() {
                    return Err(samara::Error::Cancelled);
                }
                self.stages.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(STAGE);
            }
            self.segmenter.embed(image)
        }
    }

    struct Bench {
        owner: Arc<Owner>,
        embedding: Arc<Embedding>,
        stages: Arc<AtomicUsize>,
    }

    fn image() -> RgbImage {
        RgbImage::from_fn(64, 48, |x, y| {
            samara_image::Rgb(if x.abs_diff(30) + y.abs_diff(20) < 15 {
                [220, 60, 30]
            } else {
                [30, 60, 90]
            })
        })
    }

    fn bench(capacity: usize) -> Bench {
        let segmenter = Segmenter::embedded(DeviceKind::Cpu).unwrap();
        let embedding = Arc::new(segmenter.embed(&image()).unwrap());
        let stages = Arc::<AtomicUsize>::default();
        let model = Slow {
            segmenter,
            stages: Arc::clone(&stages),
        };
        let metrics = Metrics::new().of_model("slow");
        Bench {
            owner: Arc::new(Owner::start(Box::new(model), capacity, metrics).unwrap()),
            embedding,
            stages,
        }
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(work)
    }

    fn embed(
        owner: &Arc<Owner>,
        urgency: Urgency,
        image: RgbImage,
        cancelled: CancellationToken,
    ) -> tokio::task::JoinHandle<Result<()>> {
        let owner = Arc::clone(owner);
        tokio::spawn(async move {
            let work = owner.run(urgency, cancelled, move |model, pause| {
                model.embed(&image, &mut || pause.take())?;
                Ok(())
            });
            work.await
        })
    }

    #[test]
    fn a_click_waits_for_one_stage_of_an_embedding() {
        let Bench {
            owner,
            embedding,
            stages,
        } = bench(8);
        run(async {
            let long = embed(
                &owner,
                Urgency::Embedding,
                image(),
                CancellationToken::new(),
            );
            while stages.load(Ordering::SeqCst) < 2 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let before = stages.load(Ordering::SeqCst);
            let answers = owner
                .predict(embedding, vec![Prompt::point(30.0, 20.0)])
                .await
                .unwrap();
            let passed = stages.load(Ordering::SeqCst) - before;
            assert_eq!(answers.len(), 1);
            assert!(passed <= 2, "it waited for {passed} stages");
            long.await.unwrap().unwrap();
            assert_eq!(stages.load(Ordering::SeqCst), STAGES);
        });
    }

    #[test]
    fn an_embedding_goes_on_under_a_stream_of_clicks() {
        let Bench {
            owner, embedding, ..
        } = bench(8);
        run(async {
            let clicking = CancellationToken::new();
            let stream = tokio::spawn({
                let (owner, clicking) = (Arc::clone(&owner), clicking.clone());
                async move {
                    let click =
                        || owner.predict(Arc::clone(&embedding), vec![Prompt::point(30.0, 20.0)]);
                    while !clicking.is_cancelled() {
                        // There is always one that waits.
                        let (a, b) = tokio::join!(click(), click());
                        a.and(b).unwrap();
                    }
                }
            });
            tokio::time::sleep(Duration::from_millis(50)).await;
            let work = embed(&owner, Urgency::Ahead, image(), CancellationToken::new());
            tokio::time::timeout(Duration::from_secs(30), work)
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            clicking.cancel();
            stream.await.unwrap();
        });
    }

    #[test]
    fn what_nobody_wants_is_stopped_between_stages() {
        let Bench { owner, stages, .. } = bench(8);
        run(async {
            let cancelled = CancellationToken::new();
            let long = embed(&owner, Urgency::Embedding, image(), cancelled.clone());
            let waiting = CancellationToken::new();
            let never = embed(&owner, Urgency::Job, image(), waiting.clone());
            while stages.load(Ordering::SeqCst) < 2 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            waiting.cancel();
            cancelled.cancel();
            for work in [long, never] {
                let problem = work.await.unwrap().unwrap_err();
                assert_eq!(problem.status().as_u16(), 503, "{}", problem.detail());
            }
            assert!(stages.load(Ordering::SeqCst) < STAGES / 2);
        });
    }

    #[test]
    fn a_panic_is_the_end_of_one_request() {
        let Bench {
            owner, embedding, ..
        } = bench(8);
        run(async {
            let work = embed(
                &owner,
                Urgency::Embedding,
                RgbImage::new(13, 13),
                CancellationToken::new(),
            );
            assert_eq!(work.await.unwrap().unwrap_err().status().as_u16(), 500);
            owner
                .predict(embedding, vec![Prompt::point(30.0, 20.0)])
                .await
                .unwrap();
        });
    }

    #[test]
    fn overload_is_refused_and_passes() {
        let Bench { owner, stages, .. } = bench(2);
        run(async {
            let one = embed(&owner, Urgency::Job, image(), CancellationToken::new());
            while stages.load(Ordering::SeqCst) < 1 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let cancelled = CancellationToken::new();
            let more: Vec<_> = (0..4)
                .map(|_| embed(&owner, Urgency::Job, image(), cancelled.clone()))
                .collect();
            let mut refused = 0;
            one.await.unwrap().unwrap();
            cancelled.cancel();
            for work in more {
                let problem = work.await.unwrap().unwrap_err();
                refused += usize::from(problem.status().as_u16() == 429);
            }
            assert_eq!(refused, 2);
            embed(&owner, Urgency::Job, image(), CancellationToken::new())
                .await
                .unwrap()
                .unwrap();
        });
    }

    #[test]
    fn clicks_that_wait_together_get_their_own_answers() {
        let Bench {
            owner, embedding, ..
        } = bench(64);
        let segmenter = owner.segmenter().clone();
        let other = Arc::new(
            segmenter
                .embed(&RgbImage::from_fn(50, 50, |x, _| {
                    samara_image::Rgb([x as u8 * 5; 3])
                }))
                .unwrap(),
        );
        run(async {
            let clicks: Vec<_> = (0..24)
                .map(|i| {
                    let embedding = Arc::clone(if i % 3 == 0 { &other } else { &embedding });
                    let prompts: Vec<Prompt> = (0..=i % 2)
                        .map(|p| Prompt::point(f64::from(2 * i + 1), f64::from(10 + p)))
                        .collect();
                    let truth = embedding.predict_batch(&prompts).unwrap();
                    let owner = Arc::clone(&owner);
                    tokio::spawn(async move {
                        (owner.predict(embedding, prompts).await.unwrap(), truth)
                    })
                })
                .collect();
            for click in clicks {
                let (answers, truth) = click.await.unwrap();
                assert_eq!(answers.len(), truth.len());
                for (answer, truth) in answers.iter().zip(&truth) {
                    assert_eq!(answer.best().mask, truth.best().mask);
                }
            }
        });
    }

    #[test]
    fn what_waits_is_done_before_the_end() {
        let Bench { owner, stages, .. } = bench(8);
        run(async {
            let work = embed(&owner, Urgency::Job, image(), CancellationToken::new());
            while stages.load(Ordering::SeqCst) < 1 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            owner.close();
            let late = embed(&owner, Urgency::Job, image(), CancellationToken::new());
            assert_eq!(late.await.unwrap().unwrap_err().status().as_u16(), 503);
            work.await.unwrap().unwrap();
            owner.join();
        });
    }
}
