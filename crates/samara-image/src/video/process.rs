//! A child process that cannot stall on its complaints and ends with its owner.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};

use crate::error::Error;

/// The programs to run; tests put others in their place.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    pub(super) ffmpeg: OsString,
    pub(super) ffprobe: OsString,
}

impl Default for Programs {
    fn default() -> Self {
        Self {
            ffmpeg: "ffmpeg".into(),
            ffprobe: "ffprobe".into(),
        }
    }
}

/// `path` as ffmpeg takes it literally, whatever colons or dashes it holds.
pub(super) fn url(path: &Path) -> OsString {
    let mut url = OsString::from("file:");
    url.push(path);
    url
}

/// `program` without input and outside of our process group, so that an interrupt from the
/// keyboard reaches us alone and we decide what becomes of the child.
pub(super) fn command(program: &OsStr) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}

/// What ffmpeg may read: containers and streams that are one file. Playlists, session descriptions and
/// scripts (`hls`, `dash`, `concat`, `sdp`, `imf` and others) make it open whatever they name.
const FORMATS: &str = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,asf_o,ogg,\
    mxf,nut,gif,apng,h261,h263,h264,hevc,vvc,av1,obu,ivf,m4v,mjpeg,yuv4mpegpipe,dv,dirac,vc1,cavsvideo,rm,wtv,gxf,\
    nuv,nsv,roq,smk,bink,flic,swf";

/// What ffmpeg says of a file in another format.
const REFUSED: &str = "Format not on whitelist";

/// `program` as [`command`], with options and then `path` as its only input: it opens no other file and no
/// connection, whatever the file asks for.
pub(super) fn input(program: &OsStr, options: &[&str], path: &Path) -> Command {
    let mut command = command(program);
    command.args(options);
    command.args(["-loglevel", "error", "-protocol_whitelist", "file"]);
    command
        .args(["-format_whitelist", FORMATS, "-i"])
        .arg(url(path));
    command
}

/// Our own words for a format that is not read.
pub(super) fn explained(complaint: &str) -> &str {
    if complaint.starts_with(REFUSED) {
        "it is a playlist, a description of other files, or of a format that is not taken for a video"
    } else {
        complaint
    }
}

/// Why a program did not start, for the file that needed it.
pub(super) fn not_started(program: &OsStr, path: &Path, error: &io::Error) -> Error {
    let program = program.to_string_lossy();
    let what = match error.kind() {
        io::ErrorKind::NotFound => format!(
            "ffmpeg is not installed: a video file needs it (there is no program {program}); \
             on Debian: apt-get install ffmpeg"
        ),
        _ => format!("{program} cannot be started: {error}"),
    };
    Error::unsupported(&path.display().to_string(), what)
}

/// A running child. Dropping it kills and reaps it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    complaints: Option<JoinHandle<Complaints>>,
}

/// How a child ended.
#[derive(Debug)]
pub(super) struct Ended {
    status: ExitStatus,
    complaints: Complaints,
}

#[derive(Debug, Default)]
struct Complaints {
    last: Option<String>,
    damage: Option<String>,
}

impl Process {
    /// Starts `command`, whose file is `path`, and reads its standard error from then on.
    pub(super) fn start(mut command: Command, path: &Path) -> Result<Self, Error> {
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| not_started(command.get_program(), path, &error))?;
        let prefix = format!("{}: ", url(path).to_string_lossy());
        let stderr = child.stderr.take();
        // Owned from here on, so that it is reaped whatever happens.
        let mut process = Self {
            child,
            complaints: None,
        };
        if let Some(stderr) = stderr {
            let thread = thread::Builder::new().spawn(move || listen(stderr, &prefix));
            let failed = |error| Error::io(path, "ffmpeg cannot be followed", error);
            process.complaints = Some(thread.map_err(failed)?);
        }
        Ok(process)
    }

    /// What the child reads, once, if it was piped.
    pub(super) fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// What the child writes, once, if it was piped.
    pub(super) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits until the child ends by itself.
    pub(super) fn wait(&mut self) -> io::Result<Ended> {
        let status = self.child.wait()?;
        let complaints = self.complaints.take().and_then(|thread| thread.join().ok());
        Ok(Ended {
            status,
            complaints: complaints.unwrap_or_default(),
        })
    }

    #[cfg(all(test, target_os = "linux"))]
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Neither fails in a way that anything could be done about.
        let _ = self.child.kill();
        let _ = self.wait();
    }
}

impl Ended {
    /// Why the child failed, in its own words; `None` if it did not.
    pub(super) fn failure(&self) -> Option<String> {
        if self.status.success() {
            return None;
        }
        let Complaints { last, damage } = &self.complaints;
        let words = damage.as_ref().or(last.as_ref());
        Some(words.map_or_else(|| format!("ended with {}", self.status), Clone::clone))
    }

    /// As [`failure`](Self::failure), or what it said of its input being damaged. It also complains
    /// about what is merely unusual, which is not reported.
    pub(super) fn damage(&self) -> Option<String> {
        self.failure().or_else(|| self.complaints.damage.clone())
    }
}

/// Reads complaints to their end.
fn listen(stderr: impl Read, prefix: &str) -> Complaints {
    let mut complaints = Complaints::default();
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let line = essence(&line, prefix);
        if line.is_empty() || line.starts_with("Last message repeated") {
            continue;
        }
        if says_damaged(line) {
            complaints.damage = Some(line.to_owned());
        }
        complaints.last = Some(line.to_owned());
    }
    complaints
}

/// A line without the part of ffmpeg it is from, `[h264 @ 0x55ac5]`, and the file's name.
pub(super) fn essence<'a>(line: &'a str, prefix: &str) -> &'a str {
    let mut line = line.trim();
    if line.starts_with('[')
        && let Some((part, rest)) = line.split_once("] ")
        && part.contains(" @ 0x")
    {
        line = rest.trim_start();
    }
    line.strip_prefix(prefix).unwrap_or(line)
}

/// ffmpeg goes on after most damage and reports success; only its words tell.
fn says_damaged(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    [
        "error while decoding",
        "corrupt",
        "ended prematurely",
        "partial file",
        "truncated",
        "exceeds containing",
        "invalid data found",
    ]
    .iter()
    .any(|words| line.contains(words))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Process, Error> {
        let mut command = command(OsStr::new("sh"));
        command.args(["-c", script]).stdout(Stdio::piped());
        Process::start(command, Path::new("a.mp4"))
    }

    #[test]
    fn a_flood_of_complaints_does_not_stall_the_child() {
        let mut process =
            shell("head -c 3000000 /dev/zero | tr '\\0' '\\n' >&2; echo last >&2; echo out")
                .unwrap();
        let mut out = String::new();
        let mut pipe = process.stdout().unwrap();
        pipe.read_to_string(&mut out).unwrap();
        assert_eq!(out, "out\n");
        let ended = process.wait().unwrap();
        assert_eq!(ended.failure(), None);
        assert_eq!(ended.complaints.last.as_deref(), Some("last"));
    }

    #[test]
    fn the_words_of_a_failure_are_kept() {
        let script = "echo '[mov @ 0x1f] file:a.mp4: partial file' >&2; echo 'mmco: failure' >&2";
        let ended = shell(script).unwrap().wait().unwrap();
        assert_eq!(ended.failure(), None);
        assert_eq!(ended.damage().as_deref(), Some("partial file"));

        let ended = shell("echo odd >&2; exit 3").unwrap().wait().unwrap();
        assert_eq!(ended.failure().as_deref(), Some("odd"));
        let ended = shell("exit 3").unwrap().wait().unwrap();
        assert_eq!(
            ended.failure().as_deref(),
            Some("ended with exit status: 3")
        );
        let ended = shell("echo 'mmco: failure' >&2").unwrap().wait().unwrap();
        assert_eq!(ended.damage(), None);
    }
}
