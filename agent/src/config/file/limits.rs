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
    pub(super) fn limits(&mut self, table: LimitsTable, limits: &mut Limits) {
        let Limits { connections, handshakes, body_inspect, .. } = limits;
        self.number("connections", table.connections, connections, 1..=1_000_000);
        self.number("handshakes", table.handshakes, handshakes, 1..=1_000_000);
        self.number("body_inspect", table.body_inspect, body_inspect, 1..=1 << 26);
        self.duration(table.head_timeout.as_ref(), &mut limits.head_timeout);
        self.duration(table.body_idle_timeout.as_ref(), &mut limits.body_idle_timeout);
    }
}
