//! What the server is told: by a TOML file, by flags, or by a program.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::plain;

/// Settings of the server. As TOML, every key may be left out.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Address and port to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Name of the model that answers where a request names none: `lite`, or a downloaded one.
    pub model: Option<String>,
    /// A checkpoint file in the place of [`model`](Self::model).
    pub checkpoint: Option<PathBuf>,
    /// Further models that are loaded at the start, by name.
    pub models: Vec<String>,
    /// Images and videos below this folder can be named by their path; none without it.
    pub root: Option<PathBuf>,
    /// Folder of what is kept: images, embeddings, video sessions. Of one server at a time.
    pub state: Option<PathBuf>,
    /// Secrets that requests must carry one of, by the name under which they are logged and counted.
    pub tokens: BTreeMap<String, Secret>,
    /// Listens on other addresses than the machine's own without a token.
    pub allow_without_token: bool,
    /// Origins of pages that may call the server (CORS), such as `https://tool.example`.
    pub cors: Vec<String>,
    /// Names by which browsers and tools on this machine call the server beside `localhost`, while it needs no token.
    pub hosts: Vec<String>,
    /// Hosts from which images are fetched when a request gives a URL, with their port if it is not the usual
    /// one; none by default.
    pub image_hosts: Vec<String>,
    /// Threads of the models; without it, one for every core.
    pub threads: Option<usize>,
    /// Bounds.
    pub limits: Limits,
    /// Where Label Studio keeps the images of its tasks.
    pub label_studio: Option<LabelStudio>,
    /// How it logs.
    pub log: Log,
}

/// Bounds on what requests can cost.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// Most bytes of a request's body.
    pub body_bytes: usize,
    /// Most bytes of a video that is uploaded.
    pub video_bytes: u64,
    /// Most pixels of an image.
    pub image_pixels: u64,
    /// Most large bodies that are received at once.
    pub uploads: usize,
    /// Most open connections.
    pub connections: usize,
    /// Most requests of one urgency that wait for a model; more are answered 429.
    pub queue: usize,
    /// Most prompts of one request.
    pub prompts: usize,
    /// Most points of one request.
    pub points: usize,
    /// Seconds that a request may take, events aside.
    pub request_seconds: u64,
    /// Seconds without a byte after which a client that sends a body is given up.
    pub idle_seconds: u64,
    /// Seconds that running requests have when the server is asked to end.
    pub shutdown_seconds: u64,
    /// Requests a second for each token, or for each address without tokens; none without it.
    pub requests_per_second: Option<u32>,
    /// Most bytes of embeddings in memory.
    pub embeddings_memory: u64,
    /// Most bytes of embeddings on disk; 0 keeps none.
    pub embeddings_disk: u64,
    /// Most bytes of uploaded images on disk.
    pub images_disk: u64,
    /// Most bytes of answers whose masks can be refined by reference.
    pub answers_memory: u64,
    /// Jobs that wait, run, or have a result to be fetched.
    pub jobs: usize,
    /// Video sessions.
    pub videos: usize,
    /// Most bytes of uploaded videos and frames on disk.
    pub videos_disk: u64,
    /// Most frames that are pushed to a session.
    pub frames: usize,
    /// Most objects of a session.
    pub objects: usize,
    /// Models that are loaded at once.
    pub models: usize,
}

/// A Label Studio whose tasks name images by paths such as `/data/upload/1/photo.jpg`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LabelStudio {
    /// Its address, such as `http://localhost:8080`.
    pub url: String,
    /// An access token of it.
    pub token: Secret,
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl LabelStudio {
    /// A Label Studio at this address, which takes this token.
    pub fn new(url: impl Into<String>, token: impl Into<Secret>) -> Self {
        Self {
            url: url.into(),
            token: token.into(),
        }
    }
}

/// How the server logs, to standard error.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Log {
    /// `text` or `json`.
    pub format: LogFormat,
    /// What is logged, as `tracing-subscriber` filters: `info`, `warn`, `samara_server=debug`.
    pub filter: Option<String>,
}

/// The form of a line of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8765),
            model: None,
            checkpoint: None,
            models: Vec::new(),
            root: None,
            state: None,
            tokens: BTreeMap::new(),
            allow_without_token: false,
            cors: Vec::new(),
            hosts: Vec::new(),
            image_hosts: Vec::new(),
            threads: None,
            limits: Limits::default(),
            label_studio: None,
            log: Log::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            body_bytes: 64 << 20,
            video_bytes: 1024 * MIB,
            image_pixels: 100_000_000,
            uploads: 8,
            connections: 512,
            queue: 256,
            prompts: 256,
            points: 512,
            request_seconds: 120,
            idle_seconds: 20,
            shutdown_seconds: 20,
            requests_per_second: None,
            embeddings_memory: 1024 * MIB,
            embeddings_disk: 4096 * MIB,
            images_disk: 2048 * MIB,
            answers_memory: 256 * MIB,
            jobs: 64,
            videos: 64,
            videos_disk: 16 * 1024 * MIB,
            frames: 20_000,
            objects: 32,
            models: 8,
        }
    }
}

/// Most bytes of a file of settings or tokens.
const TEXT_BYTES: u64 = 1 << 20;

/// A file of text: not a device, and not a large one.
///
/// # Errors
/// One line that names the file.
pub fn read_text(path: &Path) -> Result<String, ConfigError> {
    let limits = samara_image::ImageLimits {
        max_bytes: TEXT_BYTES,
        ..samara_image::ImageLimits::default()
    };
    let bytes = samara_image::read_file(path, &limits).map_err(|e| ConfigError(e.to_string()))?;
    let no_text = |_| ConfigError(format!("{}: is no text", path.display()));
    String::from_utf8(bytes).map_err(no_text)
}

/// Settings that make no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

impl Config {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// One line that names the file, and the line and key in it.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let refuse = |why: &dyn std::fmt::Display| {
            let why = samara_image::one_line(&why.to_string());
            ConfigError(format!("{}: {why}", path.display()))
        };
        let text = read_text(path)?;
        toml::from_str(&text).map_err(|error| {
            let before = error.span().map(|span| &text[..span.start]);
            let line = before.map_or(0, |before| before.matches('\n').count() + 1);
            refuse(&format!("line {line}: {}", plain(error.message())))
        })
    }

    /// Refuses what makes no sense, or would open the server to others unasked.
    ///
    /// # Errors
    /// One line that names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |why: String| Err(ConfigError(why));
        if !self.listen.ip().is_loopback() && self.tokens.is_empty() && !self.allow_without_token {
            return refuse(format!(
                "listen {}: others can reach this address; give the server a token (--token-file, or [tokens]), or \
                 say --allow-without-token",
                self.listen
            ));
        }
        let texts: BTreeSet<&str> = self.tokens.values().map(Secret::text).collect();
        if texts.len() < self.tokens.len() {
            return refuse("tokens: two names have the same token".into());
        }
        for (name, secret) in &self.tokens {
            if name.trim().is_empty() {
                return refuse("tokens: a token has no name".into());
            }
            let secret = secret.text();
            if secret.len() < 16 || !secret.bytes().all(|b| b.is_ascii_graphic()) {
                return refuse(format!(
                    "tokens.{name}: a token has at least 16 printable ASCII characters and no spaces"
                ));
            }
        }
        if let Some(origin) = self.cors.iter().find(|o| !is_origin(o)) {
            return refuse(format!(
                "cors {origin:?}: expected an origin such as https://tool.example, without a path"
            ));
        }
        for (key, hosts) in [("hosts", &self.hosts), ("image_hosts", &self.image_hosts)] {
            if let Some(host) = hosts.iter().find(|host| !is_host(host)) {
                return refuse(format!(
                    "{key} {host:?}: expected the name of a host, such as images.example or images.example:8080"
                ));
            }
        }
        if let Some(label_studio) = &self.label_studio
            && !is_http(&label_studio.url)
        {
            let url = &label_studio.url;
            return refuse(format!(
                "label_studio.url {url:?}: expected an address such as http://localhost:8080"
            ));
        }
        if let Some(root) = self.root.as_ref().filter(|root| !root.is_dir()) {
            return refuse(format!("root {}: is no folder", root.display()));
        }
        if self.model.is_some() && self.checkpoint.is_some() {
            return refuse("model and checkpoint: at most one of them".into());
        }
        if self.threads == Some(0) {
            return refuse("threads 0: at least one".into());
        }
        self.limits.check()
    }
}

impl Limits {
    fn check(&self) -> Result<(), ConfigError> {
        let counts = [
            ("body_bytes", self.body_bytes as u64),
            ("image_pixels", self.image_pixels),
            ("uploads", self.uploads as u64),
            ("connections", self.connections as u64),
            ("queue", self.queue as u64),
            ("prompts", self.prompts as u64),
            ("points", self.points as u64),
            ("request_seconds", self.request_seconds),
            ("idle_seconds", self.idle_seconds),
            ("embeddings_memory", self.embeddings_memory),
            ("jobs", self.jobs as u64),
            ("videos", self.videos as u64),
            ("models", self.models as u64),
        ];
        for (name, value) in [("uploads", self.uploads), ("connections", self.connections)] {
            if value > MOST_PLACES {
                return Err(ConfigError(format!(
                    "limits.{name} {value}: at most {MOST_PLACES}"
                )));
            }
        }
        if let Some((name, _)) = counts.iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError(format!("limits.{name} 0: at least 1")));
        }
        if self.requests_per_second == Some(0) {
            let why = "limits.requests_per_second 0: leave it out for no limit".into();
            return Err(ConfigError(why));
        }
        Ok(())
    }
}

/// Most connections or uploads.
const MOST_PLACES: usize = 1_000_000;

fn is_host(text: &str) -> bool {
    let authority = text.parse::<axum::http::uri::Authority>();
    authority.is_ok_and(|a| !a.host().is_empty() && !text.contains(['@', '*']))
}

fn is_http(text: &str) -> bool {
    let uri = text.parse::<axum::http::Uri>();
    uri.is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|h| !h.is_empty())
    })
}

fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<axum::http::Uri>() else {
        return false;
    };
    let schemes = ["http", "https"];
    uri.scheme_str().is_some_and(|s| schemes.contains(&s))
        && uri.path() == "/"
        && !text.ends_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(toml: &str) -> String {
        let config: Config = toml::from_str(toml).unwrap();
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_good_and_local() {
        let config: Config = toml::from_str("").unwrap();
        config.check().unwrap();
        assert!(config.listen.ip().is_loopback());
    }

    #[test]
    fn the_example_has_every_key_with_its_default() {
        let text = include_str!("../../../examples/server/server.toml");
        let example: Config = toml::from_str(text).unwrap();
        assert_eq!(
            format!("{example:?}"),
            format!(
                "{:?}",
                Config {
                    log: example.log.clone(),
                    ..Config::default()
                }
            )
        );
        assert_eq!(
            (example.log.format, example.log.filter.as_deref()),
            (LogFormat::Text, Some("info"))
        );
        // What has no default stands there in a comment.
        let debug = format!("{:?}", Config::default());
        let names = debug
            .split([' ', '{', '('])
            .filter_map(|word| word.strip_suffix(':'));
        for name in names {
            assert!(
                text.contains(name),
                "{name} is not in examples/server/server.toml"
            );
        }
    }

    #[test]
    fn other_addresses_need_a_token_or_a_word() {
        assert!(refused("listen = '0.0.0.0:1'").contains("listen"));
        let with_token = "listen = '0.0.0.0:1'\n[tokens]\na = '0123456789abcdef'";
        toml::from_str::<Config>(with_token)
            .unwrap()
            .check()
            .unwrap();
        let on_purpose = "listen = '0.0.0.0:1'\nallow_without_token = true";
        toml::from_str::<Config>(on_purpose)
            .unwrap()
            .check()
            .unwrap();
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (toml, name) in [
            ("[tokens]\na = 'short'", "tokens.a"),
            ("cors = ['*']", "cors"),
            ("cors = ['https://tool.example/path']", "cors"),
            ("root = '/no/such/folder'", "root"),
            ("hosts = ['*']", "hosts"),
            ("image_hosts = ['http://a/']", "image_hosts"),
            ("image_hosts = ['']", "image_hosts"),
            (
                "[label_studio]\nurl = 'not a url'\ntoken = 'a'",
                "label_studio.url",
            ),
            (
                "[tokens]\na = '0123456789abcdef'\nb = '0123456789abcdef'",
                "tokens",
            ),
            ("[tokens]\n'' = '0123456789abcdef'", "tokens"),
            (
                "[limits]\nconnections = 9223372036854775807",
                "limits.connections",
            ),
            ("[limits]\nqueue = 0", "limits.queue"),
            (
                "[limits]\nrequests_per_second = 0",
                "limits.requests_per_second",
            ),
            ("model = 'lite'\ncheckpoint = 'a'", "checkpoint"),
        ] {
            assert!(refused(toml).contains(name), "{toml}: {}", refused(toml));
        }
    }

    #[test]
    fn a_bad_file_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.toml");
        std::fs::write(&path, "threads = 2\nlisten_on = 'x'\n").unwrap();
        let error = Config::read(&path).unwrap_err().to_string();
        assert!(error.contains("server.toml: line 2"), "{error}");
        assert!(error.contains("listen_on"), "{error}");
    }
}
