//! A strict reader of JSON text (RFC 8259), which looks at every byte and builds nothing.

use std::borrow::Cow;

/// How deep arrays and objects may stand in each other.
pub(super) const MAX_DEPTH: usize = 128;

/// Why a text is no JSON that can be filtered. Says where, and nothing of the text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// It is not UTF-8.
    #[error("byte {at} is not UTF-8")]
    NotUtf8 {
        /// Where.
        at: usize,
    },
    /// Something else stands where the grammar wants this.
    #[error("{expected} is missing at byte {at}")]
    Grammar {
        /// What.
        expected: &'static str,
        /// Where.
        at: usize,
    },
    /// Arrays and objects nest too deep.
    #[error("more than {MAX_DEPTH} arrays and objects stand in each other at byte {at}")]
    TooDeep {
        /// Where.
        at: usize,
    },
}

/// A place in a text. Copies go on from there by themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanner<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl<'t> Scanner<'t> {
    /// The beginning of a text.
    pub(super) fn new(bytes: &'t [u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(bytes).map_err(|error| Error::NotUtf8 { at: error.valid_up_to() })?;
        Ok(Self { text, at: 0, depth: 0 })
    }

    /// The first byte of the next token.
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    /// Goes into an array or object.
    pub(super) fn enter(&mut self) -> Result<(), Error> {
        if self.depth == MAX_DEPTH {
            return Err(Error::TooDeep { at: self.at });
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    /// The next name of an object as it is written, its colon behind; none when the object has ended.
    pub(super) fn next_name(&mut self, is_first: bool) -> Result<Option<&'t str>, Error> {
        if !self.goes_on(b'}', is_first)? {
            return Ok(None);
        }
        if self.peek() != Some(b'"') {
            return self.missing("a name");
        }
        let name = self.string()?;
        if self.peek() != Some(b':') {
            return self.missing("a colon");
        }
        self.at += 1;
        Ok(Some(name))
    }

    /// Whether an array has one more element.
    pub(super) fn next_element(&mut self, is_first: bool) -> Result<bool, Error> {
        self.goes_on(b']', is_first)
    }

    /// Passes over a value, and returns it as it is written.
    pub(super) fn value(&mut self) -> Result<&'t str, Error> {
        let first = self.peek();
        let start = self.at;
        match first {
            Some(b'{') => {
                self.enter()?;
                let mut is_first = true;
                while self.next_name(is_first)?.is_some() {
                    self.value()?;
                    is_first = false;
                }
            }
            Some(b'[') => {
                self.enter()?;
                let mut is_first = true;
                while self.next_element(is_first)? {
                    self.value()?;
                    is_first = false;
                }
            }
            Some(b'"') => drop(self.string()?),
            Some(b't') => self.word("true")?,
            Some(b'f') => self.word("false")?,
            Some(b'n') => self.word("null")?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => return self.missing("a value"),
        }
        Ok(self.since(start))
    }

    /// The text must have nothing more.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.missing("the end"),
        }
    }

    fn goes_on(&mut self, end: u8, is_first: bool) -> Result<bool, Error> {
        match self.peek() {
            Some(byte) if byte == end => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            Some(b',') if !is_first => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if is_first => Ok(true),
            _ => self.missing("a comma or the end of the array or object"),
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn since(&self, start: usize) -> &'t str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn missing<T>(&self, expected: &'static str) -> Result<T, Error> {
        Err(Error::Grammar { expected, at: self.at })
    }

    fn word(&mut self, word: &'static str) -> Result<(), Error> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return self.missing(word);
        }
        self.at += word.len();
        Ok(())
    }

    fn string(&mut self) -> Result<&'t str, Error> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(0..=0x1f) | None => return self.missing("the end of a string"),
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        Ok(self.since(start))
    }

    fn escape(&mut self) -> Result<(), Error> {
        self.at += 1;
        match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                // Half a surrogate pair is no character, and readers make different things of it.
                match self.unit()? {
                    0xD800..=0xDBFF if self.text.get(self.at..self.at + 2) == Some("\\u") => {
                        self.at += 1;
                        if !(0xDC00..=0xDFFF).contains(&self.unit()?) {
                            return self.missing("the other half of a surrogate pair");
                        }
                    }
                    0xD800..=0xDFFF => return self.missing("the other half of a surrogate pair"),
                    _ => {}
                }
            }
            _ => return self.missing("an escape"),
        }
        Ok(())
    }

    /// The four digits behind the `u` of an escape.
    fn unit(&mut self) -> Result<u16, Error> {
        let digits = self.text.get(self.at + 1..self.at + 5).unwrap_or_default();
        let unit = u16::from_str_radix(digits, 16).ok();
        match unit.filter(|_| digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())) {
            Some(unit) => {
                self.at += 5;
                Ok(unit)
            }
            None => self.missing("a digit of an escape"),
        }
    }

    fn number(&mut self) -> Result<(), Error> {
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Error> {
        let start = self.at;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { self.missing("a digit") } else { Ok(()) }
    }
}

/// What a string says that was passed over, quotes and escapes resolved.
pub(super) fn decoded(string: &str) -> Cow<'_, str> {
    let inner = string.get(1..string.len() - 1).unwrap_or_default();
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    // The scanner has checked it by the same grammar.
    serde_json::from_str(string).map_or(Cow::Borrowed(inner), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;
    use test_case::test_case;

    fn read(bytes: &[u8]) -> Result<&str, Error> {
        let mut scanner = Scanner::new(bytes)?;
        let value = scanner.value()?;
        scanner.end().map(|()| value)
    }

    #[test_case(r#"{"a":[1,-0.5e+3,true,false,null,"x\u00e9\ud83d\ude00\n\/"],"":{}}"#; "of everything")]
    #[test_case("0"; "a number")]
    #[test_case("\"\u{7f}\u{2028}é\""; "characters that need no escape")]
    #[test_case("[[],{}]"; "empty ones")]
    fn json_is_read_to_its_end(text: &str) {
        assert_eq!(read(format!(" {text}\r\n\t").as_bytes()), Ok(text));
        // Every prefix that is not JSON by itself is refused.
        for (end, _) in text.char_indices() {
            let prefix = text.get(..end).unwrap();
            assert!(read(prefix.as_bytes()).is_err(), "{prefix}");
        }
    }

    #[test_case(b"", "a value is missing at byte 0"; "nothing")]
    #[test_case(b"\xef\xbb\xbf{}", "a value is missing at byte 0"; "a byte order mark")]
    #[test_case(b"{}\0", "the end is missing at byte 2"; "something behind it")]
    #[test_case(b"{} {}", "the end is missing at byte 3"; "two documents")]
    #[test_case(b"[1,]", "a value is missing at byte 3"; "a comma before the end of an array")]
    #[test_case(b"[,1]", "a value is missing at byte 1"; "a comma first")]
    #[test_case(b"[1 2]", "a comma or the end of the array or object is missing at byte 3"; "no comma")]
    #[test_case(b"{\"a\":1,}", "a name is missing at byte 7"; "a comma before the end of an object")]
    #[test_case(b"{a:1}", "a name is missing at byte 1"; "a name without quotes")]
    #[test_case(b"{\"a\" 1}", "a colon is missing at byte 5"; "no colon")]
    #[test_case(b"[1}", "a comma or the end of the array or object is missing at byte 2"; "another end")]
    #[test_case(b"01", "the end is missing at byte 1"; "a leading zero")]
    #[test_case(b"1.", "a digit is missing at byte 2"; "no fraction")]
    #[test_case(b"-", "a digit is missing at byte 1"; "a sign alone")]
    #[test_case(b"+1", "a value is missing at byte 0"; "a plus sign")]
    #[test_case(b"NaN", "a value is missing at byte 0"; "not a number")]
    #[test_case(b"nul", "null is missing at byte 0"; "half a word")]
    #[test_case(b"\"\x01\"", "the end of a string is missing at byte 1"; "a control character")]
    #[test_case(b"\"\\x\"", "an escape is missing at byte 2"; "an unknown escape")]
    #[test_case(b"\"\\u+12a\"", "a digit of an escape is missing at byte 2"; "a sign in an escape")]
    #[test_case(b"\"\\ud800\"", "the other half of a surrogate pair is missing at byte 7"; "a high half alone")]
    #[test_case(b"\"\\udc00\"", "the other half of a surrogate pair is missing at byte 7"; "a low half alone")]
    #[test_case(b"\"\\ud800\\u0041\"", "the other half of a surrogate pair is missing at byte 13"; "no low half")]
    #[test_case(b"\"\xc0\xaf\"", "byte 1 is not UTF-8"; "an overlong character")]
    #[test_case(b"\xff\xfe{\0}\0", "byte 0 is not UTF-8"; "UTF-16")]
    #[test_case(b"'a'", "a value is missing at byte 0"; "other quotes")]
    #[test_case(b"[1]/**/", "the end is missing at byte 3"; "a comment")]
    fn what_is_not_json_is_refused_where_it_ends(text: &[u8], expected: &str) {
        assert_eq!(read(text).unwrap_err().to_string(), expected);
    }

    #[test]
    fn the_depth_is_bounded() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(read(nested(MAX_DEPTH + 1).as_bytes()), Err(Error::TooDeep { at: MAX_DEPTH }));
        assert_eq!(read("[".repeat(1_000_000).as_bytes()), Err(Error::TooDeep { at: MAX_DEPTH }));
        let wide = format!("[{}0]", "[],{},".repeat(1000));
        assert!(read(wide.as_bytes()).is_ok(), "what was left counts no more");
    }

    #[test_case(r#""password""#, "password"; "plain")]
    #[test_case(r#""pass\u0077ord""#, "password"; "an escape")]
    #[test_case(r#""\ud83d\ude00\"\\""#, "😀\"\\"; "a pair and quotes")]
    #[test_case(r#""""#, ""; "empty")]
    fn a_string_is_decoded(string: &str, expected: &str) {
        assert_eq!(decoded(string), expected);
    }

    proptest! {
        #[test]
        fn it_takes_what_the_other_reader_takes(text in r#"[\[\]{}",:0-9eE.+\-\\untrfalse x\x01é]{0,12}"#) {
            // The other reader refuses numbers that it cannot hold.
            let ours = read(text.as_bytes());
            match serde_json::from_str::<Value>(&text) {
                Ok(_) => prop_assert!(ours.is_ok(), "{ours:?}"),
                Err(error) if error.to_string().starts_with("number out of range") => {}
                Err(_) => prop_assert!(ours.is_err()),
            }
        }

        #[test]
        fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(read(&bytes).is_ok(), serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok());
        }
    }
}
