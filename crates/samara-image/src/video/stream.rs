//! Frames from one running ffmpeg, in order.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{ChildStdout, Stdio};

use image::RgbImage;

use super::probe::passthrough;
use super::process::{Process, Programs, input};
use crate::error::Error;

/// Frames as a sequence of PPM images: raw bytes that say their size, so that rotation and
/// whatever else ffmpeg does by itself need not be foreseen.
#[derive(Debug)]
pub(super) struct FrameStream {
    process: Process,
    pipe: BufReader<ChildStdout>,
}

impl FrameStream {
    /// Starts ffmpeg so that the first frame to come out is number `first`.
    pub(super) fn start(
        programs: &Programs,
        path: &Path,
        has_fps_mode: bool,
        first: usize,
    ) -> Result<Self, Error> {
        let mut before = vec!["-nostdin"];
        // Go on after damage, but say so at the end.
        before.extend(["-max_error_rate", "0"]);
        if first > 0 {
            // The counter of `select` would start anew when the stream changes on its way.
            before.extend(["-reinit_filter", "0"]);
        }
        let mut command = input(&programs.ffmpeg, &before, path);
        command.args(["-map", "0:V:0"]);
        command.args(passthrough(has_fps_mode));
        if first > 0 {
            command.args(["-vf", &format!("select=gte(n\\,{first})")]);
        }
        command.args(["-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-"]);
        command.stdout(Stdio::piped());
        let mut process = Process::start(command, path)?;
        let stdout = process.stdout().ok_or_else(|| {
            let closed = io::ErrorKind::BrokenPipe.into();
            Error::io(path, "ffmpeg cannot be read", closed)
        })?;
        Ok(Self {
            process,
            pipe: BufReader::new(stdout),
        })
    }

    /// Width and height of the next frame; `None` at the end. [`pixels`](Self::pixels) must follow.
    pub(super) fn header(&mut self) -> io::Result<Option<(u32, u32)>> {
        if self.pipe.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut text = String::new();
        for _ in 0..3 {
            // A line of a PPM header is short, whatever the pipe holds.
            self.pipe.by_ref().take(64).read_line(&mut text)?;
        }
        let mut words = text.split_ascii_whitespace();
        let mut number = || words.next().and_then(|word| word.parse::<u32>().ok());
        let magic = text.starts_with("P6\n");
        let _ = number();
        match (number(), number(), number()) {
            (Some(width), Some(height), Some(255)) if magic => Ok(Some((width, height))),
            _ => Err(io::Error::other("ffmpeg wrote something else than frames")),
        }
    }

    /// The frame after its header, in `buffer` if that is of use.
    pub(super) fn pixels(
        &mut self,
        (width, height): (u32, u32),
        mut buffer: Vec<u8>,
    ) -> io::Result<RgbImage> {
        let bytes = width as usize * height as usize * 3;
        buffer.resize(bytes, 0);
        self.pipe.read_exact(&mut buffer)?;
        RgbImage::from_raw(width, height, buffer).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// After the last frame: what was wrong with the file, if anything.
    pub(super) fn finish(mut self) -> Option<String> {
        match self.process.wait() {
            Ok(ended) => ended.damage(),
            Err(error) => Some(error.to_string()),
        }
    }

    #[cfg(all(test, target_os = "linux"))]
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }
}
