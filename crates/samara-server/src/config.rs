//! What the server is told: by a TOML file, by flags, or by a program.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use samara::Precision;
use samara_image::Stretch;
use serde::Deserialize;

use crate::error::{ConfigError, plain};
use crate::limits::Limits;

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
    /// A folder of pictures whose project is open: the page at `/studio/` shows it, and the paths under `/v1/project`
    /// are about it. Where there is no [`root`](Self::root), it is that, too.
    pub project: Option<PathBuf>,
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
    /// Numbers that models multiply; by default what the processor is best at.
    pub precision: Precision,
    /// Threads of the models; without it, one for every core.
    pub threads: Option<usize>,
    /// Bounds.
    pub limits: Limits,
    /// Where Label Studio keeps the images of its tasks.
    pub label_studio: Option<LabelStudio>,
    /// How it logs.
    pub log: Log,
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
            project: None,
            state: None,
            tokens: BTreeMap::new(),
            allow_without_token: false,
            cors: Vec::new(),
            hosts: Vec::new(),
            image_hosts: Vec::new(),
            precision: Precision::Auto,
            threads: None,
            limits: Limits::default(),
            label_studio: None,
            log: Log::default(),
        }
    }
}

/// Percentiles between which samples of more than 8 bits are shown, to people and to the model, while a project is
/// open.
pub(crate) const SHOWN: [f32; 2] = [0.1, 99.9];

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
        let line_of = |error: &toml::de::Error| {
            let before = error.span().map(|span| &text[..span.start]);
            before.map_or(0, |before| before.matches('\n').count() + 1)
        };
        let no_toml = |error: toml::de::Error| {
            refuse(&format!("line {}: {}", line_of(&error), error.message()))
        };
        let values = toml::Deserializer::parse(&text).map_err(no_toml)?;
        serde_path_to_error::deserialize(values).map_err(|error| {
            let key = error.path().to_string();
            let error = error.into_inner();
            let (line, why) = (line_of(&error), plain(error.message()));
            // The key of what is not known is in the message.
            refuse(&if key == "." || why.contains("unknown field") {
                format!("line {line}: {why}")
            } else {
                format!("line {line}: {key}: {why}")
            })
        })
    }

    /// Which values of samples of more than 8 bits become black and white: those of pictures that people draw on are
    /// brought into the range that can be seen.
    pub(crate) fn stretch(&self) -> Stretch {
        match &self.project {
            Some(_) => Stretch::Percentiles(SHOWN[0], SHOWN[1]),
            None => Stretch::Off,
        }
    }

    /// Where embeddings are kept in the folder of what is kept: stretched, an image is another one to a model.
    pub(crate) fn embeddings_folder(&self) -> &'static str {
        match self.stretch() {
            Stretch::Off => "embeddings",
            _ => "embeddings-stretched",
        }
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
        if let Some(folder) = self.project.as_ref().filter(|folder| !folder.is_dir()) {
            return refuse(format!("project {}: is no folder", folder.display()));
        }
        if self.model.is_some() && self.checkpoint.is_some() {
            return refuse("model and checkpoint: at most one of them".into());
        }
        if let Some(threads) = self.threads.filter(|threads| !THREADS.contains(threads)) {
            let (least, most) = (THREADS.start(), THREADS.end());
            return refuse(format!("threads {threads}: {least} to {most}"));
        }
        self.limits.check()
    }
}

/// Threads of the models.
const THREADS: std::ops::RangeInclusive<usize> = 1..=1024;
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
            ("project = '/no/such/folder'", "project"),
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
            ("threads = 100000", "threads"),
            ("[limits]\nbodies_memory = 1", "limits.bodies_memory"),
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
        for (text, expected) in [
            ("\n[limits]\nqueue = 'a'\n", "line 3: limits.queue: "),
            ("models = [1]", "line 1: models[0]: "),
            ("models = [", "line 1: "),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Config::read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
