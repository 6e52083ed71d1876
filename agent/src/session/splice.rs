//! Bytes that are passed on unread, counted, and cut off when what the client says must not pass.

use super::{
    copy::{Side, copy_both},
    watch::{Alarm, HostWatch},
};
use crate::{
    peek::{
        client_hello::{self, ClientHello, Parse},
        rewind::Rewind,
    },
    reason::Reason,
};
use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// What a splice came to.
#[derive(Debug)]
pub struct Spliced {
    /// Bytes from the workload.
    pub bytes_in: u64,
    /// Bytes to the workload.
    pub bytes_out: u64,
    /// How it ended.
    pub end: End,
}

/// How a splice ended.
#[derive(Debug)]
pub enum End {
    /// Both sides were done.
    Done,
    /// A side broke off.
    Broken(io::Error),
    /// The client said what must not pass.
    Cut(Reason),
}

/// What is looked for in the client's bytes.
pub enum Inspection {
    /// Nothing: the name was read before.
    None,
    /// Plain HTTP that asks for a protected host.
    Http(HostWatch),
    /// The first bytes of a client that let the server speak first: they may yet begin TLS, and are held
    /// back until that is known. Then as [`Inspection::Http`].
    Late(Judge, HostWatch),
}

/// Says why a late ClientHello must not pass, if so.
pub type Judge = Box<dyn Fn(&ClientHello) -> Option<Reason> + Send>;

/// Copies both ways until both sides are done.
pub(super) async fn splice<S, U>(client: S, upstream: &mut U, inspection: Inspection) -> Spliced
where
    S: Side,
    U: Side,
{
    let mut client = Inspected::new(client, inspection);
    let copied = copy_both(&mut client, upstream).await;
    let end = match (client.cut, copied) {
        (Some(reason), _) => End::Cut(reason),
        (None, Ok(())) => End::Done,
        (None, Err(error)) => End::Broken(error),
    };
    Spliced { bytes_in: client.bytes_in, bytes_out: client.bytes_out, end }
}

/// A stream that counts, and whose reads fail once the client has said what must not pass.
struct Inspected<S> {
    inner: S,
    inspection: Inspection,
    /// Read and not yet given on.
    held: Vec<u8>,
    bytes_in: u64,
    bytes_out: u64,
    cut: Option<Reason>,
}

impl<S> Inspected<S> {
    fn new(inner: S, inspection: Inspection) -> Self {
        Self { inner, inspection, held: Vec::new(), bytes_in: 0, bytes_out: 0, cut: None }
    }

    /// Judges what is held with the bytes that came last; None while more is needed.
    fn inspect(&mut self, new: &[u8]) -> Option<Result<(), Reason>> {
        self.held.extend_from_slice(new);
        if let Inspection::Late(judge, _) = &self.inspection {
            match client_hello::parse(&self.held) {
                Parse::Incomplete if !new.is_empty() => return None,
                Parse::Complete(hello) => {
                    let verdict = judge(&hello).map_or(Ok(()), Err);
                    self.inspection = Inspection::None;
                    return Some(verdict);
                }
                Parse::NotTls => self.settle(),
                Parse::Incomplete | Parse::Malformed(_) => return Some(Err(Reason::HelloMalformed)),
                Parse::TooLarge => return Some(Err(Reason::HelloTooLarge)),
            }
        }
        let asked = match &mut self.inspection {
            Inspection::Http(watch) => watch.feed(&self.held),
            Inspection::None | Inspection::Late(..) => None,
        };
        Some(match asked {
            None => Ok(()),
            Some(Alarm::Host(_)) => Err(Reason::PlainHttp),
            Some(Alarm::Tunnel) => Err(Reason::MethodRefused),
        })
    }

    fn settle(&mut self) {
        if let Inspection::Late(_, watch) = std::mem::replace(&mut self.inspection, Inspection::None) {
            self.inspection = Inspection::Http(watch);
        }
    }

    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let given: Vec<u8> = self.held.drain(..self.held.len().min(buf.remaining())).collect();
        self.bytes_in += u64::try_from(given.len()).unwrap_or(u64::MAX);
        buf.put_slice(&given);
    }
}

impl<S: AsyncRead + Unpin> Inspected<S> {
    /// Reads until something may be given on; true at the end of the stream.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let mut bytes = [0; 16 << 10];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut read))?;
            let ended = read.filled().is_empty();
            if ended && self.held.is_empty() {
                return Poll::Ready(Ok(true));
            }
            match self.inspect(read.filled()) {
                None => {}
                Some(Ok(())) => return Poll::Ready(Ok(ended)),
                Some(Err(reason)) => {
                    self.cut = Some(reason);
                    return Poll::Ready(Err(io::ErrorKind::PermissionDenied.into()));
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Inspected<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Inspection::None = this.inspection
            && this.held.is_empty()
        {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
            this.bytes_in += u64::try_from(buf.filled().len() - before).unwrap_or(u64::MAX);
            return Poll::Ready(Ok(()));
        }
        // What is held and judged goes out before more is read, so that nothing is fed to the watch twice.
        if this.held.is_empty() || matches!(this.inspection, Inspection::Late(..)) {
            ready!(this.poll_held(cx))?;
        }
        this.give(buf);
        Poll::Ready(Ok(()))
    }
}

impl Side for Rewind<TcpStream> {
    fn socket(&self) -> Option<&TcpStream> {
        self.buffered().is_empty().then(|| self.stream())
    }
}

impl<S: Side> Side for Inspected<S> {
    fn socket(&self) -> Option<&TcpStream> {
        let is_done = matches!(self.inspection, Inspection::None) && self.held.is_empty();
        self.inner.socket().filter(|_| is_done)
    }

    fn came(&mut self, bytes: usize) {
        self.bytes_in += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    fn went(&mut self, bytes: usize) {
        self.bytes_out += u64::try_from(bytes).unwrap_or(u64::MAX);
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Inspected<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.bytes_out += u64::try_from(written).unwrap_or(u64::MAX);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Http(_) => "Http",
            Self::Late(..) => "Late",
        })
    }
}

#[cfg(test)]
mod tests;
