//! A video file of our own.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};

use image::RgbImage;
use tempfile::TempPath;

use super::probe::{has_fps_mode, passthrough};
use super::process::{Process, Programs, command, url};
use super::timed;
use super::times::FrameTimes;
use crate::error::Error;
use crate::save::temporary_beside;

/// x264's quality: no visible artefacts on thin contours.
const CRF: &str = "18";

/// Writes an H.264 video in an MP4 file, through the program `ffmpeg`.
///
/// The file appears under its name at [`finish`](Self::finish), whole; a writer that is dropped
/// before leaves nothing. Every player knows the format, which halves the resolution of colours; a
/// side with an odd number of pixels gets one black row or column, right or below.
#[derive(Debug)]
pub struct VideoWriter {
    path: PathBuf,
    target: PathBuf,
    size: (u32, u32),
    frames: usize,
    /// When the frames are shown, if they are not shown equally long.
    times: Option<FrameTimes>,
    // Closed and ended before the file that they write is removed.
    pipe: Option<ChildStdin>,
    process: Process,
    file: TempPath,
}

impl VideoWriter {
    /// Starts a video of frames of `size` (width, height), `frame_rate` per second. A file of that
    /// name is replaced when the video is finished.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the extension is there and not `.mp4` or when ffmpeg is not
    /// installed, [`Error::Parameter`] for a size without pixels or a rate that is not
    /// positive, [`Error::Io`] when the folder is missing or not writable or `path` is a
    /// folder.
    pub fn create(
        path: impl AsRef<Path>,
        size: (u32, u32),
        frame_rate: f64,
    ) -> Result<Self, Error> {
        Self::create_with(
            &Programs::default(),
            path.as_ref(),
            size,
            Pace::Rate(frame_rate),
        )
    }

    /// As [`create`](Self::create), with frames that are shown at times of their own.
    ///
    /// # Errors
    /// As those of [`create`](Self::create).
    pub fn create_timed(
        path: impl AsRef<Path>,
        size: (u32, u32),
        times: FrameTimes,
    ) -> Result<Self, Error> {
        Self::create_with(
            &Programs::default(),
            path.as_ref(),
            size,
            Pace::Times(times),
        )
    }

    fn create_with(
        programs: &Programs,
        path: &Path,
        size: (u32, u32),
        pace: Pace,
    ) -> Result<Self, Error> {
        let (frame_rate, times) = match pace {
            Pace::Rate(rate) => (rate, None),
            Pace::Times(times) => (times.rate(), Some(times)),
        };
        check(path, size, frame_rate)?;
        let target = target_of(path)?;
        let file = temporary_beside(&target)
            .map_err(|source| Error::io(path, "cannot be written", source))?
            .into_temp_path();
        let input = match &times {
            None => Input::AtRate(frame_rate),
            Some(_) => Input::Timed {
                has_fps_mode: has_fps_mode(programs, path)?,
            },
        };
        let command = encoder(programs, &file, size, input);
        let mut process = Process::start(command, path)?;
        Ok(Self {
            path: path.to_path_buf(),
            target,
            size,
            frames: 0,
            times,
            pipe: process.stdin(),
            process,
            file,
        })
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a frame of another size or without a time, which is not written;
    /// [`Error::Io`] when ffmpeg gave up, for instance on a full disk.
    pub fn write(&mut self, frame: &RgbImage) -> Result<(), Error> {
        if frame.dimensions() != self.size {
            let ((width, height), (w, h)) = (self.size, frame.dimensions());
            return Err(self.unusable(format!("the frame is {w}x{h}, the video {width}x{height}")));
        }
        let written = match (&mut self.pipe, &self.times) {
            (Some(pipe), None) => pipe.write_all(frame.as_raw()),
            (Some(pipe), Some(times)) => {
                let n = self.frames;
                let (Some(start), Some(end)) = (times.start(n), times.end(n)) else {
                    return Err(self.unusable(format!("there is no time for frame {n}")));
                };
                let head = if n == 0 {
                    timed::head(self.size)
                } else {
                    Vec::new()
                };
                let block = timed::block(start, end - start, frame.as_raw().len());
                pipe.write_all(&head)
                    .and_then(|()| pipe.write_all(&block))
                    .and_then(|()| pipe.write_all(frame.as_raw()))
            }
            (None, _) => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        if let Err(error) = written {
            return Err(match self.end() {
                Err(why) => why,
                Ok(()) => Error::io(&self.path, "cannot be written", error),
            });
        }
        self.frames += 1;
        Ok(())
    }

    /// Ends the video and puts it in its place.
    ///
    /// # Errors
    /// [`Error::Parameter`] when no frame was written, [`Error::Io`] when the file cannot
    /// be completed. Nothing is left then.
    pub fn finish(mut self) -> Result<(), Error> {
        if self.frames == 0 {
            return Err(self.unusable("a video needs at least one frame".to_owned()));
        }
        self.end()?;
        self.file
            .persist(&self.target)
            .map_err(|e| Error::io(&self.path, "cannot be written", e.error))
    }

    /// Closes the pipe and waits for ffmpeg.
    fn end(&mut self) -> Result<(), Error> {
        self.pipe = None;
        let fail = |error| Error::io(&self.path, "cannot be written", error);
        match self.process.wait().map_err(fail)?.failure() {
            Some(why) => Err(fail(std::io::Error::other(format!("ffmpeg: {why}")))),
            None => Ok(()),
        }
    }

    fn unusable(&self, what: String) -> Error {
        Error::parameter(&self.path.display().to_string(), what)
    }
}

fn check(path: &Path, (width, height): (u32, u32), frame_rate: f64) -> Result<(), Error> {
    let name = path.display().to_string();
    let extension = path.extension().map(|e| e.to_string_lossy());
    if let Some(other) = extension.filter(|e| !e.eq_ignore_ascii_case("mp4")) {
        let what = format!("videos are saved as .mp4, not .{other}");
        return Err(Error::unsupported(&name, what));
    }
    if width == 0 || height == 0 {
        let what = format!("a video needs pixels, not {width}x{height}");
        return Err(Error::parameter(&name, what));
    }
    if !frame_rate.is_finite() || frame_rate <= 0.0 {
        let what = format!("{frame_rate} frames per second are not possible");
        return Err(Error::parameter(&name, what));
    }
    Ok(())
}

/// The file to replace: a symbolic link stays and what it points to is replaced.
fn target_of(path: &Path) -> Result<PathBuf, Error> {
    let fail = |source| Error::io(path, "cannot be written", source);
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Err(fail(std::io::ErrorKind::IsADirectory.into())),
        Ok(meta) if !meta.is_file() => Err(Error::unsupported(
            &path.display().to_string(),
            "a video is written to a file, nothing else",
        )),
        Ok(_) => fs::canonicalize(path).map_err(fail),
        Err(_) => Ok(path.to_path_buf()),
    }
}

/// What ffmpeg is given.
#[derive(Clone, Copy)]
enum Input {
    AtRate(f64),
    Timed { has_fps_mode: bool },
}

/// When frames are shown.
enum Pace {
    Rate(f64),
    Times(FrameTimes),
}

fn encoder(programs: &Programs, file: &Path, (width, height): (u32, u32), input: Input) -> Command {
    // Declared as what it is, BT.709, or players guess from the size.
    const FILTERS: &str = "pad=ceil(iw/2)*2:ceil(ih/2)*2,\
                           scale=out_color_matrix=bt709:out_range=tv,format=yuv420p";
    let mut command = command(&programs.ffmpeg);
    command.args(["-nostdin", "-loglevel", "error", "-y"]);
    match input {
        Input::AtRate(frame_rate) => {
            command.args(["-f", "rawvideo", "-pix_fmt", "rgb24"]);
            command.args(["-s", &format!("{width}x{height}")]);
            command.args(["-r", &frame_rate.to_string(), "-i", "pipe:0"]);
        }
        Input::Timed { has_fps_mode } => {
            command
                .args(["-f", "matroska", "-i", "pipe:0"])
                .args(passthrough(has_fps_mode));
            command.args([
                "-enc_time_base",
                "1/90000",
                "-video_track_timescale",
                "90000",
            ]);
        }
    }
    command.args(["-vf", FILTERS, "-c:v", "libx264", "-crf", CRF]);
    command.args(["-colorspace", "bt709", "-color_primaries", "bt709"]);
    command.args(["-color_trc", "bt709", "-color_range", "tv"]);
    command.args(["-movflags", "+faststart", "-f", "mp4"]);
    command.arg(url(file));
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        let programs = Programs {
            ffmpeg: "no-such-ffmpeg".into(),
            ..Programs::default()
        };
        let error =
            VideoWriter::create_with(&programs, &path, (8, 8), Pace::Rate(25.0)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("a.mp4: ffmpeg is not installed: "), "{text}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    #[ignore = "needs ffmpeg"]
    fn a_dropped_writer_leaves_neither_child_nor_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        let mut writer = VideoWriter::create(&path, (8, 8), 25.0).unwrap();
        writer.write(&RgbImage::new(8, 8)).unwrap();
        let child = format!("/proc/{}", writer.process.id());
        assert!(Path::new(&child).exists());
        drop(writer);
        assert!(!Path::new(&child).exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    #[ignore = "needs ffmpeg"]
    fn an_encoder_that_gives_up_is_an_error_with_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        // No encoder of H.264 takes this many pixels in a row.
        let mut writer = VideoWriter::create(&path, (20_000, 2), 25.0).unwrap();
        let frame = RgbImage::new(20_000, 2);
        let error = (0..100).find_map(|_| writer.write(&frame).err()).unwrap();
        let text = error.to_string();
        assert!(
            text.contains("a.mp4: cannot be written: ffmpeg: "),
            "{text}"
        );
        assert!(writer.finish().is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
