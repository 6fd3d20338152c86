//! Promptable segmentation over HTTP.
//!
//! A [`Server`] answers the native API under `/v1`, which `/openapi.json` describes and `/docs` shows, and speaks
//! what three annotation tools speak: X-AnyLabeling's remote server, Label Studio's machine learning backend, and
//! CVAT's functions.
//!
//! ```no_run
//! # async fn run() -> Result<(), samara_server::ServerError> {
//! use samara_server::{Config, Server};
//!
//! let server = Server::start(Config::default()).await?;
//! println!("http://{}", server.address());
//! server.run(std::future::pending()).await;
//! # Ok(())
//! # }
//! ```
//!
//! Every model has a thread of its own (`owner.rs`); what is urgent goes before what is long. Embeddings are computed
//! once, kept in memory and on disk by the content of the image and the weights of the model, and can be asked for
//! ahead.
#![forbid(unsafe_code)]

mod access;
mod answers;
mod app;
mod ask;
mod blocking;
mod body;
mod bounded;
mod config;
mod dialects;
mod disk_cache;
mod embeddings;
mod error;
mod events;
mod fetch;
mod frame_reader;
mod frames;
mod images;
mod jobs;
mod limits;
mod log;
mod masks;
mod metrics;
mod model;
mod models;
mod openapi;
mod owner;
mod page;
mod project;
mod prompts;
mod propagation;
mod routes;
mod running;
mod server;
mod tiles;
mod tracks;
mod training;
mod turns;
mod video;
mod video_answers;
mod videos;

pub use config::{Config, LabelStudio, Log, LogFormat, Secret, read_text};
pub use error::ConfigError;
pub use limits::Limits;
pub use log::start_log;
pub use server::{Server, ServerError, openapi};
