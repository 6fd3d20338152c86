//! Any video that ffmpeg reads.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use image::RgbImage;

use super::FrameSource;
use super::probe::{Probe, probe};
use super::process::Programs;
use super::stream::FrameStream;
use super::times::{self, FrameTimes};
use crate::error::Error;
use crate::limits::ImageLimits;

/// Most bytes of frames that are kept once a video was read backwards.
const KEPT_BYTES: usize = 256 << 20;

/// A video file, read through the programs `ffmpeg` and `ffprobe`.
///
/// Frames are numbered as ffmpeg decodes them, none dropped or repeated to fit a frame rate, and
/// turned upright as it does. A jump forward decodes what lies between. A jump backward decodes
/// from the beginning of the file, and then keeps as many frames before the wanted one as fit into
/// 256 MiB, so that reading backwards does so once in many frames.
///
/// Damage: ffmpeg goes on after it as a player does, so frames after it may show it or be missing.
/// The first read past the last frame is then an error with ffmpeg's words instead of `None`.
#[derive(Debug)]
pub struct FfmpegVideo {
    path: PathBuf,
    programs: Programs,
    probe: Probe,
    size: (u32, u32),
    /// Its next frame is the one after `kept`.
    stream: Option<FrameStream>,
    kept: VecDeque<RgbImage>,
    /// The number of the first frame in `kept`.
    first: usize,
    /// Most frames in `kept`: one until a video is read backwards.
    capacity: usize,
    kept_bytes: usize,
    end: Option<End>,
}

/// What is known once the last frame was read.
#[derive(Debug)]
struct End {
    frames: usize,
    damage: Option<String>,
}

impl FfmpegVideo {
    /// Starts reading the first video stream of `path`. The size of a frame must be within
    /// [`ImageLimits::max_pixels`]; the file may be of any length.
    ///
    /// # Errors
    /// [`Error::Io`] when the file is missing or a folder, [`Error::Unsupported`] when
    /// ffmpeg is not installed, [`Error::Decoding`] when it cannot make one frame of the file,
    /// [`Error::Limits`] when the frames are too large.
    pub fn open(path: impl AsRef<Path>, limits: &ImageLimits) -> Result<Self, Error> {
        Self::open_with(Programs::default(), path.as_ref(), limits)
    }

    fn open_with(programs: Programs, path: &Path, limits: &ImageLimits) -> Result<Self, Error> {
        let name = path.display().to_string();
        check_file(path)?;
        let probe = probe(&programs, path)?;
        let mut stream = FrameStream::start(&programs, path, probe.has_fps_mode, 0)?;
        let Some(size) = stream.header().unwrap_or_default() else {
            let why = stream.finish().map(|why| format!(": {why}"));
            let what = format!("holds no frames{}", why.unwrap_or_default());
            return Err(Error::decoding(&name, what));
        };
        limits.check_pixels(size.0, size.1, &name)?;
        let frame = stream
            .pixels(size, Vec::new())
            .map_err(|error| Error::io(path, "ffmpeg cannot be read", error))?;
        Ok(Self {
            path: path.to_path_buf(),
            programs,
            probe,
            size,
            stream: Some(stream),
            kept: VecDeque::from([frame]),
            first: 0,
            capacity: 1,
            kept_bytes: KEPT_BYTES,
            end: None,
        })
    }

    /// The number of the frame that `stream` gives next.
    fn next(&self) -> usize {
        self.first + self.kept.len()
    }

    fn kept(&self, index: usize) -> Option<&RgbImage> {
        self.kept.get(index.checked_sub(self.first)?)
    }

    /// Decodes from the beginning, to keep `index` and what fits before it.
    fn restart(&mut self, index: usize) -> Result<(), Error> {
        let frame_bytes = self.size.0 as usize * self.size.1 as usize * 3;
        self.capacity = (self.kept_bytes / frame_bytes.max(1)).max(1);
        self.kept.clear();
        self.first = (index + 1).saturating_sub(self.capacity);
        // The old child ends before the new one starts.
        self.stream = None;
        let has_fps_mode = self.probe.has_fps_mode;
        let stream = FrameStream::start(&self.programs, &self.path, has_fps_mode, self.first)?;
        self.stream = Some(stream);
        Ok(())
    }

    /// Moves one frame from the stream to `kept`, or learns that there are no more.
    fn advance(&mut self) {
        let Some(mut stream) = self.stream.take() else {
            return;
        };
        let broken = match stream.header() {
            Ok(Some(size)) if size == self.size => {
                let buffer = self.make_room();
                match stream.pixels(size, buffer) {
                    Ok(frame) => {
                        self.kept.push_back(frame);
                        self.stream = Some(stream);
                        return;
                    }
                    Err(error) => Some(error.to_string()),
                }
            }
            Ok(Some((width, height))) => Some(format!(
                "the frame is {width}x{height}, the first frame {}x{}",
                self.size.0, self.size.1
            )),
            Ok(None) => None,
            Err(error) => Some(error.to_string()),
        };
        self.end = Some(End {
            frames: self.next(),
            damage: match broken {
                // An ffmpeg that writes nonsense may never end by itself.
                Some(what) => Some(what),
                None => stream.finish(),
            },
        });
    }

    /// Makes room for one more frame, in the oldest one's memory if there is none left.
    fn make_room(&mut self) -> Vec<u8> {
        if self.kept.len() < self.capacity {
            return Vec::new();
        }
        self.first += 1;
        self.kept
            .pop_front()
            .map(RgbImage::into_raw)
            .unwrap_or_default()
    }

    fn damaged(&self, frames: usize, why: &str) -> Error {
        Error::decoding(
            &self.path.display().to_string(),
            format!("the video is damaged or cut off; ffmpeg read {frames} frames: {why}"),
        )
    }
}

impl FrameSource for FfmpegVideo {
    fn size(&self) -> (u32, u32) {
        self.size
    }

    fn len_hint(&self) -> Option<usize> {
        self.end
            .as_ref()
            .map(|end| end.frames)
            .or(self.probe.frames)
    }

    fn frame_rate(&self) -> Option<f64> {
        self.probe.rate
    }

    fn times(&self) -> Result<Option<FrameTimes>, Error> {
        let times = times::times(&self.programs, &self.path)?;
        // Of other frames than those that are read they would be wrong.
        let frames = self.end.as_ref().map(|end| end.frames);
        Ok(times.filter(|times| frames.is_none_or(|frames| frames == times.len())))
    }

    fn read(&mut self, index: usize) -> Result<Option<RgbImage>, Error> {
        loop {
            if let Some(frame) = self.kept(index) {
                return Ok(Some(frame.clone()));
            }
            match &self.end {
                Some(End { frames, damage }) if index >= *frames => {
                    return match damage {
                        Some(why) => Err(self.damaged(*frames, why)),
                        None => Ok(None),
                    };
                }
                _ => {}
            }
            if index < self.next() || self.stream.is_none() {
                self.restart(index)?;
            }
            self.advance();
        }
    }
}

/// Our own words for what ffmpeg would say less clearly.
fn check_file(path: &Path) -> Result<(), Error> {
    let fail = |source| Error::io(path, "cannot be read", source);
    let meta = fs::metadata(path).map_err(fail)?;
    let name = path.display().to_string();
    if meta.is_dir() {
        return Err(fail(std::io::ErrorKind::IsADirectory.into()));
    }
    if !meta.is_file() {
        let what = "a video must be a file, because it is read more than once";
        return Err(Error::unsupported(&name, what));
    }
    if meta.len() == 0 {
        return Err(Error::decoding(&name, "the file is empty"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::super::VideoWriter;
    use super::*;

    const SIZE: (u32, u32) = (32, 24);
    const FRAMES: usize = 20;

    fn small_video(folder: &Path) -> Result<FfmpegVideo, Error> {
        let path = folder.join("small.mp4");
        let mut writer = VideoWriter::create(&path, SIZE, 10.0)?;
        for i in 0..FRAMES {
            let grey = (i * 12) as u8;
            writer.write(&RgbImage::from_pixel(SIZE.0, SIZE.1, Rgb([grey; 3])))?;
        }
        writer.finish()?;
        FfmpegVideo::open(&path, &ImageLimits::default())
    }

    fn is_frame(frame: Option<&RgbImage>, number: usize) -> bool {
        frame.is_some_and(|frame| i32::from(frame[(5, 5)][0]).abs_diff(number as i32 * 12) < 5)
    }

    #[test]
    #[ignore = "needs ffmpeg"]
    fn reading_backwards_restarts_once_for_many_frames() {
        let folder = tempfile::tempdir().unwrap();
        let mut video = small_video(folder.path()).unwrap();
        // Six frames are kept.
        video.kept_bytes = 6 * 32 * 24 * 3 + 100;
        for i in (0..FRAMES).rev() {
            let before = video.first;
            assert!(is_frame(video.read(i).unwrap().as_ref(), i), "{i}");
            assert!(video.kept.len() <= 6);
            let restarted = video.first != before;
            assert_eq!(restarted, [19, 13, 7, 1].contains(&i), "{i}");
            if i == 19 {
                // Forwards only one frame is kept, so the first step back restarts.
                video.restart(19).unwrap();
            }
        }
    }

    #[test]
    #[ignore = "needs ffmpeg"]
    fn forwards_one_frame_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut video = small_video(folder.path()).unwrap();
        for i in [0, 0, 1, 2, 2, 9, 19] {
            assert!(is_frame(video.read(i).unwrap().as_ref(), i), "{i}");
            assert_eq!((video.first, video.kept.len()), (i, 1));
        }
        assert_eq!(video.read(FRAMES).unwrap(), None);
        assert_eq!(video.read(usize::MAX).unwrap(), None);
        assert!(is_frame(video.read(19).unwrap().as_ref(), 19));
        assert!(is_frame(video.read(3).unwrap().as_ref(), 3));
    }

    #[test]
    fn missing_programs_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        fs::write(&path, "anything").unwrap();
        let programs = Programs {
            ffmpeg: "no-such-ffmpeg".into(),
            ffprobe: "no-such-ffprobe".into(),
        };
        let error = FfmpegVideo::open_with(programs, &path, &ImageLimits::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{}: ffmpeg is not installed: a video file needs it \
                 (there is no program no-such-ffprobe); on Debian: apt-get install ffmpeg",
                path.display()
            )
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    #[ignore = "needs ffmpeg"]
    fn a_dropped_video_leaves_no_child() {
        let folder = tempfile::tempdir().unwrap();
        let mut video = small_video(folder.path()).unwrap();
        let id = |video: &FfmpegVideo| video.stream.as_ref().unwrap().id();
        let lives = |id: u32| Path::new(&format!("/proc/{id}")).exists();
        let first = id(&video);
        assert!(lives(first));
        video.read(5).unwrap();
        video.read(0).unwrap();
        let second = id(&video);
        assert!(!lives(first) && lives(second));
        drop(video);
        assert!(!lives(second));
    }
}
