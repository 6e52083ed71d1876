//! A body of given pieces, for both ends of the tests.

use bytes::Bytes;
use http_body::{Body, Frame};
use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// What comes after the pieces.
#[derive(Clone, Copy)]
pub(crate) enum Last {
    End,
    /// The body breaks off, after a pause in which what came before can be written.
    Error,
    /// It neither goes on nor ends.
    Never,
    /// The last piece again, without end.
    Repeat,
}

pub(crate) struct Pieces {
    pieces: VecDeque<Bytes>,
    last: Last,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Pieces {
    pub(crate) fn new(pieces: impl IntoIterator<Item = Bytes>, last: Last) -> Self {
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        Self { pieces, last, pause: None }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if let (Last::Repeat, [piece]) = (this.last, this.pieces.make_contiguous()) {
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        match (this.pieces.pop_front(), this.last) {
            (Some(piece), _) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            (None, Last::Error) => {
                let pause = this.pause.get_or_insert_with(|| Box::pin(sleep(Duration::from_millis(100))));
                ready!(pause.as_mut().poll(cx));
                Poll::Ready(Some(Err(io::Error::other("the body breaks off"))))
            }
            (None, Last::Never) => Poll::Pending,
            (None, Last::End | Last::Repeat) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && matches!(self.last, Last::End)
    }
}
