use super::*;
use proptest::prelude::*;
use test_case::test_case;

fn request(stream: u32, payload: &'static [u8]) -> Message {
    Message { stream, kind: Kind::Request, payload: Bytes::from_static(payload) }
}

fn all(frames: &mut Frames) -> Result<Vec<(Channel, Message)>, FrameError> {
    std::iter::from_fn(|| frames.next().transpose()).collect()
}

/// These bytes of a channel in a frame.
fn framed(channel: u32, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&channel.to_be_bytes()[..], &length.to_be_bytes(), bytes].concat()
}

#[test]
fn a_frame_is_what_the_runtime_reads() {
    let bytes = encode(Channel::Runtime, &request(1, b"ab")).unwrap();
    assert_eq!(&bytes[..], b"\0\0\0\x02\0\0\0\x0c\0\0\0\x02\0\0\0\x01\x01\0ab");
}

#[test]
fn every_prefix_is_incomplete_and_the_rest_completes_it() {
    let sent = [
        (Channel::Plugin, request(3, b"hello")),
        (Channel::Runtime, Message { stream: 1, kind: Kind::Response, payload: Bytes::new() }),
        (Channel::Plugin, request(5, b"again")),
    ];
    let bytes: Vec<u8> =
        sent.iter().flat_map(|(channel, message)| encode(*channel, message).unwrap()).collect();
    for cut in 0..=bytes.len() {
        let mut frames = Frames::default();
        frames.push(&bytes[..cut]);
        let mut read = all(&mut frames).unwrap();
        assert!(read.len() < sent.len() || cut == bytes.len(), "{cut}");
        frames.push(&bytes[cut..]);
        read.extend(all(&mut frames).unwrap());
        assert_eq!(read, sent, "{cut}");
    }
}

#[test]
fn a_message_may_come_in_pieces_of_two_channels() {
    let (one, other) = (
        encode(Channel::Plugin, &request(3, b"hello")).unwrap().slice(8..),
        encode(Channel::Runtime, &request(1, b"x")).unwrap().slice(8..),
    );
    let bytes =
        [framed(1, &one[..4]), framed(2, &other[..11]), framed(1, &[]), framed(1, &one[4..])].concat();
    let mut frames = Frames::default();
    frames.push(&bytes);
    let read = all(&mut frames).unwrap();
    assert_eq!(read, [(Channel::Runtime, request(1, b"x")), (Channel::Plugin, request(3, b"hello"))]);
}

#[test_case(b"\0\0\0\0\0\0\0\0", FrameError::Channel(0); "reserved channel")]
#[test_case(b"\0\0\0\x03\0\0\0\0", FrameError::Channel(3); "unknown channel")]
#[test_case(b"\0\0\0\x01\xff\xff\xff\xff", FrameError::TooLong(0xffff_ffff); "long piece")]
#[test_case(b"\0\0\0\x01\0\0\0\x0a\0\x40\0\x01\0\0\0\x01\x01\0", FrameError::TooLong(MAX_MESSAGE + 1); "long message")]
#[test_case(b"\0\0\0\x01\0\0\0\x0a\0\0\0\0\0\0\0\x01\x03\0", FrameError::Kind(3); "data")]
#[test_case(b"\0\0\0\x01\0\0\0\x0a\0\0\0\0\0\0\0\x01\x01\x02", FrameError::Flags(2); "open stream")]
fn what_nri_has_not_is_refused_before_it_is_whole(bytes: &[u8], expected: FrameError) {
    let mut frames = Frames::default();
    frames.push(bytes);
    assert_eq!(frames.next(), Err(expected));
}

#[test]
fn the_longest_message_passes_and_no_longer_one_is_written() {
    let payload = Bytes::from(vec![7; MAX_MESSAGE]);
    let longest = Message { stream: 1, kind: Kind::Request, payload };
    let mut frames = Frames::default();
    frames.push(&encode(Channel::Plugin, &longest).unwrap());
    assert_eq!(frames.next(), Ok(Some((Channel::Plugin, longest))));
    let longer = Message { stream: 1, kind: Kind::Request, payload: vec![7; MAX_MESSAGE + 1].into() };
    assert_eq!(encode(Channel::Plugin, &longer), Err(FrameError::TooLong(MAX_MESSAGE + 1)));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..200) {
        let cut = cut.min(bytes.len());
        let mut frames = Frames::default();
        frames.push(&bytes[..cut]);
        let first = all(&mut frames);
        frames.push(&bytes[cut..]);
        let rest = all(&mut frames);
        let mut whole = Frames::default();
        whole.push(&bytes);
        let pieces = first.and_then(|first| rest.map(|rest| [first, rest].concat()));
        prop_assert_eq!(all(&mut whole), pieces);
    }

    #[test]
    fn messages_survive_any_division(
        messages in prop::collection::vec((any::<bool>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..40)), 0..8),
        size in 1_usize..30,
    ) {
        let sent: Vec<(Channel, Message)> = messages
            .into_iter()
            .map(|(is_request, stream, payload)| {
                let kind = if is_request { Kind::Request } else { Kind::Response };
                (Channel::Plugin, Message { stream, kind, payload: payload.into() })
            })
            .collect();
        let bytes: Vec<u8> = sent.iter().flat_map(|(channel, message)| encode(*channel, message).unwrap()).collect();
        let mut frames = Frames::default();
        let mut read = Vec::new();
        for piece in bytes.chunks(size) {
            frames.push(piece);
            read.extend(all(&mut frames).unwrap());
        }
        prop_assert_eq!(read, sent);
    }
}
