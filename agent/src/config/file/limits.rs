//! `[limits]` as it is written.

use super::Reader;
use crate::config::Limits;
use serde::Deserialize;
use toml::Spanned;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsTable {
    connections: Option<Spanned<usize>>,
    handshakes: Option<Spanned<usize>>,
    head_timeout: Option<Spanned<String>>,
    body_idle_timeout: Option<Spanned<String>>,
    body_inspect: Option<Spanned<usize>>,
}

impl Reader<'_> {
    pub(super) fn limits(&mut self, table: &LimitsTable, limits: &mut Limits) {
        let numbers = [
            ("connections", &table.connections, &mut limits.connections, 1..=1_000_000),
            ("handshakes", &table.handshakes, &mut limits.handshakes, 1..=1_000_000),
            ("body_inspect", &table.body_inspect, &mut limits.body_inspect, 1..=1 << 26),
        ];
        for (key, word, number, range) in numbers {
            let Some(word) = word else { continue };
            if !range.contains(word.as_ref()) {
                let (first, last) = range.into_inner();
                let message = format!("`{key} = {}` is out of range; write {first} to {last}", word.as_ref());
                self.findings.add(word.span(), message);
            }
            *number = *word.as_ref();
        }
        self.duration(table.head_timeout.as_ref(), &mut limits.head_timeout);
        self.duration(table.body_idle_timeout.as_ref(), &mut limits.body_idle_timeout);
    }
}
