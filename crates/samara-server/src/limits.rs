//! Bounds on what requests can cost.

use serde::Deserialize;

use crate::error::ConfigError;

/// Bounds on what requests can cost.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// Most bytes of a request's body.
    pub body_bytes: usize,
    /// Most bytes of the bodies of all requests that are at work; others wait.
    pub bodies_memory: usize,
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
    /// Most bytes of the results of jobs; the oldest make room.
    pub jobs_memory: u64,
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

impl Default for Limits {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            body_bytes: 64 << 20,
            bodies_memory: 256 << 20,
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
            jobs_memory: 256 * MIB,
            videos: 64,
            videos_disk: 16 * 1024 * MIB,
            frames: 20_000,
            objects: 32,
            models: 8,
        }
    }
}

impl Limits {
    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let counts = [
            ("body_bytes", self.body_bytes as u64),
            ("bodies_memory", self.bodies_memory as u64),
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
            ("frames", self.frames as u64),
            ("objects", self.objects as u64),
            ("video_bytes", self.video_bytes),
            ("videos_disk", self.videos_disk),
            ("videos", self.videos as u64),
            ("models", self.models as u64),
        ];
        if self.bodies_memory < self.body_bytes {
            return Err(ConfigError(format!(
                "limits.bodies_memory {}: at least that of one body, limits.body_bytes {}",
                self.bodies_memory, self.body_bytes
            )));
        }
        if self.bodies_memory > MOST_MEMORY {
            return Err(ConfigError(format!(
                "limits.bodies_memory {}: at most {MOST_MEMORY}",
                self.bodies_memory
            )));
        }
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

/// Most bytes of bodies.
const MOST_MEMORY: usize = 1 << 40;
/// Most connections or uploads.
const MOST_PLACES: usize = 1_000_000;
