//! One HTTP request for (the rest of) a file, and what its answer says.

use std::io;
use std::time::Duration;

use ureq::http::{HeaderMap, Uri, header};
use ureq::{Agent, Body, Error, Timeout};

use super::part::Origin;

/// Where a file is fetched from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) url: String,
    pub(super) host: String,
}

impl Source {
    pub(super) fn new(url: String) -> Self {
        let host = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let host = host
            .split(['/', '?', '#'])
            .next()
            .unwrap_or(host)
            .to_owned();
        Self { url, host }
    }
}

/// Finds out why a text cannot be the scheme, host and directory of a mirror.
pub(super) fn check_base_url(base: &str) -> Result<(), &'static str> {
    let rest = base
        .strip_prefix("https://")
        .or_else(|| base.strip_prefix("http://"));
    let rest = rest.ok_or("it does not begin with http:// or https://")?;
    let host = rest.split('/').next().unwrap_or_default();
    if host.is_empty() {
        Err("it names no host")
    } else if host.contains('@') {
        Err("it must not contain a user name or password")
    } else if rest.contains(['?', '#']) {
        Err("it must end with a directory, without ? or #")
    } else if rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        Err("it contains white space")
    } else {
        Ok(())
    }
}

/// The base URL without a user name and password, for messages.
pub(super) fn without_credentials(base: &str) -> String {
    let (scheme, rest) = base.split_once("://").unwrap_or(("", base));
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://…{}", &rest[at..]),
        None => base.to_owned(),
    }
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, including TLS.
    pub connect: Duration,
    /// For the head of an answer.
    pub response: Duration,
    /// For the next bytes of the file. There is no limit on the whole download.
    pub stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            response: Duration::from_mins(1),
            stall: Duration::from_mins(1),
        }
    }
}

/// An answer to a request.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) phrase: &'static str,
    /// What the answer says of the file as a whole.
    pub(super) origin: Origin,
    /// The offset of the first byte of the body, from `Content-Range`.
    pub(super) start: Option<u64>,
    /// An encoding that would make offsets meaningless.
    pub(super) encoding: Option<String>,
    /// Whether the end of the body can be told from a lost connection.
    pub(super) has_end: bool,
    pub(super) body: Body,
}

pub(super) fn agent(source: &Source, timeouts: Timeouts) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        // A redirect must not lead from a protected connection to an open one.
        .https_only(source.url.starts_with("https://"))
        .timeout_connect(Some(timeouts.connect))
        .timeout_recv_response(Some(timeouts.response))
        .timeout_per_read(Some(timeouts.stall))
        .user_agent(concat!("samara/", env!("CARGO_PKG_VERSION")))
        // Offsets count the bytes of the file, not those of a compressed stream.
        .accept_encoding("identity")
        .build()
        .new_agent()
}

/// The proxy that stands between, for messages.
pub(super) fn proxy(agent: &Agent, source: &Source) -> Option<String> {
    let proxy = agent.config().proxy()?;
    let uri: Uri = source.url.parse().ok()?;
    (!proxy.is_no_proxy(&uri)).then(|| format!("{}:{}", proxy.host(), proxy.port()))
}

/// Asks for the file from `offset` on, if it still is the one that `validator` names.
pub(super) fn get(
    agent: &Agent,
    url: &str,
    offset: u64,
    validator: Option<&str>,
) -> Result<Reply, Error> {
    let mut request = agent.get(url);
    if offset > 0 {
        request = request.header(header::RANGE, format!("bytes={offset}-"));
        if let Some(validator) = validator {
            request = request.header(header::IF_RANGE, validator);
        }
    }
    let (head, body) = request.call()?.into_parts();
    let range = text(&head.headers, header::CONTENT_RANGE).and_then(|range| content_range(&range));
    let total = match range {
        Some((_, total)) => total,
        None => body.content_length(),
    };
    Ok(Reply {
        status: head.status.as_u16(),
        phrase: head
            .status
            .canonical_reason()
            .unwrap_or("no standard status"),
        origin: Origin {
            url: url.to_owned(),
            etag: text(&head.headers, header::ETAG),
            last_modified: text(&head.headers, header::LAST_MODIFIED),
            total,
        },
        start: range.map(|(start, _)| start),
        encoding: text(&head.headers, header::CONTENT_ENCODING)
            .filter(|encoding| !encoding.eq_ignore_ascii_case("identity")),
        has_end: body.content_length().is_some()
            || text(&head.headers, header::TRANSFER_ENCODING).is_some(),
        body,
    })
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// The start and the total of `bytes 5-9/10`; the total may be `*`.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = if total == "*" {
        None
    } else {
        Some(total.parse().ok()?)
    };
    Some((start.trim().parse().ok()?, total))
}

/// Why a request failed, sorted by what helps.
pub(super) enum Failure {
    /// No connection: trying again at once hardly helps.
    Unreachable(String),
    /// The connection broke: trying again may help.
    Broken(String),
    /// The answer makes no sense: trying again does not help.
    Nonsense(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        use io::ErrorKind as Kind;
        match error {
            Error::Io(error) => match error.kind() {
                Kind::ConnectionReset
                | Kind::ConnectionAborted
                | Kind::BrokenPipe
                | Kind::UnexpectedEof => Self::Broken(one_line(&error)),
                _ => Self::Unreachable(one_line(&error)),
            },
            Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
                Self::Unreachable("no connection within the time limit".to_owned())
            }
            Error::Timeout(_) => Self::Broken(STALLED.to_owned()),
            Error::HostNotFound => Self::Unreachable("host not found".to_owned()),
            error @ (Error::Http(_)
            | Error::BadUri(_)
            | Error::Protocol(_)
            | Error::RedirectFailed
            | Error::TooManyRedirects
            | Error::RequireHttpsOnly(_)
            | Error::LargeResponseHeader(..)) => Self::Nonsense(one_line(&error)),
            error => Self::Unreachable(one_line(&error)),
        }
    }
}

const STALLED: &str = "no answer within the time limit";

/// Why reading the body failed.
pub(super) fn read_failure(error: io::Error) -> String {
    match Error::from(error) {
        Error::Timeout(_) => STALLED.to_owned(),
        Error::Io(error) => one_line(&error),
        error => one_line(&error),
    }
}

fn one_line(error: &dyn std::error::Error) -> String {
    error
        .to_string()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_what_a_user_can_check() {
        let host = |url: &str| Source::new(url.to_owned()).host;
        assert_eq!(
            host("https://dl.fbaipublicfiles.com/segment_anything/x.pth"),
            "dl.fbaipublicfiles.com"
        );
        assert_eq!(host("http://127.0.0.1:8080/x"), "127.0.0.1:8080");
        assert_eq!(host("http://[::1]:80"), "[::1]:80");
    }

    #[test]
    fn mirrors_are_checked_before_use() {
        for good in [
            "https://mirror",
            "http://127.0.0.1:8080/a/b/",
            "https://mirror/segment anything",
        ] {
            assert_eq!(check_base_url(good).is_ok(), !good.contains(' '), "{good}");
        }
        for bad in [
            "",
            "mirror/sam",
            "file:///sam",
            "https://",
            "https:///x",
            "http://a:b@c/",
            "http://c/?d",
        ] {
            assert!(check_base_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_are_not_repeated() {
        assert_eq!(
            without_credentials("http://ada:1234@mirror/a@b"),
            "http://…@mirror/a@b"
        );
        assert_eq!(
            without_credentials("https://mirror/a@b"),
            "https://mirror/a@b"
        );
    }

    #[test]
    fn ranges_are_read_or_refused() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for bad in [
            "bytes */10",
            "items 5-9/10",
            "bytes 5-9",
            "bytes -/1",
            "bytes 1-2/x",
            "",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
