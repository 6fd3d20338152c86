//! A server in the test's process, and requests to it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "tests; each uses a part"
)]

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use samara::Precision;
use samara_server::{Config, Server};
use serde_json::Value;
use tokio::sync::oneshot;

/// A server that ends with the test.
pub(crate) struct Served {
    pub(crate) url: String,
    pub(crate) address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) text: String,
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// The JSON of an answer that is expected to be good.
    pub(crate) fn good(&self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.json()
    }
}

impl Served {
    pub(crate) fn start(state: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.listen = ([127, 0, 0, 1], 0).into();
        config.state = Some(state.to_path_buf());
        config.precision = Precision::Fp32;
        change(&mut config);
        let (started, address) = std::sync::mpsc::channel();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let server = Server::start(config).await.unwrap();
                started.send(server.address()).unwrap();
                server
                    .run(async {
                        let _ = ended.await;
                    })
                    .await;
            });
        });
        let address = address.recv().unwrap();
        Self {
            url: format!("http://{address}"),
            address,
            end: Some(end),
            thread: Some(thread),
        }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    pub(crate) fn get(&self, path: &str) -> Answered {
        read(agent().get(format!("{}{path}", self.url)).call().unwrap())
    }

    /// The status of an answer, and its body.
    pub(crate) fn bytes(&self, path: &str) -> (u16, Vec<u8>) {
        let mut answer = agent().get(format!("{}{path}", self.url)).call().unwrap();
        let bytes = answer.body_mut().read_to_vec().unwrap();
        (answer.status().as_u16(), bytes)
    }

    pub(crate) fn delete(&self, path: &str) -> Answered {
        read(
            agent()
                .delete(format!("{}{path}", self.url))
                .call()
                .unwrap(),
        )
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answered {
        self.send(path, "application/json", body.to_string().as_bytes())
    }

    pub(crate) fn send(&self, path: &str, content_type: &str, body: &[u8]) -> Answered {
        let request = agent().post(format!("{}{path}", self.url));
        read(
            request
                .header("content-type", content_type)
                .send(body)
                .unwrap(),
        )
    }

    /// Uploads an image; its id.
    pub(crate) fn upload(&self, file: &[u8]) -> String {
        let answer = self
            .send("/v1/images", "application/octet-stream", file)
            .good();
        answer["id"].as_str().unwrap().to_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_mins(2)))
        .build()
        .into()
}

fn read(mut response: ureq::http::Response<ureq::Body>) -> Answered {
    let mut text = String::new();
    response
        .body_mut()
        .as_reader()
        .read_to_string(&mut text)
        .unwrap();
    Answered {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text,
    }
}

/// Events as their kinds and data.
pub(crate) fn events(text: &str) -> Vec<(String, Value)> {
    let blocks = text
        .split("\n\n")
        .filter(|block| !block.trim().is_empty() && !block.starts_with(':'));
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim_start().to_owned()
    };
    let event = |block: &str| {
        (
            field(block, "event:"),
            serde_json::from_str(&field(block, "data:")).unwrap(),
        )
    };
    blocks.map(event).collect()
}

/// A picture with two discs, as PNG; `shift` moves one of them.
pub(crate) fn picture(shift: u32) -> Vec<u8> {
    use samara_image::{PngSource, Rgb, RgbImage};
    let image = RgbImage::from_fn(160, 120, |x, y| {
        let disc = |cx: u32, cy: u32, r: u32| x.abs_diff(cx).pow(2) + y.abs_diff(cy).pow(2) < r * r;
        Rgb(if disc(45 + shift, 50, 25) {
            [220, 60, 30]
        } else if disc(120, 85, 20) {
            [240, 220, 60]
        } else {
            [30, 60, 90]
        })
    });
    image.to_png().unwrap()
}
