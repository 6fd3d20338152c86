//! Server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use utoipa::ToSchema;

use crate::error::Result;

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

/// A response of events: `frame` for each that comes, then what `done` says of their number, or `failed` with a problem.
pub(crate) fn frames<T: Send + 'static, A: Serialize>(
    frames: mpsc::Receiver<Result<T>>,
    answer: impl Fn(T) -> Result<A> + Send + 'static,
    done: impl Fn(usize) -> Event + Send + 'static,
) -> Response {
    let frames = ReceiverStream::new(frames).map(Some);
    let mut count = 0;
    let mut failed = false;
    stream(
        frames
            .chain(tokio_stream::once(None))
            .filter_map(
                move |frame| match frame.map(|frame| frame.and_then(&answer)) {
                    Some(Ok(frame)) => {
                        count += 1;
                        Some(event("frame", &frame))
                    }
                    Some(Err(problem)) => {
                        failed = true;
                        Some(event("failed", &problem))
                    }
                    None if failed => None,
                    None => Some(done(count)),
                },
            ),
    )
}

/// A response of events. It begins with a comment: Firefox tells a page of an answer when something of it has come.
pub(crate) fn stream(events: impl Stream<Item = Event> + Send + 'static) -> Response {
    let begun = tokio_stream::once(Event::default().comment("begun"));
    Sse::new(begun.chain(events).map(Ok::<Event, Infallible>))
        .keep_alive(KeepAlive::new().interval(KEPT_ALIVE))
        .into_response()
}
