//! Looks for requests to protected hosts, and for ways around them, in plain HTTP that is passed on. Pure.

use super::route::Names;
use crate::host::HostName;

/// Longer lines hold no host name that anybody would serve.
const MAX_LINE_LEN: usize = 4096;

/// Reads the client's bytes line by line, wherever their pieces are cut. A line of a body that looks like a
/// `Host` field counts too: between a rare false alarm and a request that slips by, the alarm is cheaper.
#[derive(Debug)]
pub struct HostWatch {
    names: Names,
    /// Whether the other end is a forward proxy.
    is_proxy: bool,
    line: Vec<u8>,
}

/// What must not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// A request to this protected host.
    Host(HostName),
    /// A tunnel, or HTTP/2, through a forward proxy: what it carries would not be looked at.
    Tunnel,
}

impl HostWatch {
    /// For these names.
    pub fn new(names: Names) -> Self {
        Self { names, is_proxy: false, line: Vec::new() }
    }

    /// For these names, and for tunnels through the forward proxy that the bytes go to.
    pub fn of_proxy(names: Names) -> Self {
        Self { is_proxy: true, ..Self::new(names) }
    }

    /// Takes the next bytes; answers what a line among them asks for, if that must not pass.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<Alarm> {
        for &byte in bytes {
            // Blanks count once: a name behind thousands of them is still a name.
            let is_repeated = is_blank(byte) && self.line.last().copied().is_some_and(is_blank);
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                if let Some(alarm) = self.judge(&line) {
                    return Some(alarm);
                }
            } else if self.line.len() < MAX_LINE_LEN && !is_repeated {
                self.line.push(byte);
            }
        }
        None
    }

    fn judge(&self, line: &[u8]) -> Option<Alarm> {
        let line = String::from_utf8_lossy(line).to_ascii_lowercase();
        if self.is_proxy && is_tunnel(&line) {
            return Some(Alarm::Tunnel);
        }
        self.asked(&line).map(Alarm::Host)
    }

    fn asked(&self, line: &str) -> Option<HostName> {
        let authority = match line.trim_start().strip_prefix("host") {
            Some(rest) => rest.trim_start().strip_prefix(':')?,
            // The absolute form of a request's target, or CONNECT's.
            None => request_target(line)?,
        };
        let authority = authority.trim().split(['/', '?', '#']).next()?;
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let host = host.split(':').next()?;
        HostName::parse(host).ok().filter(|host| self.names.is_protected(host))
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// What follows the scheme in the target of a request line. Of a line that was cut the version may be missing.
fn request_target(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let (_method, target) = (words.next()?, words.next()?);
    let is_request = words.next().map_or(line.len() >= MAX_LINE_LEN, |version| version.starts_with("http/"));
    let target = target.split_once("://").map_or(target, |(_, rest)| rest);
    is_request.then_some(target)
}

/// Whether the line begins a tunnel or HTTP/2.
fn is_tunnel(line: &str) -> bool {
    let method = line.split_whitespace().next().unwrap_or_default();
    let is_method = matches!(method, "connect" | "pri") && request_target(line).is_some();
    let upgrade = line.strip_prefix("upgrade").map(str::trim_start).and_then(|rest| rest.strip_prefix(':'));
    is_method || upgrade.is_some_and(|protocols| protocols.contains("h2c"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn watch() -> HostWatch {
        HostWatch::new(Names::new(&[HostName::parse("api.digitalocean.com").unwrap()]))
    }

    #[test_case("GET / HTTP/1.1\r\nHost: api.digitalocean.com\r\n\r\n", true; "a host field")]
    #[test_case("GET / HTTP/1.1\nhOsT:API.digitalocean.com.:80\n\n", true; "case, port, root dot and bare newlines")]
    #[test_case("GET / HTTP/1.1\r\nHost : api.digitalocean.com\r\n\r\n", true; "blank before the colon")]
    #[test_case("GET http://api.digitalocean.com/v2/account HTTP/1.1\r\n\r\n", true; "absolute form")]
    #[test_case("GET http://x@api.digitalocean.com:80/v2 HTTP/1.1\r\n\r\n", true; "user information")]
    #[test_case("CONNECT api.digitalocean.com:443 HTTP/1.1\r\n\r\n", true; "connect")]
    #[test_case("GET / HTTP/1.1\r\nHost: example.com\r\n\r\nGET / HTTP/1.1\r\nHost: api.digitalocean.com\r\n\r\n", true; "a later request")]
    #[test_case("GET /api.digitalocean.com HTTP/1.1\r\nHost: example.com\r\n\r\n", false; "the name in a path")]
    #[test_case("GET / HTTP/1.1\r\nHost: example.com\r\nReferer: http://api.digitalocean.com/\r\n\r\n", false; "the name in another field")]
    #[test_case("GET / HTTP/1.1\r\nHost: registry.digitalocean.com\r\n\r\n", false; "another host of the domain")]
    #[test_case("GET / HTTP/1.1\r\nHost: api.digitalocean.com", false; "a line that has not ended")]
    fn requests_to_protected_hosts_are_found(text: &str, found: bool) {
        assert_eq!(watch().feed(text.as_bytes()).is_some(), found);
        let mut bytewise = watch();
        assert_eq!(text.bytes().any(|byte| bytewise.feed(&[byte]).is_some()), found, "byte by byte");
    }

    #[test_case("GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n", None; "a request to another host")]
    #[test_case("CONNECT 192.0.2.10:443 HTTP/1.1\r\n\r\n", Some(Alarm::Tunnel); "a tunnel to an address")]
    #[test_case("GET http://example.com/ HTTP/1.1\r\n\r\n\r\nconnect example.com:443 HTTP/1.0\n", Some(Alarm::Tunnel); "a later tunnel")]
    #[test_case("PRI * HTTP/2.0\r\n\r\n", Some(Alarm::Tunnel); "http2")]
    #[test_case("GET http://example.com/ HTTP/1.1\r\nUpgrade : websocket, H2C\r\n", Some(Alarm::Tunnel); "a change to http2")]
    #[test_case("CONNECT me\r\n", None; "no request line")]
    fn tunnels_through_a_proxy_are_found(text: &str, expected: Option<Alarm>) {
        let names = Names::new(&[HostName::parse("api.digitalocean.com").unwrap()]);
        assert_eq!(HostWatch::of_proxy(names).feed(text.as_bytes()), expected);
        assert_eq!(watch().feed(text.as_bytes()), None, "where the other end is no proxy");
    }

    #[test]
    fn a_long_line_hides_no_name() {
        let (blanks, path) = (" \t".repeat(MAX_LINE_LEN), "x".repeat(MAX_LINE_LEN));
        for text in [
            format!("GET / HTTP/1.1\r\nHost:{blanks}api.digitalocean.com\r\n"),
            format!("{blanks}GET{blanks}http://api.digitalocean.com/ HTTP/1.1\r\n"),
            format!("GET http://api.digitalocean.com/{path} HTTP/1.1\r\nHost: example.com\r\n"),
        ] {
            assert!(watch().feed(text.as_bytes()).is_some(), "{}", &text[..40]);
        }
        let harmless = format!("GET http://example.com/{path} HTTP/1.1\r\nHost: example.com\r\n");
        assert!(watch().feed(harmless.as_bytes()).is_none());
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let mut watch = watch();
        watch.feed(&vec![b'x'; 10 * MAX_LINE_LEN]);
        assert_eq!(watch.line.len(), MAX_LINE_LEN);
        assert!(watch.feed(b"\nHost: api.digitalocean.com\n").is_some());
    }
}
