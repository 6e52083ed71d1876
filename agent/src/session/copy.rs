//! Bytes from one stream to another and back, with memory only where they flow, and with none where they are many.

mod pipe;

use bytes::{Buf, BytesMut};
use pipe::Pipe;
use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
};

/// As much as is read at once, at first and at most: twice as much whenever that was not enough.
const READ_AT_ONCE: (usize, usize) = (8 << 10, 128 << 10);

/// One side.
pub(super) trait Side: AsyncRead + AsyncWrite + Unpin {
    /// The socket that it is, as long as its bytes may pass unseen.
    fn socket(&self) -> Option<&TcpStream> {
        None
    }

    /// This many came from its socket without a read.
    fn came(&mut self, _bytes: usize) {}

    /// This many went to its socket without a write.
    fn went(&mut self, _bytes: usize) {}
}

impl Side for TcpStream {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

/// Copies both ways until both sides are done.
///
/// # Errors
/// When either side breaks off.
pub(super) async fn copy_both(one: &mut impl Side, other: &mut impl Side) -> io::Result<()> {
    let (mut there, mut back) = (Flow::new(), Flow::new());
    poll_fn(|cx| {
        let there = there.poll(cx, one, other)?;
        let back = back.poll(cx, other, one)?;
        if there.is_ready() && back.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// One of the ways.
#[derive(Debug)]
struct Flow {
    /// Read, and not yet written.
    bytes: BytesMut,
    /// What takes their place while there is much of them.
    pipe: Option<Pipe>,
    at_once: usize,
    is_flushed: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Copying,
    /// There is no more to read.
    Ended,
    Shut,
}

impl Flow {
    fn new() -> Self {
        Self {
            bytes: BytesMut::new(),
            pipe: None,
            at_once: READ_AT_ONCE.0,
            is_flushed: true,
            stage: Stage::Copying,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Side,
        to: &mut impl Side,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_write(cx, to))?;
            self.pipe.take_if(|_| self.at_once < READ_AT_ONCE.1);
            match self.stage {
                Stage::Copying => {}
                Stage::Ended => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.stage = Stage::Shut;
                }
                Stage::Shut => return Poll::Ready(Ok(())),
            }
            if self.stage == Stage::Copying && self.poll_read(cx, from, to)?.is_pending() {
                // Who waits for nothing needs no memory, and who reads what came is to have all of it.
                self.bytes = BytesMut::new();
                if !self.is_flushed {
                    ready!(Pin::new(&mut *to).poll_flush(cx))?;
                    self.is_flushed = true;
                }
                return Poll::Pending;
            }
        }
    }

    /// Writes all that was read.
    fn poll_write(&mut self, cx: &mut Context<'_>, to: &mut impl Side) -> Poll<io::Result<()>> {
        while let Some(pipe) = self.pipe.as_mut().filter(|pipe| !pipe.is_empty()) {
            let Some(socket) = to.socket() else {
                return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
            };
            let written = ready!(pipe.poll_drain(cx, socket))?;
            to.went(written);
        }
        while !self.bytes.is_empty() {
            match ready!(Pin::new(&mut *to).poll_write(cx, &self.bytes))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.bytes.advance(written),
            }
            self.is_flushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Side,
        to: &impl Side,
    ) -> Poll<io::Result<()>> {
        use bytes::BufMut as _;
        let (least, most) = READ_AT_ONCE;
        if let (Some(pipe), Some(socket)) = (&mut self.pipe, from.socket()) {
            let read = ready!(pipe.poll_fill(cx, socket))?;
            from.came(read);
            if read == 0 {
                self.stage = Stage::Ended;
            } else if read < least {
                self.at_once = least;
            }
            return Poll::Ready(Ok(()));
        }
        self.bytes.reserve(self.at_once);
        let mut space = (&mut self.bytes).limit(self.at_once);
        let read = ready!(pin!(from.read_buf(&mut space)).poll(cx))?;
        if read == 0 {
            self.stage = Stage::Ended;
        } else if (read, self.at_once) == (most, most) {
            let can_pipe = from.socket().is_some() && to.socket().is_some();
            self.pipe = can_pipe.then(Pipe::new).flatten();
        } else if read == self.at_once {
            self.at_once = most.min(2 * self.at_once);
        } else if read < self.at_once / 4 {
            self.at_once = least.max(self.at_once / 2);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use test_case::test_case;
    use tokio::{
        io::{AsyncWriteExt, DuplexStream, duplex},
        net::TcpListener,
    };

    impl Side for DuplexStream {}

    /// A stream, and its peer.
    async fn sockets() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[test_case(1; "a byte")]
    #[test_case(100_000; "more than is read at first")]
    #[test_case(3_000_000; "much")]
    #[tokio::test]
    async fn everything_arrives_both_ways_and_so_do_the_ends(length: usize) {
        let (mut client, mut one) = duplex(300_000);
        let (mut other, mut server) = duplex(300_000);
        let copying = tokio::spawn(async move { copy_both(&mut one, &mut other).await });
        let bytes: Vec<u8> = (0..length).map(|number| (number % 251) as u8).collect();
        let (sent, answer) = (bytes.clone(), bytes.iter().rev().copied().collect::<Vec<u8>>());
        let answered = answer.clone();
        let asking = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.unwrap();
            got
        });
        let mut asked = Vec::new();
        server.read_to_end(&mut asked).await.unwrap();
        server.write_all(&answered).await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!((asked, asking.await.unwrap()), (bytes, answer));
        copying.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_was_read_goes_out_before_more_is_there() {
        let (mut client, mut one) = duplex(1 << 20);
        let (mut other, mut server) = duplex(1 << 20);
        let _copying = tokio::spawn(async move { copy_both(&mut one, &mut other).await });
        for word in ["ask", "again"] {
            client.write_all(word.as_bytes()).await.unwrap();
            let mut heard = vec![0; word.len()];
            server.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, word.as_bytes());
        }
    }

    #[tokio::test]
    async fn who_breaks_off_ends_it() {
        let (mut client, mut one) = duplex(8);
        let (mut other, server) = duplex(8);
        drop(server);
        client.write_all(b"x").await.unwrap();
        assert_eq!(copy_both(&mut one, &mut other).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn more_is_read_at_once_where_there_is_much_and_nothing_is_kept_where_nothing_comes() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let (mut client, mut one) = duplex(1 << 20);
        let (mut other, _server) = duplex(4 << 20);
        let mut flow = Flow::new();
        // Of what is read last there is as much as can be read at once.
        let writing = pin!(client.write_all(&[7; 1016 << 10]));
        assert!(writing.poll(&mut cx).is_ready());
        assert!(flow.poll(&mut cx, &mut one, &mut other).is_pending());
        assert_eq!((flow.at_once, flow.bytes.capacity()), (READ_AT_ONCE.1, 0));
        for _ in 0..8 {
            assert!(pin!(client.write_all(b"x")).poll(&mut cx).is_ready());
            assert!(flow.poll(&mut cx, &mut one, &mut other).is_pending());
        }
        assert_eq!((flow.at_once, flow.bytes.capacity()), (READ_AT_ONCE.0, 0));
    }

    #[tokio::test]
    async fn much_goes_from_socket_to_socket_by_a_pipe_and_little_does_not() {
        let ((mut client, mut one), (mut other, mut server)) = (sockets().await, sockets().await);
        let mut flow = Flow::new();
        let sent: Vec<u8> = (0..40 << 20).map(|number: u32| (number % 251) as u8).collect();
        let expected = sent.clone();
        let sending = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            client
        });
        let receiving = tokio::spawn(async move {
            let mut got = vec![0; 40 << 20];
            server.read_exact(&mut got).await.unwrap();
            (got, server)
        });
        let mut was_piped = false;
        let mut flowing = poll_fn(|cx| {
            let flowed = flow.poll(cx, &mut one, &mut other);
            was_piped |= flow.pipe.is_some();
            flowed
        });
        let (got, mut server) = tokio::select! {
            flowed = &mut flowing => panic!("it ended early: {flowed:?}"),
            received = receiving => received.unwrap(),
        };
        assert!(got == expected, "other bytes arrived");
        let mut client = sending.await.unwrap();
        client.write_all(b"and a little").await.unwrap();
        client.shutdown().await.unwrap();
        flowing.await.unwrap();
        let mut little = String::new();
        server.read_to_string(&mut little).await.unwrap();
        assert_eq!((was_piped, little.as_str()), (true, "and a little"));
        assert!(flow.pipe.is_none(), "a little took a pipe");
    }

    #[tokio::test]
    async fn a_reader_that_breaks_off_ends_a_piped_flow() {
        let ((mut client, mut one), (mut other, server)) = (sockets().await, sockets().await);
        let sending = tokio::spawn(async move { client.write_all(&vec![0; 64 << 20]).await });
        let copying = tokio::spawn(async move { copy_both(&mut one, &mut other).await });
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        drop(server);
        assert!(copying.await.unwrap().is_err());
        assert!(sending.await.unwrap().is_err());
    }
}
