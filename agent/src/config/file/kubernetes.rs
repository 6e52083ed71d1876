//! `[kubernetes]` as it is written.

use super::{Reader, Words};
use crate::config::Kubernetes;
use serde::Deserialize;
use std::path::PathBuf;
use toml::Spanned;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KubernetesTable {
    watch: Option<Spanned<bool>>,
    directory: Option<Spanned<PathBuf>>,
    spared_namespaces: Option<Words>,
}

impl Reader<'_> {
    pub(super) fn kubernetes(&mut self, table: KubernetesTable, kubernetes: &mut Kubernetes) {
        if let Some(watch) = &table.watch {
            if *watch.as_ref() && !cfg!(feature = "kubernetes") {
                let message = "`watch` is not supported by this build, which lacks the feature `kubernetes`";
                self.findings.add(watch.span(), message);
            }
            kubernetes.watch = *watch.as_ref();
        }
        self.absolute(table.directory, &mut kubernetes.directory);
        if let Some(names) = table.spared_namespaces {
            for name in names.iter().filter(|name| name.as_ref().is_empty()) {
                self.findings.add(name.span(), "an empty name in `spared_namespaces`");
            }
            kubernetes.spared_namespaces = names.into_iter().map(Spanned::into_inner).collect();
        }
    }
}
