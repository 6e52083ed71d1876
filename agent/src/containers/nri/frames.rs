//! The two layers of frames on an NRI connection: one divides it into channels, and on each of these ttrpc has its
//! messages. Pure; what arrives is held against limits before it is held in memory.
//!
//! The crate `ttrpc` has the second layer, but its client and its server each want a socket of their own and bring
//! vsock and a generator with them; two headers are less.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Channel number and length.
const CHANNEL_HEADER: usize = 8;
/// Length, stream, kind and flags.
const MESSAGE_HEADER: usize = 10;
/// The longest message that ttrpc allows.
pub(super) const MAX_MESSAGE: usize = 4 << 20;
/// The longest piece that the runtime writes at once.
const MAX_PIECE: usize = MESSAGE_HEADER + MAX_MESSAGE;

/// Why the peer cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// NRI has two channels.
    #[error("a frame names the channel {0}, which NRI has not")]
    Channel(u32),
    /// It would not fit.
    #[error("a frame of {0} bytes is longer than NRI allows")]
    TooLong(usize),
    /// It is neither a request nor a response.
    #[error("a message is of the kind {0}, neither request nor response")]
    Kind(u8),
    /// Requests and responses are one message each.
    #[error("a message has the flags {0:#x}, as one of a longer stream has")]
    Flags(u8),
}

/// A logical connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    /// On which the runtime calls the plugin.
    Plugin,
    /// On which the plugin calls the runtime.
    Runtime,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Response,
}

/// A message of ttrpc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// By which a response belongs to a request.
    pub(super) stream: u32,
    pub(super) kind: Kind,
    pub(super) payload: Bytes,
}

/// Reads both layers.
#[derive(Debug, Default)]
pub(super) struct Frames {
    trunk: BytesMut,
    plugin: BytesMut,
    runtime: BytesMut,
}

impl Frames {
    /// Takes bytes as they arrive.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.trunk.extend_from_slice(bytes);
    }

    /// The next whole message.
    pub(super) fn next(&mut self) -> Result<Option<(Channel, Message)>, FrameError> {
        loop {
            for channel in [Channel::Plugin, Channel::Runtime] {
                if let Some(message) = message(self.channel(channel))? {
                    return Ok(Some((channel, message)));
                }
            }
            let Some((channel, piece)) = piece(&mut self.trunk)? else { return Ok(None) };
            self.channel(channel).extend_from_slice(&piece);
        }
    }

    fn channel(&mut self, channel: Channel) -> &mut BytesMut {
        match channel {
            Channel::Plugin => &mut self.plugin,
            Channel::Runtime => &mut self.runtime,
        }
    }
}

impl Channel {
    fn number(self) -> u32 {
        match self {
            Self::Plugin => 1,
            Self::Runtime => 2,
        }
    }
}

/// A message in both of its frames.
pub(super) fn encode(channel: Channel, message: &Message) -> Result<Bytes, FrameError> {
    let length = message.payload.len();
    if length > MAX_MESSAGE {
        return Err(FrameError::TooLong(length));
    }
    let too_long = |_| FrameError::TooLong(length);
    let mut bytes = BytesMut::with_capacity(CHANNEL_HEADER + MESSAGE_HEADER + length);
    bytes.put_u32(channel.number());
    bytes.put_u32(u32::try_from(MESSAGE_HEADER + length).map_err(too_long)?);
    bytes.put_u32(u32::try_from(length).map_err(too_long)?);
    bytes.put_u32(message.stream);
    bytes.put_u8(match message.kind {
        Kind::Request => 1,
        Kind::Response => 2,
    });
    bytes.put_u8(0);
    bytes.put_slice(&message.payload);
    Ok(bytes.freeze())
}

/// The first piece of what the trunk holds. A piece may end anywhere in a message.
fn piece(trunk: &mut BytesMut) -> Result<Option<(Channel, Bytes)>, FrameError> {
    let Some(mut header) = trunk.get(..CHANNEL_HEADER) else { return Ok(None) };
    let (number, length) = (header.get_u32(), header.get_u32() as usize);
    let channel = match number {
        1 => Channel::Plugin,
        2 => Channel::Runtime,
        _ => return Err(FrameError::Channel(number)),
    };
    if length > MAX_PIECE {
        return Err(FrameError::TooLong(length));
    }
    if trunk.len() < CHANNEL_HEADER + length {
        return Ok(None);
    }
    trunk.advance(CHANNEL_HEADER);
    Ok(Some((channel, trunk.split_to(length).freeze())))
}

/// The first message of what a channel holds.
fn message(channel: &mut BytesMut) -> Result<Option<Message>, FrameError> {
    let Some(mut header) = channel.get(..MESSAGE_HEADER) else { return Ok(None) };
    let (length, stream) = (header.get_u32() as usize, header.get_u32());
    let (kind, flags) = (header.get_u8(), header.get_u8());
    if length > MAX_MESSAGE {
        return Err(FrameError::TooLong(length));
    }
    let kind = match kind {
        1 => Kind::Request,
        2 => Kind::Response,
        _ => return Err(FrameError::Kind(kind)),
    };
    // The lowest says that nothing more comes from the peer, which is so.
    if flags & !1 != 0 {
        return Err(FrameError::Flags(flags));
    }
    if channel.len() < MESSAGE_HEADER + length {
        return Ok(None);
    }
    channel.advance(MESSAGE_HEADER);
    Ok(Some(Message { stream, kind, payload: channel.split_to(length).freeze() }))
}

#[cfg(test)]
mod tests;
