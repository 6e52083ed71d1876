//! The content codings that can be undone.

use super::{MAX_BYTES, NotFilterable, memory::Share};
use flate2::bufread::MultiGzDecoder;
use http::{HeaderMap, HeaderValue, header};
use std::io::{ErrorKind, Read};

/// How much is decoded at a time.
const STEP: usize = 64 * 1024;

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    Identity,
    /// `gzip`.
    Gzip,
}

impl Coding {
    /// What the fields say.
    ///
    /// # Errors
    /// When they name an unknown coding, or several.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, NotFilterable> {
        let values = headers.get_all(header::CONTENT_ENCODING).iter().map(HeaderValue::as_bytes);
        let values: Vec<_> = values.map(String::from_utf8_lossy).collect();
        let Some(first) = values.first() else { return Ok(Self::Identity) };
        let is = |name: &str| values.len() == 1 && first.trim().eq_ignore_ascii_case(name);
        if is("identity") {
            Ok(Self::Identity)
        } else if is("gzip") || is("x-gzip") {
            Ok(Self::Gzip)
        } else {
            Err(NotFilterable::Encoding(values.join(", ")))
        }
    }

    /// Undoes it. What is decoded beside the body grows the share.
    ///
    /// # Errors
    /// When the body is not whole, has something behind its end, or becomes too long.
    pub(super) fn decode(self, body: Vec<u8>, share: &mut Share) -> Result<Vec<u8>, NotFilterable> {
        match self {
            Self::Identity => Ok(body),
            Self::Gzip => decompress(&body, MAX_BYTES, share),
        }
    }
}

/// Several members in a row are one body, as RFC 9110 has it.
fn decompress(body: &[u8], limit: usize, share: &mut Share) -> Result<Vec<u8>, NotFilterable> {
    let mut decoder = MultiGzDecoder::new(body);
    let mut decoded = Vec::new();
    loop {
        let before = decoded.len();
        // One byte past the limit tells that it goes on.
        let step = STEP.min(limit + 1 - before);
        share.grow(step)?;
        match decoder.by_ref().take(step as u64).read_to_end(&mut decoded) {
            Ok(0) => break,
            Ok(_) if decoded.len() > limit => return Err(NotFilterable::TooLarge),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(NotFilterable::Compression(error)),
        }
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::{super::Memory, *};
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn compressed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decompressed(body: &[u8], limit: usize) -> Result<Vec<u8>, NotFilterable> {
        decompress(body, limit, &mut Memory::new(10 << 20).share())
    }

    fn is_broken(result: &Result<Vec<u8>, NotFilterable>) -> bool {
        matches!(result, Err(NotFilterable::Compression(_)))
    }

    #[test]
    fn what_was_compressed_comes_back_in_one_or_several_members() {
        let text = b"{\"a\":1}".repeat(50_000);
        let body = compressed(&text);
        assert!(decompressed(&body, text.len()).unwrap() == text);
        let twice = [body.clone(), body].concat();
        assert!(decompressed(&twice, 2 * text.len()).unwrap() == text.repeat(2));
    }

    #[test]
    fn every_prefix_and_every_longer_body_is_refused() {
        let body = compressed(b"{\"droplets\":[1,2,3]}");
        for end in 0..body.len() {
            let result = decompressed(body.get(..end).unwrap(), 1000);
            assert!(is_broken(&result) || end == 0, "{end}: {result:?}");
        }
        for rest in [&b"\0"[..], b"garbage", b"\x1f\x8b", &body[..body.len() - 1]] {
            assert!(is_broken(&decompressed(&[&body, rest].concat(), 1000)), "{rest:?}");
        }
        for at in 0..body.len() {
            let mut damaged = body.clone();
            damaged[at] ^= 0xff;
            // Time, flags and system in the header mean nothing.
            assert!(is_broken(&decompressed(&damaged, 1000)) || (4..10).contains(&at), "{at}");
        }
    }

    #[test]
    fn what_grows_too_long_is_given_up() {
        let bomb = compressed(&vec![b' '; 3 << 20]);
        assert!(bomb.len() < 10_000);
        assert!(matches!(decompressed(&bomb, (3 << 20) - 1), Err(NotFilterable::TooLarge)));
        assert_eq!(decompressed(&bomb, 3 << 20).unwrap().len(), 3 << 20);
        let mut share = Memory::new(1 << 20).share();
        assert!(matches!(decompress(&bomb, 3 << 20, &mut share), Err(NotFilterable::NoMemory)));
    }

    #[test]
    fn nothing_that_is_compressed_is_nothing() {
        assert_eq!(decompressed(&compressed(b""), 10).unwrap(), b"");
    }
}
