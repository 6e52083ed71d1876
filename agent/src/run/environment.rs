//! The variables that make runtimes with roots of their own trust the local CA.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The merged bundle's name in the trust directory.
pub(super) const BUNDLE: &str = "ca-bundle.crt";
/// The trust anchor's name in the trust directory.
pub(super) const ANCHOR: &str = "tidegate-ca.crt";

/// What a runtime does with the file that its variable names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// It trusts nothing else, so the system's roots must be in it.
    Instead,
    /// It trusts it beside its own roots.
    Beside,
}

const VARIABLES: [(&str, Use); 7] = [
    ("SSL_CERT_FILE", Use::Instead),
    ("REQUESTS_CA_BUNDLE", Use::Instead),
    ("CURL_CA_BUNDLE", Use::Instead),
    ("NODE_EXTRA_CA_CERTS", Use::Beside),
    ("GIT_SSL_CAINFO", Use::Instead),
    ("DENO_CERT", Use::Beside),
    ("AWS_CA_BUNDLE", Use::Instead),
];

/// Whether it is one of the variables that the command gets.
pub(super) fn is_set(name: &str) -> bool {
    VARIABLES.iter().any(|(set, _)| *set == name)
}

/// A variable and how to come to its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) value: Value,
}

/// What a variable is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// The user had not set it: this file of the trust directory.
    Ours(PathBuf),
    /// The user had set it to `theirs`, which may be a corporate CA: a copy of that with the anchor, at `copy`.
    Merged { theirs: PathBuf, copy: PathBuf },
}

/// What to do with each variable, given those of the caller. An empty value counts as none, as it does for the
/// programs that read it.
pub(super) fn plan(lookup: impl Fn(&str) -> Option<OsString>, directory: &Path) -> Vec<Variable> {
    let plan = |(name, usage): (&'static str, Use)| {
        let value = match lookup(name).filter(|value| !value.is_empty()) {
            Some(theirs) => {
                Value::Merged { theirs: theirs.into(), copy: directory.join(format!("{name}.crt")) }
            }
            None if usage == Use::Beside => Value::Ours(directory.join(ANCHOR)),
            None => Value::Ours(directory.join(BUNDLE)),
        };
        Variable { name, value }
    };
    VARIABLES.into_iter().map(plan).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unset_and_empty_variables_name_our_files() {
        let planned = plan(|name| (name == "CURL_CA_BUNDLE").then(OsString::new), Path::new("/t"));
        assert_eq!(planned.len(), 7);
        for Variable { name, value } in planned {
            let file = match name {
                "NODE_EXTRA_CA_CERTS" | "DENO_CERT" => "/t/tidegate-ca.crt",
                _ => "/t/ca-bundle.crt",
            };
            assert_eq!(value, Value::Ours(file.into()), "{name}");
        }
    }

    #[test]
    fn a_file_of_the_user_is_merged_not_replaced() {
        let planned = plan(|name| (name == "SSL_CERT_FILE").then(|| "/corp.pem".into()), Path::new("/t"));
        let value = &planned.iter().find(|variable| variable.name == "SSL_CERT_FILE").unwrap().value;
        assert_eq!(value, &Value::Merged { theirs: "/corp.pem".into(), copy: "/t/SSL_CERT_FILE.crt".into() });
    }
}
