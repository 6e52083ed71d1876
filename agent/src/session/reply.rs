//! The body that the client gets: tidegate's own, or the upstream's, whose end completes the record.

use super::{
    outcome::Outcome,
    waiting::{Turn, Waiting},
};
use crate::forward::{
    Answer, Error,
    filter::{Share, Shown},
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// How much of a filtered answer the client gets at a time.
const PIECE: usize = 64 * 1024;

/// A body on its way to the client.
#[derive(Debug)]
pub(super) enum Reply {
    /// tidegate's own, until it is taken.
    Own(Option<Bytes>),
    /// The upstream's.
    Upstream(Box<Forwarded>),
    /// The upstream's without some of its parts.
    Filtered(Box<Filtered>),
}

/// What the client may see of an upstream's answer.
#[derive(Debug)]
pub(super) enum Cleared {
    /// All of it, as it comes: there is nothing to take out.
    Whole(Answer),
    /// What is left of it, and the memory that this takes.
    Parts(Shown, Share),
}

/// An upstream's answer, with the record that it completes.
#[derive(Debug)]
pub(super) struct Forwarded {
    answer: Answer,
    outcome: Outcome,
    turn: Turn,
    /// Marks the request as under way.
    _active: Arc<()>,
}

/// What is left of an upstream's answer, with the record that it completes.
#[derive(Debug)]
pub(super) struct Filtered {
    rest: Bytes,
    outcome: Outcome,
    turn: Turn,
    /// Marks the request as under way.
    _active: Arc<()>,
    /// Marks the memory as taken.
    _share: Share,
}

impl Reply {
    /// The upstream's answer. An answer without a body is complete at once.
    fn upstream(
        answer: Answer,
        mut outcome: Outcome,
        waiting: Option<&Arc<Waiting>>,
        active: Arc<()>,
    ) -> Self {
        if answer.is_complete() {
            outcome.complete();
        }
        let turn = Turn::of_client(waiting);
        Self::Upstream(Box::new(Forwarded { answer, outcome, turn, _active: active }))
    }

    /// As much of the upstream's answer as the client may see.
    pub(super) fn cleared(
        cleared: Cleared,
        mut outcome: Outcome,
        waiting: Option<&Arc<Waiting>>,
        active: Arc<()>,
    ) -> Self {
        match cleared {
            Cleared::Whole(answer) => Self::upstream(answer, outcome, waiting, active),
            Cleared::Parts(shown, share) => {
                outcome.filtered(shown.removed);
                let rest = Bytes::from(shown.body);
                if rest.is_empty() {
                    outcome.complete();
                }
                let turn = Turn::of_client(waiting);
                Self::Filtered(Box::new(Filtered { rest, outcome, turn, _active: active, _share: share }))
            }
        }
    }
}

impl Filtered {
    /// Piece by piece, so that the record tells how much the client took.
    fn next_piece(&mut self) -> Option<Bytes> {
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        self.turn.to_client();
        self.outcome.sent(piece.len());
        if self.rest.is_empty() {
            self.outcome.complete();
        }
        Some(piece).filter(|piece| !piece.is_empty())
    }
}

impl Forwarded {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.turn.to_upstream();
        let next = ready!(Pin::new(&mut self.answer).poll_frame(cx));
        self.turn.to_client();
        match &next {
            Some(Ok(frame)) => self.outcome.sent(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(error)) => self.outcome.failed(error.reason(), chain(error)),
            None => {}
        }
        // The record is there before the client sees the end.
        if self.answer.is_complete() {
            self.outcome.complete();
        }
        Poll::Ready(next)
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Self::Own(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Upstream(forwarded) => forwarded.poll_frame(cx),
            Self::Filtered(filtered) => {
                Poll::Ready(filtered.next_piece().map(|piece| Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.as_ref().is_none_or(Bytes::is_empty),
            Self::Upstream(forwarded) => forwarded.answer.is_end_stream(),
            Self::Filtered(filtered) => filtered.rest.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64),
            Self::Upstream(forwarded) => forwarded.answer.size_hint(),
            Self::Filtered(filtered) => SizeHint::with_exact(filtered.rest.len() as u64),
        }
    }
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
