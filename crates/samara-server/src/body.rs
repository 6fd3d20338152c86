//! What requests carry: bodies within limits of size and time, and JSON that says which field is wrong.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::sync::OwnedSemaphorePermit;

use crate::app::{App, BODY_UNIT};
use crate::blocking::blocking;
use crate::error::{Problem, Result, plain};

/// A body larger than this takes one of the places for uploads.
const SMALL: u64 = 64 << 10;

/// Bytes a second of a body, after the first seconds.
const SLOWEST: u64 = 32 << 10;
/// How long the rest of a body that is too large is taken.
const LINGER: Duration = Duration::from_secs(2);

/// The share of the memory for bodies that a request has; it has it until it is answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct BodyMemory(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl BodyMemory {
    /// Room for a body of so many bytes, waited for as long as for a part of it.
    async fn reserve(app: &App, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let idle = Duration::from_secs(app.config.limits.idle_seconds);
        let room = Arc::clone(&app.body_memory).acquire_many_owned(units(bytes));
        let busy = || Problem::overload("too many large bodies are at work", idle);
        let room = tokio::time::timeout(idle, room).await;
        room.map_err(|_| busy())?.map_err(|_| busy())
    }

    fn keep(&self, room: OwnedSemaphorePermit) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(room);
    }
}

fn units(bytes: usize) -> u32 {
    bytes.div_ceil(BODY_UNIT).try_into().unwrap_or(u32::MAX)
}

/// JSON of a type.
pub(crate) struct Json<T>(pub(crate) T);

/// The body as it is, with its content type.
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    pub(crate) content_type: String,
}

/// JSON as it is.
pub(crate) struct JsonText(pub(crate) Vec<u8>);

/// The query of a URL.
pub(crate) struct UrlQuery<T>(pub(crate) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<Arc<App>> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self> {
        let JsonText(body) = JsonText::from_request(request, app).await?;
        look(body, parse).await.map(Self)
    }
}

impl FromRequest<Arc<App>> for JsonText {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self> {
        let content_type = content_type(request.headers());
        if !is_json(&content_type) {
            let detail = format!("content type {content_type:?}: expected application/json");
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        read(request, app).await.map(Self)
    }
}

/// Reads a body, off the threads that serve if it is large.
pub(crate) async fn look<T: Send + 'static>(
    body: Vec<u8>,
    work: impl FnOnce(&[u8]) -> Result<T> + Send + 'static,
) -> Result<T> {
    if body.len() as u64 <= SMALL {
        return work(&body);
    }
    blocking(move || work(&body)).await?
}

impl FromRequest<Arc<App>> for File {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self> {
        let content_type = content_type(request.headers());
        if content_type == "multipart/form-data" {
            let detail = "content type \"multipart/form-data\": the body is the file itself, as \
                          curl --data-binary @FILE sends it";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let bytes = read(request, app).await?;
        Ok(Self {
            bytes,
            content_type,
        })
    }
}

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for UrlQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self> {
        let query = axum::extract::Query::try_from_uri(&parts.uri);
        let refuse = |e: QueryRejection| {
            let text = e.body_text();
            let text = text
                .rsplit_once("query string: ")
                .map_or(&*text, |(_, why)| why);
            let (field, why) = text.split_once(": ").unwrap_or(("query", text));
            Problem::field(field, plain(why))
        };
        query
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(refuse)
    }
}

/// What stands in the path of a URL.
pub(crate) struct UrlPath<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for UrlPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let path = Path::from_request_parts(parts, app).await;
        let refuse = |e: PathRejection| Problem::new(StatusCode::BAD_REQUEST, e.body_text());
        path.map(|Path(value)| Self(value)).map_err(refuse)
    }
}

/// The content type without its parameters.
fn content_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok());
    let value = value.and_then(|v| v.split(';').next()).unwrap_or_default();
    value.trim().to_ascii_lowercase()
}

pub(crate) fn is_json(content_type: &str) -> bool {
    content_type == "application/json"
        || (content_type.starts_with("application/") && content_type.ends_with("+json"))
}

/// Parses JSON: 400 if it is none, 422 with the field if it is another's.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    // Serde takes a list of values for an object, too.
    let is_object = bytes.trim_ascii_start().first() == Some(&b'{');
    let value = parse_value(bytes)?;
    if is_object {
        Ok(value)
    } else {
        Err(Problem::field("", "an object is expected"))
    }
}

/// Parses JSON of any form.
pub(crate) fn parse_value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let no_json = |e: &dyn Display| {
        Problem::new(StatusCode::BAD_REQUEST, format!("the body is no JSON: {e}"))
    };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        if let Err(error) = serde_json::from_slice::<IgnoredAny>(bytes) {
            return no_json(&error);
        }
        let mut field = if path == "." { String::new() } else { path };
        let text = error.to_string();
        // The position in the text is of no use beside the field.
        let why = text.rsplit_once(" at line ").map_or(&*text, |(why, _)| why);
        if let Some(missing) = why
            .strip_prefix("missing field `")
            .and_then(|rest| rest.strip_suffix('`'))
        {
            field = if field.is_empty() {
                missing.to_owned()
            } else {
                format!("{field}.{missing}")
            };
            return Problem::field(field, "is missing");
        }
        Problem::field(field, plain(why))
    })?;
    json.end().map_err(|e| no_json(&e))?;
    Ok(value)
}

/// Reads a body within the limits.
async fn read(request: Request, app: &App) -> Result<Vec<u8>> {
    let encoding = request.headers().get(header::CONTENT_ENCODING);
    if let Some(encoding) = encoding.filter(|encoding| *encoding != "identity") {
        let detail = format!("content encoding {encoding:?}: bodies are sent as they are");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let memory = request.extensions().get::<BodyMemory>().cloned();
    let body = request.into_body();
    let most = app.config.limits.body_bytes;
    let said = axum::body::HttpBody::size_hint(&body);
    let is_too_large = said.lower() > most as u64;
    let expected = said.upper().map_or(most, |upper| {
        upper.min(most as u64).try_into().unwrap_or(most)
    });
    let room = if is_too_large || expected as u64 <= SMALL {
        None
    } else {
        Some(BodyMemory::reserve(app, expected).await?)
    };
    let mut bytes = Vec::new();
    each_part(body, app, most as u64, |part| {
        bytes.extend_from_slice(part);
        Ok(())
    })
    .await?;
    if let (Some(mut room), Some(memory)) = (room, memory) {
        // More was reserved for a body that did not say how large it is.
        let spare = room.num_permits() - (units(bytes.len()) as usize).min(room.num_permits());
        drop(room.split(spare));
        memory.keep(room);
    }
    Ok(bytes)
}

/// Hands a body of at most `most` bytes on, part by part, as it comes. One that stalls is given up.
pub(crate) async fn each_part(
    mut body: Body,
    app: &App,
    most: u64,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let too_large = || {
        let detail = format!("the body has more than {most} bytes, the limit of this server");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    let said = axum::body::HttpBody::size_hint(&body);
    if said.lower() > most {
        linger(body, most).await;
        return Err(too_large());
    }
    let is_small = said.upper().is_some_and(|upper| upper <= SMALL);
    let idle = Duration::from_secs(app.config.limits.idle_seconds);
    let _permit = if is_small {
        None
    } else {
        let permit = tokio::time::timeout(idle, app.uploads.acquire()).await;
        let busy = |_| Problem::overload("too many large bodies are being received", idle);
        Some(permit.map_err(busy)?)
    };
    let start = Instant::now();
    let mut taken = 0;
    loop {
        // Whoever sends a byte now and then keeps others out no longer than whoever sends none.
        let due = idle + Duration::from_secs(taken / SLOWEST);
        let left = due.saturating_sub(start.elapsed()).min(idle);
        let frame = match tokio::time::timeout(left, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                let detail = format!("the body ends early: {error}");
                return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
            }
            Ok(None) => return Ok(()),
            Err(_) => {
                let detail = format!(
                    "the body comes too slowly: {taken} bytes in {} s",
                    start.elapsed().as_secs()
                );
                return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail));
            }
        };
        if let Some(part) = frame.data_ref() {
            taken += part.len() as u64;
            if taken > most {
                linger(body, most).await;
                return Err(too_large());
            }
            take(part)?;
        }
    }
}

/// Takes the rest of a body that is too large, within bounds: a client that is still sending would see a broken
/// connection in the place of the answer.
async fn linger(mut body: Body, most: u64) {
    let rest = async {
        let mut taken = 0;
        while let Some(Ok(frame)) = body.frame().await {
            taken += frame.data_ref().map_or(0, |part| part.len() as u64);
            if taken > most {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, rest).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code)]
        inner: Vec<[f64; 2]>,
    }

    #[test]
    fn the_field_is_named() {
        let shown = |json: &str| {
            let problem = parse::<Outer>(json.as_bytes()).unwrap_err();
            (
                problem.status().as_u16(),
                serde_json::to_string(&problem).unwrap(),
            )
        };
        let (status, text) = shown(r#"{"inner": [[1, 2], [1, "x"]]}"#);
        assert_eq!(status, 422);
        assert!(text.contains(r#""field":"inner[1][1]""#), "{text}");
        let (status, text) = shown(r#"{"other": 1}"#);
        assert_eq!(status, 422);
        assert!(text.contains("other") && !text.contains("line"), "{text}");
        assert!(shown("{}").1.contains(r#""field":"inner""#));
        let (status, text) = shown("[[[1, 2]]]");
        assert!(status == 422 && !text.contains("Outer"), "{text}");
        let (_, text) = shown(r#"{"inner": [7]}"#);
        assert!(!text.contains("struct"), "{text}");
        let (status, text) = shown(r#"{"inner": [[1, 2, 3]]}"#);
        assert!(status == 422 && text.contains("inner[0]"), "{text}");
        assert_eq!(shown(r#"{"inner": "#).0, 400);
        assert_eq!(shown(r#"{"inner": []} x"#).0, 400);
    }
}
