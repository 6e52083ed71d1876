//! The settings files in which users name stores of their own.
//!
//! Each such store is found like any other. Where a tool has a variable that would put its setting aside, that
//! variable is left alone.

use super::{Password, search::Search};
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// A larger file holds no settings.
const MAX_SETTINGS: u64 = 1 << 20;

/// Where a settings file lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    System,
    Home,
    /// The working directory and those above it.
    Project,
    /// A directory that a runtime is installed in.
    Prefix,
    /// The file or directory that a variable names.
    Variable(&'static str),
}
use Base::{Home, Prefix, Project, System, Variable};

#[derive(Debug)]
struct Setting {
    files: &'static [(Base, &'static str)],
    keys: &'static [&'static str],
    /// What programs take instead of the setting.
    variable: Option<&'static str>,
}

const SETTINGS: [Setting; 9] = [
    Setting {
        files: &[
            (System, "etc/gitconfig"),
            (Home, ".gitconfig"),
            (Home, ".config/git/config"),
            (Project, ".git/config"),
            (Variable("GIT_CONFIG_GLOBAL"), "."),
        ],
        keys: &["sslcainfo", "sslcapath"],
        variable: Some("GIT_SSL_CAINFO"),
    },
    Setting {
        files: &[
            (System, "etc/npmrc"),
            (Prefix, "etc/npmrc"),
            (Home, ".npmrc"),
            (Project, ".npmrc"),
            (Variable("NPM_CONFIG_USERCONFIG"), "."),
        ],
        keys: &["cafile"],
        variable: Some("npm_config_cafile"),
    },
    Setting {
        files: &[
            (System, "etc/pip.conf"),
            (Home, ".pip/pip.conf"),
            (Home, ".config/pip/pip.conf"),
            (Prefix, "pip.conf"),
            (Variable("PIP_CONFIG_FILE"), "."),
        ],
        keys: &["cert"],
        variable: Some("PIP_CERT"),
    },
    Setting {
        files: &[
            (Home, ".cargo/config.toml"),
            (Home, ".cargo/config"),
            (Project, ".cargo/config.toml"),
            (Project, ".cargo/config"),
            (Variable("CARGO_HOME"), "config.toml"),
        ],
        keys: &["cainfo", "http.cainfo"],
        variable: Some("CARGO_HTTP_CAINFO"),
    },
    Setting {
        files: &[(Home, ".aws/config"), (Variable("AWS_CONFIG_FILE"), ".")],
        keys: &["ca_bundle"],
        variable: Some("AWS_CA_BUNDLE"),
    },
    Setting {
        files: &[
            (Home, ".curlrc"),
            (Home, ".config/curlrc"),
            (Variable("CURL_HOME"), ".curlrc"),
            (Variable("XDG_CONFIG_HOME"), "curlrc"),
        ],
        keys: &["cacert", "capath"],
        variable: None,
    },
    Setting {
        files: &[(System, "etc/wgetrc"), (Home, ".wgetrc"), (Variable("WGETRC"), ".")],
        keys: &["ca_certificate", "ca-certificate", "cacertificate", "ca_directory", "cadirectory"],
        variable: None,
    },
    Setting {
        files: &[(Home, ".condarc"), (Prefix, ".condarc"), (Variable("CONDARC"), ".")],
        keys: &["ssl_verify"],
        variable: None,
    },
    Setting {
        files: &[
            (System, "etc/php.ini"),
            (System, "etc/php.d/*.ini"),
            (System, "etc/php*/php.ini"),
            (System, "etc/php*/conf.d/*.ini"),
            (System, "etc/php/*/*/php.ini"),
            (System, "etc/php/*/*/conf.d/*.ini"),
            (Prefix, "lib/php.ini"),
            (Prefix, "etc/php.ini"),
            (Prefix, "etc/php/php.ini"),
            (Prefix, "etc/php/conf.d/*.ini"),
            (Prefix, "etc/php/*/php.ini"),
            (Prefix, "etc/conf.d/*.ini"),
            (Variable("PHPRC"), "."),
            (Variable("PHPRC"), "php.ini"),
            (Variable("PHP_INI_SCAN_DIR"), "*.ini"),
        ],
        keys: &["openssl.cafile", "openssl.capath", "curl.cainfo"],
        variable: None,
    },
];

pub(super) fn search(search: &mut Search<'_>, prefixes: &BTreeSet<PathBuf>) {
    for setting in &SETTINGS {
        for file in files(search, prefixes, setting) {
            let Ok(text) = search.tree.read(&file, MAX_SETTINGS) else { continue };
            for value in values(&String::from_utf8_lossy(&text), setting.keys) {
                let Some(path) = path(&value, search.surroundings.home) else { continue };
                let named = search.named(path);
                if let Some(variable) = setting.variable {
                    search.configured(variable, named);
                }
            }
        }
    }
    gradle(search);
}

/// Java's own properties, which Gradle hands to its processes.
fn gradle(search: &mut Search<'_>) {
    const STORE: &str = "systemProp.javax.net.ssl.trustStore";
    let Some(home) = search.surroundings.home else { return };
    let file = home.join(".gradle/gradle.properties");
    let Ok(text) = search.tree.read(&file, MAX_SETTINGS) else { return };
    let text = String::from_utf8_lossy(&text).into_owned();
    let password = values(&text, &["systemProp.javax.net.ssl.trustStorePassword"]).pop();
    let password = password.map_or_else(Password::default, Password);
    for value in values(&text, &[STORE]) {
        if let Some(path) = path(&value, Some(home)) {
            search.keystore(&path, &password);
        }
    }
}

fn files(search: &Search<'_>, prefixes: &BTreeSet<PathBuf>, setting: &Setting) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (base, pattern) in setting.files {
        let bases: Vec<PathBuf> = match base {
            System => vec!["/".into()],
            Home => search.surroundings.home.map(Path::to_owned).into_iter().collect(),
            Project => search.project().map(Path::to_owned).collect(),
            Prefix => prefixes.iter().cloned().collect(),
            Variable(name) => search.paths_of(name),
        };
        files.extend(bases.iter().flat_map(|base| match *pattern {
            "." => vec![base.clone()],
            pattern => search.tree.glob(base, pattern),
        }));
    }
    files
}

/// The values of the keys in a file of lines such as `key = value`, `key: value` or `key value`, whatever its sections.
fn values(text: &str, keys: &[&str]) -> Vec<String> {
    let value = |line: &str| {
        let line = line.trim().trim_start_matches("--");
        let (key, value) =
            line.split_once(|character: char| character.is_whitespace() || "=:".contains(character))?;
        keys.iter().any(|wanted| wanted.eq_ignore_ascii_case(key)).then(|| {
            let value = value
                .trim_start_matches(|character: char| character.is_whitespace() || "=:".contains(character));
            let quote = value.chars().next().filter(|character| "\"'".contains(*character));
            let value = match quote {
                Some(quote) => value.trim_start_matches(quote).split(quote).next(),
                None => value.split([';', '#']).next(),
            };
            value.unwrap_or_default().trim().to_owned()
        })
    };
    text.lines().filter_map(value).collect()
}

/// An absolute path, or one in the user's home; what is relative means something else to each tool.
fn path(value: &str, home: Option<&Path>) -> Option<PathBuf> {
    let within = ["~/", "$HOME/", "${HOME}/"].iter().find_map(|prefix| value.strip_prefix(prefix));
    match within {
        Some(rest) => home.map(|home| home.join(rest)),
        None => Some(PathBuf::from(OsStr::new(value))).filter(|path| path.is_absolute()),
    }
}
