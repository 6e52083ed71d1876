//! The variables that make runtimes with roots of their own trust the local CA.

use std::{ffi::OsStr, path::PathBuf};

/// What a runtime does with what its variable names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// It trusts that file and nothing else, so the system's roots must be in it.
    Instead,
    /// It trusts that file beside its own roots.
    Beside,
    /// A file or directory that matters only where the user names one.
    IfNamed,
    /// The same, for a list of directories.
    IfListed,
    /// It trusts the system's stores beside its own when it reads this.
    System(&'static str),
}

/// `NODE_OPTIONS` is not among them, since an option that a version does not know keeps it from starting; nor is
/// `JAVA_TOOL_OPTIONS`, which makes each Java print a line: its keystores are files that can be covered.
const VARIABLES: [(&str, Use); 26] = [
    ("SSL_CERT_FILE", Use::Instead),
    ("SSL_CERT_DIR", Use::IfListed),
    ("REQUESTS_CA_BUNDLE", Use::Instead),
    ("CURL_CA_BUNDLE", Use::Instead),
    ("PIP_CERT", Use::Instead),
    ("HTTPLIB2_CA_CERTS", Use::Instead),
    ("AWS_CA_BUNDLE", Use::Instead),
    ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", Use::Instead),
    ("GIT_SSL_CAINFO", Use::Instead),
    ("GIT_SSL_CAPATH", Use::IfNamed),
    ("CARGO_HTTP_CAINFO", Use::Instead),
    ("npm_config_cafile", Use::Instead),
    ("PERL_LWP_SSL_CA_FILE", Use::Instead),
    ("PERL_LWP_SSL_CA_PATH", Use::IfNamed),
    ("HTTPS_CA_FILE", Use::IfNamed),
    ("NODE_EXTRA_CA_CERTS", Use::Beside),
    ("NODE_USE_SYSTEM_CA", Use::System("1")),
    ("DENO_CERT", Use::Beside),
    ("DENO_TLS_CA_STORE", Use::System("system,mozilla")),
    ("NIX_SSL_CERT_FILE", Use::IfNamed),
    ("CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", Use::IfNamed),
    ("WEBSOCKET_CLIENT_CA_BUNDLE", Use::IfNamed),
    ("BUNDLE_SSL_CA_CERT", Use::IfNamed),
    ("HEX_CACERTS_PATH", Use::IfNamed),
    ("JULIA_SSL_CA_ROOTS_PATH", Use::IfNamed),
    ("COMPOSER_CAFILE", Use::IfNamed),
];

/// A variable, and what it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it is to be.
    pub value: Value,
}

/// What a variable is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A file with the system's roots and the anchors.
    Bundle,
    /// A file with the anchors alone.
    Anchors,
    /// This word.
    Word(&'static str),
    /// What the user named stays, where each store is covered; else copies of them, in a list parted by colons.
    Theirs(Vec<Named>),
}

/// A store that the user names, which may hold a corporate CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// As the user names it.
    pub given: PathBuf,
    /// The [`super::Store`] that it leads to; None where there is nothing.
    pub store: Option<PathBuf>,
}

/// What to do with each variable, where `named` answers what the user's environment or a tool's settings name. Every
/// one is asked for once.
pub(super) fn plan(mut named: impl FnMut(&'static str, Form) -> Setting) -> Vec<Variable> {
    let plan = |(name, usage): (&'static str, Use)| {
        let form = match usage {
            Use::Instead | Use::Beside | Use::IfNamed => Form::Path,
            Use::IfListed => Form::List,
            Use::System(_) => Form::Word,
        };
        let value = match (named(name, form), usage) {
            (Setting::Stores(stores), _) => Value::Theirs(stores),
            (Setting::Unset, Use::Instead) => Value::Bundle,
            (Setting::Unset, Use::Beside) => Value::Anchors,
            (Setting::Unset, Use::System(word)) => Value::Word(word),
            (Setting::Unset, Use::IfNamed | Use::IfListed) | (Setting::Word, _) => return None,
        };
        Some(Variable { name, value })
    };
    VARIABLES.into_iter().filter_map(plan).collect()
}

/// What a variable's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Path,
    List,
    Word,
}

/// What the user has set a variable to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// Nothing, or nothing but blanks, which counts as nothing for the programs that read it.
    Unset,
    Word,
    Stores(Vec<Named>),
}

/// The paths in a value.
pub(super) fn paths(value: &OsStr, form: Form) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let parts = value.as_bytes().split(|&byte| form == Form::List && byte == b':');
    parts.filter(|part| !part.is_empty()).map(|part| PathBuf::from(OsStr::from_bytes(part))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str, setting: Setting) -> Option<Value> {
        let planned = plan(|asked, _| if asked == name { setting.clone() } else { Setting::Unset });
        planned.into_iter().find(|variable| variable.name == name).map(|variable| variable.value)
    }

    #[test]
    fn what_is_unset_names_what_each_runtime_needs() {
        for (name, usage) in VARIABLES {
            let expected = match usage {
                Use::Instead => Some(Value::Bundle),
                Use::Beside => Some(Value::Anchors),
                Use::System(word) => Some(Value::Word(word)),
                Use::IfNamed | Use::IfListed => None,
            };
            assert_eq!(value(name, Setting::Unset), expected, "{name}");
        }
    }

    #[test]
    fn what_the_user_names_stays_theirs() {
        let theirs = vec![Named { given: "/corp.pem".into(), store: None }];
        for (name, _) in VARIABLES {
            assert_eq!(
                value(name, Setting::Stores(theirs.clone())),
                Some(Value::Theirs(theirs.clone())),
                "{name}"
            );
        }
        assert_eq!(value("NODE_USE_SYSTEM_CA", Setting::Word), None);
    }

    #[test]
    fn only_a_list_is_parted_at_colons() {
        let value = OsStr::new("/a:/b::c");
        assert_eq!(paths(value, Form::Path), [PathBuf::from("/a:/b::c")]);
        assert_eq!(paths(value, Form::List), ["/a", "/b", "c"].map(PathBuf::from));
    }
}
