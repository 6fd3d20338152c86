//! What is measured, in the text format of Prometheus.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds, from a click to a long job.
const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) method: &'static str,
    pub(crate) route: String,
    pub(crate) status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RouteLabels {
    pub(crate) route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    model: String,
    urgency: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FoundLabels {
    found: &'static str,
}

/// Of one model.
#[derive(Clone)]
pub(crate) struct ModelMetrics {
    /// Requests that wait, by urgency.
    pub(crate) waiting: [Gauge; 4],
    pub(crate) refused: Counter,
    pub(crate) panics: Counter,
    /// From the arrival of a click to its turn.
    pub(crate) click_wait: Histogram,
    pub(crate) predict: Histogram,
    pub(crate) embed: Histogram,
}

/// Where an embedding was found.
pub(crate) struct EmbeddingMetrics {
    pub(crate) in_memory: Counter,
    pub(crate) on_disk: Counter,
    pub(crate) computed: Counter,
}

/// All of the server.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    pub(crate) requests: Family<RequestLabels, Counter>,
    pub(crate) duration: Family<RouteLabels, Histogram, fn() -> Histogram>,
    pub(crate) in_flight: Gauge,
    pub(crate) connections: Gauge,
    resident_memory: Gauge,
    pub(crate) embeddings: EmbeddingMetrics,
    waiting: Family<QueueLabels, Gauge>,
    refused: Family<ModelLabels, Counter>,
    panics: Family<ModelLabels, Counter>,
    click_wait: Family<ModelLabels, Histogram, fn() -> Histogram>,
    predict: Family<ModelLabels, Histogram, fn() -> Histogram>,
    embed: Family<ModelLabels, Histogram, fn() -> Histogram>,
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        let found = Family::<FoundLabels, Counter>::default();
        let of = |found_in| found.get_or_create_owned(&FoundLabels { found: found_in });
        let metrics = Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(seconds),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            resident_memory: Gauge::default(),
            embeddings: EmbeddingMetrics {
                in_memory: of("memory"),
                on_disk: of("disk"),
                computed: of("computed"),
            },
            waiting: Family::default(),
            refused: Family::default(),
            panics: Family::default(),
            click_wait: Family::new_with_constructor(seconds),
            predict: Family::new_with_constructor(seconds),
            embed: Family::new_with_constructor(seconds),
            registry: Mutex::default(),
        };
        let mut registry = Registry::with_prefix("samara");
        let r = &mut registry;
        let m = &metrics;
        r.register(
            "requests",
            "Requests that were answered",
            m.requests.clone(),
        );
        r.register(
            "request_seconds",
            "From a request to its answer",
            m.duration.clone(),
        );
        r.register(
            "requests_in_flight",
            "Requests that are being answered",
            m.in_flight.clone(),
        );
        r.register(
            "resident_memory_bytes",
            "Memory of the process (Linux)",
            m.resident_memory.clone(),
        );
        r.register("connections", "Open connections", m.connections.clone());
        r.register(
            "embeddings",
            "Embeddings that were asked for, by where they were found",
            found,
        );
        r.register("queue", "Requests that wait for a model", m.waiting.clone());
        r.register(
            "refused",
            "Requests that were refused as too many waited",
            m.refused.clone(),
        );
        r.register(
            "panics",
            "Panics on the thread of a model",
            m.panics.clone(),
        );
        r.register(
            "click_wait_seconds",
            "From a click to its turn",
            m.click_wait.clone(),
        );
        r.register(
            "predict_seconds",
            "Answering clicks that waited together",
            m.predict.clone(),
        );
        r.register(
            "embed_seconds",
            "Computing an embedding, with what is more urgent in between",
            m.embed.clone(),
        );
        *metrics
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = registry;
        Arc::new(metrics)
    }

    /// Those of one model.
    pub(crate) fn of_model(&self, model: &str) -> ModelMetrics {
        let labels = ModelLabels {
            model: model.to_owned(),
        };
        let waiting = |urgency| {
            self.waiting.get_or_create_owned(&QueueLabels {
                model: model.to_owned(),
                urgency,
            })
        };
        ModelMetrics {
            waiting: ["click", "embedding", "ahead", "job"].map(waiting),
            refused: self.refused.get_or_create_owned(&labels),
            panics: self.panics.get_or_create_owned(&labels),
            click_wait: self.click_wait.get_or_create_owned(&labels),
            predict: self.predict.get_or_create_owned(&labels),
            embed: self.embed.get_or_create_owned(&labels),
        }
    }

    /// All as text.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        if let Some(kilobytes) = resident_kilobytes() {
            self.resident_memory.set(1024 * kilobytes);
        }
        let mut text = String::new();
        encode(
            &mut text,
            &self.registry.lock().unwrap_or_else(PoisonError::into_inner),
        )?;
        Ok(text)
    }
}

/// Memory of the process, where the system says it as Linux does.
fn resident_kilobytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
