//! Who the request says it is for: SNI, request target, Host and `:authority` must agree.

use crate::{host::HostName, reason::Reason};
use http::{HeaderMap, Uri, Version, header::HOST, uri::Scheme};

/// How a request contradicts the host that its connection was made for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Mismatch {
    /// HTTP/1.1 without Host, or HTTP/2 without `:authority` and Host.
    #[error("the request names no host, while the connection is for `{expected}`")]
    Missing {
        /// The connection's host.
        expected: HostName,
    },
    /// More than one Host header, even if they agree: readers differ in which one they take.
    #[error("the request has {count} Host headers")]
    Repeated {
        /// How many.
        count: usize,
    },
    /// A Host or target that is no host name with an optional port.
    #[error("the request names `{claim}`, which is no host name with an optional port")]
    Malformed {
        /// What it is.
        claim: String,
    },
    /// The name of another host.
    #[error("the request names `{claim}`, while the connection is for `{expected}`")]
    Host {
        /// The name in the request.
        claim: HostName,
        /// The connection's host.
        expected: HostName,
    },
    /// Another port than the connection's.
    #[error("the request names port {claim}, while the connection is to port {expected}")]
    Port {
        /// The port in the request.
        claim: u16,
        /// The original destination's.
        expected: u16,
    },
    /// A target in absolute form, or a `:scheme`, that is not https.
    #[error("the request's target has the scheme `{0}` on a TLS connection")]
    Scheme(String),
}

impl Mismatch {
    /// The reason code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Repeated { .. } | Self::Malformed { .. } => Reason::MalformedRequest,
            Self::Missing { .. } | Self::Host { .. } | Self::Port { .. } | Self::Scheme(_) => {
                Reason::AuthorityMismatch
            }
        }
    }
}

/// Checks every name that the request gives against the connection's: its SNI, and the port of its original
/// destination. Case, a trailing dot and the connection's own port make no difference.
///
/// # Errors
/// Says what does not agree.
pub fn check(
    sni: &HostName,
    port: u16,
    version: Version,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), Mismatch> {
    if let Some(scheme) = uri.scheme().filter(|scheme| **scheme != Scheme::HTTPS) {
        return Err(Mismatch::Scheme(scheme.to_string()));
    }
    let count = headers.get_all(HOST).iter().count();
    if count > 1 {
        return Err(Mismatch::Repeated { count });
    }
    let target = uri.authority().map(|authority| authority.as_str());
    if let Some(target) = target {
        check_claim(target, sni, port)?;
    }
    match headers.get(HOST) {
        Some(host) => {
            let claim = host.to_str().map_err(|_| malformed(&String::from_utf8_lossy(host.as_bytes())))?;
            check_claim(claim, sni, port)
        }
        // `:authority` replaces Host from HTTP/2 on; before, Host is needed beside a target in absolute form.
        None if target.is_some() && version >= Version::HTTP_2 => Ok(()),
        None => Err(Mismatch::Missing { expected: sni.clone() }),
    }
}

fn check_claim(claim: &str, expected: &HostName, expected_port: u16) -> Result<(), Mismatch> {
    let (name, port) = match claim.split_once(':') {
        Some((name, port)) => (name, Some(parse_port(port).ok_or_else(|| malformed(claim))?)),
        None => (claim, None),
    };
    let name = HostName::parse(name).map_err(|_| malformed(claim))?;
    if name != *expected {
        return Err(Mismatch::Host { claim: name, expected: expected.clone() });
    }
    match port {
        Some(port) if port != expected_port => Err(Mismatch::Port { claim: port, expected: expected_port }),
        _ => Ok(()),
    }
}

/// A port in its one spelling: no sign, no leading zero.
fn parse_port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port: &u16| port.to_string() == text)
}

fn malformed(claim: &str) -> Mismatch {
    Mismatch::Malformed { claim: claim.escape_default().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use test_case::test_case;

    const API: &str = "api.digitalocean.com";

    /// `agree`, or the reason code and the beginning of the message.
    fn outcome(port: u16, version: Version, target: &str, hosts: &[&[u8]]) -> Result<(), (Reason, String)> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_bytes(host).unwrap());
        }
        let sni = HostName::parse(API).unwrap();
        check(&sni, port, version, &target.parse().unwrap(), &headers)
            .map_err(|mismatch| (mismatch.reason(), mismatch.to_string()))
    }

    #[test_case(443, "/v2/droplets", b"api.digitalocean.com"; "plain")]
    #[test_case(443, "/v2/droplets", b"API.DigitalOcean.com"; "case")]
    #[test_case(443, "/v2/droplets", b"api.digitalocean.com."; "root dot")]
    #[test_case(443, "/v2/droplets", b"api.digitalocean.com:443"; "default port")]
    #[test_case(8443, "/v2/droplets", b"api.digitalocean.com:8443"; "another port that was connected to")]
    #[test_case(8443, "/v2/droplets", b"api.digitalocean.com"; "another port left out")]
    #[test_case(443, "https://api.digitalocean.com/v2/droplets", b"api.digitalocean.com"; "absolute form")]
    #[test_case(443, "HTTPS://API.digitalocean.com:443/v2/droplets", b"api.digitalocean.com"; "absolute form, case and port")]
    fn names_that_agree(port: u16, target: &str, host: &[u8]) {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            assert_eq!(outcome(port, version, target, &[host]), Ok(()));
        }
    }

    #[test]
    fn the_authority_of_http_2_needs_no_host() {
        let target = "https://api.digitalocean.com/v2/droplets";
        assert_eq!(outcome(443, Version::HTTP_2, target, &[]), Ok(()));
        let (reason, _) = outcome(443, Version::HTTP_11, target, &[]).unwrap_err();
        assert_eq!(reason, Reason::AuthorityMismatch);
    }

    #[test_case("/v2", &[], Reason::AuthorityMismatch; "no host")]
    #[test_case("/v2", &[b"evil.example"], Reason::AuthorityMismatch; "another host")]
    #[test_case("/v2", &[b"registry.digitalocean.com"], Reason::AuthorityMismatch; "a neighbour")]
    #[test_case("/v2", &[b"api.digitalocean.com.evil.example"], Reason::AuthorityMismatch; "the name as a prefix")]
    #[test_case("/v2", &[b"api.digitalocean.com:80"], Reason::AuthorityMismatch; "another port")]
    #[test_case("/v2", &[b"api.digitalocean.com:0443"], Reason::MalformedRequest; "port with a zero in front")]
    #[test_case("/v2", &[b"api.digitalocean.com:+443"], Reason::MalformedRequest; "port with a sign")]
    #[test_case("/v2", &[b"api.digitalocean.com:65979"], Reason::MalformedRequest; "port that would wrap to 443")]
    #[test_case("/v2", &[b"api.digitalocean.com:"], Reason::MalformedRequest; "port missing")]
    #[test_case("/v2", &[b"api.digitalocean.com:443:443"], Reason::MalformedRequest; "two ports")]
    #[test_case("/v2", &[b"api.digitalocean.com, evil.example"], Reason::MalformedRequest; "list")]
    #[test_case("/v2", &[b"evil.example@api.digitalocean.com"], Reason::MalformedRequest; "user information")]
    #[test_case("/v2", &[b"api.digitalocean.com/"], Reason::MalformedRequest; "path")]
    #[test_case("/v2", &[b" api.digitalocean.com"], Reason::MalformedRequest; "blank")]
    #[test_case("/v2", &[b""], Reason::MalformedRequest; "empty")]
    #[test_case("/v2", &[b"104.16.0.1"], Reason::MalformedRequest; "address")]
    #[test_case("/v2", &[b"[::1]:443"], Reason::MalformedRequest; "address of IPv6")]
    #[test_case("/v2", &[b"api\xe9.digitalocean.com"], Reason::MalformedRequest; "not ascii")]
    #[test_case("/v2", &[b"api.digitalocean.com", b"api.digitalocean.com"], Reason::MalformedRequest; "twice the same")]
    #[test_case("/v2", &[b"api.digitalocean.com", b"evil.example"], Reason::MalformedRequest; "two hosts")]
    #[test_case("https://evil.example/v2", &[b"api.digitalocean.com"], Reason::AuthorityMismatch; "another target")]
    #[test_case("https://api.digitalocean.com/v2", &[b"evil.example"], Reason::AuthorityMismatch; "another host than the target")]
    #[test_case("https://api.digitalocean.com:8443/v2", &[b"api.digitalocean.com"], Reason::AuthorityMismatch; "another port in the target")]
    #[test_case("https://a@api.digitalocean.com/v2", &[b"api.digitalocean.com"], Reason::MalformedRequest; "user information in the target")]
    #[test_case("http://api.digitalocean.com/v2", &[b"api.digitalocean.com"], Reason::AuthorityMismatch; "another scheme")]
    fn names_that_do_not(target: &str, hosts: &[&[u8]], expected: Reason) {
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            let (reason, message) = outcome(443, version, target, hosts).unwrap_err();
            assert_eq!(reason, expected, "{message}");
        }
    }
}
