//! Stage 3: the first bytes of a connection, read without consuming them.

pub mod client_hello;
pub mod proxy_request;
pub mod rewind;

use crate::reason::Reason;
use client_hello::{ClientHello, MAX_HELLO_LEN, Parse};
use rewind::Rewind;
use std::time::Duration;
use tokio::{io::AsyncRead, time::timeout};

/// The most raw bytes that are held while a ClientHello is incomplete: a whole one, and room for the headers of its
/// records. Nobody cuts a hello into records of a few bytes.
const MAX_PEEK_LEN: usize = MAX_HELLO_LEN + (16 << 10);

/// What a connection began with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peeked {
    /// A whole ClientHello.
    Tls(ClientHello),
    /// Something that is no TLS.
    NotTls,
    /// Nothing, for as long as was waited.
    Silence,
    /// TLS that breaks the grammar of a ClientHello, and how.
    HelloMalformed(&'static str),
    /// A ClientHello longer than is read.
    HelloTooLarge,
    /// Part of a ClientHello, for as long as was waited.
    HelloTimeout,
    /// The end of the stream, before anything or inside a ClientHello.
    Closed,
}

impl Peeked {
    /// Why a connection that began so has no ClientHello.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Tls(_) => None,
            Self::NotTls => Some(Reason::NotTls),
            Self::Silence => Some(Reason::Silence),
            Self::HelloMalformed(_) => Some(Reason::HelloMalformed),
            Self::HelloTooLarge => Some(Reason::HelloTooLarge),
            Self::HelloTimeout => Some(Reason::HelloTimeout),
            Self::Closed => Some(Reason::NoRequest),
        }
    }
}

/// How [`more`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// What was looked for is there.
    Found,
    /// As many bytes as are read at most came without it.
    TooLarge,
    /// It did not come in time.
    Timeout,
    /// The stream ended before it.
    Closed,
}

/// Reads the ClientHello that a connection begins with, and gives the bytes back with the stream.
///
/// The first byte may take `patience`, and the rest of the ClientHello once more.
pub async fn peek<S: AsyncRead + Unpin>(stream: S, patience: Duration) -> (Peeked, Rewind<S>) {
    let mut rewind = Rewind::new(stream);
    let peeked = peek_on(&mut rewind, patience).await;
    (peeked, rewind)
}

/// As [`peek`], of a stream of which something was read already, such as the request for a tunnel.
pub async fn peek_on<S: AsyncRead + Unpin>(rewind: &mut Rewind<S>, patience: Duration) -> Peeked {
    match more(rewind, |bytes| !bytes.is_empty(), MAX_PEEK_LEN, patience).await {
        More::Found => hello(rewind, patience).await,
        More::Timeout => Peeked::Silence,
        More::TooLarge | More::Closed => Peeked::Closed,
    }
}

/// Reads on, without consuming, until `found` says so of all that is buffered; such as the head of a request in
/// plain HTTP. At most `limit` bytes are asked for, within `patience`.
pub async fn more<S: AsyncRead + Unpin>(
    rewind: &mut Rewind<S>,
    found: impl Fn(&[u8]) -> bool,
    limit: usize,
    patience: Duration,
) -> More {
    let read = async {
        loop {
            if found(rewind.buffered()) {
                return More::Found;
            }
            if rewind.buffered().len() >= limit {
                return More::TooLarge;
            }
            // A reset is an end like any other here: there is nothing left to answer.
            if rewind.fill().await.unwrap_or(0) == 0 {
                return More::Closed;
            }
        }
    };
    timeout(patience, read).await.unwrap_or(More::Timeout)
}

async fn hello<S: AsyncRead + Unpin>(rewind: &mut Rewind<S>, patience: Duration) -> Peeked {
    let decided = |bytes: &[u8]| client_hello::parse(bytes) != Parse::Incomplete;
    let more = more(rewind, decided, MAX_PEEK_LEN, patience).await;
    match client_hello::parse(rewind.buffered()) {
        Parse::Complete(hello) => Peeked::Tls(hello),
        Parse::NotTls => Peeked::NotTls,
        Parse::TooLarge => Peeked::HelloTooLarge,
        Parse::Malformed(problem) => Peeked::HelloMalformed(problem),
        Parse::Incomplete => match more {
            // A few bytes that could also have become an SSLv2 hello, from a client that now waits for an answer.
            More::Timeout if !client_hello::begins_like_tls(rewind.buffered()) => Peeked::NotTls,
            More::Timeout => Peeked::HelloTimeout,
            More::TooLarge => Peeked::HelloTooLarge,
            More::Found | More::Closed => Peeked::Closed,
        },
    }
}

#[cfg(test)]
mod tests;
