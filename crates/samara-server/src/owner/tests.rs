//! The queue under a model that takes its time.

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
                tokio::spawn(
                    async move { (owner.predict(embedding, prompts).await.unwrap(), truth) },
                )
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
