//! Through a forward proxy: the workload's own request for a tunnel, and the proxy's answer.

use crate::peek::{
    self, More,
    proxy_request::{self, ProxyAnswer},
    rewind::Rewind,
};
use bytes::Bytes;
use std::{fmt, io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// The most of a proxy's answer that is read before its end is found.
const MAX_ANSWER_HEAD: usize = 16 << 10;

/// A tunnel as a workload asked for it. Two are the same when every byte is, so that nobody's credentials for
/// the proxy serve another.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Via {
    head: Bytes,
    /// The port at the far end.
    pub port: u16,
}

impl Via {
    /// Of the head of a CONNECT request for this port.
    pub fn new(head: Bytes, port: u16) -> Self {
        Self { head, port }
    }

    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }
}

impl fmt::Debug for Via {
    /// Without the head, which may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Via").field("port", &self.port).finish_non_exhaustive()
    }
}

/// Sends the head of a request to a proxy and takes the head of its answer off the stream, each within
/// `patience`.
///
/// # Errors
/// When no answer came, with `TimedOut` where it was only late.
pub async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    proxy: &mut Rewind<S>,
    head: &[u8],
    patience: Duration,
) -> io::Result<(ProxyAnswer, Bytes)> {
    let sent = async {
        proxy.write_all(head).await?;
        proxy.flush().await
    };
    timeout(patience, sent).await??;
    let is_whole = |bytes: &[u8]| proxy_request::head_len(bytes).is_some();
    match peek::more(proxy, is_whole, MAX_ANSWER_HEAD, patience).await {
        More::Found => {}
        More::Timeout => return Err(io::ErrorKind::TimedOut.into()),
        More::TooLarge => return Err(io::Error::other("the forward proxy's answer is too long")),
        More::Closed => return Err(io::Error::other("the forward proxy closed the connection")),
    }
    let length = proxy_request::head_len(proxy.buffered()).unwrap_or_default();
    let head = proxy.consume(length);
    let answer = proxy_request::parse_answer(&head)
        .ok_or_else(|| io::Error::other("the forward proxy's answer is not HTTP/1"))?;
    Ok((answer, head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;
    use tokio::io::{AsyncReadExt, duplex};

    async fn asked(answer: &[u8]) -> (io::Result<(ProxyAnswer, Bytes)>, Rewind<tokio::io::DuplexStream>) {
        let (mut far, near) = duplex(1 << 16);
        far.write_all(answer).await.unwrap();
        let mut proxy = Rewind::new(near);
        let answer = ask(&mut proxy, b"CONNECT", Duration::from_millis(50)).await;
        let mut sent = [0; 7];
        far.read_exact(&mut sent).await.unwrap();
        assert_eq!(&sent, b"CONNECT");
        (answer, proxy)
    }

    #[tokio::test]
    async fn the_answers_head_is_taken_and_what_follows_stays() {
        let (answer, proxy) = asked(b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n220 ready").await;
        let (answer, head) = answer.unwrap();
        assert!(answer.is_tunnel());
        assert_eq!(head, &b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n"[..]);
        assert_eq!(proxy.buffered(), b"220 ready");
    }

    #[test_case(b"HTTP/1.1 200 OK\r\n", io::ErrorKind::TimedOut; "half an answer")]
    #[test_case(b"220 ready\r\n\r\n", io::ErrorKind::Other; "no http")]
    #[test_case(&[b'x'; 20_000], io::ErrorKind::Other; "an endless line")]
    #[tokio::test]
    async fn what_is_no_answer_opens_nothing(answer: &[u8], expected: io::ErrorKind) {
        assert_eq!(asked(answer).await.0.unwrap_err().kind(), expected);
    }

    #[test]
    fn credentials_do_not_show_and_tell_tunnels_apart() {
        let via = |secret: &str| Via::new(Bytes::from(format!("CONNECT a:1\r\n{secret}")), 1);
        assert!(!format!("{:?}", via("secret")).contains("secret"));
        assert_ne!(via("one"), via("two"));
        assert_eq!(via("one"), via("one"));
    }
}
