//! What a record may say of a token: its type and a keyed fingerprint.

use super::{hex, token};
use aws_lc_rs::{hmac, rand};
use http::HeaderValue;
use std::{
    fmt,
    sync::{Mutex, PoisonError},
};
use zeroize::Zeroizing;

/// Bytes of an HMAC that make a fingerprint. 64 bits keep the few tokens of a host apart with certainty enough; since
/// the key is secret, more would not make guessing harder.
const FINGERPRINT_LEN: usize = 8;

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the system gives no random bytes")]
pub struct RandomUnavailable;

/// Makes fingerprints with a key that never leaves the host: equal tokens get equal ones, and without the key nobody
/// can tell from a fingerprint whether a token that he holds is meant.
#[derive(Clone)]
pub struct Fingerprinter {
    key: hmac::Key,
}

/// What the record says of a request's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    /// `dop`, `doo`, `dor`, `other`, or `none`.
    pub token_type: &'static str,
    /// Absent where there is no token.
    pub fingerprint: Option<String>,
}

/// The last `authorization` value of a connection, whose requests nearly all have the same, with what may be said of it.
#[derive(Default)]
pub struct LastToken(Mutex<Option<(Zeroizing<Vec<u8>>, TokenFacts)>>);

impl LastToken {
    /// As [`Fingerprinter::token_facts`].
    pub fn facts(&self, fingerprinter: &Fingerprinter, authorization: Option<&HeaderValue>) -> TokenFacts {
        let Some(value) = authorization else { return fingerprinter.token_facts(None) };
        // No code panics while it holds the lock, and each change leaves a whole value.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((bytes, facts)) if bytes.as_slice() == value.as_bytes() => facts.clone(),
            Some(_) | None => {
                let facts = fingerprinter.token_facts(authorization);
                *last = Some((Zeroizing::new(value.as_bytes().to_vec()), facts.clone()));
                facts
            }
        }
    }
}

impl fmt::Debug for LastToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LastToken")
    }
}

impl Fingerprinter {
    /// With a key that ends with this value, so that fingerprints are comparable only within one run of the agent.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn ephemeral() -> Result<Self, RandomUnavailable> {
        let mut key = [0; 32];
        rand::fill(&mut key).map_err(|_| RandomUnavailable)?;
        Ok(Self::from_key(&key))
    }

    /// With this key.
    pub fn from_key(key: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// The fingerprint of a secret, as 16 hexadecimal digits.
    pub fn fingerprint(&self, secret: &[u8]) -> String {
        let tag = hmac::sign(&self.key, secret);
        hex(tag.as_ref().get(..FINGERPRINT_LEN).unwrap_or_default())
    }

    /// What may be recorded of the value of an `authorization` header.
    ///
    /// The fingerprint is that of the token itself wherever one is found, so that it is the same for a bearer token, for
    /// basic credentials that hold it, and where [`redact`](super::redact) replaced it in a text.
    pub fn token_facts(&self, authorization: Option<&HeaderValue>) -> TokenFacts {
        let Some(value) = authorization.map(HeaderValue::as_bytes).filter(|value| !value.is_empty()) else {
            return TokenFacts { token_type: "none", fingerprint: None };
        };
        let value = value.trim_ascii();
        let blank = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
        let (scheme, credentials) = value.split_at_checked(blank).unwrap_or((value, &[]));
        let credentials = if credentials.is_empty() { scheme } else { credentials.trim_ascii() };
        let decoded =
            if scheme.eq_ignore_ascii_case(b"basic") { token::from_base64(credentials) } else { vec![] };
        for text in [credentials, &decoded] {
            if let Some(found) = token::find_all(text).into_iter().next() {
                let secret = text.get(found.range).unwrap_or_default();
                return TokenFacts { token_type: found.kind, fingerprint: Some(self.fingerprint(secret)) };
            }
        }
        TokenFacts { token_type: "other", fingerprint: Some(self.fingerprint(credentials)) }
    }
}

impl fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprinter")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    const TOKEN: &str = "dop_v1_aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd";

    fn fingerprinter() -> Fingerprinter {
        Fingerprinter::from_key(&[7; 32])
    }

    fn facts(value: &str) -> TokenFacts {
        fingerprinter().token_facts(Some(&HeaderValue::from_str(value).unwrap()))
    }

    #[test_case(&format!("Bearer {TOKEN}"), "dop")]
    #[test_case(&format!("bearer   {TOKEN} "), "dop"; "case and blanks")]
    #[test_case(&TOKEN.replacen("dop", "doo", 1), "doo"; "no scheme")]
    #[test_case("Bearer dor_v1_0123456789abcdef", "dor"; "short token")]
    #[test_case("Bearer 0123456789abcdef", "other"; "old token")]
    #[test_case("Basic dXNlcjpwYXNz", "other"; "basic")]
    #[test_case("Basic OmRvcF92MV8wMTIzNDU2Nzg5YWJjZGVm", "dop"; "a token as basic password")]
    #[test_case("Bearer", "other"; "no credentials")]
    fn the_type_comes_from_the_prefix(value: &str, expected: &str) {
        let facts = facts(value);
        assert_eq!(facts.token_type, expected);
        assert_eq!(facts.fingerprint.map(|fingerprint| fingerprint.len()), Some(16));
    }

    #[test]
    fn no_header_and_an_empty_one_are_none() {
        let none = TokenFacts { token_type: "none", fingerprint: None };
        assert_eq!(fingerprinter().token_facts(None), none);
        assert_eq!(facts(""), none);
    }

    #[test]
    fn a_fingerprint_belongs_to_a_token_and_a_key() {
        assert_eq!(facts(&format!("Bearer {TOKEN}")), facts(&format!("bearer  {TOKEN}")));
        assert_ne!(facts(&format!("Bearer {TOKEN}")), facts(&format!("Bearer {TOKEN}0")));
        let (one, two) = (Fingerprinter::ephemeral().unwrap(), Fingerprinter::ephemeral().unwrap());
        assert_ne!(one.fingerprint(b"x"), two.fingerprint(b"x"));
        // HMAC-SHA-256 with 32 bytes of 7 over "x", by openssl.
        assert_eq!(fingerprinter().fingerprint(b"x"), KNOWN);
    }

    const KNOWN: &str = "5b29e7ebdee0465c";

    #[test]
    fn the_last_token_is_known_and_no_other_taken_for_it() {
        let (last, other) = (LastToken::default(), TOKEN.replace('d', "e"));
        let value = |text: &str| HeaderValue::from_str(text).unwrap();
        let values =
            [format!("Bearer {TOKEN}"), format!("Bearer {other}"), String::new(), "Basic eDp5".to_owned()];
        for text in values.iter().flat_map(|text| [text, text, &values[0]]) {
            assert_eq!(last.facts(&fingerprinter(), Some(&value(text))), facts(text));
            assert_eq!(last.facts(&fingerprinter(), None), fingerprinter().token_facts(None));
        }
    }
}
