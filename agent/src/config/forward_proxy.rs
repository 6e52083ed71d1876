//! The HTTP proxies that programs reach the API through, as the configuration or the environment names them.

use crate::host::HostName;
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

/// The variables that programs take their proxy from, each in lower and upper case.
const VARIABLES: [&str; 6] =
    ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];

/// The ports that programs take where a variable names none: curl the first, most others the second.
const USUAL_PORTS: [u16; 2] = [1080, 80];

/// `capture.forward_proxies`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardProxies {
    /// Those that the agent's own environment names at its start.
    FromEnvironment,
    /// These and no others.
    Listed(Vec<ForwardProxy>),
}

/// An HTTP proxy that is reached without TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ForwardProxy {
    /// Where it is.
    pub host: ProxyHost,
    /// Its port.
    pub port: u16,
}

/// Where a proxy is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProxyHost {
    /// At what this name resolves to.
    Name(HostName),
    /// At this address.
    Address(IpAddr),
}

/// Why a text names no proxy that can be captured. Repeats no user name or password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidForwardProxy {
    /// TLS to the proxy itself hides what is asked of it.
    #[error("`{0}` is reached over TLS, and only proxies of `http://` can be captured")]
    OverTls(String),
    /// The port could be any.
    #[error("`{0}` is not a forward proxy; write it as `http://proxy.example:3128` or `10.0.0.1:8080`")]
    Form(String),
    /// The configuration needs no secret.
    #[error("a forward proxy is named without user and password; remove what ends with `@`")]
    Credentials,
}

impl ForwardProxy {
    /// Parses `http://host:port`, or the same without scheme.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidForwardProxy> {
        if text.contains('@') {
            return Err(InvalidForwardProxy::Credentials);
        }
        let (host, port) = parts(text)?;
        let port = port.ok_or_else(|| InvalidForwardProxy::Form(text.to_owned()))?;
        Ok(Self { host, port })
    }
}

/// The proxies that these variables name; `lookup` is the environment. With each variable whose value names
/// none comes why; the value itself may hold a password and is not repeated.
pub fn from_environment(
    lookup: impl Fn(&str) -> Option<String>,
) -> (Vec<ForwardProxy>, Vec<(&'static str, InvalidForwardProxy)>) {
    let (mut proxies, mut unusable) = (Vec::new(), Vec::new());
    for variable in VARIABLES {
        let Some(value) = lookup(variable).filter(|value| !value.trim().is_empty()) else { continue };
        match parts(&without_credentials(value.trim())) {
            Ok((host, port)) => {
                let ports = port.map_or_else(|| USUAL_PORTS.to_vec(), |port| vec![port]);
                proxies.extend(ports.into_iter().map(|port| ForwardProxy { host: host.clone(), port }));
            }
            Err(error) => unusable.push((variable, error)),
        }
    }
    let mut known = std::collections::HashSet::new();
    proxies.retain(|proxy| known.insert(proxy.clone()));
    (proxies, unusable)
}

fn without_credentials(value: &str) -> String {
    let (scheme, rest) = value.split_once("://").map_or(("", value), |(scheme, rest)| (scheme, rest));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}

fn parts(text: &str) -> Result<(ProxyHost, Option<u16>), InvalidForwardProxy> {
    let invalid = || InvalidForwardProxy::Form(text.to_owned());
    let rest = match text.split_once("://") {
        None => text,
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
            return Err(InvalidForwardProxy::OverTls(text.to_owned()));
        }
        Some(_) => return Err(invalid()),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or_else(invalid)?;
            let address: Ipv6Addr = address.parse().map_err(|_| invalid())?;
            (ProxyHost::Address(address.into()), port)
        }
        None => {
            let length = authority.find(':').unwrap_or(authority.len());
            let (host, port) = authority.split_at(length);
            let address = host.parse().map(|address| ProxyHost::Address(IpAddr::V4(address)));
            let host = address.or_else(|_| HostName::parse(host).map(ProxyHost::Name));
            (host.map_err(|_| invalid())?, port)
        }
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        None => return Err(invalid()),
        Some(digits) => Some(port_number(digits).ok_or_else(invalid)?),
    };
    Ok((host, port))
}

fn port_number(digits: &str) -> Option<u16> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| is_number && *port != 0)
}

impl fmt::Display for ForwardProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            ProxyHost::Name(name) => write!(f, "{name}:{}", self.port),
            ProxyHost::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            ProxyHost::Address(address) => write!(f, "{address}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use test_case::test_case;

    #[test_case("http://Proxy.example:3128", Some("proxy.example:3128"); "scheme")]
    #[test_case("HTTP://proxy.example:3128/", Some("proxy.example:3128"); "case and root path")]
    #[test_case("10.0.0.1:8080", Some("10.0.0.1:8080"); "address")]
    #[test_case("[2001:db8::1]:8080", Some("[2001:db8::1]:8080"); "ipv6")]
    #[test_case("localhost:1", Some("localhost:1"); "one label")]
    #[test_case("proxy.example", None; "no port")]
    #[test_case("proxy.example:", None; "empty port")]
    #[test_case("proxy.example:0", None; "port 0")]
    #[test_case("proxy.example:+1", None; "sign")]
    #[test_case("proxy.example:65536", None; "port too high")]
    #[test_case("2001:db8::1:8080", None; "ipv6 without brackets")]
    #[test_case("[2001:db8::1]8080", None; "no colon")]
    #[test_case("https://proxy.example:3128", None; "tls")]
    #[test_case("socks5://proxy.example:1080", None; "socks")]
    #[test_case("http://user@proxy.example:3128", None; "user")]
    #[test_case("http://3221225994:80", None; "a number as an address")]
    #[test_case("", None; "empty")]
    fn a_proxy_is_a_host_with_a_port(text: &str, expected: Option<&str>) {
        assert_eq!(ForwardProxy::parse(text).ok().map(|proxy| proxy.to_string()).as_deref(), expected);
    }

    fn of(variables: &[(&str, &str)]) -> (Vec<String>, Vec<(&'static str, String)>) {
        let variables: HashMap<&str, &str> = variables.iter().copied().collect();
        let (proxies, unusable) =
            from_environment(|name| variables.get(name).map(|value| (*value).to_owned()));
        let unusable = unusable.into_iter().map(|(name, error)| (name, error.to_string()));
        (proxies.iter().map(ToString::to_string).collect(), unusable.collect())
    }

    #[test]
    fn every_variable_counts_in_either_case_and_none_twice() {
        let (proxies, unusable) = of(&[
            ("https_proxy", "http://a.example:1"),
            ("HTTP_PROXY", "b.example:2"),
            ("all_proxy", "http://a.example:1/"),
            ("ALL_PROXY", "c.example"),
            ("http_proxy", ""),
            ("no_proxy", "d.example:4"),
        ]);
        assert_eq!(proxies, ["a.example:1", "b.example:2", "c.example:1080", "c.example:80"]);
        assert!(unusable.is_empty(), "{unusable:?}");
    }

    #[test_case("http://me:se@cret@proxy.example:3128", true; "in a usable value")]
    #[test_case("https://me:secret@proxy.example:3128", false; "over tls")]
    #[test_case("socks5h://me:secret@proxy.example:1080", false; "socks")]
    #[test_case("me:secret@:80", false; "no host")]
    fn credentials_are_never_repeated(value: &str, usable: bool) {
        let (proxies, unusable) = of(&[("https_proxy", value)]);
        assert_eq!(!proxies.is_empty(), usable);
        let told = format!("{proxies:?} {unusable:?}");
        assert!(!told.contains("secret") && !told.contains("me:") && !told.contains("cret@"), "{told}");
    }
}
