//! An object followed through a video or a folder of frames.
//!
//! `cargo run --release --example video -- clip.mp4 290 150 [CHECKPOINT]`, best with SAM 2

#![allow(clippy::print_stderr, reason = "this is its output")]

use std::ops::ControlFlow;

use samara::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, x, y, checkpoint @ ..] = &arguments[..] else {
        return Err("usage: video VIDEO|FOLDER X Y [CHECKPOINT]".into());
    };
    let segmenter = match checkpoint.first() {
        Some(file) => Segmenter::load(file, DeviceKind::Cpu)?,
        None => Segmenter::embedded(DeviceKind::Cpu)?,
    };
    let mut frames = open_video(source, &ImageLimits::default())?;
    let mut session = VideoSession::new(&segmenter, VideoOptions::default());
    let first = frames.read(0)?.ok_or("the video has no frame")?;
    session.prompt(
        &session.embed(0, &first)?,
        1,
        &Prompt::point(x.parse()?, y.parse()?),
    )?;
    session.propagate(
        &mut *frames,
        0..=usize::MAX,
        Direction::Forward,
        |_, found| {
            let object = &found.objects[0];
            eprintln!(
                "{}: {} pixels, score {:.1}",
                found.index,
                object.mask.area(),
                object.object_score
            );
            ControlFlow::Continue(()) // or Break, to stop here
        },
    )?;
    Ok(())
}
