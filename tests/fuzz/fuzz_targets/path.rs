//! Any text as a request path: what the canonicaliser accepts has one reading.

#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;
use tidegate::classify::{CanonicalPath, Catalogue};

fuzz_target!(|raw: &str| {
    let Ok(path) = CanonicalPath::parse(raw) else { return };
    assert_eq!(path.as_str(), raw, "an accepted path is forwarded as it came");
    assert_eq!(CanonicalPath::parse(path.as_str()).as_ref(), Ok(&path));

    let decoded = decode(raw);
    assert!(decoded.bytes().all(|b| matches!(b, b' '..=b'~')), "only printable ASCII");
    assert!(!decoded.contains(['%', '\\', ';', '?', '#']), "nothing that a second reader could decode or cut at");
    let mut segments = decoded.split('/').skip(1);
    assert!(decoded == "/" || segments.all(|segment| !matches!(segment, "" | "." | "..")), "nothing to resolve");

    let catalogue = Catalogue::embedded();
    for method in [Method::GET, Method::DELETE] {
        if let Some(route) = catalogue.route(None, &method, path) {
            assert_eq!(route.operation.parameters.len(), route.parameters.len());
            assert!(route.parameters.iter().all(|(_, value)| !value.is_empty()));
        }
    }
});

/// Decodes every escape once, by other means than the code under test.
fn decode(raw: &str) -> String {
    let mut pieces = raw.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).expect("an accepted escape has two digits"));
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).expect("accepted escapes are ASCII")
}
