//! The grammar of an HTTP/1 request stream, narrower than any HTTP library's: what two readers could
//! understand differently is a [`Violation`]. Pure: bytes in, verdict out, whatever the split of the input.

use http::Uri;
use std::{fmt, mem};

/// The longest request head: larger than any real client's, small enough for 256 connections a workload.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The most fields in a head; hyper's own limit, so that it never answers before this grammar does.
const MAX_FIELDS: usize = 100;
/// What 64 bits of chunk size need in hexadecimal.
const MAX_CHUNK_SIZE_DIGITS: u8 = 16;

/// A rule that the request stream breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// A line feed without a carriage return before it.
    #[error("a line ends in a bare LF")]
    BareLf,
    /// A carriage return without a line feed after it.
    #[error("a bare CR")]
    BareCr,
    /// A NUL or another control character.
    #[error("a control character in the head")]
    ControlCharacter,
    /// Not `METHOD SP target SP HTTP/1.1`.
    #[error("the request line is not `METHOD target HTTP/1.1`")]
    RequestLine,
    /// A target that is no URI, or holds a fragment.
    #[error("the request target is not a URI")]
    Target,
    /// A continuation line.
    #[error("a folded header line")]
    Folding,
    /// A header line whose name is not a token directly before a colon.
    #[error("a header line without a name directly before its colon")]
    FieldName,
    /// `Content-Length` that is not one plain decimal number.
    #[error("Content-Length is not one plain decimal number")]
    ContentLength,
    /// More than one `Content-Length`.
    #[error("more than one Content-Length")]
    RepeatedContentLength,
    /// `Transfer-Encoding` other than one `chunked` in HTTP/1.1.
    #[error("Transfer-Encoding is not exactly `chunked`")]
    TransferEncoding,
    /// `Content-Length` together with `Transfer-Encoding`.
    #[error("Content-Length together with Transfer-Encoding")]
    TwoLengths,
    /// More than one `Host`.
    #[error("more than one Host")]
    RepeatedHost,
    /// HTTP/1.1 without `Host`.
    #[error("no Host")]
    NoHost,
    /// A head beyond [`MAX_HEAD_BYTES`] or with too many fields.
    #[error("the head is larger than 64 KiB or 100 fields")]
    HeadTooLarge,
    /// A chunk size that is not hexadecimal digits alone.
    #[error("a chunk size is not hexadecimal digits alone")]
    ChunkSize,
    /// A chunk that does not end where its size says.
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    /// Chunk extensions.
    #[error("chunk extensions are not supported")]
    ChunkExtension,
    /// Trailers after the last chunk.
    #[error("request trailers are not supported")]
    Trailers,
    /// The head did not arrive in time.
    #[error("the head did not arrive in time")]
    HeadTimeout,
}

/// What was wrong, and with which request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The broken rule.
    pub rule: Rule,
    /// Whether it was in a body, so that the request had already begun.
    pub in_body: bool,
    /// Method and target, where the request line was complete and sound.
    pub request_line: Option<(String, String)>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rule.fmt(f)
    }
}

/// Where in the stream the reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Between two requests.
    Idle,
    /// Within a head.
    Head,
    /// Within a body.
    Body,
}

/// Follows one connection's request stream.
#[derive(Debug, Default)]
pub struct Grammar {
    state: State,
    head: Head,
    requests: u64,
    /// Bytes taken of a head that is not complete.
    unfinished: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Idle,
    /// In a line of the head.
    Line,
    /// After the CR of a line of the head.
    LineEnd,
    /// In a body of known length, so many bytes before its end.
    Length(u64),
    ChunkSize {
        size: u64,
        digits: u8,
    },
    ChunkSizeEnd(u64),
    ChunkData(u64),
    ChunkDataCr,
    ChunkDataLf,
    /// After the last chunk: the final CR.
    LastCr,
    LastLf,
    Broken,
}

#[derive(Debug, Default)]
struct Head {
    bytes: usize,
    fields: usize,
    line: Vec<u8>,
    request_line: Option<(String, String)>,
    http_1_0: bool,
    host: bool,
    content_length: Option<u64>,
    chunked: bool,
}

impl Grammar {
    /// Reads on. Returns how many leading bytes are sound, and the violation that the next byte is.
    /// After a violation nothing is sound any more.
    pub fn inspect(&mut self, input: &[u8]) -> (usize, Option<Violation>) {
        let mut position = 0;
        while let Some(rest) = input.get(position..).filter(|rest| !rest.is_empty()) {
            match self.step(rest) {
                Ok(consumed) => {
                    position += consumed;
                    self.unfinished =
                        if self.position() == Position::Head { self.unfinished + consumed } else { 0 };
                }
                Err(rule) => {
                    let violation = self.violation(rule);
                    self.state = State::Broken;
                    return (position, Some(violation));
                }
            }
        }
        (position, None)
    }

    /// Where the reader stands.
    pub fn position(&self) -> Position {
        match self.state {
            State::Idle => Position::Idle,
            State::Line | State::LineEnd => Position::Head,
            State::Length(_)
            | State::ChunkSize { .. }
            | State::ChunkSizeEnd(_)
            | State::ChunkData(_)
            | State::ChunkDataCr
            | State::ChunkDataLf
            | State::LastCr
            | State::LastLf
            | State::Broken => Position::Body,
        }
    }

    /// How many of the sound bytes belong to a head that is not complete, or never will be.
    pub fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// How many heads were complete.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// The violation that breaking `rule` here is.
    pub fn violation(&self, rule: Rule) -> Violation {
        Violation {
            rule,
            in_body: self.position() == Position::Body,
            request_line: self.head.request_line.clone(),
        }
    }

    /// Takes at least one byte of a non-empty input.
    fn step(&mut self, input: &[u8]) -> Result<usize, Rule> {
        let Some(&byte) = input.first() else { return Ok(0) };
        match self.state {
            State::Idle => {
                self.head = Head { line: mem::take(&mut self.head.line), ..Head::default() };
                self.head.line.clear();
                self.state = State::Line;
                self.line_byte(byte)?;
            }
            State::Line => match self.plain(input) {
                0 => self.line_byte(byte)?,
                consumed => return Ok(consumed),
            },
            State::LineEnd => {
                expect(byte, b'\n', Rule::BareCr)?;
                self.head.count()?;
                self.state = if self.head.end_line()? { self.end_head()? } else { State::Line };
            }
            State::Length(left) => {
                let (consumed, left) = skip(input, left);
                self.state = if left == 0 { State::Idle } else { State::Length(left) };
                return Ok(consumed);
            }
            State::ChunkSize { size, digits } => self.state = chunk_size(byte, size, digits)?,
            State::ChunkSizeEnd(size) => {
                expect(byte, b'\n', Rule::BareCr)?;
                self.state = if size == 0 { State::LastCr } else { State::ChunkData(size) };
            }
            State::ChunkData(left) => {
                let (consumed, left) = skip(input, left);
                self.state = if left == 0 { State::ChunkDataCr } else { State::ChunkData(left) };
                return Ok(consumed);
            }
            State::ChunkDataCr => {
                expect(byte, b'\r', Rule::ChunkEnd)?;
                self.state = State::ChunkDataLf;
            }
            State::ChunkDataLf => {
                expect(byte, b'\n', Rule::ChunkEnd)?;
                self.state = State::ChunkSize { size: 0, digits: 0 };
            }
            State::LastCr => {
                expect(byte, b'\r', Rule::Trailers)?;
                self.state = State::LastLf;
            }
            State::LastLf => {
                expect(byte, b'\n', Rule::BareCr)?;
                self.state = State::Idle;
            }
            State::Broken => return Err(Rule::RequestLine),
        }
        Ok(1)
    }

    /// Takes the bytes up to the first that means something to [`Self::line_byte`], or is too much.
    fn plain(&mut self, input: &[u8]) -> usize {
        let is_plain = |byte: &u8| !matches!(byte, 0..=0x1f | 0x7f);
        let room = MAX_HEAD_BYTES.saturating_sub(self.head.bytes);
        let taken = input.iter().take(room).take_while(|byte| is_plain(byte)).count();
        self.head.line.extend_from_slice(input.get(..taken).unwrap_or_default());
        self.head.bytes += taken;
        taken
    }

    fn line_byte(&mut self, byte: u8) -> Result<(), Rule> {
        self.head.count()?;
        match byte {
            b'\r' => self.state = State::LineEnd,
            b'\n' => return Err(Rule::BareLf),
            b'\t' if self.head.request_line.is_some() => self.head.line.push(byte),
            0..=0x1f | 0x7f => return Err(Rule::ControlCharacter),
            _ => self.head.line.push(byte),
        }
        Ok(())
    }

    fn end_head(&mut self) -> Result<State, Rule> {
        let head = &self.head;
        match (head.chunked, head.content_length) {
            (true, Some(_)) => return Err(Rule::TwoLengths),
            (true, None) if head.http_1_0 => return Err(Rule::TransferEncoding),
            _ if !head.host && !head.http_1_0 => return Err(Rule::NoHost),
            _ => {}
        }
        self.requests += 1;
        Ok(match head.content_length {
            _ if head.chunked => State::ChunkSize { size: 0, digits: 0 },
            None | Some(0) => State::Idle,
            Some(length) => State::Length(length),
        })
    }
}

impl Head {
    fn count(&mut self) -> Result<(), Rule> {
        self.bytes += 1;
        if self.bytes > MAX_HEAD_BYTES { Err(Rule::HeadTooLarge) } else { Ok(()) }
    }

    /// Judges the line that has just ended; true at the empty line that ends the head.
    fn end_line(&mut self) -> Result<bool, Rule> {
        let mut line = mem::take(&mut self.line);
        let ended = match (&self.request_line, line.first()) {
            (None, _) => self.end_request_line(&line).map(|()| false),
            (Some(_), None) => Ok(true),
            (Some(_), Some(b' ' | b'\t')) => Err(Rule::Folding),
            (Some(_), Some(_)) => self.end_field(&line).map(|()| false),
        };
        line.clear();
        self.line = line;
        ended
    }

    fn end_request_line(&mut self, line: &[u8]) -> Result<(), Rule> {
        let text = std::str::from_utf8(line).map_err(|_| Rule::RequestLine)?;
        let mut parts = text.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Rule::RequestLine);
        };
        if !is_token(method.as_bytes()) {
            return Err(Rule::RequestLine);
        }
        self.http_1_0 = match version {
            "HTTP/1.1" => false,
            "HTTP/1.0" => true,
            _ => return Err(Rule::RequestLine),
        };
        // A URI reader drops the fragment, so that another reader might see more than it does.
        if !target.is_ascii() || target.contains('#') || target.parse::<Uri>().is_err() {
            return Err(Rule::Target);
        }
        self.request_line = Some((method.to_owned(), target.to_owned()));
        Ok(())
    }

    fn end_field(&mut self, line: &[u8]) -> Result<(), Rule> {
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err(Rule::HeadTooLarge);
        }
        let colon = line.iter().position(|&byte| byte == b':').ok_or(Rule::FieldName)?;
        let (name, value) = line.split_at(colon);
        if !is_token(name) {
            return Err(Rule::FieldName);
        }
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = content_length(value).ok_or(Rule::ContentLength)?;
            if self.content_length.replace(length).is_some() {
                return Err(Rule::RepeatedContentLength);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if value != b"chunked" || mem::replace(&mut self.chunked, true) {
                return Err(Rule::TransferEncoding);
            }
        } else if name.eq_ignore_ascii_case(b"host") && mem::replace(&mut self.host, true) {
            return Err(Rule::RepeatedHost);
        }
        Ok(())
    }
}

/// A decimal number as every reader writes it: digits only, no leading zero.
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    let leading_zero = value.len() > 1 && value.first() == Some(&b'0');
    let plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit) && !leading_zero;
    // The largest value marks bodies of unknown length in HTTP libraries, and no body is as long.
    let number = std::str::from_utf8(value).ok().filter(|_| plain)?.parse().ok()?;
    (number < u64::MAX - 2).then_some(number)
}

fn expect(byte: u8, wanted: u8, rule: Rule) -> Result<(), Rule> {
    if byte == wanted { Ok(()) } else { Err(rule) }
}

/// Skips up to `left` bytes; returns how many, and how many are still to come.
fn skip(input: &[u8], left: u64) -> (usize, u64) {
    let consumed = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    (consumed, left - consumed as u64)
}

fn chunk_size(byte: u8, size: u64, digits: u8) -> Result<State, Rule> {
    let digit = match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        b'\r' if digits > 0 => return Ok(State::ChunkSizeEnd(size)),
        b'\n' => return Err(Rule::BareLf),
        b';' if digits > 0 => return Err(Rule::ChunkExtension),
        _ => return Err(Rule::ChunkSize),
    };
    if digits == MAX_CHUNK_SIZE_DIGITS {
        return Err(Rule::ChunkSize);
    }
    Ok(State::ChunkSize { size: size << 4 | u64::from(digit), digits: digits + 1 })
}

fn is_token(name: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
