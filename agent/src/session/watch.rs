//! Looks for requests to protected hosts in plain HTTP that is passed on. Pure.

use super::route::Names;
use crate::host::HostName;

/// Longer lines hold no host name that anybody would serve.
const MAX_LINE_LEN: usize = 4096;

/// Reads the client's bytes line by line, wherever their pieces are cut. A line of a body that looks like a
/// `Host` field counts too: between a rare false alarm and a request that slips by, the alarm is cheaper.
#[derive(Debug)]
pub struct HostWatch {
    names: Names,
    line: Vec<u8>,
}

impl HostWatch {
    /// For these names.
    pub fn new(names: Names) -> Self {
        Self { names, line: Vec::new() }
    }

    /// Takes the next bytes; answers the protected host that a line among them asks for.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<HostName> {
        for &byte in bytes {
            // Blanks count once: a name behind thousands of them is still a name.
            let is_repeated = is_blank(byte) && self.line.last().copied().is_some_and(is_blank);
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                if let Some(host) = self.asked(&line) {
                    return Some(host);
                }
            } else if self.line.len() < MAX_LINE_LEN && !is_repeated {
                self.line.push(byte);
            }
        }
        None
    }

    fn asked(&self, line: &[u8]) -> Option<HostName> {
        let line = String::from_utf8_lossy(line).to_ascii_lowercase();
        let authority = match line.trim_start().strip_prefix("host") {
            Some(rest) => rest.trim_start().strip_prefix(':')?,
            // The absolute form of a request's target, or CONNECT's.
            None => request_target(&line)?,
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
