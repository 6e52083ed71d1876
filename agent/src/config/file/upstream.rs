//! `[upstream]` as it is written.

use super::Reader;
use crate::config::Upstream;
use serde::Deserialize;
use std::path::PathBuf;
use toml::Spanned;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpstreamTable {
    ca_file: Option<Spanned<PathBuf>>,
    proxy: Option<Spanned<String>>,
    proxy_credentials: Option<Spanned<PathBuf>>,
    connect_timeout: Option<Spanned<String>>,
    response_timeout: Option<Spanned<String>>,
}

impl Reader<'_> {
    pub(super) fn upstream(&mut self, table: UpstreamTable, upstream: &mut Upstream) {
        upstream.ca_file = self.file(table.ca_file);
        if let (None, Some(credentials)) = (&table.proxy, &table.proxy_credentials) {
            let message = "`proxy_credentials` without `proxy`; name the proxy that they are for";
            self.findings.add(credentials.span(), message);
        }
        upstream.proxy = table.proxy.and_then(|word| self.upstream_proxy(&word));
        upstream.proxy_credentials = self.file(table.proxy_credentials);
        self.duration(table.connect_timeout.as_ref(), &mut upstream.connect_timeout);
        self.duration(table.response_timeout.as_ref(), &mut upstream.response_timeout);
    }

    fn upstream_proxy(&mut self, word: &Spanned<String>) -> Option<crate::config::ForwardProxy> {
        if word.as_ref().contains('@') {
            let message = "`proxy` is named without user and password; put `user:password` into a file of mode 0600 \
                           that `proxy_credentials` names";
            self.findings.add(word.span(), message);
            return None;
        }
        self.forward_proxy(word)
    }
}
