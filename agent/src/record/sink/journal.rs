//! The systemd journal as a second place for records, by its [native protocol].
//!
//! The log is what counts: nothing waits for the journal, and what it does not take is counted.
//!
//! [native protocol]: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/

use super::sentence::sentence;
use serde_json::{Map, Value};
use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// journald ignores fields with longer names.
const MAX_NAME_BYTES: usize = 64;

/// syslog's levels: a refusal is worth a look.
const WARNING: &str = "4";
const INFORMATIONAL: &str = "6";

/// The journal's socket.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    lost: AtomicU64,
}

impl Journal {
    /// Gets a socket of its own; whether somebody listens at `path` shows with each record.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path: path.to_owned(), lost: AtomicU64::new(0) })
    }

    /// Passes a record on, which is a line of the log: redacted, and a JSON object.
    pub(super) fn tell(&self, line: &[u8]) {
        let told = entry(line).ok_or_else(|| io::Error::other("the record is no object"));
        match told.and_then(|entry| self.socket.send_to(&entry, &self.path)) {
            Ok(_) => {
                let lost = self.lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    tracing::warn!(lost, "the journal takes records again; the log has those that it lacks");
                }
            }
            Err(error) => {
                if self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::error!(%error, "the journal takes no records; the log has them");
                }
            }
        }
    }
}

/// Each key of the record as a field: `tidegate.workload` is `TIDEGATE_WORKLOAD`.
fn entry(line: &[u8]) -> Option<Vec<u8>> {
    let record: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let is_denied = record.get("tidegate.decision").and_then(Value::as_str) == Some("deny");
    let mut entry = Vec::new();
    put(&mut entry, "MESSAGE", &sentence(&record));
    put(&mut entry, "PRIORITY", if is_denied { WARNING } else { INFORMATIONAL });
    put(&mut entry, "SYSLOG_IDENTIFIER", "tidegate-audit");
    for (key, value) in &record {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        put(&mut entry, &field(key), &value);
    }
    Some(entry)
}

fn field(key: &str) -> String {
    let letter = |character: char| match character.to_ascii_uppercase() {
        letter @ ('A'..='Z' | '0'..='9') => letter,
        _ => '_',
    };
    key.chars().take(MAX_NAME_BYTES).map(letter).collect()
}

/// In the form that takes any value: with its length before it, so that no line break in it begins another field.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend(name.bytes());
    entry.push(b'\n');
    entry.extend((value.len() as u64).to_le_bytes());
    entry.extend(value.bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As journald reads it.
    fn fields(mut entry: &[u8]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        while !entry.is_empty() {
            let end = entry.iter().position(|byte| *byte == b'\n').unwrap();
            let (name, rest) = (&entry[..end], &entry[end + 1..]);
            assert!(!name.contains(&b'='));
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let value = &rest[8..8 + length];
            assert_eq!(rest[8 + length], b'\n');
            found.push((
                String::from_utf8(name.to_vec()).unwrap(),
                String::from_utf8(value.to_vec()).unwrap(),
            ));
            entry = &rest[8 + length + 1..];
        }
        found
    }

    const LINE: &str = r#"{"tidegate.workload":"ci","tidegate.decision":"deny","http.request.method":"DELETE",
        "url.path":"/v2/\nX=1","tidegate.reason":"missing_scope","process.pid":7,"tidegate.scopes.missing":["a:b"]}"#;

    #[test]
    fn a_record_is_told_with_each_of_its_keys() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let listener = UnixDatagram::bind(&path).unwrap();
        Journal::new(&path).unwrap().tell(LINE.as_bytes());
        let mut datagram = [0; 4096];
        let length = listener.recv(&mut datagram).unwrap();
        let fields = fields(&datagram[..length]);
        let value =
            |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
        assert_eq!(value("MESSAGE"), Some("ci: deny DELETE /v2/\\u{a}X=1 (missing_scope)"));
        assert_eq!((value("PRIORITY"), value("PROCESS_PID")), (Some("4"), Some("7")));
        assert_eq!(value("URL_PATH"), Some("/v2/\nX=1"));
        assert_eq!(value("TIDEGATE_SCOPES_MISSING"), Some("[\"a:b\"]"));
        assert_eq!(fields.len(), 10, "{fields:?}");
    }

    #[test]
    fn a_journal_that_is_not_there_or_full_keeps_nobody_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let journal = Journal::new(&path).unwrap();
        (0..3).for_each(|_| journal.tell(LINE.as_bytes()));
        assert_eq!(journal.lost.load(Ordering::Relaxed), 3);
        let listener = UnixDatagram::bind(&path).unwrap();
        journal.tell(LINE.as_bytes());
        assert_eq!(journal.lost.load(Ordering::Relaxed), 0, "it is back");
        // Nobody reads: the queue fills up.
        (0..10_000).for_each(|_| journal.tell(LINE.as_bytes()));
        assert!(journal.lost.load(Ordering::Relaxed) > 0);
        drop(listener);
    }

    proptest! {
        #[test]
        fn no_value_becomes_a_field(value: String, key in "[a-z.=\n]{1,80}") {
            let line = serde_json::json!({ (key.clone()): value.clone() }).to_string();
            let fields = fields(&entry(line.as_bytes()).unwrap());
            prop_assert_eq!(fields.len(), 4);
            prop_assert_eq!(&fields[3].1, &value);
            prop_assert!(fields[3].0.len() <= MAX_NAME_BYTES);
        }
    }
}
