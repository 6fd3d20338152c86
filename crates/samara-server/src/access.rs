//! Who may ask, and how often.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::{Config, Secret};
use crate::error::{Problem, Result};

/// Seconds' worth of requests that may come at once.
const BURST: u32 = 5;

/// Clients whose rates are kept in mind, beside those that have asked just now.
const MOST_CLIENTS: usize = 10_000;

/// Who asks, in the log.
#[derive(Debug, Clone)]
pub(crate) struct Client(pub(crate) String);

/// The rules.
pub(crate) struct Access {
    /// Names, and SHA-256 of their secrets: comparing those says nothing of how long a secret is, or how much of a
    /// guess is right.
    tokens: Vec<(String, [u8; 32])>,
    /// Where the server needs no token, the names by which it may be called: a page whose name was made to lead here
    /// (DNS rebinding) calls it by another.
    hosts: Option<Hosts>,
    /// Origins of pages that may call.
    origins: Vec<String>,
    rates: Option<DefaultKeyedRateLimiter<String>>,
}

impl Access {
    pub(crate) fn new(config: &Config) -> Self {
        let digest = |secret: &Secret| Sha256::digest(secret.text()).into();
        let is_local = config.listen.ip().is_loopback();
        let hosts = config.tokens.is_empty().then(|| Hosts {
            names: config
                .hosts
                .iter()
                .map(|host| host.to_ascii_lowercase())
                .collect(),
            is_local,
        });
        let rate = config.limits.requests_per_second.and_then(NonZeroU32::new);
        Self {
            tokens: config
                .tokens
                .iter()
                .map(|(name, secret)| (name.clone(), digest(secret)))
                .collect(),
            hosts,
            origins: config
                .cors
                .iter()
                .map(|origin| origin.to_ascii_lowercase())
                .collect(),
            rates: rate.map(|rate| {
                let burst = rate.saturating_mul(NonZeroU32::MIN.saturating_add(BURST - 1));
                RateLimiter::keyed(Quota::per_second(rate).allow_burst(burst))
            }),
        }
    }

    /// Who asks, if they may.
    fn check(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<Client> {
        self.check_host(uri, headers)?;
        self.check_origin(uri, headers)?;
        let peer = peer.map_or_else(|| "unknown".to_owned(), |ip| ip.to_string());
        let is_open = is_for_all(method, uri.path());
        let client = if self.tokens.is_empty() || is_open {
            Ok(peer.clone())
        } else {
            self.name_of(headers)
        };
        // Whoever guesses tokens is counted by address.
        self.check_rate(client.as_ref().unwrap_or(&peer))?;
        client.map(Client)
    }

    fn check_rate(&self, client: &String) -> Result<()> {
        let Some(rates) = &self.rates else {
            return Ok(());
        };
        if rates.len() > MOST_CLIENTS {
            rates.retain_recent();
        }
        rates.check_key(client).map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            Problem::overload("more requests than this server takes of one client", wait)
        })
    }

    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<()> {
        let Some(hosts) = &self.hosts else {
            return Ok(());
        };
        let host = host(uri, headers).unwrap_or_default();
        let name = without_port(&host);
        if hosts.has(name) {
            return Ok(());
        }
        let detail =
            format!("this server is not called {name:?}; the key hosts of --config names others");
        Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail))
    }

    /// Browsers say from which page a request comes; one that is not named may not even send.
    fn check_origin(&self, uri: &Uri, headers: &HeaderMap) -> Result<()> {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return Ok(());
        };
        let origin = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        let own = host(uri, headers).unwrap_or_default();
        let is_own = origin
            .split_once("://")
            .is_some_and(|(_, host)| host == own);
        if is_own || self.origins.contains(&origin) {
            return Ok(());
        }
        let detail = format!(
            "pages of {origin:?} may not call this server; the key cors of --config names those that may"
        );
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }

    /// The name of the token that a request carries.
    fn name_of(&self, headers: &HeaderMap) -> Result<String> {
        let refuse = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, detail);
        let secret = secret(headers)
            .ok_or_else(|| refuse("a token is needed: Authorization: Bearer TOKEN"))?;
        let digest: [u8; 32] = Sha256::digest(&secret).into();
        // All are compared, so that the time says nothing of which one it is.
        let mut found = None;
        for (name, known) in &self.tokens {
            if bool::from(known.ct_eq(&digest)) {
                found = Some(name);
            }
        }
        found
            .cloned()
            .ok_or_else(|| refuse("the token is none of this server's"))
    }
}

/// Whether a request needs no token. The files of the page are everybody's; it asks for a token itself.
fn is_for_all(method: &Method, path: &str) -> bool {
    match path {
        "/health" => true,
        "/" | "/studio" => matches!(*method, Method::GET | Method::OPTIONS),
        _ => *method == Method::OPTIONS || path.starts_with("/studio/"),
    }
}

/// Names by which a server may be called. An address is no name that somebody else can make lead here, and neither is
/// one without a dot, or that of the host of containers.
struct Hosts {
    /// Those of the configuration.
    names: Vec<String>,
    /// Whether only this machine can call.
    is_local: bool,
}

impl Hosts {
    fn has(&self, name: &str) -> bool {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let is_own = match bare.parse::<IpAddr>() {
            Ok(ip) => !self.is_local || ip.is_loopback(),
            Err(_) if self.is_local => name == "localhost",
            Err(_) => !name.is_empty() && (!name.contains('.') || name == "host.docker.internal"),
        };
        is_own || self.names.iter().any(|known| known == name)
    }
}

/// The host that a request is for.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let of_header = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = of_header.or_else(|| uri.authority().map(Authority::as_str))?;
    Some(host.to_ascii_lowercase())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The secret of a request: a bearer token, the password of basic authentication (Label Studio), or the header `Token`
/// (X-AnyLabeling).
fn secret(headers: &HeaderMap) -> Option<Vec<u8>> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some((scheme, rest)) = text("authorization").and_then(|value| value.split_once(' ')) {
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token") {
            return Some(rest.as_bytes().to_vec());
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let decoded = BASE64_STANDARD.decode(rest).ok()?;
            let colon = decoded.iter().position(|b| *b == b':')?;
            return Some(decoded[colon + 1..].to_vec());
        }
    }
    text("token")
        .filter(|token| !token.is_empty())
        .map(|token| token.as_bytes().to_vec())
}

/// Lets those in who may ask.
pub(crate) async fn admit(
    State(access): State<Arc<Access>>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map(|info| info.0.ip());
    match access.check(request.method(), request.uri(), request.headers(), peer) {
        Ok(client) => {
            request.extensions_mut().insert(client.clone());
            let mut response = next.run(request).await;
            response.extensions_mut().insert(client);
            response
        }
        Err(problem) => problem.into_response(),
    }
}

/// The time for which a browser need not ask again whether a page may call.
pub(crate) const PREFLIGHT_KEPT: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn check(config: &Config, headers: &[(&str, &str)]) -> Result<Client> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: header::HeaderName = name.parse().unwrap();
            map.insert(name, value.parse().unwrap());
        }
        let uri = "/v1/models".parse().unwrap();
        Access::new(config).check(&Method::GET, &uri, &map, None)
    }

    fn with_token() -> Config {
        let mut config = Config::default();
        config.tokens.insert("me".into(), SECRET.into());
        config
    }

    #[test]
    fn a_token_comes_in_several_ways() {
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("user:{SECRET}")));
        for (name, value) in [
            ("authorization", &*format!("Bearer {SECRET}")),
            ("authorization", &*format!("bearer  {SECRET}")),
            ("authorization", &*format!("Token {SECRET}")),
            ("authorization", &*basic),
            ("token", SECRET),
        ] {
            assert_eq!(
                check(&with_token(), &[(name, value)]).unwrap().0,
                "me",
                "{value}"
            );
        }
        for headers in [
            &[][..],
            &[("token", "")],
            &[("token", "0123456789abcdeg")],
            &[("token", "0123456789abcde")],
            &[("authorization", "Bearer")],
            &[("authorization", "Basic !!!")],
            &[("authorization", "Basic bm9jb2xvbg==")],
        ] {
            let problem = check(&with_token(), headers).unwrap_err();
            assert_eq!(problem.status(), StatusCode::UNAUTHORIZED, "{headers:?}");
        }
    }

    #[test]
    fn without_a_token_the_server_is_called_by_its_own_names() {
        let config = Config::default();
        for host in [
            "localhost",
            "LOCALHOST:8765",
            "127.0.0.1:8765",
            "[::1]:8765",
        ] {
            check(&config, &[("host", host)]).unwrap();
        }
        for host in [
            "evil.example",
            "localhost.evil.example:8765",
            "",
            "127.0.0.1.evil.example",
        ] {
            let problem = check(&config, &[("host", host)]).unwrap_err();
            assert_eq!(problem.status(), StatusCode::MISDIRECTED_REQUEST, "{host}");
        }
    }

    #[test]
    fn others_without_a_token_call_it_by_no_name_that_can_be_made() {
        let config = Config {
            listen: ([0, 0, 0, 0], 8070).into(),
            allow_without_token: true,
            hosts: vec!["masks.example".into()],
            ..Config::default()
        };
        for host in [
            "172.17.0.1:8070",
            "[fe80::1]:8070",
            "localhost",
            "workstation:8070",
            "host.docker.internal:8070",
            "masks.example",
        ] {
            check(&config, &[("host", host)]).unwrap();
        }
        for host in ["evil.example:8070", "172.17.0.1.evil.example", ""] {
            check(&config, &[("host", host)]).unwrap_err();
        }
    }

    #[test]
    fn pages_of_others_may_not_send() {
        let config = Config {
            cors: vec!["https://tool.example".into()],
            ..Config::default()
        };
        let with = |origin| check(&config, &[("host", "localhost:8765"), ("origin", origin)]);
        with("http://localhost:8765").unwrap();
        with("https://tool.example").unwrap();
        for origin in [
            "https://evil.example",
            "null",
            "http://localhost:8000",
            "http://tool.example",
        ] {
            assert_eq!(
                with(origin).unwrap_err().status(),
                StatusCode::FORBIDDEN,
                "{origin}"
            );
        }
    }

    #[test]
    fn too_many_requests_are_refused() {
        let mut config = with_token();
        config.limits.requests_per_second = Some(2);
        let access = Access::new(&config);
        let mut headers = HeaderMap::new();
        headers.insert("token", SECRET.parse().unwrap());
        let uri: Uri = "/v1/models".parse().unwrap();
        let ask = || access.check(&Method::GET, &uri, &headers, None);
        for _ in 0..10 {
            ask().unwrap();
        }
        assert_eq!(ask().unwrap_err().status(), StatusCode::TOO_MANY_REQUESTS);
    }
}
