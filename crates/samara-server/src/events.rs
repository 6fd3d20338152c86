//! Server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio_stream::Stream;
use utoipa::ToSchema;

/// A client that has gone is noticed by the comment that is sent so often.
const KEPT_ALIVE: Duration = Duration::from_secs(10);

/// A server-sent event.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is sent")]
pub(crate) struct EventAnswer {
    /// Its kind.
    event: String,
    /// JSON, as text.
    data: String,
}

/// An event of this kind, with JSON.
pub(crate) fn event(kind: &str, data: &impl Serialize) -> Event {
    let text = serde_json::to_string(data).unwrap_or_default();
    Event::default().event(kind).data(text)
}

/// A response of events.
pub(crate) fn stream(events: impl Stream<Item = Event> + Send + 'static) -> Response {
    let events = tokio_stream::StreamExt::map(events, Ok::<Event, Infallible>);
    Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEPT_ALIVE))
        .into_response()
}
