//! A row of the table, as bytes of either protocol.

use super::super::{
    frames::{DATA, END_HEADERS, END_STREAM, HEADERS, frame},
    world::{HOST, TOKEN},
};

/// A request that is refused.
pub(super) struct Row {
    pub(super) name: &'static str,
    method: &'static str,
    target: Vec<u8>,
    fields: Vec<(&'static str, Vec<u8>)>,
    body: Option<Vec<u8>>,
    /// In place of all that over HTTP/1.1; then there is no such request over HTTP/2.
    http1: Option<Vec<u8>>,
    /// The same the other way round: pseudo-headers and fields.
    http2: Option<Vec<(&'static str, &'static str)>>,
    pub(super) status: u16,
    pub(super) reason: &'static str,
    /// Whether HTTP/2 itself forbids it, so that its stream ends without an answer or record.
    pub(super) is_reset: bool,
}

pub(super) const JSON: &str = "application/json";
/// Created by POST, and deleted by their tag.
pub(super) const DROPLETS: &str = "/v2/droplets";

pub(super) type Refusal = (u16, &'static str);
pub(super) const PATH: Refusal = (400, "path_not_canonical");
pub(super) const QUERY: Refusal = (400, "query_ambiguous");
pub(super) const MALFORMED: Refusal = (400, "malformed_request");
pub(super) const AUTHORITY: Refusal = (421, "authority_mismatch");
pub(super) const METHOD: Refusal = (400, "method_refused");
pub(super) const OVERRIDE: Refusal = (400, "method_override");
pub(super) const BODY: Refusal = (400, "body_malformed");
pub(super) const KIND: Refusal = (415, "body_unreadable");
pub(super) const SIZE: Refusal = (413, "body_too_large");

impl Row {
    /// A request that both protocols can carry.
    pub(super) fn plain(
        name: &'static str,
        method: &'static str,
        target: &str,
        content_type: Option<&str>,
        body: Option<Vec<u8>>,
    ) -> Self {
        let fields =
            content_type.map(|kind| ("content-type", kind.as_bytes().to_vec())).into_iter().collect();
        Self {
            name,
            method,
            target: target.as_bytes().to_vec(),
            fields,
            body,
            http1: None,
            http2: None,
            status: 200,
            reason: "",
            is_reset: false,
        }
    }

    pub(super) fn refused(self, (status, reason): Refusal) -> Self {
        Self { status, reason, ..self }
    }

    pub(super) fn resetting(self) -> Self {
        Self { is_reset: true, ..self }
    }

    /// The request's bytes; none where the protocol has no such request.
    pub(super) fn bytes(&self, is_http2: bool) -> Option<Vec<u8>> {
        match (is_http2, &self.http1, &self.http2) {
            (false, Some(bytes), _) => Some(bytes.clone()),
            (true, Some(_), _) | (false, _, Some(_)) => None,
            (true, None, Some(fields)) => {
                let fields = fields.iter().map(|(name, value)| (*name, value.as_bytes().to_vec()));
                Some(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields)))
            }
            (false, None, None) => Some(self.http1()),
            (true, None, None) => Some(self.http2()),
        }
    }

    fn http1(&self) -> Vec<u8> {
        let mut bytes = [self.method.as_bytes(), b" ", &self.target, b" HTTP/1.1\r\nHost: "].concat();
        bytes.extend(format!("{HOST}\r\nAuthorization: Bearer {TOKEN}\r\n").bytes());
        for (name, value) in &self.fields {
            bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        if let Some(body) = &self.body {
            bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
            bytes.extend(body);
        } else {
            bytes.extend(b"\r\n");
        }
        bytes
    }

    fn http2(&self) -> Vec<u8> {
        let pseudo = [(":method", self.method), (":scheme", "https"), (":authority", HOST)];
        let pseudo = pseudo.map(|(name, value)| (name, value.as_bytes().to_vec()));
        let path = [(":path", self.target.clone())];
        let fields = pseudo.into_iter().chain(path).chain(self.fields.iter().cloned());
        let Some(body) = &self.body else {
            return frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields));
        };
        let mut bytes = frame(HEADERS, END_HEADERS, 1, &block(fields));
        for piece in body.chunks(16_000) {
            bytes.extend(frame(DATA, 0, 1, piece));
        }
        bytes.extend(frame(DATA, END_STREAM, 1, &[]));
        bytes
    }
}

/// Fields as HPACK's literals without an index.
fn block<'n>(fields: impl Iterator<Item = (&'n str, Vec<u8>)>) -> Vec<u8> {
    let text = |text: &[u8]| match u8::try_from(text.len()) {
        Ok(length @ ..127) => [&[length], text].concat(),
        _ => [&[127, u8::try_from(text.len() - 127).unwrap()], text].concat(),
    };
    fields.flat_map(|(name, value)| [vec![0], text(name.as_bytes()), text(&value)].concat()).collect()
}

pub(super) fn get(name: &'static str, target: impl AsRef<[u8]>, refusal: Refusal) -> Row {
    let target = target.as_ref().to_vec();
    Row { target, ..Row::plain(name, "GET", "", None, None).refused(refusal) }
}

pub(super) fn by_tag(name: &'static str, query: &str, refusal: Refusal) -> Row {
    Row::plain(name, "DELETE", &format!("{DROPLETS}?{query}"), None, None).refused(refusal)
}

/// The creation of a Droplet, whose body decides.
pub(super) fn json(name: &'static str, body: impl AsRef<[u8]>) -> Row {
    Row::plain(name, "POST", DROPLETS, Some(JSON), Some(body.as_ref().to_vec())).refused(BODY)
}

pub(super) fn typed(
    name: &'static str,
    fields: &[(&'static str, &str)],
    body: impl AsRef<[u8]>,
    refusal: Refusal,
) -> Row {
    let row = Row::plain(name, "POST", DROPLETS, None, Some(body.as_ref().to_vec())).refused(refusal);
    let fields = fields.iter().map(|(name, value)| (*name, value.as_bytes().to_vec())).collect();
    Row { fields, ..row }
}

pub(super) fn with(name: &'static str, field: (&'static str, &str), refusal: Refusal) -> Row {
    let row = Row::plain(name, "POST", "/v2/domains", Some(JSON), Some(b"{}".to_vec())).refused(refusal);
    let field = (field.0, field.1.as_bytes().to_vec());
    Row { fields: [row.fields, vec![field]].concat(), ..row }
}

/// Bytes of HTTP/1.1, `H` standing for the host.
pub(super) fn raw(name: &'static str, text: &str, refusal: Refusal) -> Row {
    let bytes = text.replace(": H\r", &format!(": {HOST}\r")).into_bytes();
    Row { http1: Some(bytes), ..Row::plain(name, "", "", None, None).refused(refusal) }
}

/// A field or pseudo-header.
pub(super) type Field = (&'static str, &'static str);

const ACCOUNT: [Field; 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/v2/account")];

/// These fields of HTTP/2, pseudo-headers and all.
pub(super) fn fields(name: &'static str, fields: Vec<Field>, refusal: Refusal) -> Row {
    Row { http2: Some(fields), ..Row::plain(name, "", "", None, None).refused(refusal) }
}

/// A plain request of HTTP/2 with one field more.
pub(super) fn added(name: &'static str, field: Field, refusal: Refusal) -> Row {
    fields(name, [&ACCOUNT[..], &[field]].concat(), refusal)
}

/// A plain request of HTTP/2 with another pseudo-header in place of its own; `(none)` leaves it out.
pub(super) fn replaced(name: &'static str, field: Field, refusal: Refusal) -> Row {
    let others = ACCOUNT.iter().map(|own| if own.0 == field.0 { field } else { *own });
    fields(name, others.filter(|(_, value)| *value != "(none)").collect(), refusal)
}
