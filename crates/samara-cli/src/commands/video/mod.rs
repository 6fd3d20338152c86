//! `samara video`.

mod outputs;
mod prompts;
mod records;

use std::fmt::Write;
use std::fs;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use samara::{
    Direction, FrameMasks, ImageLimits, Position, Progress, Segmenter, VideoOptions, VideoSession,
};
use samara_image::number::counted;
use samara_image::{FrameSource, open_video};
use serde_json::{Value, json};

use crate::args::names;
use crate::commands::journal::{Begin, Journal, RunFolder};
use crate::commands::tell_unused_intent;
use crate::error::{CliError, Result};
use crate::files::{Files, Kind, result_in};
use crate::flags::{DirectionFlag, VideoFlags, VideoFormat};
use crate::interrupt::Interrupt;
use crate::model::checkpoint;
use crate::progress::{self, Bar};
use crate::terminal;
use prompts::Prompts;
use records::FrameRecord;

const JOURNAL: &str = "frames.jsonl";
const SESSION: &str = "session.safetensors";
/// Time between two saved sessions: what a killed run loses at most.
const SAVE_EVERY: Duration = Duration::from_secs(20);

/// Follows objects through the video that the flags name.
pub(crate) fn run(flags: &VideoFlags) -> Result<()> {
    // Everything that can be wrong is looked at before the expensive work starts.
    let checkpoint = checkpoint(&flags.model)?;
    let place = flags.model.options();
    let limits = ImageLimits::from(&flags.limits);
    files(flags)
        .read("the checkpoint", checkpoint.path())
        .check()?;
    let mut source = open_video(&flags.input, &limits)?;
    let prompts = prompts::prompts(flags, &limits, source.size())?;
    let plan = Plan::new(flags, &prompts)?;
    let folder = RunFolder::open(&flags.out)?;
    if flags.format.contains(&VideoFormat::Overlay) {
        outputs::check_overlay(&flags.out, &*source)?;
    }
    let segmenter = progress::spin("loading the model", || {
        Segmenter::from_checkpoint(&checkpoint, place)
    })?;
    tell_unused_intent(flags.meaning.intent, &segmenter);

    let start = Instant::now();
    let (mut session, journal) =
        open_run(flags, &folder, &segmenter, &mut *source, &prompts, &plan)?;
    let mut run = Run {
        out: &flags.out,
        journal,
        saved: Instant::now(),
        interrupt: Interrupt::listen(),
    };
    let mut tracked = 0;
    for (direction, frames) in plan.left(session.position()) {
        let bar = Bar::frames(bar_length(&*source, &frames, direction));
        let (count, progress) = run.track(&mut session, &mut *source, direction, frames, &bar)?;
        tracked += count;
        bar.finish();
        if let Progress::Stopped(frame) = progress {
            session.save(result_in(&flags.out, SESSION)?)?;
            return Err(run.interrupt.stopped_after(&format!("frame {frame}")));
        }
    }
    session.save(result_in(&flags.out, SESSION)?)?;
    let seconds = start.elapsed().as_secs_f64();
    let (out, journal) = (&flags.out, &run.journal);
    let written = outputs::write(out, &flags.format, journal, &mut *source, &prompts)?;
    let mut text = format!(
        "{}, {}: {}, {} in {seconds:.1} s\n",
        terminal::name(&flags.input),
        segmenter.name(),
        counted(tracked, "frame"),
        counted(session.objects().count(), "object")
    );
    for path in written {
        let _ = writeln!(text, "wrote {}", terminal::name(&path));
    }
    terminal::print(&text)
}

/// What is read and written.
fn files(flags: &VideoFlags) -> Files {
    let inside = [JOURNAL, SESSION].into_iter().chain(outputs::NAMES);
    Files::new()
        .read("the video", &flags.input)
        .read_all(
            "the mask of --masks",
            flags.masks.iter().map(|mask| &mask.file),
        )
        .read_all("the prompts of --prompts", &flags.prompts_file)
        .write("--out", Kind::Folder, Some(&flags.out))
        .fill("--out", flags.out.join(outputs::MASKS))
        .write_inside("--out", inside.map(|name| flags.out.join(name)))
}

/// Which frames are tracked, and which way.
struct Plan {
    /// The first prompted frame.
    start: usize,
    first: usize,
    last: usize,
    direction: DirectionFlag,
}

impl Plan {
    fn new(flags: &VideoFlags, prompts: &Prompts) -> Result<Self> {
        let start = prompts.keys().next().copied().unwrap_or_default();
        let last = flags.to.unwrap_or(usize::MAX - 1);
        if last < flags.from {
            return Err(CliError::usage(format!(
                "--from {} --to {last}: no frame lies between them; the first frame to track comes first",
                flags.from
            )));
        }
        if !(flags.from..=last).contains(&start) {
            return Err(CliError::usage(format!(
                "the first prompt is on frame {start}, which --from and --to leave out"
            )));
        }
        Ok(Self {
            start,
            first: flags.from,
            last,
            direction: flags.direction,
        })
    }

    /// What is left to do after a position.
    fn left(&self, position: Option<Position>) -> Vec<(Direction, RangeInclusive<usize>)> {
        let mut parts = Vec::new();
        let (forward, backward) = match self.direction {
            DirectionFlag::Forward => (true, false),
            DirectionFlag::Backward => (false, true),
            DirectionFlag::Both => (true, true),
        };
        let gone_back = matches!(
            position,
            Some(Position {
                direction: Direction::Backward,
                ..
            })
        );
        if forward && !gone_back {
            let from = position.map_or(self.start, |position| position.frame + 1);
            parts.push((Direction::Forward, from..=self.last));
        }
        if backward {
            // The first prompted frame belongs to the way forward, if there is one.
            let to = match position {
                Some(position) if gone_back => position.frame.checked_sub(1),
                _ if forward => self.start.checked_sub(1),
                _ => Some(self.start),
            };
            if let Some(to) = to.filter(|&to| to >= self.first) {
                parts.push((Direction::Backward, self.first..=to));
            }
        }
        parts
    }
}

/// Begins a run, or resumes the one in the output folder.
fn open_run(
    flags: &VideoFlags,
    folder: &RunFolder,
    segmenter: &Segmenter,
    source: &mut dyn FrameSource,
    prompts: &Prompts,
    plan: &Plan,
) -> Result<(VideoSession, Journal<FrameRecord>)> {
    // That of a file is a guess.
    let num_frames = source.len_hint().filter(|_| flags.input.is_dir());
    let mut options = VideoOptions::default()
        .with_non_overlap_masks(flags.non_overlap_masks)
        .with_fill_hole_area(flags.fill_hole_area);
    options.num_frames = num_frames;
    let header = header(flags, segmenter, &options, prompts)?;
    let begin = Begin::of(flags.resume, flags.overwrite);
    let saved = flags.out.join(SESSION);
    let there = flags.resume && saved.exists();
    let loaded = there.then(|| VideoSession::load(&saved, segmenter));
    // A session that cannot be read is none; that is said when the run is known to be the same.
    let damaged = match &loaded {
        Some(Err(error)) => Some(format!("{error}; all frames are tracked again")),
        _ => None,
    };
    let mut session = loaded.and_then(Result::ok);
    let position = session.as_ref().and_then(VideoSession::position);
    // What was tracked after the session was saved is tracked again.
    let left = plan.left(position);
    let mut reached = position.is_none();
    let is_done = |record: &FrameRecord| {
        reached |= position.is_some_and(|position| position.frame == record.frame);
        position.is_some()
            && !left
                .iter()
                .any(|(_, frames)| frames.contains(&record.frame))
    };
    if begin != Begin::Overwrite && !folder.has(JOURNAL) {
        folder.refuse_others(outputs::NAMES)?;
    }
    let mut journal = Journal::open(folder, JOURNAL, &header, begin, is_done)?;
    if let Some(damaged) = damaged {
        terminal::tell("notice", &damaged);
    }
    if !reached {
        // The journal has lost lines, as a power failure may do: what they held is found again.
        session = None;
        journal = Journal::open(folder, JOURNAL, &header, begin, |_| false)?;
    }
    if let Some(session) = session {
        return Ok((session, journal));
    }
    let session = progress::spin("answering the prompts", || {
        prompted(segmenter, options, source, prompts)
    })
    .inspect_err(|_| {
        // Nothing is begun yet, so the prompts can be put right in the same folder.
        let _ = fs::remove_file(flags.out.join(JOURNAL));
        let _ = fs::remove_dir(&flags.out);
    })?;
    Ok((session, journal))
}

/// A new session with all prompts answered.
fn prompted(
    segmenter: &Segmenter,
    options: VideoOptions,
    source: &mut dyn FrameSource,
    prompts: &Prompts,
) -> Result<VideoSession> {
    let mut session = VideoSession::new(segmenter, options);
    for (&index, objects) in prompts {
        let image = source.read(index)?.ok_or_else(|| {
            let frames = source.len_hint().map(|n| format!(" of {n}"));
            let frames = frames.unwrap_or_default();
            CliError::usage(format!("there is no frame {index}{frames} to be prompted"))
        })?;
        let frame = session.embed(index, &image)?;
        for (&object, prompt) in objects {
            session.prompt(&frame, object, prompt)?;
        }
    }
    Ok(session)
}

/// What a run does: the first line of its journal.
fn header(
    flags: &VideoFlags,
    segmenter: &Segmenter,
    options: &VideoOptions,
    prompts: &Prompts,
) -> Result<Value> {
    Ok(json!({
        "samara": env!("CARGO_PKG_VERSION"),
        "model": segmenter.name(),
        "weights": segmenter.fingerprint()?,
        "precision": segmenter.precision().name(),
        "video": flags.input,
        "options": options,
        "from": flags.from,
        "to": flags.to,
        "direction": names(&[flags.direction]).first(),
        "prompts": prompts,
    }))
}

/// Frames to be tracked, as far as it is known.
fn bar_length(
    source: &dyn FrameSource,
    frames: &RangeInclusive<usize>,
    direction: Direction,
) -> Option<u64> {
    let end = match direction {
        Direction::Forward => source.len_hint()?.min(frames.end() + 1),
        Direction::Backward => frames.end() + 1,
    };
    Some(end.saturating_sub(*frames.start()) as u64)
}

/// A run while it tracks.
struct Run<'a> {
    out: &'a Path,
    journal: Journal<FrameRecord>,
    saved: Instant,
    interrupt: Interrupt,
}

impl Run<'_> {
    /// Tracks frames, writes down what was found, and saves the session now and then.
    fn track(
        &mut self,
        session: &mut VideoSession,
        source: &mut dyn FrameSource,
        direction: Direction,
        frames: RangeInclusive<usize>,
        bar: &Bar,
    ) -> Result<(usize, Progress)> {
        let mut count = 0;
        let mut failure = None;
        let found = |session: &VideoSession, masks: FrameMasks| {
            count += 1;
            bar.inc(1);
            if let Err(error) = self.add(session, &masks) {
                failure = Some(error);
                return ControlFlow::Break(());
            }
            if self.interrupt.asked().load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let progress = session.propagate(source, frames, direction, found);
        match (failure, progress) {
            (Some(error), _) => Err(error),
            (None, Ok(progress)) => Ok((count, progress)),
            (None, Err(error)) => {
                // What was found so far is kept.
                session.save(self.out.join(SESSION))?;
                Err(error.into())
            }
        }
    }

    fn add(&mut self, session: &VideoSession, masks: &FrameMasks) -> Result<()> {
        self.journal.add(&FrameRecord::from(masks))?;
        if self.saved.elapsed() >= SAVE_EVERY {
            session.save(self.out.join(SESSION))?;
            self.saved = Instant::now();
        }
        Ok(())
    }
}
