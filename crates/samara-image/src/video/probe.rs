//! What ffprobe knows about a video file.

use std::path::Path;

use serde::Deserialize;

use super::process::{Programs, command, essence, explained, input, not_started, url};
use crate::error::Error;

/// The first video stream of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Probe {
    /// Frames per second, on average.
    pub(super) rate: Option<f64>,
    /// How many frames the file says it has, or its duration times its rate.
    pub(super) frames: Option<usize>,
    /// Whether ffmpeg calls its option `-fps_mode` (since 5.1) and not `-vsync` (until 8).
    pub(super) has_fps_mode: bool,
}

/// libavformat of ffmpeg 5.1.
const FPS_MODE_SINCE: (u32, u32) = (59, 27);

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    format: Format,
    #[serde(default)]
    library_versions: Vec<Library>,
}

#[derive(Deserialize)]
struct Stream {
    avg_frame_rate: Option<String>,
    nb_frames: Option<String>,
    duration: Option<String>,
}

#[derive(Deserialize, Default)]
struct Format {
    duration: Option<String>,
}

#[derive(Deserialize)]
struct Library {
    name: String,
    major: u32,
    minor: u32,
}

/// Asks ffprobe about `path`.
///
/// # Errors
/// [`Error::Unsupported`] when ffprobe is missing, [`Error::Decoding`] when `path` is
/// nothing that it reads or holds no moving image.
pub(super) fn probe(programs: &Programs, path: &Path) -> Result<Probe, Error> {
    let name = path.display().to_string();
    let url = url(path);
    let output = input(&programs.ffprobe, &[], path)
        .args(["-select_streams", "V:0"])
        .args(["-show_entries", "stream=avg_frame_rate,nb_frames,duration"])
        .args(["-show_entries", "format=duration"])
        .args(["-show_library_versions", "-of", "json"])
        .output()
        .map_err(|error| not_started(&programs.ffprobe, path, &error))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let prefix = format!("{}: ", url.to_string_lossy());
        let mut lines = text.lines().map(|line| essence(line, &prefix));
        let refused = lines.clone().find(|line| explained(line) != *line);
        let last = lines.rfind(|line| !line.is_empty());
        let why = refused.or(last).map_or("", explained);
        return Err(Error::decoding(
            &name,
            format!("is not a video that ffmpeg reads: {why}"),
        ));
    }
    let report = serde_json::from_slice(&output.stdout).map_err(|error| {
        Error::decoding(&name, format!("ffprobe's answer makes no sense: {error}"))
    })?;
    understand(report).ok_or_else(|| Error::decoding(&name, "holds no video"))
}

/// The option by which ffmpeg neither drops nor repeats frames to fit a rate.
pub(super) fn passthrough(has_fps_mode: bool) -> [&'static str; 2] {
    let option = if has_fps_mode { "-fps_mode" } else { "-vsync" };
    [option, "passthrough"]
}

/// Whether ffmpeg has the option `-fps_mode`, as far as ffprobe tells.
pub(super) fn has_fps_mode(programs: &Programs, path: &Path) -> Result<bool, Error> {
    let output = command(&programs.ffprobe)
        .args([
            "-loglevel",
            "error",
            "-show_library_versions",
            "-of",
            "json",
        ])
        .output()
        .map_err(|error| not_started(&programs.ffprobe, path, &error))?;
    let report = serde_json::from_slice::<Report>(&output.stdout);
    Ok(report.is_ok_and(|report| report.has_fps_mode()))
}

impl Report {
    fn has_fps_mode(&self) -> bool {
        let mut libraries = self.library_versions.iter();
        libraries.all(|library| {
            library.name != "libavformat" || (library.major, library.minor) >= FPS_MODE_SINCE
        })
    }
}

/// `None` without a video stream.
fn understand(report: Report) -> Option<Probe> {
    let has_fps_mode = report.has_fps_mode();
    let stream = report.streams.into_iter().next()?;
    let rate = stream.avg_frame_rate.as_deref().and_then(parse_rate);
    let seconds = stream.duration.or(report.format.duration);
    let seconds = seconds.and_then(|s| s.parse::<f64>().ok());
    let estimate = rate
        .zip(seconds)
        .map(|(rate, seconds)| (rate * seconds).round() as usize);
    let counted = stream.nb_frames.and_then(|n| n.parse().ok());
    Some(Probe {
        rate,
        frames: counted.or(estimate).filter(|&n| n > 0),
        has_fps_mode,
    })
}

/// `30000/1001` as a number; `0/0` is not known.
fn parse_rate(text: &str) -> Option<f64> {
    let (numerator, denominator) = text.split_once('/')?;
    let rate = numerator.parse::<f64>().ok()? / denominator.parse::<f64>().ok()?;
    (rate.is_finite() && rate > 0.0).then_some(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understood(json: &str) -> Option<Probe> {
        understand(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn frames_are_counted_or_estimated() {
        let library = r#""library_versions":[{"name":"libavutil","major":50,"minor":1},
            {"name":"libavformat","major":58,"minor":76}]"#;
        let probe = understood(&format!(
            r#"{{"streams":[{{"avg_frame_rate":"30000/1001","nb_frames":"7"}}],
                "format":{{"duration":"9"}},{library}}}"#
        ));
        let probe = probe.unwrap();
        assert!((probe.rate.unwrap() - 29.97).abs() < 0.001);
        assert_eq!((probe.frames, probe.has_fps_mode), (Some(7), false));

        let json = r#"{"streams":[{"avg_frame_rate":"25/1"}],"format":{"duration":"2.04"}}"#;
        let probe = understood(json).unwrap();
        assert_eq!((probe.frames, probe.has_fps_mode), (Some(51), true));

        let json = r#"{"streams":[{"avg_frame_rate":"0/0","duration":"N/A"}],"format":{}}"#;
        let probe = understood(json).unwrap();
        assert_eq!((probe.rate, probe.frames), (None, None));

        assert_eq!(understood(r#"{"streams":[],"format":{}}"#), None);
        assert_eq!(understood("{}"), None);
    }
}
