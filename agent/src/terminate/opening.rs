//! The beginning of a terminated connection: who verifies certificates only behind the handshake refuses one there.
//!
//! GnuTLS leaves it to its programs when they verify, and pins are compared when everything else is done. All that is
//! seen of it here is that the client says so in an alert, or goes away without having said anything.

use super::rejection;
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Who leaves later than this has not been sent away by the certificate: it is verified in milliseconds.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A terminated stream, watched until its first byte arrives or it ends without one.
#[derive(Debug)]
pub struct Opening<S, W> {
    stream: S,
    /// None when nothing more can happen that counts.
    watched: Option<(Instant, W)>,
    refused: Refused<W>,
}

/// Tells whether the client has refused the certificate behind the handshake.
#[derive(Debug)]
pub struct Refused<W>(Arc<Mutex<Option<(String, W)>>>);

impl<W> Refused<W> {
    /// What the client did, and what was held for that case; none if it has not, or not yet.
    pub fn take(&self) -> Option<(String, W)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<S, W> Opening<S, W> {
    /// A stream whose handshake is just complete; `held` is given back if the client refuses, and dropped otherwise.
    pub fn new(stream: S, held: W) -> (Self, Refused<W>) {
        let refused = Arc::new(Mutex::new(None));
        let watched = Some((Instant::now(), held));
        (Self { stream, watched, refused: Refused(Arc::clone(&refused)) }, Refused(refused))
    }

    /// The client has left, in this way.
    fn left(&mut self, how: Option<&io::Error>) {
        let Some((since, held)) = self.watched.take() else { return };
        let detail = match how.and_then(rejection) {
            Some(alert) => alert,
            None if since.elapsed() > AT_ONCE => return,
            None => "left right after the handshake in which it saw the certificate".to_owned(),
        };
        *self.refused.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((detail, held));
    }

    fn judge<T>(&mut self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &written {
            self.left(Some(error));
        }
        written
    }
}

impl<S: AsyncRead + Unpin, W: Unpin> AsyncRead for Opening<S, W> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if this.watched.is_some() {
            match &read {
                Poll::Pending => {}
                Poll::Ready(Err(error)) => this.left(Some(error)),
                Poll::Ready(Ok(())) if buf.filled().len() > before => this.watched = None,
                Poll::Ready(Ok(())) if buf.remaining() > 0 => this.left(None),
                Poll::Ready(Ok(())) => {}
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin, W: Unpin> AsyncWrite for Opening<S, W> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.judge(written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.judge(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // From here on it is this side that ends the connection.
        this.watched = None;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.judge(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::AlertDescription;
    use test_case::test_case;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    /// A stream that fails with an alert.
    struct Alert(AlertDescription);

    impl AsyncRead for Alert {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let alert = rustls::Error::AlertReceived(self.0);
            Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, alert)))
        }
    }

    #[test_case(AlertDescription::UnknownCA, "alert UnknownCA"; "about the certificate")]
    #[test_case(AlertDescription::AccessDenied, "alert AccessDenied"; "about who may")]
    #[test_case(AlertDescription::UserCanceled, "left right after the handshake in which it saw the certificate"; "about nothing")]
    #[tokio::test]
    async fn an_alert_behind_the_handshake_is_told(alert: AlertDescription, expected: &str) {
        let (mut opening, refused) = Opening::new(Alert(alert), "held");
        opening.read_u8().await.unwrap_err();
        assert_eq!(refused.take(), Some((expected.to_owned(), "held")));
    }

    #[tokio::test]
    async fn a_client_that_leaves_without_a_word_has_refused() {
        let (near, far) = duplex(64);
        let (mut opening, refused) = Opening::new(near, ());
        assert!(refused.take().is_none());
        drop(far);
        opening.read_u8().await.unwrap_err();
        assert!(refused.take().unwrap().0.starts_with("left right after"));
    }

    #[tokio::test]
    async fn a_client_that_is_gone_when_it_is_written_to_has_refused() {
        let (near, far) = duplex(64);
        let (mut opening, refused) = Opening::new(near, ());
        drop(far);
        opening.write_u8(1).await.unwrap_err();
        assert!(refused.take().is_some());
    }

    #[tokio::test]
    async fn a_client_that_has_spoken_or_was_shut_out_has_not() {
        let (near, mut far) = duplex(64);
        let (mut opening, refused) = Opening::new(near, ());
        far.write_u8(1).await.unwrap();
        drop(far);
        opening.read_u8().await.unwrap();
        opening.read_u8().await.unwrap_err();
        assert!(refused.take().is_none(), "it had spoken");

        let (near, far) = duplex(64);
        let (mut opening, refused) = Opening::new(near, ());
        opening.shutdown().await.unwrap();
        drop(far);
        opening.read_u8().await.unwrap_err();
        assert!(refused.take().is_none(), "it was this side that ended it");
    }

    #[test]
    fn a_client_that_leaves_late_has_not() {
        let (mut opening, refused) = Opening::new((), ());
        opening.watched = Instant::now().checked_sub(AT_ONCE * 2).map(|since| (since, ()));
        opening.left(None);
        assert!(refused.take().is_none());
    }
}
