//! As much of gRPC as the CRI needs: calls with one answer or with many, over a Unix socket.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::http2::{SendRequest, handshake},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{net::UnixStream, time::timeout};

/// A byte that says whether it is compressed, and the length.
const HEADER: usize = 5;
/// What all that runs on a node comes to is far less.
const MAX_ANSWER: usize = 32 << 20;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("cannot connect to the container runtime at `{}`", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The connection is not HTTP/2, or broke.
    #[error("the connection to the container runtime broke")]
    Http(#[from] hyper::Error),
    /// The call cannot be written.
    #[error("the call `{0}` cannot be written")]
    Call(String, #[source] http::Error),
    /// The answer broke off or is too long.
    #[error("the answer to `{0}` cannot be read")]
    Body(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// It is not gRPC's.
    #[error("the answer to `{0}` is not gRPC")]
    NotGrpc(String),
    /// The runtime says so.
    #[error("`{call}` failed with status {code}: {message}")]
    Status {
        /// The call.
        call: String,
        /// The number of gRPC's.
        code: u16,
        /// In the runtime's words.
        message: String,
    },
    /// It took too long.
    #[error("`{0}` was not answered in time")]
    Late(String),
    /// The message is another.
    #[error("the answer to `{0}` cannot be understood")]
    Message(String, #[source] prost::DecodeError),
}

impl Error {
    /// Whether the runtime does not know the call.
    pub fn is_unknown_call(&self) -> bool {
        matches!(self, Self::Status { code: 12, .. })
    }
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Channel {
    sender: SendRequest<Full<Bytes>>,
    limit: Duration,
}

impl Channel {
    /// To the socket; each call may take this long.
    ///
    /// # Errors
    /// When nobody there speaks HTTP/2.
    pub async fn connect(socket: &Path, limit: Duration) -> Result<Self, Error> {
        let failed = |source| Error::Connect { path: socket.to_owned(), source };
        let stream = UnixStream::connect(socket).await.map_err(failed)?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the container runtime ended");
            }
        });
        Ok(Self { sender, limit })
    }

    /// Whether calls can still be made.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Calls `/SERVICE/METHOD`, and waits for the one answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn call<A: Message + Default>(&self, path: &str, request: &impl Message) -> Result<A, Error> {
        let answer = timeout(self.limit, async {
            let response = self.send(path, request).await?;
            let (parts, body) = response.into_parts();
            let unreadable = |error| Error::Body(path.to_owned(), error);
            let collected = Limited::new(body, MAX_ANSWER).collect().await.map_err(unreadable)?;
            // Where there is nothing but a status, it stands in the head.
            check(path, collected.trailers().unwrap_or(&parts.headers))?;
            Ok::<Bytes, Error>(collected.to_bytes())
        });
        let mut bytes = BytesMut::from(answer.await.map_err(|_| Error::Late(path.to_owned()))??);
        let message = message(path, &mut bytes)?.filter(|_| bytes.is_empty());
        let message = message.ok_or_else(|| Error::NotGrpc(path.to_owned()))?;
        A::decode(message).map_err(|error| Error::Message(path.to_owned(), error))
    }

    /// Calls `/SERVICE/METHOD`, whose answers come one after the other.
    ///
    /// # Errors
    /// When the call is not taken.
    pub async fn stream(&self, path: &str, request: &impl Message) -> Result<Answers, Error> {
        let sent = timeout(self.limit, self.send(path, request)).await;
        let response = sent.map_err(|_| Error::Late(path.to_owned()))??;
        if response.headers().contains_key("grpc-status") {
            check(path, response.headers())?;
        }
        Ok(Answers { path: path.to_owned(), body: response.into_body(), held: BytesMut::new() })
    }

    async fn send(&self, path: &str, request: &impl Message) -> Result<Response<Incoming>, Error> {
        let message = request.encode_to_vec();
        let mut body = BytesMut::with_capacity(HEADER + message.len());
        body.put_u8(0);
        body.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        body.put_slice(&message);
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://localhost{path}"))
            .header(CONTENT_TYPE, "application/grpc")
            .header("te", "trailers")
            .body(Full::new(body.freeze()))
            .map_err(|error| Error::Call(path.to_owned(), error))?;
        let mut sender = self.sender.clone();
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let is_grpc = response.status() == StatusCode::OK
            && response
                .headers()
                .get(CONTENT_TYPE)
                .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if is_grpc { Ok(response) } else { Err(Error::NotGrpc(path.to_owned())) }
    }
}

/// Answers that come one after the other.
#[derive(Debug)]
pub struct Answers {
    path: String,
    body: Incoming,
    held: BytesMut,
}

impl Answers {
    /// The next one; none where there are no more.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn next<A: Message + Default>(&mut self) -> Result<Option<A>, Error> {
        loop {
            if let Some(message) = message(&self.path, &mut self.held)? {
                let unreadable = |error| Error::Message(self.path.clone(), error);
                return A::decode(message).map(Some).map_err(unreadable);
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            match frame?.into_data() {
                Ok(data) => self.held.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    check(&self.path, &trailers)?;
                }
            }
        }
    }
}

fn check(path: &str, headers: &HeaderMap) -> Result<(), Error> {
    let word = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match word("grpc-status").map(str::parse) {
        Some(Ok(0)) => Ok(()),
        Some(Ok(code)) => {
            let message = unescaped(word("grpc-message").unwrap_or_default());
            Err(Error::Status { call: path.to_owned(), code, message })
        }
        Some(Err(_)) | None => Err(Error::NotGrpc(path.to_owned())),
    }
}

/// The first message of what has come, where that is whole.
fn message(path: &str, bytes: &mut BytesMut) -> Result<Option<Bytes>, Error> {
    let Some(mut header) = bytes.get(..HEADER) else { return Ok(None) };
    let (is_compressed, length) = (header.get_u8() != 0, header.get_u32() as usize);
    // Nothing compressed was asked for.
    if is_compressed || length > MAX_ANSWER {
        return Err(Error::NotGrpc(path.to_owned()));
    }
    if bytes.len() < HEADER + length {
        return Ok(None);
    }
    bytes.advance(HEADER);
    Ok(Some(bytes.split_to(length).freeze()))
}

/// gRPC writes what is not printable as `%` and two digits.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use test_case::test_case;

    #[test_case("plain", "plain"; "plain")]
    #[test_case("a%20b%0A", "a b\n"; "escaped")]
    #[test_case("100%", "100%"; "at the end")]
    #[test_case("%zz%4", "%zz%4"; "no digits")]
    fn a_message_of_an_error_is_read(text: &str, expected: &str) {
        assert_eq!(unescaped(text), expected);
    }

    #[test]
    fn every_prefix_of_a_message_is_incomplete() {
        let whole = b"\0\0\0\0\x03abcrest";
        for cut in 0..8 {
            assert!(message("/x", &mut BytesMut::from(&whole[..cut])).unwrap().is_none(), "{cut}");
        }
        let mut bytes = BytesMut::from(&whole[..]);
        assert_eq!(message("/x", &mut bytes).unwrap().unwrap(), "abc");
        assert_eq!(bytes, "rest");
    }

    #[test_case(b"\x01\0\0\0\0"; "compressed")]
    #[test_case(b"\0\xff\xff\xff\xff"; "too long")]
    fn what_was_not_asked_for_is_refused(bytes: &[u8]) {
        assert!(matches!(message("/x", &mut BytesMut::from(bytes)), Err(Error::NotGrpc(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64), text in ".{0,24}") {
            let _ = message("/x", &mut BytesMut::from(bytes.as_slice()));
            let _ = unescaped(&text);
        }
    }
}
