//! Downloads from a local server that can also misbehave.
#![expect(clippy::expect_used, reason = "a test stops at its first surprise")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use samara_model::checkpoint::cache::{HOME_VARIABLE, ModelCache};
use samara_model::checkpoint::download::{
    BASE_URL_VARIABLE, DownloadError, DownloadOptions, Progress, Stage, Timeouts, download,
};
use samara_model::checkpoint::registry::{self, Release};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

const FILE: &str = "toy.pt";

// ---- the server

#[derive(Clone, Debug)]
struct Request {
    path: String,
    headers: HashMap<String, String>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The offset of `Range: bytes=N-`.
    fn offset(&self) -> Option<usize> {
        let range = self.header("range")?;
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    }
}

/// An answer, and how much of it is really sent.
#[derive(Clone, Debug)]
struct Answer {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
    hang: bool,
}

impl Answer {
    fn new(status: &'static str, body: &[u8]) -> Self {
        let headers = vec![("Content-Length", body.len().to_string())];
        Self {
            status,
            headers,
            body: body.to_vec(),
            cut: None,
            hang: false,
        }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Closes the connection after so many bytes of the body.
    fn cut(mut self, at: usize) -> Self {
        self.cut = Some(at);
        self
    }

    /// Leaves the connection open, without another byte, after what was sent.
    fn hang(mut self) -> Self {
        self.hang = true;
        self
    }

    fn without_length(mut self) -> Self {
        self.headers.retain(|(name, _)| *name != "Content-Length");
        self
    }

    fn send(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {}\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(&self.body[..self.cut.unwrap_or(self.body.len())])?;
        stream.flush()
    }
}

/// What a well-behaved server answers for a file with this entity tag.
fn serve(content: &[u8], etag: &str, request: &Request) -> Answer {
    let unchanged = request.header("if-range").is_none_or(|tag| tag == etag);
    match request.offset().filter(|_| unchanged) {
        Some(offset) if offset >= content.len() => Answer::new("416 Range Not Satisfiable", b""),
        Some(offset) => {
            let range = format!("bytes {offset}-{}/{}", content.len() - 1, content.len());
            Answer::new("206 Partial Content", &content[offset..])
                .with("Content-Range", &range)
                .with("ETag", etag)
        }
        None => Answer::new("200 OK", content).with("ETag", etag),
    }
}

struct Server {
    base: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// `answer` gets the number of the request, from 0, and the request.
    fn start(answer: impl Fn(usize, &Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let base = format!(
            "http://{}/weights",
            listener.local_addr().expect("an address")
        );
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            let mut hanging = Vec::new();
            for mut stream in listener.incoming().flatten() {
                let Some(request) = read_request(&stream) else {
                    continue;
                };
                let number = {
                    let mut seen = seen.lock().expect("not poisoned");
                    seen.push(request.clone());
                    seen.len() - 1
                };
                let answer = answer(number, &request);
                // A client that has gone away is part of some tests.
                let _ = answer.send(&mut stream);
                if answer.hang {
                    hanging.push(stream);
                }
            }
        });
        Self { base, requests }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("not poisoned").clone()
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect();
    Some(Request { path, headers })
}

// ---- the client side

fn content(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(step).collect()
}

fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

fn release(content: &[u8]) -> Release {
    let mut release = registry::find("mobile-sam").expect("listed").clone();
    release.file_name = FILE;
    release.size = Some(content.len() as u64);
    release.sha256 = Some(sha256(content).leak());
    release
}

struct Client {
    folder: TempDir,
    options: DownloadOptions,
}

impl Client {
    fn new(base: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = DownloadOptions {
            base_url: Some(base.to_owned()),
            cache_dir: Some(folder.path().join("models")),
            retry_delay: Duration::from_millis(1),
            ..DownloadOptions::default()
        };
        Self { folder, options }
    }

    fn file(&self, suffix: &str) -> std::path::PathBuf {
        self.folder
            .path()
            .join("models")
            .join(format!("{FILE}{suffix}"))
    }

    fn download(&self, release: &Release) -> Result<Vec<Progress>, DownloadError> {
        let mut steps = Vec::new();
        let path = download(release, &self.options, &mut |step| steps.push(step))?;
        assert_eq!(path, self.file(""));
        Ok(steps)
    }

    /// Downloads, and checks that the file and nothing unfinished is there.
    fn expect(&self, release: &Release, content: &[u8]) -> Vec<Progress> {
        let steps = self.download(release).expect("downloaded");
        assert!(
            std::fs::read(self.file("")).expect("the file") == content,
            "wrong content"
        );
        assert!(!self.file(".part").exists() && !self.file(".part.json").exists());
        steps
    }

    /// Downloads, and checks that it fails in one line.
    fn fail(&self, release: &Release) -> (DownloadError, String) {
        let error = self.download(release).expect_err("a failure");
        let message = error.to_string();
        assert!(!message.contains('\n'), "{message}");
        assert!(!self.file("").exists(), "{message}");
        (error, message)
    }

    /// Puts a part of an earlier run into the folder.
    fn leave_part(&self, bytes: &[u8], sidecar: Option<&str>) {
        std::fs::create_dir_all(self.folder.path().join("models")).expect("a folder");
        std::fs::write(self.file(".part"), bytes).expect("written");
        if let Some(sidecar) = sidecar {
            std::fs::write(self.file(".part.json"), sidecar).expect("written");
        }
    }
}

fn last_stage(steps: &[Progress]) -> Option<Stage> {
    steps.last().map(|step| step.stage)
}

// ---- what goes well

#[test]
fn a_file_is_downloaded_once() {
    let content = content(600_000);
    let file = content.clone();
    let server = Server::start(move |_, request| serve(&file, "\"1\"", request));
    let client = Client::new(&server.base);
    let release = release(&content);

    let steps = client.expect(&release, &content);
    assert_eq!(last_stage(&steps), Some(Stage::Verified));
    assert!(steps.is_sorted_by_key(|step| step.done));
    assert!(steps.iter().all(|step| step.total == Some(600_000)));
    let steps = client.expect(&release, &content);
    assert!(
        steps.iter().all(|step| step.stage == Stage::Checking),
        "it was there: {steps:?}"
    );

    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].path, "/weights/toy.pt");
    assert_eq!(requests[0].header("range"), None);
    assert_eq!(requests[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn force_downloads_again_from_the_start() {
    let content = content(10_000);
    let file = content.clone();
    let server = Server::start(move |_, request| serve(&file, "\"1\"", request));
    let mut client = Client::new(&server.base);
    let release = release(&content);
    client.expect(&release, &content);
    client.leave_part(&content[..5_000], None);
    client.options.force = true;
    client.expect(&release, &content);
    assert_eq!(server.requests()[1].header("range"), None);
}

#[test]
fn a_part_is_resumed_and_only_the_rest_is_sent() {
    let content = content(600_000);
    let file = content.clone();
    let server = Server::start(move |_, request| serve(&file, "\"1\"", request));
    let client = Client::new(&server.base);
    let url = format!("{}/{FILE}", server.base);
    let sidecar = format!(r#"{{"url":"{url}","etag":"\"1\"","total":600000}}"#);
    client.leave_part(&content[..400_000], Some(&sidecar));

    let steps = client.expect(&release(&content), &content);
    assert_eq!(steps[0].stage, Stage::Checking);
    let fetched = steps.iter().find(|step| step.stage == Stage::Fetching);
    assert_eq!(
        fetched.map(|step| step.done),
        Some(400_000),
        "no byte was fetched twice"
    );

    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("range"), Some("bytes=400000-"));
    assert_eq!(requests[0].header("if-range"), Some("\"1\""));
}

#[test]
fn a_cancelled_download_goes_on_from_there() {
    let content = content(600_000);
    let file = content.clone();
    let server = Server::start(move |_, request| serve(&file, "\"1\"", request));
    let client = Client::new(&server.base);
    let release = release(&content);
    let cancelled = &client.options.cancelled;
    let error = download(&release, &client.options, &mut |step| {
        cancelled.store(step.done > 0, Ordering::Relaxed);
    });
    assert_eq!(
        error.expect_err("cancelled").to_string(),
        "cancelled; the next download goes on from there"
    );
    let kept = std::fs::metadata(client.file(".part"))
        .expect("the part")
        .len();
    assert!((1..600_000).contains(&kept), "{kept}");
    cancelled.store(false, Ordering::Relaxed);
    client.expect(&release, &content);
    assert_eq!(
        server.requests()[1].header("range"),
        Some(&*format!("bytes={kept}-"))
    );
}

#[test]
fn a_complete_part_needs_no_server() {
    let content = content(10_000);
    let client = Client::new("http://127.0.0.1:1");
    client.leave_part(&content, None);
    client.expect(&release(&content), &content);
}

#[test]
fn a_server_without_ranges_sends_everything() {
    let content = content(300_000);
    let file = content.clone();
    let server = Server::start(move |_, _| Answer::new("200 OK", &file));
    let client = Client::new(&server.base);
    client.leave_part(&content[..100_000], None);
    client.expect(&release(&content), &content);
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("range"), Some("bytes=100000-"));
}

#[test]
fn a_dropped_connection_is_resumed() {
    let content = content(600_000);
    let file = content.clone();
    let server = Server::start(move |number, request| {
        let answer = serve(&file, "\"1\"", request);
        if number < 2 {
            answer.cut(200_000)
        } else {
            answer
        }
    });
    let client = Client::new(&server.base);
    let steps = client.expect(&release(&content), &content);
    assert!(steps.iter().any(|step| step.stage == Stage::Waiting));

    let requests = server.requests();
    let offsets: Vec<_> = requests.iter().map(Request::offset).collect();
    assert_eq!(offsets, [None, Some(200_000), Some(400_000)]);
    assert_eq!(requests[2].header("if-range"), Some("\"1\""));
}

#[test]
fn a_stalled_connection_is_resumed() {
    let content = content(100_000);
    let file = content.clone();
    let server = Server::start(move |number, request| {
        let answer = serve(&file, "\"1\"", request);
        if number == 0 {
            answer.cut(30_000).hang()
        } else {
            answer
        }
    });
    let mut client = Client::new(&server.base);
    client.options.timeouts = Timeouts {
        stall: Duration::from_millis(200),
        ..Timeouts::default()
    };
    client.expect(&release(&content), &content);
    assert_eq!(server.requests()[1].offset(), Some(30_000));
}

#[test]
fn a_redirect_keeps_the_range() {
    let content = content(50_000);
    let file = content.clone();
    let server = Server::start(move |_, request| match request.path.as_str() {
        "/weights/toy.pt" => Answer::new("302 Found", b"").with("Location", "/elsewhere/x"),
        _ => serve(&file, "\"1\"", request),
    });
    let client = Client::new(&server.base);
    client.leave_part(&content[..20_000], None);
    client.expect(&release(&content), &content);
    let requests = server.requests();
    assert_eq!(requests[1].path, "/elsewhere/x");
    assert_eq!(requests[1].offset(), Some(20_000));
}

#[test]
fn a_busy_server_is_asked_again() {
    let content = content(1_000);
    let file = content.clone();
    let server = Server::start(move |number, request| match number {
        0 => Answer::new("503 Service Unavailable", b"later"),
        _ => serve(&file, "\"1\"", request),
    });
    Client::new(&server.base).expect(&release(&content), &content);
}

#[test]
fn a_release_without_a_hash_is_reported_as_unverified() {
    let content = content(1_000);
    let file = content.clone();
    let server = Server::start(move |_, request| serve(&file, "\"1\"", request));
    let client = Client::new(&server.base);
    // Nothing tells whether this part belongs to the file.
    client.leave_part(b"something else", None);
    let mut release = release(&content);
    release.sha256 = None;
    release.size = None;
    let steps = client.expect(&release, &content);
    assert_eq!(last_stage(&steps), Some(Stage::Unverified));
    assert_eq!(server.requests()[0].header("range"), None);
}

// ---- a file that changes

/// A first run that breaks off after 200 000 bytes with the entity tag `"old"`.
fn broken_off(
    content: &[u8],
    then: impl Fn(&Request) -> Answer + Send + 'static,
) -> (Server, Client) {
    let old = vec![7; content.len()];
    let server = Server::start(move |number, request| match number {
        0 => serve(&old, "\"old\"", request).cut(200_000),
        _ => then(request),
    });
    let mut client = Client::new(&server.base);
    client.options.retries = 0;
    let (error, _) = client.fail(&release(content));
    assert!(
        matches!(error, DownloadError::Interrupted { done: 200_000, .. }),
        "{error:?}"
    );
    client.options.retries = 4;
    (server, client)
}

#[test]
fn a_changed_file_is_fetched_afresh() {
    let content = content(600_000);
    let file = content.clone();
    let (server, client) = broken_off(&content, move |request| serve(&file, "\"new\"", request));
    client.expect(&release(&content), &content);
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].header("if-range"), Some("\"old\""));
}

#[test]
fn a_changed_file_is_noticed_where_if_range_is_ignored() {
    let content = content(600_000);
    let file = content.clone();
    let (server, client) = broken_off(&content, move |request| {
        let mut request = request.clone();
        request.headers.remove("if-range");
        serve(&file, "\"new\"", &request)
    });
    client.expect(&release(&content), &content);
    let offsets: Vec<_> = server.requests().iter().map(Request::offset).collect();
    assert_eq!(offsets, [None, Some(200_000), None]);
}

#[test]
fn a_range_that_was_not_asked_for_is_not_appended() {
    let content = content(600_000);
    let file = content.clone();
    let (_server, client) = broken_off(&content, move |request| match request.offset() {
        Some(_) => Answer::new("206 Partial Content", &file[100..])
            .with("Content-Range", "bytes 100-599999/600000"),
        None => serve(&file, "\"new\"", request),
    });
    client.expect(&release(&content), &content);
}

// ---- what goes wrong

#[test]
fn a_wrong_hash_deletes_the_file_and_names_both() {
    let content = content(10_000);
    let server = Server::start(|_, request| serve(&[1; 10_000], "\"1\"", request));
    let client = Client::new(&server.base);
    let (error, message) = client.fail(&release(&content));
    assert!(matches!(error, DownloadError::Hash { .. }));
    assert!(message.contains(&sha256(&content)) && message.contains(&sha256(&[1; 10_000])));
    assert!(!client.file(".part").exists() && !client.file(".part.json").exists());
}

#[test]
fn a_wrong_size_is_refused_before_the_download_and_spares_the_part() {
    let content = content(10_000);
    let server = Server::start(|_, _| Answer::new("200 OK", b"<html>Please log in</html>"));
    let client = Client::new(&server.base);
    let (error, message) = client.fail(&release(&content));
    assert!(
        matches!(
            error,
            DownloadError::Size {
                expected: 10_000,
                found: 26,
                ..
            }
        ),
        "{message}"
    );
    assert!(!client.file(".part").exists(), "nothing came");

    client.leave_part(&content[..5_000], None);
    client.fail(&release(&content));
    assert_eq!(
        std::fs::read(client.file(".part")).expect("kept"),
        content[..5_000]
    );
}

#[test]
fn an_endless_file_is_cut_off() {
    let content = content(10_000);
    let server = Server::start(|_, _| Answer::new("200 OK", &vec![1; 900_000]).without_length());
    let client = Client::new(&server.base);
    let (error, _) = client.fail(&release(&content));
    assert!(
        matches!(
            error,
            DownloadError::Size {
                expected: 10_000,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(!client.file(".part").exists());
}

#[test]
fn a_missing_file_is_named() {
    let server = Server::start(|_, _| Answer::new("404 Not Found", b"no such file"));
    let client = Client::new(&server.base);
    let (error, message) = client.fail(&release(&content(10)));
    assert!(matches!(error, DownloadError::Status { status: 404, .. }));
    let host = server
        .base
        .trim_start_matches("http://")
        .trim_end_matches("/weights");
    assert_eq!(
        message,
        format!("{host} answered 404 (Not Found) for {}/{FILE}", server.base)
    );
    assert_eq!(server.requests().len(), 1, "asking again would not help");
}

#[test]
fn a_server_that_only_drops_is_given_up_and_the_part_kept() {
    let content = content(100_000);
    let file = content.clone();
    let server = Server::start(move |_, request| serve(&file, "\"1\"", request).cut(10));
    let mut client = Client::new(&server.base);
    client.options.retries = 2;
    let (error, message) = client.fail(&release(&content));
    assert!(
        matches!(error, DownloadError::Interrupted { done: 30, .. }),
        "{error:?}"
    );
    assert!(
        message.contains("30 bytes of 100000") && message.contains("run it again"),
        "{message}"
    );
    assert_eq!(
        std::fs::read(client.file(".part")).expect("kept"),
        content[..30]
    );
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn an_unreachable_host_is_one_line_with_the_ways_out() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let base = format!("http://{}", port.expect("a port that is closed again"));
    let client = Client::new(&base);
    let start = Instant::now();
    let (error, message) = client.fail(&release(&content(10)));
    assert!(matches!(error, DownloadError::Unreachable { .. }));
    let host = base.trim_start_matches("http://");
    assert!(
        message.starts_with(&format!("cannot reach {host} (")),
        "{message}"
    );
    for way in [FILE, "give its file", "models", BASE_URL_VARIABLE] {
        assert!(message.contains(way), "{message}");
    }
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "no use in waiting"
    );
    assert!(!client.file(".part").exists());
}

#[test]
fn a_server_that_speaks_no_http_is_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = read_request(&stream);
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n\r\n");
        }
    });
    Client::new(&base).fail(&release(&content(10)));
}

#[test]
fn an_unwritable_folder_is_named() {
    let server = Server::start(|_, _| Answer::new("200 OK", b""));
    let mut client = Client::new(&server.base);
    // A file in the way stops every user, a missing permission would not stop root.
    let blocked = client.folder.path().join("blocked");
    std::fs::write(&blocked, "").expect("written");
    client.options.cache_dir = Some(blocked.join("models"));
    let (error, message) = client.fail(&release(&content(10)));
    assert!(
        matches!(error, DownloadError::Unwritable { .. }),
        "{error:?}"
    );
    assert!(
        message.contains("blocked") && message.contains(HOME_VARIABLE),
        "{message}"
    );
    assert!(server.requests().is_empty());
}

#[test]
fn a_bad_mirror_is_refused_without_a_request() {
    let client = Client::new("mirror.example/sam");
    let (error, _) = client.fail(&release(&content(10)));
    assert!(matches!(error, DownloadError::BaseUrl { .. }), "{error:?}");
}

// ---- a part outlives what may not be the file

/// Fails while a part of `content` with 50 000 bytes is there, which must stay as it is.
fn fail_beside_a_part(
    content: &[u8],
    answer: impl Fn(usize, &Request) -> Answer + Send + 'static,
) -> (String, Vec<Request>) {
    let server = Server::start(answer);
    let mut client = Client::new(&server.base);
    client.options.retries = 1;
    let url = format!("{}/{FILE}", server.base);
    let sidecar = format!(
        r#"{{"url":"{url}","etag":"\"1\"","total":{}}}"#,
        content.len()
    );
    client.leave_part(&content[..50_000], Some(&sidecar));
    let (_, message) = client.fail(&release(content));
    let read = |suffix| std::fs::read(client.file(suffix)).expect("kept");
    assert!(read(".part") == content[..50_000], "{message}");
    assert!(read(".part.json") == sidecar.as_bytes(), "{message}");
    let second = [".part.new", ".part.new.json"];
    assert!(!second.iter().any(|suffix| client.file(suffix).exists()));

    // And it is of use: only the rest is fetched from a server that has the file.
    let file = content.to_vec();
    let good = Server::start(move |_, request| serve(&file, "\"1\"", request));
    client.options.base_url = Some(good.base.clone());
    client.expect(&release(content), content);
    assert_eq!(good.requests()[0].offset(), Some(50_000));
    (message, server.requests())
}

#[test]
fn a_login_page_without_a_length_spares_the_part() {
    let page = |_: usize, _: &Request| Answer::new("200 OK", b"<html>Log in</html>");
    fail_beside_a_part(&content(90_000), move |n, r| page(n, r).without_length());
    let (message, _) = fail_beside_a_part(&content(90_000), move |number, request| {
        match request.path.as_str() {
            "/weights/toy.pt" => Answer::new("302 Found", b"").with("Location", "/login"),
            _ => page(number, request).without_length(),
        }
    });
    assert!(message.contains("50000 bytes of 90000"), "{message}");
}

#[test]
fn a_whole_file_that_breaks_off_early_spares_the_part() {
    let content = content(90_000);
    for length in [true, false] {
        let file = content.clone();
        let (message, _) = fail_beside_a_part(&content, move |_, _| {
            let answer = Answer::new("200 OK", &file).cut(20_000);
            if length {
                answer
            } else {
                answer.without_length()
            }
        });
        assert!(message.contains("50000 bytes of 90000"), "{message}");
    }
}

#[test]
fn a_whole_file_that_breaks_off_late_takes_the_place_of_the_part() {
    let content = content(90_000);
    let file = content.clone();
    let server = Server::start(move |number, request| match number {
        0 => Answer::new("200 OK", &file).cut(70_000).without_length(),
        _ => serve(&file, "\"1\"", request),
    });
    let client = Client::new(&server.base);
    client.leave_part(&vec![7; 50_000], None);
    client.expect(&release(&content), &content);
    let offsets: Vec<_> = server.requests().iter().map(Request::offset).collect();
    assert_eq!(offsets, [Some(50_000), Some(70_000)]);
}

#[test]
fn a_whole_file_with_a_wrong_hash_spares_the_part() {
    let (message, _) = fail_beside_a_part(&content(90_000), |_, _| {
        Answer::new("200 OK", &vec![1; 90_000]).without_length()
    });
    assert!(message.contains("has SHA-256"), "{message}");
}

#[test]
fn a_server_that_answers_ranges_wrongly_is_asked_for_everything_and_spares_the_part() {
    let content = content(90_000);
    for range in ["bytes 7-89999/90000", "bytes 50000-/", "lines 1-2/3", ""] {
        let file = content.clone();
        let (_, requests) = fail_beside_a_part(&content, move |_, request| {
            if request.offset().is_none() {
                return Answer::new("200 OK", &file).cut(10);
            }
            Answer::new("206 Partial Content", &file[50_000..]).with("Content-Range", range)
        });
        let offsets: Vec<_> = requests.iter().map(Request::offset).collect();
        assert_eq!(offsets, [Some(50_000), None], "{range:?}");
    }
    let (message, _) = fail_beside_a_part(&content, move |_, _| {
        Answer::new("206 Partial Content", &vec![1; 40_000])
            .with("Content-Range", "bytes 50000-89999/95000")
    });
    assert!(message.contains("answered 206"), "{message}");
}

#[test]
fn a_range_that_is_too_long_spares_the_part() {
    let (message, _) = fail_beside_a_part(&content(90_000), move |_, _| {
        Answer::new("206 Partial Content", &vec![1; 60_000])
            .with("Content-Range", "bytes 50000-89999/90000")
    });
    assert!(message.contains("instead of 90000"), "{message}");
}

#[test]
fn a_range_that_cannot_be_satisfied_spares_the_part() {
    let content = content(90_000);
    let file = content.clone();
    let refuse = |request: &Request| {
        let refused = || Answer::new("416 Range Not Satisfiable", b"");
        request.offset().map(|_| refused())
    };
    let (_, requests) = fail_beside_a_part(&content, move |_, request| {
        refuse(request).unwrap_or_else(|| Answer::new("200 OK", &file).cut(10))
    });
    assert_eq!(requests.len(), 2);
    let file = content.clone();
    let server = Server::start(move |_, request| {
        refuse(request).unwrap_or_else(|| Answer::new("200 OK", &file))
    });
    let client = Client::new(&server.base);
    client.leave_part(&content[..50_000], None);
    client.expect(&release(&content), &content);
}

#[test]
fn a_compressed_answer_is_refused_and_spares_the_part() {
    for status in ["200 OK", "206 Partial Content"] {
        let (message, _) = fail_beside_a_part(&content(90_000), move |_, _| {
            Answer::new(status, &[31, 139, 8, 0])
                .with("Content-Encoding", "gzip")
                .with("Content-Range", "bytes 50000-89999/90000")
        });
        assert!(message.contains("encoded as gzip"), "{message}");
    }
}

#[test]
fn a_redirect_without_an_end_spares_the_part() {
    let (_, requests) = fail_beside_a_part(&content(90_000), move |_, _| {
        Answer::new("302 Found", b"").with("Location", "/weights/toy.pt")
    });
    assert!(requests.len() < 50, "{}", requests.len());
}

#[test]
fn a_process_killed_while_it_fetched_again_leaves_the_longer_part() {
    let content = content(90_000);
    for (second, offset) in [(70_000, 70_000), (30_000, 50_000)] {
        let file = content.clone();
        let server = Server::start(move |_, request| serve(&file, "\"1\"", request));
        let client = Client::new(&server.base);
        client.leave_part(&content[..50_000], None);
        std::fs::write(client.file(".part.new"), &content[..second]).expect("written");
        client.expect(&release(&content), &content);
        assert!(!client.file(".part.new").exists());
        assert_eq!(server.requests()[0].offset(), Some(offset));
    }
}

#[test]
fn an_answer_of_which_nothing_is_known_is_refused() {
    let content = content(10_000);
    let mut release = release(&content);
    (release.size, release.sha256) = (None, None);
    let server = Server::start(move |_, _| Answer::new("200 OK", &content).without_length());
    let (_, message) = Client::new(&server.base).fail(&release);
    assert!(message.contains("how long the file is"), "{message}");
}

// ---- a file of the user in the place of the released one

#[test]
fn another_file_under_the_name_is_refused_and_not_touched() {
    let content = content(10_000);
    let file = content.clone();
    let server = Server::start(move |_, request| serve(&file, "\"1\"", request));
    let mut client = Client::new(&server.base);
    let release = release(&content);
    client.leave_part(&content[..5_000], None);
    let refused = |client: &Client, problem: &str| {
        let error = client.download(&release).expect_err("another file");
        assert!(matches!(error, DownloadError::NotPublished { .. }));
        let message = error.to_string();
        for part in ["toy.pt is not the published file", problem, "--force"] {
            assert!(
                message.contains(part) && !message.contains('\n'),
                "{message}"
            );
        }
    };
    for (other, problem) in [
        (vec![1; 10_000], sha256(&content)),
        (vec![1; 9_999], "9999 bytes instead of 10000".to_owned()),
        (Vec::new(), "0 bytes instead of 10000".to_owned()),
    ] {
        std::fs::write(client.file(""), &other).expect("written");
        refused(&client, &problem);
        assert_eq!(std::fs::read(client.file("")).expect("kept"), other);
    }
    std::fs::remove_file(client.file("")).expect("removed");
    std::fs::create_dir(client.file("")).expect("a folder");
    refused(&client, "it is no file");
    std::fs::remove_dir(client.file("")).expect("removed");
    assert!(server.requests().is_empty());

    std::fs::write(client.file(""), [1; 10_000]).expect("written");
    client.options.force = true;
    client.expect(&release, &content);
}

// ---- two processes

const CHILD: &str = "SAMARA_TEST_CHILD";

/// Not a test of its own: the other process of the next tests, which finds its mirror and its
/// folder in the environment.
#[test]
fn child_process() {
    let Ok(len) = std::env::var(CHILD) else {
        return;
    };
    let content = content(len.parse().expect("a length"));
    let result = download(&release(&content), &DownloadOptions::default(), &mut |_| {});
    println!(
        "{}",
        result.map_or_else(|error| error.to_string(), |path| path.display().to_string())
    );
}

fn child(base: &str, home: &Path, len: usize) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", "child_process", "--nocapture"])
        .env(CHILD, len.to_string())
        .env(BASE_URL_VARIABLE, base)
        .env(HOME_VARIABLE, home)
        .stdout(Stdio::piped());
    command
}

#[test]
fn the_environment_names_the_mirror_the_folder_and_the_proxy() {
    let content = content(5_000);
    let file = content.clone();
    let server = Server::start(move |_, request| serve(&file, "\"1\"", request));
    let client = Client::new(&server.base);
    let proxy = "127.0.0.1:9";
    let mut command = child(&server.base, client.folder.path(), content.len());
    command
        .env("ALL_PROXY", format!("http://{proxy}"))
        .env_remove("NO_PROXY")
        .env_remove("no_proxy");
    let output = command.output().expect("started");
    let output = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.contains(&format!(", through the proxy {proxy})")),
        "{output}"
    );

    command
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .expect("started");
    assert_eq!(std::fs::read(client.file("")).expect("the file"), content);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_second_process_waits_its_turn_and_a_killed_one_leaves_its_part() {
    let content = content(600_000);
    let file = content.clone();
    let server = Server::start(move |number, request| {
        let answer = serve(&file, "\"1\"", request);
        if number == 0 {
            answer.cut(250_000).hang()
        } else {
            answer
        }
    });
    let client = Client::new(&server.base);
    let mut child = child(&server.base, client.folder.path(), content.len())
        .spawn()
        .expect("started");
    await_len(&client.file(".part"), 250_000);

    let (error, message) = client.fail(&release(&content));
    assert!(matches!(error, DownloadError::Busy { .. }), "{error:?}");
    assert!(message.contains(FILE), "{message}");
    assert_eq!(server.requests().len(), 1, "the second process stayed away");

    child.kill().expect("killed");
    child.wait().expect("gone");
    assert_eq!(
        std::fs::read(client.file(".part")).expect("kept"),
        content[..250_000]
    );
    client.expect(&release(&content), &content);
    assert_eq!(server.requests()[1].offset(), Some(250_000));
    let cache = ModelCache::at(client.folder.path().join("models"));
    assert!(cache.contains(&release(&content)));
}

fn await_len(path: &Path, len: u64) {
    let start = Instant::now();
    while std::fs::metadata(path).map_or(0, |metadata| metadata.len()) < len {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "the other process does not get on"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

// ---- any server, however bad

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_file_is_right_or_there_is_none(
        len in 0_usize..400_000,
        cuts in prop::collection::vec(0_usize..200_000, 0..4),
        ranges in any::<bool>(),
        lengths in any::<bool>(),
        part in 0_usize..400_000,
    ) {
        let content = content(len);
        let file = content.clone();
        let server = Server::start(move |number, request| {
            let mut request = request.clone();
            if !ranges {
                request.headers.remove("range");
            }
            let mut answer = serve(&file, "\"1\"", &request);
            if let Some(cut) = cuts.get(number) {
                answer.cut = Some(*cut.min(&answer.body.len()));
            }
            if lengths { answer } else { answer.without_length() }
        });
        let client = Client::new(&server.base);
        client.leave_part(&content[..part.min(len)], None);
        client.expect(&release(&content), &content);
    }
}
