//! The ClientHello parser: a pure function of the raw bytes that a connection began with.

use crate::host::HostName;

/// The longest ClientHello that is read, in bytes after its 4-byte header.
///
/// It is what rustls takes for one handshake message, so nothing that could be terminated is refused here. Today's
/// largest (post-quantum key shares, client certificates' authorities) stay far below it.
pub const MAX_HELLO_LEN: usize = 0xffff;

/// The longest record payload that TLS allows in the clear.
const MAX_RECORD_LEN: usize = 1 << 14;

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const MESSAGE_HEADER_LEN: usize = 4;

const EXTENSION_SERVER_NAME: u16 = 0x0000;
const EXTENSION_ALPN: u16 = 0x0010;
/// Encrypted client hello.
const EXTENSION_ECH: u16 = 0xfe0d;
/// The first draft's encrypted server name.
const EXTENSION_ESNI: u16 = 0xffce;

/// What a ClientHello says in the clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// The server name: a claim, not a fact.
    pub sni: Option<HostName>,
    /// The protocols offered, in the client's order.
    pub alpn: Vec<Vec<u8>>,
    /// Whether an encrypted client hello (or grease that looks like one) is there.
    pub ech: bool,
}

/// What the bytes are. Every answer but `Incomplete` stays the same whatever bytes follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parse {
    /// So far a prefix of a ClientHello.
    Incomplete,
    /// They begin with this ClientHello.
    Complete(ClientHello),
    /// They are no TLS.
    NotTls,
    /// A ClientHello that says it is longer than [`MAX_HELLO_LEN`].
    TooLarge,
    /// They begin like TLS and then break its grammar.
    Malformed(&'static str),
}

/// Reads the bytes that a connection began with. The cost is linear in their number.
pub fn parse(bytes: &[u8]) -> Parse {
    match message(bytes).and_then(|message| hello(message.get(MESSAGE_HEADER_LEN..).unwrap_or_default())) {
        Ok(hello) => Parse::Complete(hello),
        Err(parse) => parse,
    }
}

/// Whether the first byte is that of a TLS handshake.
pub(super) fn begins_like_tls(bytes: &[u8]) -> bool {
    bytes.first() == Some(&HANDSHAKE_RECORD)
}

/// Joins the first handshake message from its records; `Err` holds the answer where there is none.
fn message(bytes: &[u8]) -> Result<Vec<u8>, Parse> {
    match bytes.first() {
        None => return Err(Parse::Incomplete),
        Some(&HANDSHAKE_RECORD) => {}
        Some(first) if first & 0x80 != 0 => return Err(sslv2(bytes)),
        Some(_) => return Err(Parse::NotTls),
    }
    if bytes.get(1).is_some_and(|&major| major != 3) {
        return Err(Parse::NotTls);
    }
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let length = record_length(rest)?;
        let payload = rest.get(5..).unwrap_or_default();
        let fragment = payload.get(..length).unwrap_or(payload);
        message.extend_from_slice(fragment);
        if let Some(end) = message_end(&message)?
            && message.len() >= end
        {
            message.truncate(end);
            return Ok(message);
        }
        rest = payload.get(length..).ok_or(Parse::Incomplete)?;
    }
}

/// The payload length of the record that begins here.
fn record_length(record: &[u8]) -> Result<usize, Parse> {
    let malformed = |problem| Err(Parse::Malformed(problem));
    if record.first().is_some_and(|&kind| kind != HANDSHAKE_RECORD) {
        return malformed("a record of another type stands inside the ClientHello");
    }
    // The minor version means nothing: RFC 8446 has it ignored, and clients from SSL 3 to TLS 1.3 write 0 to 4.
    if record.get(1).is_some_and(|&major| major != 3) {
        return malformed("a record of the ClientHello has another major version");
    }
    let Some(&[_, _, _, high, low]) = record.first_chunk() else { return Err(Parse::Incomplete) };
    match usize::from(u16::from_be_bytes([high, low])) {
        0 => malformed("a record of the ClientHello is empty"),
        length if length > MAX_RECORD_LEN => {
            malformed("a record of the ClientHello is longer than TLS allows")
        }
        length => Ok(length),
    }
}

/// Where the message ends, as soon as its header is there.
fn message_end(message: &[u8]) -> Result<Option<usize>, Parse> {
    if message.first().is_some_and(|&kind| kind != CLIENT_HELLO) {
        return Err(Parse::Malformed("the first handshake message is not a ClientHello"));
    }
    let Some(&[_, high, middle, low]) = message.first_chunk() else { return Ok(None) };
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    if length > MAX_HELLO_LEN {
        return Err(Parse::TooLarge);
    }
    Ok(Some(MESSAGE_HEADER_LEN + length))
}

/// Bytes with the first bit set are an SSLv2 ClientHello (which old programs send to offer newer versions, and
/// which has no server name) or no TLS.
fn sslv2(bytes: &[u8]) -> Parse {
    match *bytes.get(2..).unwrap_or_default() {
        [] | [CLIENT_HELLO] | [CLIENT_HELLO, 0 | 3] => Parse::Incomplete,
        [CLIENT_HELLO, 0, 2, ..] | [CLIENT_HELLO, 3, 0..=4, ..] => {
            Parse::Malformed("it is an SSLv2 ClientHello, which has no server name")
        }
        _ => Parse::NotTls,
    }
}

fn hello(body: &[u8]) -> Result<ClientHello, Parse> {
    read_hello(Reader(body)).map_err(Parse::Malformed)
}

fn read_hello(mut reader: Reader<'_>) -> Result<ClientHello, &'static str> {
    const RANDOM_LEN: usize = 32;
    const MAX_SESSION_ID_LEN: usize = 32;

    if reader.u8()? != 3 {
        return Err("the ClientHello has another major version");
    }
    reader.take(1 + RANDOM_LEN)?;
    if reader.vector8()?.len() > MAX_SESSION_ID_LEN {
        return Err("the session id is longer than 32 bytes");
    }
    let cipher_suites = reader.vector16()?;
    if cipher_suites.is_empty() || !cipher_suites.len().is_multiple_of(2) {
        return Err("the list of cipher suites has an odd length or is empty");
    }
    if reader.vector8()?.is_empty() {
        return Err("the list of compression methods is empty");
    }
    let mut hello = ClientHello { sni: None, alpn: Vec::new(), ech: false };
    // Clients older than TLS 1.2 may leave the extensions out altogether.
    if reader.is_empty() {
        return Ok(hello);
    }
    let mut extensions = Reader(reader.vector16()?);
    if !reader.is_empty() {
        return Err("bytes follow the extensions");
    }
    let mut seen = Vec::new();
    while !extensions.is_empty() {
        let kind = extensions.u16()?;
        let content = Reader(extensions.vector16()?);
        seen.push(kind);
        match kind {
            EXTENSION_SERVER_NAME => hello.sni = Some(server_name(content)?),
            EXTENSION_ALPN => hello.alpn = protocols(content)?,
            EXTENSION_ECH | EXTENSION_ESNI => hello.ech = true,
            _ => {}
        }
    }
    seen.sort_unstable();
    if seen.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
        return Err("an extension stands there twice");
    }
    Ok(hello)
}

/// Exactly one name, of the type host_name: with a second one, two readers could believe different names.
fn server_name(mut content: Reader<'_>) -> Result<HostName, &'static str> {
    const HOST_NAME: u8 = 0;

    let mut list = Reader(content.vector16()?);
    if !content.is_empty() {
        return Err("bytes follow the list of server names");
    }
    if list.u8()? != HOST_NAME {
        return Err("the server name is not of the type host_name");
    }
    let name = list.vector16()?;
    if !list.is_empty() {
        return Err("there is more than one server name");
    }
    let name = str::from_utf8(name).map_err(|_| "the server name is not ASCII")?;
    if name.ends_with('.') {
        return Err("the server name ends with a dot");
    }
    HostName::parse(name).map_err(|_| "the server name is not a DNS host name")
}

fn protocols(mut content: Reader<'_>) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut list = Reader(content.vector16()?);
    if !content.is_empty() || list.is_empty() {
        return Err("the list of application protocols is empty or bytes follow it");
    }
    let mut protocols = Vec::new();
    while !list.is_empty() {
        match list.vector8()? {
            [] => return Err("the name of an application protocol is empty"),
            name => protocols.push(name.to_vec()),
        }
    }
    Ok(protocols)
}

/// The bytes not yet read of a structure.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("a length points past the end")?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, &'static str> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    fn u16(&mut self) -> Result<u16, &'static str> {
        Ok(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    /// A field behind its length in one byte.
    fn vector8(&mut self) -> Result<&'a [u8], &'static str> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// A field behind its length in two bytes.
    fn vector16(&mut self) -> Result<&'a [u8], &'static str> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests;
