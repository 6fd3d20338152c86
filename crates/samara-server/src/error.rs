//! What a request is answered with when it fails: RFC 9457's problem details.

use std::fmt::Display;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::ext::ReasonPhrase;
use samara_image::one_line;
use samara_project::ProjectError;
use samara_quality::QualityError;
use serde::Serialize;
use utoipa::ToSchema;

/// Settings that make no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

/// Why a request failed, as `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// The HTTP status once more.
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = u16, example = 422)]
    status: StatusCode,
    /// What the status is called.
    #[schema(example = "Unprocessable Entity")]
    title: &'static str,
    /// What is wrong, in one line.
    #[schema(example = "point 900,20 lies outside the image of 600×400 pixels")]
    detail: String,
    /// The field that is wrong, as `prompts[0].points`; left out where none is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// When to try again.
    #[serde(skip)]
    retry_after: Option<Duration>,
}

pub(crate) type Result<T, E = Problem> = std::result::Result<T, E>;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

/// When to try again to write to a file to which another program writes.
const BUSY: Duration = Duration::from_secs(1);

/// A message longer than this is cut: it may repeat what was sent.
const LONGEST: usize = 500;

/// The first characters of a text.
pub(crate) fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Display) -> Self {
        Self {
            status,
            title: status.canonical_reason().unwrap_or("Error"),
            detail: cut(&one_line(&detail.to_string()), LONGEST),
            field: None,
            retry_after: None,
        }
    }

    /// A field of the request that makes no sense.
    pub(crate) fn field(field: impl Into<String>, detail: impl Display) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail).about(field)
    }

    /// There is no such thing.
    pub(crate) fn not_found(detail: impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// The state of the server does not allow it.
    pub(crate) fn conflict(detail: impl Display) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// There is more to do than can be kept in mind.
    pub(crate) fn overload(detail: impl Display, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail)
        }
    }

    /// The server ends, or the work was stopped.
    pub(crate) fn unavailable(detail: impl Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// Our fault.
    pub(crate) fn internal(detail: impl Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    /// The same about a field of the request, in whose object the error may have named one.
    pub(crate) fn about(mut self, field: impl Into<String>) -> Self {
        let field = field.into();
        self.field = match self.field {
            Some(inner) if field.is_empty() => Some(inner),
            Some(inner) => Some(format!("{field}.{inner}")),
            None => Some(field).filter(|field| !field.is_empty()),
        };
        self
    }

    /// What is wrong with a file that the client knows by this name: its place on the server is nobody's business.
    pub(crate) fn of_file(name: &str, error: &samara_image::Error) -> Self {
        let problem = Self::of_image(error);
        Self::new(problem.status, format!("{name}: {}", error.reason()))
    }

    /// What is wrong with a file that the server writes: its place is nobody's business.
    pub(crate) fn of_writing(what: &str, error: &std::io::Error) -> Self {
        let status = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                StatusCode::INSUFFICIENT_STORAGE
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        tracing::error!("{what}: {error}");
        Self::new(status, format!("{what} cannot be kept: {}", error.kind()))
    }

    /// What is wrong with something that the server has kept.
    pub(crate) fn of_kept(name: &str, error: samara::Error) -> Self {
        match error {
            samara::Error::Saved { reason, .. } => Self::conflict(format!("{name}: {reason}")),
            samara::Error::Image(error) => Self::internal(format!("{name}: {}", error.reason())),
            other => other.into(),
        }
    }

    /// An answer of another form with this status, and with the line as reason phrase: what Python programs show.
    pub(crate) fn told(&self, body: impl IntoResponse) -> Response {
        let mut response = body.into_response();
        *response.status_mut() = self.status;
        let plain = |c: char| {
            if c.is_ascii() && !c.is_ascii_control() {
                c
            } else {
                '?'
            }
        };
        let phrase = self.line().replace('×', "x").replace('…', "...");
        let phrase: String = phrase.chars().map(plain).collect();
        if let Ok(phrase) = ReasonPhrase::try_from(phrase) {
            response.extensions_mut().insert(phrase);
        }
        self.say_when(&mut response);
        response
    }

    /// Writes when to try again, if that is known.
    fn say_when(&self, response: &mut Response) {
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
    }

    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong, in one line.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The field and what is wrong with it, in one line.
    pub(crate) fn line(&self) -> String {
        match &self.field {
            Some(field) => format!("{field}: {}", self.detail),
            None => self.detail.clone(),
        }
    }
}

/// What the parser says, without the names of our types.
pub(crate) fn plain(why: &str) -> String {
    if why.contains("any variant of untagged enum") {
        return "is of no form that is understood here".into();
    }
    if why.starts_with("trailing characters") {
        return "has more values than are expected".into();
    }
    if why.contains("invalid digit found in string") {
        return "a whole number, 0 or more, is expected".into();
    }
    if why.starts_with("expected value") || why.starts_with("expected ident") {
        return "is of a type that is not expected here".into();
    }
    match why.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected an object"),
        None => why.to_owned(),
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        self.say_when(&mut response);
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        if self.status == StatusCode::UNAUTHORIZED {
            let how = HeaderValue::from_static("Bearer, Basic realm=\"samara\"");
            headers.insert(header::WWW_AUTHENTICATE, how);
        }
        response
    }
}

impl From<samara::Error> for Problem {
    fn from(error: samara::Error) -> Self {
        use samara::{Error, VideoError};
        match &error {
            Error::Image(image) => Self::of_image(image),
            Error::Video(VideoError::UnknownObject(_)) => Self::not_found(error).about("object"),
            Error::Prompt(_)
            | Error::Select(_)
            | Error::Option(_)
            | Error::Parse(_)
            | Error::Video(_)
            | Error::Parameter(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, error),
            Error::Checkpoint(_) | Error::Saved { .. } => Self::conflict(error),
            Error::Cancelled => Self::unavailable("the work was stopped"),
            _ => Self::internal(error),
        }
    }
}

impl Problem {
    fn of_image(error: &samara_image::Error) -> Self {
        let status = match error {
            samara_image::Error::Limits { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            samara_image::Error::Unsupported { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            samara_image::Error::Io { source, .. }
                if source.kind() != std::io::ErrorKind::NotFound =>
            {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        // As the configuration calls the limits.
        let text = error
            .to_string()
            .replace("raise max_pixels", "raise limits.image_pixels");
        Self::new(
            status,
            text.replace("raise max_bytes", "raise limits.body_bytes"),
        )
    }
}

impl From<samara_image::Error> for Problem {
    fn from(error: samara_image::Error) -> Self {
        Self::of_image(&error)
    }
}

impl From<ProjectError> for Problem {
    fn from(error: ProjectError) -> Self {
        use ProjectError as E;
        let refused = |field| Self::field(field, &error);
        match &error {
            E::UnknownPicture(_) | E::UnknownObject(_) | E::UnknownTrack(_) => {
                Self::not_found(error)
            }
            E::UnknownClass(_) => Self::not_found(error).about("class"),
            E::Conflict { .. } | E::Nothing(_) | E::InUse { .. } => Self::conflict(error),
            E::Exists { .. } => Self::conflict(error).about("folder"),
            E::SameName(_) => Self::conflict(error).about("name"),
            E::Name(_) => refused("name"),
            E::Colour(_) => refused("colour"),
            E::Size { .. } => refused("mask"),
            E::Value(_) | E::Format { .. } => refused(""),
            // It may be put back.
            E::File { .. } | E::Stopped => Self::unavailable(error),
            E::Full { .. } => Self::new(StatusCode::INSUFFICIENT_STORAGE, error),
            E::Busy { .. } => Self {
                retry_after: Some(BUSY),
                ..Self::unavailable(error)
            },
            E::Edit { .. } => match error {
                E::Edit { index, error } => Self::from(*error).about(format!("edits[{index}]")),
                other => Self::internal(other),
            },
            _ => Self::internal(error),
        }
    }
}

impl From<QualityError> for Problem {
    fn from(error: QualityError) -> Self {
        match error {
            QualityError::Samara(error) => error.into(),
            other => Self::new(StatusCode::UNPROCESSABLE_ENTITY, other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_named_from_the_outside() {
        let problem = Problem::field("points", "none").about("prompts[2]");
        assert_eq!(problem.field.as_deref(), Some("prompts[2].points"));
    }

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        let problem = Problem::internal(format!("a\nb{}", "ü".repeat(1000)));
        assert!(!problem.detail.contains('\n'));
        assert_eq!(problem.detail.chars().count(), LONGEST + 1);
    }

    #[test]
    fn overload_says_when_to_come_back() {
        let response = Problem::overload("busy", Duration::from_millis(10)).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
