//! A stream that gives back the bytes that were read from it early.

use bytes::{Buf, Bytes, BytesMut};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// One read asks for at least this much: real ClientHellos have 265 to 1,615 bytes.
const READ_LEN: usize = 2048;

/// A stream whose first reads give the bytes that [`peek`](super::peek) took; then it is the stream itself.
#[derive(Debug)]
pub struct Rewind<S> {
    buffered: BytesMut,
    stream: S,
}

impl<S> Rewind<S> {
    /// A stream of which nothing was read yet.
    pub fn new(stream: S) -> Self {
        Self { buffered: BytesMut::new(), stream }
    }

    /// The bytes that were read from the stream and not yet given back.
    pub fn buffered(&self) -> &[u8] {
        &self.buffered
    }

    /// The stream under it.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Takes this many of the buffered bytes out; fewer where there are not as many.
    pub fn consume(&mut self, length: usize) -> Bytes {
        self.buffered.split_to(length.min(self.buffered.len())).freeze()
    }

    /// The bytes not yet given back, and the stream behind them.
    pub fn into_parts(self) -> (Bytes, S) {
        (self.buffered.freeze(), self.stream)
    }
}

impl<S: AsyncRead + Unpin> Rewind<S> {
    /// Reads once from the stream, behind what is buffered. 0 is the stream's end. Cancel-safe.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        self.buffered.reserve(READ_LEN);
        self.stream.read_buf(&mut self.buffered).await
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewind<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.buffered.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let length = this.buffered.len().min(buf.remaining());
        buf.put_slice(this.buffered.get(..length).unwrap_or_default());
        this.buffered.advance(length);
        if this.buffered.is_empty() {
            // The connection may live for hours: give the memory back.
            this.buffered = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewind<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt, duplex};

    #[tokio::test]
    async fn buffered_bytes_come_first_and_then_the_stream() {
        let (mut far, near) = duplex(64);
        let mut rewind = Rewind::new(near);
        far.write_all(b"first ").await.unwrap();
        rewind.fill().await.unwrap();
        assert_eq!(rewind.buffered(), b"first ");

        far.write_all(b"second").await.unwrap();
        drop(far);
        // A reader with a small buffer gets the bytes in pieces, none twice.
        let mut piece = [0; 4];
        rewind.read_exact(&mut piece).await.unwrap();
        assert_eq!(&piece, b"firs");
        assert_eq!(rewind.buffered(), b"t ");
        let mut rest = Vec::new();
        rewind.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"t second");
    }

    #[tokio::test]
    async fn parts_hold_what_was_not_given_back() {
        let (mut far, near) = duplex(64);
        let mut rewind = Rewind::new(near);
        far.write_all(b"abc").await.unwrap();
        rewind.fill().await.unwrap();
        rewind.read_u8().await.unwrap();
        let (buffered, mut near) = rewind.into_parts();
        assert_eq!(buffered, b"bc"[..]);
        far.write_all(b"d").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'd');
    }

    #[tokio::test]
    async fn writes_pass_through() {
        let (mut far, near) = duplex(64);
        let mut rewind = Rewind::new(near);
        rewind.write_all(b"out").await.unwrap();
        rewind.shutdown().await.unwrap();
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"out");
    }
}
