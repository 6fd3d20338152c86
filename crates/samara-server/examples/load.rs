//! Many clients click on a few images for a while: what a server answers a second beside what the library does, and
//! whether every answer is right.
//!
//! `cargo run --release --workspace --example load -- http://127.0.0.1:8765 IMAGE… [--clients 50] [--seconds 60]`
//!
//! The server must run with the embedded model. Before the clients begin, the library answers every click once, one
//! after the other: that is its throughput, and the truth.

#![allow(clippy::print_stdout, reason = "this is its output")]

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use samara::prelude::*;
use serde_json::{Value, json};

/// Clicks on every image.
const PLACES: usize = 5;

struct Click {
    image: String,
    at: [f64; 2],
    /// The selected mask, as run lengths.
    mask: String,
}

/// What became of requests.
#[derive(Default)]
struct Counts {
    wrong: AtomicUsize,
    lost: AtomicUsize,
    refused: AtomicUsize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut clients, mut seconds, mut files) = (50, 60, Vec::new());
    let mut arguments = env::args().skip(1);
    let url = arguments.next().ok_or("the server's address is missing")?;
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--clients" => clients = arguments.next().unwrap_or_default().parse()?,
            "--seconds" => seconds = arguments.next().unwrap_or_default().parse()?,
            _ => files.push(argument),
        }
    }
    let (clicks, by_library) = answers_of_the_library(&url, &files)?;
    println!("library: {by_library:.1} clicks a second, one after the other");
    let end = Instant::now() + Duration::from_secs(seconds);
    let counts = Counts::default();
    let mut memory = Vec::new();
    let mut times: Vec<f64> = thread::scope(|scope| {
        let (url, clicks, counts) = (&*url, &*clicks, &counts);
        let client = move |number: usize| click_until(end, url, clicks, number * 7, counts);
        let threads: Vec<_> = (0..clients)
            .map(|n| scope.spawn(move || client(n)))
            .collect();
        while Instant::now() < end {
            memory.extend(megabytes(url));
            thread::sleep(
                Duration::from_secs(seconds.div_ceil(10))
                    .min(end.saturating_duration_since(Instant::now())),
            );
        }
        let times = threads.into_iter().map(|t| t.join().unwrap_or_default());
        times.flatten().collect()
    });
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        times
            .get((times.len() as f64 * share) as usize)
            .copied()
            .unwrap_or(f64::NAN)
    };
    let by_server = times.len() as f64 / seconds as f64;
    println!(
        "server: {by_server:.1} clicks a second of {clients} clients on {} images, {:.2} of the library's\n\
         p50 {:.1} ms, p99 {:.1} ms, {} answers, {} wrong, {} lost, {} refused with 429",
        files.len(),
        by_server / by_library,
        at(0.5),
        at(0.99),
        times.len(),
        counts.wrong.load(Ordering::Relaxed),
        counts.lost.load(Ordering::Relaxed),
        counts.refused.load(Ordering::Relaxed),
    );
    println!("memory of the server in the course of it, in MB: {memory:?}");
    Ok(())
}

/// Memory of the server, as its metrics say.
fn megabytes(url: &str) -> Option<u64> {
    let mut metrics = agent().get(format!("{url}/metrics")).call().ok()?;
    let text = metrics.body_mut().read_to_string().ok()?;
    let bytes = text
        .lines()
        .find_map(|line| line.strip_prefix("samara_resident_memory_bytes "))?;
    Some(bytes.parse::<u64>().ok()? >> 20)
}

/// Clicks with their right answers, and how many the library answers a second. The server has all embeddings then.
fn answers_of_the_library(
    url: &str,
    files: &[String],
) -> Result<(Vec<Click>, f64), Box<dyn Error>> {
    let agent = agent();
    let segmenter = Segmenter::embedded(SegmenterOptions::new().with_pinned_threads(true))?;
    let mut clicks = Vec::new();
    let mut took = Duration::ZERO;
    for file in files {
        let bytes = fs::read(file)?;
        let image = decode_image(&bytes, file, &ImageLimits::default())?;
        let mut answer = agent.post(format!("{url}/v1/images")).send(&bytes[..])?;
        let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string()?)?;
        let id = answer["id"].as_str().ok_or("no id")?.to_owned();
        let embedding = segmenter.embed(&image)?;
        embedding.predict(&Prompt::point(1.0, 1.0))?;
        for place in 0..PLACES {
            let share = (place as f64 + 0.5) / PLACES as f64;
            let at = [
                f64::from(image.width()) * share,
                f64::from(image.height()) * (1.0 - share * 0.9),
            ];
            let start = Instant::now();
            let candidates = embedding.predict(&Prompt::point(at[0], at[1]))?;
            let mask = candidates.best().mask.to_rle().to_compressed_string();
            took += start.elapsed();
            let image = id.clone();
            clicks.push(Click { image, at, mask });
        }
        ask(&agent, url, &clicks[clicks.len() - 1])?;
    }
    let a_second = clicks.len() as f64 / took.as_secs_f64();
    Ok((clicks, a_second))
}

/// One client; the milliseconds of its answers.
fn click_until(
    end: Instant,
    url: &str,
    clicks: &[Click],
    first: usize,
    counts: &Counts,
) -> Vec<f64> {
    let agent = agent();
    let mut times = Vec::new();
    for turn in first.. {
        if Instant::now() > end {
            break;
        }
        let click = &clicks[turn * 31 % clicks.len()];
        let start = Instant::now();
        match ask(&agent, url, click) {
            Ok((200, mask)) => {
                times.push(start.elapsed().as_secs_f64() * 1000.0);
                if mask.as_deref() != Some(&*click.mask) {
                    counts.wrong.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok((429, _)) => {
                counts.refused.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(200));
            }
            Ok(_) | Err(_) => {
                counts.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    times
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_mins(1)))
        .build()
        .into()
}

/// The status, and the selected mask as run lengths.
fn ask(
    agent: &ureq::Agent,
    url: &str,
    click: &Click,
) -> Result<(u16, Option<String>), Box<dyn Error>> {
    let request = json!({
        "image": {"id": click.image},
        "prompts": [{"points": [click.at]}],
        "candidates": false,
    });
    let mut response = agent
        .post(format!("{url}/v1/predict"))
        .header("content-type", "application/json")
        .send(request.to_string().as_bytes())?;
    let status = response.status().as_u16();
    let answer: Value = serde_json::from_str(&response.body_mut().read_to_string()?)?;
    let mask = answer["objects"][0]["selected"]["segmentation"]["counts"].as_str();
    Ok((status, mask.map(str::to_owned)))
}
