//! The head of a request to a forward proxy, and of its answer: pure functions of their bytes.
//!
//! The proxy reads the same bytes, so that only what can be read in one way is taken.

use crate::host::HostName;
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

/// What a request asks of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyRequest {
    /// A tunnel.
    Connect(Connect),
    /// Anything else: a request that the proxy is to make itself.
    Other,
}

/// Where a tunnel is to lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The host.
    pub target: Target,
    /// The port.
    pub port: u16,
}

/// The host that a tunnel is to lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// By name: which address that is, the proxy finds out.
    Name(HostName),
    /// By address.
    Address(IpAddr),
}

impl Connect {
    /// The name, where it is one.
    pub fn name(&self) -> Option<&HostName> {
        match &self.target {
            Target::Name(name) => Some(name),
            Target::Address(_) => None,
        }
    }
}

impl fmt::Display for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Name(name) => write!(f, "{name}:{}", self.port),
            Target::Address(address) => write!(f, "{}", SocketAddr::new(*address, self.port)),
        }
    }
}

/// What the head of a proxy's answer says of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyAnswer {
    /// The status.
    pub status: u16,
    /// The length of the body; None where it ends otherwise.
    pub body_len: Option<u64>,
    /// Whether the proxy closes the connection after it.
    pub closes: bool,
}

impl ProxyAnswer {
    /// Whether the tunnel is there.
    pub fn is_tunnel(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The length of the head that the bytes begin with, its empty line included, where they hold all of it.
pub fn head_len(bytes: &[u8]) -> Option<usize> {
    let mut line_ends = bytes.iter().zip(1..).filter(|(byte, _)| **byte == b'\n').map(|(_, end)| end);
    line_ends.find_map(|end| match bytes.get(end..) {
        Some([b'\n', ..]) => Some(end + 1),
        Some([b'\r', b'\n', ..]) => Some(end + 2),
        _ => None,
    })
}

/// Reads the head of a request.
///
/// # Errors
/// Says what a proxy might read otherwise.
pub fn parse(head: &[u8]) -> Result<ProxyRequest, &'static str> {
    let head = String::from_utf8_lossy(head);
    let (line, fields) = split(&head)?;
    let [method, target, version] = words(line).ok_or("the request line has not three words")?;
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return Err("the request is of another protocol than HTTP/1");
    }
    let has = |name| fields.iter().any(|(field, _)| field.eq_ignore_ascii_case(name));
    if values(&fields, "upgrade").any(|protocol| protocol.to_ascii_lowercase().contains("h2c")) {
        return Err("the request asks for a change to HTTP/2");
    }
    if !method.eq_ignore_ascii_case("CONNECT") {
        return Ok(ProxyRequest::Other);
    }
    if method != "CONNECT" {
        return Err("the method is not in upper case");
    }
    if has("content-length") || has("transfer-encoding") {
        return Err("a CONNECT has no body");
    }
    connect(target).map(ProxyRequest::Connect).ok_or("the target of CONNECT is not a host with a port")
}

/// Reads the head of a proxy's answer; None where it is none.
pub fn parse_answer(head: &[u8]) -> Option<ProxyAnswer> {
    // Proxies write their words in any language and encoding.
    let head = String::from_utf8_lossy(head);
    let (line, fields) = split(&head).ok()?;
    let (version, rest) = line.split_once(' ')?;
    let code = rest.split(' ').next().filter(|code| code.len() == 3)?;
    let status = code.parse().ok().filter(|_| matches!(version, "HTTP/1.1" | "HTTP/1.0"))?;
    let lengths: Vec<Option<u64>> =
        values(&fields, "content-length").map(|length| length.parse().ok()).collect();
    let body_len = match lengths.as_slice() {
        [length] if values(&fields, "transfer-encoding").next().is_none() => *length,
        _ => None,
    };
    let asks_to_close = values(&fields, "connection")
        .chain(values(&fields, "proxy-connection"))
        .any(|options| options.to_ascii_lowercase().contains("close"));
    let closes = asks_to_close || version == "HTTP/1.0" || body_len.is_none();
    Some(ProxyAnswer { status, body_len, closes })
}

/// The first line, and the name and value of each field.
type Head<'h> = (&'h str, Vec<(&'h str, &'h str)>);

/// Cuts a head into its lines.
fn split(head: &str) -> Result<Head<'_>, &'static str> {
    let text = head.strip_suffix("\r\n\r\n").ok_or("the head does not end in CR LF CR LF")?;
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let is_control = |byte: u8| byte.is_ascii_control() && byte != b'\t';
    if text.split("\r\n").any(|line| line.bytes().any(is_control)) {
        return Err("the head holds a control character");
    }
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    let fields: Option<Vec<_>> = lines
        .map(|line| {
            let (name, value) = line.split_once(':').filter(|(name, _)| is_name(name))?;
            Some((name, value.trim_matches([' ', '\t'])))
        })
        .collect();
    Ok((line, fields.ok_or("a line of the head is not a field")?))
}

fn values<'h>(fields: &[(&'h str, &'h str)], name: &str) -> impl Iterator<Item = &'h str> {
    fields.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

fn words(line: &str) -> Option<[&str; 3]> {
    let words: Vec<&str> = line.split(' ').collect();
    let words: [&str; 3] = words.try_into().ok()?;
    words.iter().all(|word| !word.is_empty() && !word.contains('\t')).then_some(words)
}

/// Reads the authority form of a target. Other spellings of an address (one number, octal) are none.
fn connect(target: &str) -> Option<Connect> {
    let (host, port) = target.rsplit_once(':')?;
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| is_number && *port != 0)?;
    let target = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => Target::Address(address.parse::<Ipv6Addr>().ok()?.into()),
        None => match host.parse() {
            Ok(address) => Target::Address(IpAddr::V4(address)),
            Err(_) => Target::Name(HostName::parse(host).ok()?),
        },
    };
    Some(Connect { target, port })
}

#[cfg(test)]
mod tests;
