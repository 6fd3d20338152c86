//! `samara bench`.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use samara::checkpoint::Checkpoint;
use samara::{
    Direction, Embedding, ImageLimits, Prompt, Segmenter, SegmenterOptions, VideoOptions,
    VideoSession, read_image,
};
use samara_image::{Rgb, RgbImage, write_atomic};
use samara_kernels::isa::Isa;
use samara_kernels::meter;
use serde::Serialize;

use crate::error::{CliError, Result};
use crate::files::{Files, Kind};
use crate::flags::BenchFlags;
use crate::model::checkpoint;
use crate::terminal;

/// How long the peak is looked for.
const PEAK: Duration = Duration::from_millis(300);

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    version: &'static str,
    image: [u32; 2],
    threads: usize,
    instruction_set: &'static str,
    precision: &'static str,
    peak_gflops: f64,
    peak_memory_mb: Option<f64>,
    stages: Vec<Stage>,
}

/// One stage: median milliseconds and the matrix products in it.
#[derive(Debug, Serialize)]
struct Stage {
    name: &'static str,
    milliseconds: f64,
    gflop: f64,
    gflops: f64,
    share_of_peak: f64,
}

/// The work that is measured.
struct Work {
    checkpoint: Checkpoint,
    segmenter: Segmenter,
    image: RgbImage,
    embedding: Embedding,
    prompts: Vec<Prompt>,
    /// Made when tracking is measured.
    video: RefCell<Option<Video>>,
}

/// A video that shows the image for ever, and the number of the next frame.
struct Video {
    session: VideoSession,
    next: usize,
}

/// Frames until the memory of a video is full.
const MEMORIES: usize = 7;

/// Measures the model that the flags name.
pub(crate) fn run(flags: &BenchFlags) -> Result<()> {
    let checkpoint = checkpoint(&flags.model)?;
    let place = flags.model.options();
    Files::new()
        .read_all("the input image", &flags.image)
        .read("the checkpoint", checkpoint.path())
        .write("--json", Kind::JsonOrStdout, flags.json.as_deref())
        .check()?;
    let image = match &flags.image {
        Some(path) => read_image(path, &ImageLimits::default())?,
        None => pattern(1800, 1200),
    };
    let start = Instant::now();
    let segmenter = Segmenter::from_checkpoint(&checkpoint, place)?;
    let load = milliseconds(start);
    let embedding = segmenter.embed(&image)?;
    let prompts = grid(&image, flags.prompts);
    let work = Work {
        checkpoint,
        segmenter,
        image,
        embedding,
        prompts,
        video: RefCell::default(),
    };
    if flags.turns {
        return work.take_turns();
    }
    let report = work.measure(flags.repeat, load)?;
    match &flags.json {
        Some(path) if path == Path::new("-") => terminal::print_raw(json(&report)?.as_bytes()),
        Some(path) => Ok(write_atomic(path, json(&report)?.as_bytes())?),
        None => terminal::print(&report.table()),
    }
}

fn json(report: &Report) -> Result<String> {
    let text = serde_json::to_string_pretty(report).map_err(CliError::failed)?;
    Ok(text + "\n")
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

/// An image with structure at all scales, the same every time.
fn pattern(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave = |scale: f32| (x as f32 / scale).sin() * (y as f32 / scale).cos();
        let level = 128.0 + 60.0 * wave(90.0) + 40.0 * wave(17.0);
        Rgb([level as u8, (255.0 - level) as u8, ((x ^ y) & 255) as u8])
    })
}

/// Single clicks, evenly spread.
fn grid(image: &RgbImage, count: usize) -> Vec<Prompt> {
    let side = (count as f64).sqrt().ceil();
    let (width, height) = (f64::from(image.width()), f64::from(image.height()));
    let place = |i: usize| {
        let (row, column) = ((i as f64 / side).floor(), i as f64 % side);
        Prompt::point(width * (column + 0.5) / side, height * (row + 0.5) / side)
    };
    (0..count).map(place).collect()
}

impl Work {
    fn embed(&self) -> Result<()> {
        self.segmenter.embed(&self.image)?;
        Ok(())
    }

    /// The decoder alone, as its peers are measured: logits and scores.
    fn decode(&self, prompts: &[Prompt]) -> Result<()> {
        self.embedding.decode(prompts)?;
        Ok(())
    }

    /// Masks in original pixels of every candidate of one prompt.
    fn masks(&self) -> Result<()> {
        self.embedding.predict(&self.prompts[0])?;
        Ok(())
    }

    /// The next frame of a video, embedded and tracked: one object, with a full memory.
    fn track(&self) -> Result<()> {
        let mut video = self.video.borrow_mut();
        if let Some(video) = &mut *video {
            return video.track(&self.image);
        }
        let mut session = VideoSession::new(&self.segmenter, VideoOptions::default());
        let first = session.embed(0, &self.image)?;
        session.prompt(&first, 1, &self.prompts[0])?;
        let video = video.insert(Video { session, next: 0 });
        (0..MEMORIES).try_for_each(|_| video.track(&self.image))
    }

    fn measure(&self, repeat: usize, load: f64) -> Result<Report> {
        let peak = meter::peak(PEAK);
        let stage = |name, work: &dyn Fn() -> Result<()>| -> Result<Stage> {
            work()?;
            let mut times = Vec::with_capacity(repeat);
            let operations = meter::operations();
            for _ in 0..repeat {
                let start = Instant::now();
                work()?;
                times.push(milliseconds(start));
            }
            let gflop = (meter::operations() - operations) as f64 / repeat as f64 / 1e9;
            times.sort_by(f64::total_cmp);
            let milliseconds = times[repeat / 2];
            let gflops = gflop / milliseconds * 1000.0;
            let share_of_peak = gflops * 1e9 / peak;
            Ok(Stage {
                name,
                milliseconds,
                gflop,
                gflops,
                share_of_peak,
            })
        };
        let mut stages = vec![Stage {
            name: "load",
            milliseconds: load,
            gflop: 0.0,
            gflops: 0.0,
            share_of_peak: 0.0,
        }];
        stages.push(stage("embed", &|| self.embed())?);
        stages.push(stage("prompt", &|| self.decode(&self.prompts[..1]))?);
        stages.push(stage("prompt + masks", &|| self.masks())?);
        stages.push(stage("batch", &|| self.decode(&self.prompts))?);
        if self.segmenter.has_memory() {
            stages.push(stage("track", &|| self.track())?);
        }
        Ok(Report {
            model: self.segmenter.name(),
            version: env!("CARGO_PKG_VERSION"),
            image: [self.image.width(), self.image.height()],
            threads: rayon::current_num_threads(),
            instruction_set: Isa::best().name(),
            precision: self.segmenter.precision().name(),
            peak_gflops: peak / 1e9,
            peak_memory_mb: peak_memory(),
            stages,
        })
    }

    /// Measures what the lines of standard input name, until they end.
    fn take_turns(&self) -> Result<()> {
        let mut out = std::io::stdout();
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|e| CliError::failed(format!("standard input: {e}")))?;
            let start = Instant::now();
            let line = line.trim();
            if let Some(picture) = line.strip_prefix("error ") {
                let error = self.error(Path::new(picture))?;
                answer(&mut out, error)?;
                continue;
            }
            match line {
                "embed" => self.embed()?,
                "prompt" => self.decode(&self.prompts[..1])?,
                "batch" => self.decode(&self.prompts)?,
                "track" => self.track()?,
                other => {
                    return Err(CliError::usage(format!(
                        "standard input: {other:?} is none of embed, prompt, batch, track, error FILE"
                    )));
                }
            }
            answer(&mut out, milliseconds(start))?;
        }
        Ok(())
    }

    /// How far the embedding of a picture is from that in fp32: the norm of the difference by that of the exact one.
    fn error(&self, picture: &Path) -> Result<f64> {
        let image = read_image(picture, &ImageLimits::default())?;
        let options = SegmenterOptions::new().with_global_thread_pool();
        let exact = Segmenter::from_checkpoint(&self.checkpoint, options)?;
        let values = |segmenter: &Segmenter| -> Result<Vec<f32>> {
            Ok(segmenter.embed(&image)?.values()?.0)
        };
        let (exact, own) = (values(&exact)?, values(&self.segmenter)?);
        let norm = |x: f64, y: f32| x + f64::from(y).powi(2);
        let error = own.iter().zip(&exact).map(|(a, b)| a - b).fold(0.0, norm);
        Ok((error / exact.into_iter().fold(0.0, norm)).sqrt())
    }
}

/// Answers a line of standard input.
fn answer(out: &mut impl Write, number: f64) -> Result<()> {
    writeln!(out, "{number:.6}")
        .and_then(|()| out.flush())
        .map_err(|e| CliError::failed(format!("standard output: {e}")))
}

impl Video {
    fn track(&mut self, image: &RgbImage) -> Result<()> {
        let frame = self.session.embed(self.next, image)?;
        self.session.track(&frame, Direction::Forward)?;
        self.next += 1;
        Ok(())
    }
}

impl Report {
    fn table(&self) -> String {
        let mut text = format!(
            "{} · {} · {}×{} pixels · {} threads · {} · peak {:.0} GFLOP/s in fp32",
            self.model,
            self.precision,
            self.image[0],
            self.image[1],
            self.threads,
            self.instruction_set,
            self.peak_gflops
        );
        // Writing to a string cannot fail.
        if let Some(memory) = self.peak_memory_mb {
            let _ = write!(text, " · at most {memory:.0} MB of memory");
        }
        text += "\n\nstage                   ms     GFLOP   GFLOP/s   of peak\n";
        for stage in &self.stages {
            let _ = write!(text, "{:<16} {:>9.1}", stage.name, stage.milliseconds);
            if stage.gflop > 0.0 {
                let (gflop, gflops) = (stage.gflop, stage.gflops);
                let share = 100.0 * stage.share_of_peak;
                let _ = write!(text, " {gflop:>9.2} {gflops:>9.1} {share:>8.0}%");
            }
            text.push('\n');
        }
        text
    }
}

/// The most memory that the process has had, in MB (10⁶ bytes), where the system tells.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    // Linux writes kB and means 1024 bytes.
    let blocks: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(blocks * 1024.0 / 1e6)
}
