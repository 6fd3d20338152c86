//! When each frame of a video is shown.

use std::path::Path;

use serde::Deserialize;

use super::process::{Programs, input, not_started};
use crate::error::Error;

/// Containers round times to milliseconds.
const ROUNDING: f64 = 0.002;

/// When each frame of a video is shown, in seconds from the first frame.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameTimes {
    starts: Vec<f64>,
    end: f64,
}

impl FrameTimes {
    /// `starts` has the time at which each frame appears, `end` that at which the last one disappears.
    /// `None` if they do not ascend or are not finite.
    pub fn new(starts: Vec<f64>, end: f64) -> Option<Self> {
        let last = *starts.last()?;
        let ascend = starts.windows(2).all(|pair| pair[0] < pair[1]);
        (ascend && last < end && end.is_finite() && starts[0].is_finite())
            .then_some(Self { starts, end })
    }

    /// `frames` frames at a constant rate.
    pub fn at_rate(frames: usize, rate: f64) -> Option<Self> {
        let at = |frame: usize| frame as f64 / rate;
        Self::new((0..frames).map(at).collect(), at(frames))
    }

    /// Number of frames.
    #[allow(clippy::len_without_is_empty, reason = "there is a frame at least")]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// When a frame appears; `None` past the end.
    pub fn start(&self, frame: usize) -> Option<f64> {
        self.starts.get(frame).copied()
    }

    /// When a frame disappears; `None` past the end.
    pub fn end(&self, frame: usize) -> Option<f64> {
        match self.starts.get(frame + 1) {
            Some(&next) => Some(next),
            None if frame < self.len() => Some(self.end),
            None => None,
        }
    }

    /// Frames per second on average.
    pub fn rate(&self) -> f64 {
        self.len() as f64 / (self.end - self.starts[0])
    }

    /// Whether the frames follow each other at this rate, as far as containers can say that.
    pub fn is_at_rate(&self, rate: f64) -> bool {
        let mut starts = (0..).zip(&self.starts);
        starts.all(|(i, start)| (start - self.starts[0] - f64::from(i) / rate).abs() <= ROUNDING)
    }

    /// Those of a part of the frames, from its first one on.
    pub fn part(&self, frames: std::ops::Range<usize>) -> Option<Self> {
        let end = self.end(frames.end.checked_sub(1)?)?;
        let starts = self.starts.get(frames)?;
        let first = *starts.first()?;
        Self::new(
            starts.iter().map(|start| start - first).collect(),
            end - first,
        )
    }
}

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    frames: Vec<Frame>,
    #[serde(default)]
    format: Format,
}

#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "best_effort_timestamp_time")]
    start: Option<String>,
    #[serde(rename = "duration_time")]
    duration: Option<String>,
    /// The same until ffmpeg 6.
    #[serde(rename = "pkt_duration_time")]
    packet: Option<String>,
}

#[derive(Deserialize, Default)]
struct Format {
    duration: Option<String>,
}

/// Decodes the video, and asks for the time of every frame. `None` if the file does not tell, as streams
/// without a container do not.
pub(super) fn times(programs: &Programs, path: &Path) -> Result<Option<FrameTimes>, Error> {
    let mut command = input(&programs.ffprobe, &[], path);
    command
        .args(["-select_streams", "V:0", "-of", "json"])
        .args([
            "-show_entries",
            "format=duration:frame=best_effort_timestamp_time,pkt_duration_time,duration_time",
        ]);
    let output = command
        .output()
        .map_err(|error| not_started(&programs.ffprobe, path, &error))?;
    // What is wrong with the file was found when its frames were read.
    Ok(serde_json::from_slice(&output.stdout)
        .ok()
        .and_then(|report| understand(&report)))
}

fn understand(report: &Report) -> Option<FrameTimes> {
    let number = |text: &Option<String>| text.as_deref()?.parse::<f64>().ok();
    let starts: Option<Vec<f64>> = report
        .frames
        .iter()
        .map(|frame| number(&frame.start))
        .collect();
    let mut starts = starts?;
    let first = *starts.first()?;
    // To the microsecond, as ffprobe prints them.
    let rounded = |seconds: f64| (seconds * 1e6).round() / 1e6;
    for start in &mut starts {
        *start = rounded(*start - first);
    }
    let frame = report.frames.last()?;
    let last = *starts.last()?;
    let stated = number(&frame.duration).or_else(|| number(&frame.packet));
    let before = starts.len().checked_sub(2).map(|i| last - starts[i]);
    // Of the whole file, with its sound.
    let of_file = number(&report.format.duration).map(|all| all - last);
    let shortest = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let positive = |seconds: &f64| *seconds > 0.0;
    let duration = stated
        .filter(positive)
        .or_else(|| shortest(before, of_file.filter(positive)))?;
    FrameTimes::new(starts, rounded(last + duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understood(json: &str) -> Option<FrameTimes> {
        understand(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn the_last_frame_lasts_as_long_as_is_known() {
        let frames = |last: &str, format: &str| {
            let frame = |time: &str, more: &str| {
                format!(r#"{{"best_effort_timestamp_time":"{time}"{more}}}"#)
            };
            let frames = [frame("1.5", ""), frame("1.6", ""), frame("1.9", last)].join(",");
            understood(&format!(r#"{{"frames":[{frames}],"format":{{{format}}}}}"#))
        };
        let times = frames(r#","duration_time":"0.25""#, r#""duration":"9""#).unwrap();
        assert_eq!((times.start(1), times.end(1)), (Some(0.1), Some(0.4)));
        assert_eq!(
            (times.len(), times.end(2), times.end(3)),
            (3, Some(0.65), None)
        );
        let times = frames(r#","pkt_duration_time":"0.2""#, "").unwrap();
        assert_eq!(times.end(2), Some(0.6));
        let end = |format| frames("", format).unwrap().end(2);
        assert_eq!(end(""), Some(0.7));
        assert_eq!(end(r#""duration":"0.5""#), Some(0.5));
        assert_eq!(end(r#""duration":"9""#), Some(0.7));
        assert_eq!(end(r#""duration":"0.1""#), Some(0.7));
    }

    #[test]
    fn what_is_not_told_is_not_guessed() {
        assert_eq!(understood("{}"), None);
        assert_eq!(understood(r#"{"frames":[{}]}"#), None);
        let one = r#"{"frames":[{"best_effort_timestamp_time":"0"}]}"#;
        assert_eq!(understood(one), None);
        assert_eq!(FrameTimes::new(vec![0.0, 0.0], 1.0), None);
        assert_eq!(FrameTimes::new(vec![0.0, 1.0], f64::NAN), None);
        assert_eq!(FrameTimes::at_rate(3, 0.0), None);
    }

    #[test]
    fn rounded_times_are_at_a_rate() {
        let rounded = (0..100).map(|i| (f64::from(i) / 0.03).round() / 1e3);
        let times = FrameTimes::new(rounded.collect(), 3.333).unwrap();
        assert!(times.is_at_rate(30.0) && !times.is_at_rate(30.1));
        assert!((times.rate() - 30.0).abs() < 0.01);
        let times = FrameTimes::new(vec![0.0, 0.04, 0.08, 0.2], 0.24).unwrap();
        assert!(!times.is_at_rate(25.0) && !times.is_at_rate(times.rate()));
        let part = times.part(1..3).unwrap();
        assert_eq!((part.start(0), part.len()), (Some(0.0), 2));
        assert!(part.end(1).is_some_and(|end| (end - 0.16).abs() < 1e-9));
        assert_eq!(times.part(2..5), None);
        assert_eq!(times.part(2..2), None);
    }
}
