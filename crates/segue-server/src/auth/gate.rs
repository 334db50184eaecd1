//! Safety of a local server: any web page can reach a loopback port, so `Host` has to name this
//! server and a present `Origin` has to be ours, before anything else of a request is looked at.

use axum::response::Response;
use http::{HeaderMap, HeaderValue, Uri, header};

use crate::error::{Code, Problem};

/// The names of loopback, as in a `Host` header without its port.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Which hosts and origins are let in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    /// Beside loopback: names as in a `Host` header, with or without a port.
    pub(crate) hosts: Vec<String>,
    /// Beside our own: origins as browsers write them.
    pub(crate) origins: Vec<String>,
}

impl Gate {
    /// Whether a request is let in. Its body is not looked at before.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let host = self.host(uri, headers)?;
        let mut origins = headers.get_all(header::ORIGIN).iter();
        if origins.all(|origin| self.is_ours(origin.as_bytes(), host)) {
            return Ok(());
        }
        Err(Problem::new(Code::BadOrigin, "requests of this origin are refused"))
    }

    /// HTTP/2 has the authority in the target; HTTP/1.1 has exactly one `Host`.
    fn host<'a>(&self, uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, Problem> {
        let refusal = || Problem::new(Code::BadHost, "requests for this host are refused");
        let mut named = headers.get_all(header::HOST).iter();
        let host = match (uri.authority(), named.next(), named.next()) {
            (Some(authority), Some(host), None) if authority.as_str() != host => {
                return Err(refusal());
            }
            (Some(authority), _, None) => authority.as_str(),
            (None, Some(host), None) => host.to_str().map_err(|_| refusal())?,
            (_, _, Some(_)) | (None, None, None) => return Err(refusal()),
        };
        let (name, port_ok) = split_port(host);
        let is = |known: &str| known.eq_ignore_ascii_case(name) || known.eq_ignore_ascii_case(host);
        let known = LOOPBACK.into_iter().any(is) || self.hosts.iter().any(|known| is(known));
        if known && port_ok { Ok(host) } else { Err(refusal()) }
    }

    /// Ours is the page that this server itself gave out, under the host that was asked for.
    fn is_ours(&self, origin: &[u8], host: &str) -> bool {
        let own = origin.strip_prefix(b"http://");
        own.is_some_and(|own| own.eq_ignore_ascii_case(host.as_bytes()))
            || self.is_configured(origin)
    }

    /// Tells caches that the answer would be another one to a configured origin.
    pub(crate) fn vary(&self, mut response: Response) -> Response {
        if !self.origins.is_empty() {
            response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
        }
        response
    }

    /// Whether an origin is one of those beside our own.
    pub(super) fn is_configured(&self, origin: &[u8]) -> bool {
        self.origins.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(origin))
    }
}

/// The name before the port, and whether what stands behind it is a port.
fn split_port(host: &str) -> (&str, bool) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => {
            (name, !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
        }
        Some(_) | None => (host, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: Option<&str>, origin: Option<&str>) -> Result<(), Code> {
        let gate = Gate {
            hosts: vec!["segue.example".into()],
            origins: vec!["https://app.example".into()],
        };
        let mut headers = HeaderMap::new();
        let named = [(header::HOST, host), (header::ORIGIN, origin)];
        for (name, value) in named {
            if let Some(value) = value {
                headers.insert(name, value.parse().expect("ascii"));
            }
        }
        let uri = Uri::from_static("/v1/runs");
        gate.check(&uri, &headers).map_err(|problem| problem.code())
    }

    #[test]
    fn loopback_and_configured_hosts_are_let_in() {
        for host in [
            "localhost",
            "LOCALHOST:7878",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:7878",
            "segue.example",
            "segue.example:443",
        ] {
            assert_eq!(check(Some(host), None), Ok(()), "{host}");
        }
    }

    #[test]
    fn foreign_hosts_are_misdirected() {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.2",
            "localhost:",
            "localhost:80x",
            "localhost:80@evil.example",
            "",
            ":80",
            "[::2]",
        ] {
            assert_eq!(check(Some(host), None), Err(Code::BadHost), "{host}");
        }
        assert_eq!(check(None, None), Err(Code::BadHost));
    }

    #[test]
    fn two_hosts_or_a_contradiction_are_refused() {
        let gate = Gate::default();
        let mut headers = HeaderMap::new();
        headers.append(header::HOST, "localhost".parse().expect("ascii"));
        let absolute = Uri::from_static("http://127.0.0.1/");
        assert!(gate.check(&absolute, &headers).is_err());
        assert!(gate.check(&absolute, &HeaderMap::new()).is_ok());
        headers.append(header::HOST, "localhost".parse().expect("ascii"));
        assert!(gate.check(&Uri::from_static("/"), &headers).is_err());
    }

    #[test]
    fn an_origin_has_to_be_ours_or_configured() {
        let host = Some("localhost:7878");
        assert_eq!(check(host, Some("http://localhost:7878")), Ok(()));
        assert_eq!(check(host, Some("https://app.example")), Ok(()));
        for origin in [
            "null",
            "",
            "http://localhost",
            "http://localhost:1",
            "https://localhost:7878",
            "http://evil.example",
            "https://app.example.evil",
        ] {
            assert_eq!(check(host, Some(origin)), Err(Code::BadOrigin), "{origin}");
        }
    }
}
