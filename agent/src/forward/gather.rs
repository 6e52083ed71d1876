//! What a connection writes in one turn, as one write.
//!
//! HTTP/2 writes and flushes for every DATA frame. With TLS below, each is a record and a system call, here and for the peer,
//! though a dozen answers may be ready at the same time.

use std::{
    future::{Future, poll_fn},
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As much as one TLS record takes: what is as long gains nothing by waiting.
const LIMIT: usize = 16 * 1024;

/// A stream whose writes wait until the turn of [`Gathered::after`] ends, or until there are many bytes.
#[derive(Debug)]
pub struct Gathered<S>(Arc<Mutex<Gathering<S>>>);

#[derive(Debug)]
struct Gathering<S> {
    stream: S,
    bytes: Vec<u8>,
    /// How many of them are sent.
    sent: usize,
}

impl<S> Clone for Gathered<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// Gathers what is written to the stream.
    pub fn new(stream: S) -> Self {
        Self(Arc::new(Mutex::new(Gathering { stream, bytes: Vec::new(), sent: 0 })))
    }

    /// As the future, which has the stream; after each of its turns what it has written is sent.
    ///
    /// # Errors
    /// When the stream takes it no more.
    pub async fn after<F: Future>(&self, future: F) -> io::Result<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            match self.lock().poll_send(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                // What the stream does not take yet it will wake this task for.
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Gathering<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncWrite + Unpin> Gathering<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.bytes.get(self.sent..) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        // An idle connection needs none of it.
        (self.bytes, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Whether so many bytes more can wait; makes room for them if not.
    fn poll_room(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<bool>> {
        if self.bytes.len() + length > LIMIT {
            ready!(self.poll_drain(cx))?;
        }
        Poll::Ready(Ok(self.bytes.len() + length <= LIMIT))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut gathering = self.lock();
        if !ready!(gathering.poll_room(cx, bytes.len()))? {
            return Pin::new(&mut gathering.stream).poll_write(cx, bytes);
        }
        gathering.bytes.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        let mut gathering = self.lock();
        if !ready!(gathering.poll_room(cx, length))? {
            return Pin::new(&mut gathering.stream).poll_write_vectored(cx, slices);
        }
        slices.iter().for_each(|slice| gathering.bytes.extend_from_slice(slice));
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is sent before the turn ends.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathering = self.lock();
        ready!(gathering.poll_send(cx))?;
        Pin::new(&mut gathering.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    /// Keeps how long each write was, and takes so many bytes of it.
    #[derive(Default)]
    struct Counted {
        writes: Vec<usize>,
        most: usize,
        flushes: usize,
    }

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.most);
            self.writes.push(taken);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test_case(&[9, 100, 9, 100], usize::MAX, &[218]; "small ones are one")]
    #[test_case(&[9, 100], 50, &[50, 50, 9]; "in parts, where the stream takes no more")]
    #[test_case(&[10, LIMIT, 10], usize::MAX, &[10, LIMIT, 10]; "a long one goes alone, and nothing overtakes it")]
    #[test_case(&[LIMIT - 1, 2, 3], usize::MAX, &[LIMIT - 1, 5]; "many bytes do not wait")]
    #[test_case(&[LIMIT + 7], 1000, &[1000; 16]; "what goes alone may go in parts")]
    #[tokio::test]
    async fn the_writes_of_a_turn(lengths: &[usize], most: usize, expected: &[usize]) {
        let gathered = Gathered::new(Counted { most, ..Counted::default() });
        let (mut stream, mut is_first) = (gathered.clone(), true);
        let turn = async {
            for length in lengths {
                stream.write_all(&vec![7; *length]).await.unwrap();
                stream.flush().await.unwrap();
            }
        };
        let mut turn = pin!(turn);
        // One turn that writes, and the next one ends.
        let turns = poll_fn(|cx| {
            if std::mem::take(&mut is_first) {
                assert!(turn.as_mut().poll(cx).is_ready());
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(())
        });
        gathered.after(turns).await.unwrap();
        let counted = &gathered.lock().stream;
        assert_eq!(counted.writes.get(..expected.len()), Some(expected), "{:?}", counted.writes);
        assert_eq!(counted.writes.iter().sum::<usize>(), lengths.iter().sum::<usize>());
        assert_eq!(counted.flushes, 1);
    }

    #[tokio::test]
    async fn what_is_written_before_the_end_arrives() {
        let (mut peer, stream) = duplex(8);
        let mut gathered = Gathered::new(stream);
        let writes = tokio::spawn(async move {
            gathered.write_all(&[7; 100]).await.unwrap();
            gathered.shutdown().await.unwrap();
        });
        let mut arrived = Vec::new();
        peer.read_to_end(&mut arrived).await.unwrap();
        writes.await.unwrap();
        assert_eq!(arrived, [7; 100]);
    }

    #[tokio::test]
    async fn a_stream_that_takes_no_more_ends_the_connection() {
        let (peer, stream) = duplex(8);
        let gathered = Gathered::new(stream);
        gathered.clone().write_all(&[7; 100]).await.unwrap();
        drop(peer);
        let error = gathered.after(std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
