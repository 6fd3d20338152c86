//! Images from other servers: only from those that the configuration names.

use std::fmt::Display;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::blocking::blocking;
use crate::config::{Config, LabelStudio};
use crate::error::{Problem, Result};

/// Files that are fetched at once: each may take a thread and the memory of the largest.
const AT_ONCE: usize = 4;

/// Fetches files over http and https.
pub(crate) struct Fetch {
    turns: Arc<Semaphore>,
    /// Hosts from which requests may have files fetched, with their ports.
    hosts: Vec<String>,
    label_studio: Option<LabelStudio>,
    agent: ureq::Agent,
    most_bytes: u64,
}

impl Fetch {
    pub(crate) fn new(config: &Config) -> Self {
        // A redirect could lead to a host that is not allowed.
        let agent = ureq::Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(config.limits.request_seconds)))
            .timeout_connect(Some(Duration::from_secs(10)))
            .build();
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            hosts: config
                .image_hosts
                .iter()
                .map(|host| host.to_ascii_lowercase())
                .collect(),
            label_studio: config.label_studio.clone(),
            agent: agent.into(),
            most_bytes: config.limits.body_bytes as u64,
        }
    }

    /// The file at a URL.
    ///
    /// # Errors
    /// The host is not allowed, or does not answer with a file within the limits.
    pub(crate) async fn get(&self, url: &str) -> Result<Vec<u8>> {
        let allowed = self.allowed(url)?;
        match self.request(allowed.to_owned(), None).await? {
            Fetched::File(file) => Ok(file),
            Fetched::Elsewhere(_) => Err(Problem::field(
                "",
                "leads to another place, which is not followed",
            )),
        }
    }

    fn allowed<'a>(&self, url: &'a str) -> Result<&'a str> {
        let uri: Uri = url
            .parse()
            .map_err(|_| Problem::field("", "is no URL of http or https"))?;
        let scheme = uri.scheme_str().unwrap_or_default();
        let authority = uri.authority().map(|a| a.as_str().to_ascii_lowercase());
        let Some(authority) = authority.filter(|_| ["http", "https"].contains(&scheme)) else {
            return Err(Problem::field("", "is no URL of http or https"));
        };
        if self.hosts.contains(&authority) {
            return Ok(url);
        }
        let detail = if self.hosts.is_empty() {
            "this server fetches no images; send the file, or start it with --image-host".to_owned()
        } else {
            format!("this server fetches no images from {authority:?}")
        };
        Err(Problem::field("", detail))
    }

    /// An image of a task of Label Studio: a path on its server, something in a store that it knows, or a URL.
    pub(crate) async fn label_studio(&self, url: &str, task: Option<u64>) -> Result<Vec<u8>> {
        let Some(label_studio) = self.label_studio.clone() else {
            if url.starts_with("http://") || url.starts_with("https://") {
                return self.get(url).await;
            }
            let detail = "the task names an image that is in Label Studio; tell the server its address and a token, \
                          LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, or [label_studio] of --config";
            return Err(Problem::field("", detail));
        };
        let base = label_studio.url.trim_end_matches('/');
        let path = match url.strip_prefix(base) {
            Some(rest) if rest.starts_with('/') => rest.to_owned(),
            // Not `//host/path`, which names another server.
            _ if url.starts_with('/') && !url.starts_with("//") => url.to_owned(),
            _ if url.starts_with("upload/") => format!("/data/{url}"),
            _ if url.starts_with("http://") || url.starts_with("https://") => {
                return self.get(url).await;
            }
            _ => match task.filter(|_| url.contains("://")) {
                Some(task) => format!(
                    "/tasks/{task}/presign/?fileuri={}",
                    BASE64_URL_SAFE.encode(url)
                ),
                None => return Err(Problem::field("", "is no path and no URL of an image")),
            },
        };
        if !is_of_a_task(&path) {
            return Err(Problem::field("", "is no path of an image in Label Studio"));
        }
        let token = self.authorization(&label_studio).await?;
        match self.request(format!("{base}{path}"), Some(token)).await? {
            Fetched::File(file) => Ok(file),
            // Where it really is: the store must be allowed as any other host.
            Fetched::Elsewhere(url) => self.get(&url).await,
        }
    }

    /// How requests to Label Studio are authorised: by a token as it is, or by one that a personal access token is
    /// exchanged for.
    async fn authorization(&self, label_studio: &LabelStudio) -> Result<String> {
        let token = label_studio.token.text();
        if token.matches('.').count() != 2 {
            return Ok(format!("Token {token}"));
        }
        let agent = self.agent.clone();
        let url = format!(
            "{}/api/token/refresh/",
            label_studio.url.trim_end_matches('/')
        );
        let body = serde_json::json!({"refresh": token}).to_string();
        let turn = self.turn().await?;
        blocking(move || {
            let _turn = turn;
            let failed = |e: &dyn Display| {
                Problem::field("", format!("Label Studio takes the token not: {e}"))
            };
            let request = agent.post(&url).header("content-type", "application/json");
            let mut response = request.send(&body[..]).map_err(|e| failed(&e))?;
            let text = response
                .body_mut()
                .read_to_string()
                .map_err(|e| failed(&e))?;
            let answer: serde_json::Value = serde_json::from_str(&text).map_err(|e| failed(&e))?;
            let access = answer["access"]
                .as_str()
                .ok_or_else(|| failed(&"no access token came"))?;
            Ok(format!("Bearer {access}"))
        })
        .await?
    }

    /// A turn to fetch something. Whoever fetches has it until the other server has answered, though nobody may wait for
    /// it any more.
    async fn turn(&self) -> Result<OwnedSemaphorePermit> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        turn.map_err(|_| Problem::unavailable("nothing more is fetched"))
    }

    async fn request(&self, url: String, authorization: Option<String>) -> Result<Fetched> {
        let agent = self.agent.clone();
        let most = self.most_bytes;
        let turn = self.turn().await?;
        blocking(move || {
            let _turn = turn;
            let mut request = agent.get(&url);
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            let failed = |e: &dyn Display| Problem::field("", format!("cannot be fetched: {e}"));
            let mut response = request.call().map_err(|e| failed(&e))?;
            let location = response
                .headers()
                .get("location")
                .and_then(|to| to.to_str().ok());
            if let Some(to) = location.filter(|_| response.status().is_redirection()) {
                return Ok(Fetched::Elsewhere(to.to_owned()));
            }
            if !response.status().is_success() {
                return Err(failed(&format!(
                    "answered with status {}",
                    response.status().as_u16()
                )));
            }
            let mut file = Vec::new();
            let reader = response.body_mut().as_reader();
            reader
                .take(most + 1)
                .read_to_end(&mut file)
                .map_err(|e| failed(&e))?;
            if file.len() as u64 > most {
                return Err(failed(&format!("more than {most} bytes")));
            }
            Ok(Fetched::File(file))
        })
        .await?
    }
}

/// Whether a path of Label Studio is one under which it has images of tasks: others are nobody's business, as the token
/// opens them too.
fn is_of_a_task(path: &str) -> bool {
    let plain = path.split(['?', '#']).next().unwrap_or_default();
    let parts: Vec<&str> = plain.split('/').skip(1).collect();
    let encoded = plain.to_ascii_lowercase();
    let leads_up = parts.iter().any(|part| part.starts_with(".."))
        || ["%2e", "%2f", "%5c", "\\"]
            .iter()
            .any(|code| encoded.contains(code));
    let is_known = match parts[..] {
        ["data", "upload" | "local-files", ..] | ["storage-data", "uploaded", ..] => true,
        ["tasks", id, "presign" | "resolve", ..] => id.parse::<u64>().is_ok(),
        _ => false,
    };
    is_known && !leads_up
}

/// What a server answers a request for a file with.
enum Fetched {
    File(Vec<u8>),
    Elsewhere(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(hosts: &[&str]) -> Fetch {
        Fetch::new(&Config {
            image_hosts: hosts.iter().map(ToString::to_string).collect(),
            ..Config::default()
        })
    }

    #[test]
    fn only_named_hosts_are_asked() {
        let fetch = fetch(&["images.example", "localhost:9000"]);
        for url in [
            "http://images.example/a.png",
            "https://IMAGES.example/a",
            "http://localhost:9000/x",
        ] {
            fetch.allowed(url).unwrap();
        }
        for url in [
            "http://169.254.169.254/latest/meta-data",
            "http://localhost/x",
            "http://images.example:81/a",
            "http://images.example@evil.example/",
            "http://user@images.example/",
            "http://images.example.evil.example/",
            "file:///etc/passwd",
            "ftp://images.example/a",
            "images.example/a",
            "//images.example/a",
            "",
        ] {
            fetch.allowed(url).unwrap_err();
        }
    }

    #[test]
    fn only_images_of_tasks_are_read_with_the_token() {
        for path in [
            "/data/upload/1/3092bfe7-coffee.png",
            "/data/local-files/?d=photos/a%20b.png",
            "/storage-data/uploaded/?filepath=upload/1/a.png",
            "/tasks/7/presign/?fileuri=czM6",
        ] {
            assert!(is_of_a_task(path), "{path}");
        }
        for path in [
            "/api/users/1/avatar",
            "/data/upload/../../api/token",
            "/data/upload/%2e%2e/api",
            "/data/upload/..%2Fapi",
            "/data/",
            "/tasks/x/presign/",
            "/",
            "",
        ] {
            assert!(!is_of_a_task(path), "{path}");
        }
    }

    #[test]
    fn nobody_is_asked_by_default() {
        let error = fetch(&[]).allowed("http://127.0.0.1/a.png").unwrap_err();
        assert!(error.detail().contains("--image-host"));
    }
}
