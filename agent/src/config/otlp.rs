//! `[audit.otlp]`: the OpenTelemetry collector that gets the audit records, by OTLP over HTTP.

use super::forward_proxy::ProxyHost;
use crate::host::HostName;
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// `[audit.otlp]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// Where the collector is.
    pub endpoint: Endpoint,
    /// The file of the headers that it wants, such as an API key: what is in there shows nowhere.
    pub headers: Option<PathBuf>,
    /// PEM certificates to trust beside the system's roots.
    pub ca_file: Option<PathBuf>,
    /// For one attempt to send.
    pub timeout: Duration,
    /// Whether each record is sent as a log record.
    pub logs: bool,
    /// Whether each request is sent as a trace.
    pub traces: bool,
}

/// Where a collector is: the URL that the path of each signal is put behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it is reached over TLS.
    pub tls: bool,
    /// Its name or address.
    pub host: ProxyHost,
    /// Its port.
    pub port: u16,
    /// What stands before a signal's path: empty, or beginning with a slash and not ending with one.
    pub path: String,
}

/// Why a text is no [`Endpoint`]. Repeats no user name or password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidEndpoint {
    /// It is no URL, or one of another kind.
    #[error("`{0}` is not the URL of a collector; write for example `http://127.0.0.1:4318`")]
    Form(String),
    /// The configuration needs no secret.
    #[error("`endpoint` is named without user and password; put a header into a file that `headers` names")]
    Credentials,
}

impl Endpoint {
    /// Parses `http://host:port/path` or `https://host:port/path`; port and path may be absent.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidEndpoint> {
        if text.contains('@') {
            return Err(InvalidEndpoint::Credentials);
        }
        Self::parts(text).ok_or_else(|| InvalidEndpoint::Form(text.to_owned()))
    }

    fn parts(text: &str) -> Option<Self> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains(['?', '#', '\\']) {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                let address: Ipv6Addr = address.parse().ok()?;
                (ProxyHost::Address(address.into()), port)
            }
            None => {
                let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
                let address = host.parse().map(|address| ProxyHost::Address(IpAddr::V4(address))).ok();
                (address.or_else(|| HostName::parse(host).ok().map(ProxyHost::Name))?, port)
            }
        };
        let port = match port.strip_prefix(':') {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            None if port.is_empty() => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(_) | None => return None,
        };
        (port > 0).then(|| Self { tls, host, port, path: path.trim_end_matches('/').to_owned() })
    }

    /// Host and port, as in a request's `Host`.
    pub fn authority(&self) -> String {
        match &self.host {
            ProxyHost::Name(name) => format!("{}:{}", name.as_str(), self.port),
            ProxyHost::Address(address) => SocketAddr::new(*address, self.port).to_string(),
        }
    }

    /// Whether what is sent there stays on this machine.
    pub fn is_local(&self) -> bool {
        match &self.host {
            ProxyHost::Name(name) => name.as_str() == "localhost",
            ProxyHost::Address(address) => address.is_loopback(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("http://127.0.0.1:4318", Some("http://127.0.0.1:4318"), true; "address")]
    #[test_case("http://localhost:4318/", Some("http://localhost:4318"), true; "slash at the end")]
    #[test_case("http://[::1]:4318/a/b//", Some("http://[::1]:4318/a/b"), true; "address in brackets")]
    #[test_case("https://Otlp.Example", Some("https://otlp.example:443"), false; "usual port of https")]
    #[test_case("http://otlp.example/otlp", Some("http://otlp.example:80/otlp"), false; "usual port of http")]
    #[test_case("127.0.0.1:4318", None, false; "no scheme")]
    #[test_case("grpc://127.0.0.1:4317", None, false; "another scheme")]
    #[test_case("http://127.0.0.1:0", None, false; "no port")]
    #[test_case("http://127.0.0.1:+80", None, false; "a port with a sign")]
    #[test_case("http://127.0.0.1:65536", None, false; "a port too high")]
    #[test_case("http://[::1", None, false; "half a bracket")]
    #[test_case("http://a b/", None, false; "space")]
    #[test_case("http://a/\r\nx: y", None, false; "line break")]
    #[test_case("http://a/?b=c", None, false; "query")]
    #[test_case("http://", None, false; "no host")]
    fn endpoints_are_base_urls(text: &str, expected: Option<&str>, is_local: bool) {
        let parsed = Endpoint::parse(text);
        assert_eq!(parsed.as_ref().ok().map(ToString::to_string).as_deref(), expected);
        assert_eq!(parsed.is_ok_and(|endpoint| endpoint.is_local()), is_local);
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        let error = Endpoint::parse("https://user:secret@otlp.example").unwrap_err();
        assert_eq!(error, InvalidEndpoint::Credentials);
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
}
