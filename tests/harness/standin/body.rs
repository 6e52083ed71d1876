//! Bodies that are streamed, and the pattern that long ones are made of.

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::mpsc;

/// The block size of streamed bodies; a multiple of 8.
const BLOCK: usize = 64 * 1024;

/// The first `length` bytes of the pattern that `standin_bytes` answers with: no block equals another, so that
/// lost, doubled and swapped pieces show.
pub fn pattern(length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..length.div_ceil(8) as u64).flat_map(|index| mix(index).to_le_bytes()).collect();
    bytes.truncate(length);
    bytes
}

/// SplitMix64 of a counter.
fn mix(index: u64) -> u64 {
    let mut value = index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// A body whose pieces come through a channel; an error breaks the connection.
#[derive(Debug)]
pub(super) struct Stream(mpsc::Receiver<io::Result<Bytes>>);

/// The other end of a [`Stream`].
pub(super) type Sender = mpsc::Sender<io::Result<Bytes>>;

pub(super) fn stream() -> (Sender, Stream) {
    let (sender, receiver) = mpsc::channel(4);
    (sender, Stream(receiver))
}

impl Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// Sends `length` bytes of the pattern; stops when nobody reads.
pub(super) async fn send_pattern(sender: &Sender, length: u64) {
    let mut sent: u64 = 0;
    while sent < length {
        let first = sent / 8;
        let mut block = BytesMut::with_capacity(BLOCK);
        for index in first..first + (BLOCK / 8) as u64 {
            block.extend_from_slice(&mix(index).to_le_bytes());
        }
        let wanted = (length - sent).min(BLOCK as u64);
        block.truncate(usize::try_from(wanted).unwrap_or(BLOCK));
        if sender.send(Ok(block.freeze())).await.is_err() {
            return;
        }
        sent += wanted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn a_streamed_pattern_is_the_pattern() {
        for length in [0, 1, 8, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5] {
            let (sender, body) = stream();
            tokio::spawn(async move { send_pattern(&sender, length as u64).await });
            let received = body.collect().await.unwrap().to_bytes();
            assert!(received == pattern(length), "{length}");
        }
    }
}
