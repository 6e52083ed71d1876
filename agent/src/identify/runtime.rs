//! What a program is made of, as far as it concerns whom it trusts: a guess, for records and advice. Nothing is decided by it.

pub mod elf;
mod hint;
pub mod libraries;
pub mod markers;
pub mod witness;

use elf::Elf;
use markers::{Marker, Markers};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What verifies certificates for a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Node, and what is built on it, such as Electron.
    Node,
    /// Deno.
    Deno,
    /// Bun.
    Bun,
    /// A Java virtual machine.
    Java,
    /// Python.
    Python,
    /// Go.
    Go,
    /// Ruby.
    Ruby,
    /// Perl.
    Perl,
    /// PHP.
    Php,
    /// OpenSSL, in a program of none of the languages above.
    OpenSsl,
    /// GnuTLS, likewise.
    GnuTls,
    /// NSS, likewise.
    Nss,
    /// Rust.
    Rust,
    /// Nothing told.
    #[default]
    Unknown,
}

/// Where a program's roots are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Roots {
    /// Outside it, where its runtime looks for them.
    #[default]
    Outside,
    /// Compiled in, and nowhere else.
    CompiledIn,
    /// Compiled in, beside code that reads others: its own settings decide.
    Either,
}

/// The guess.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct Guess {
    /// Its runtime.
    pub runtime: Runtime,
    /// Its roots.
    pub roots: Roots,
}

/// What a program's file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Its parts; none where it is no program of this machine's kind.
    pub elf: Option<Elf>,
    /// What gives it away.
    pub markers: Markers,
}

impl Content {
    /// Reads them, of the file at this path. Of an interpreter, which its name tells, there is nothing to find.
    pub fn read(executable: &Path, file: &(impl elf::ReadAt + ?Sized)) -> Self {
        let elf = Elf::read(file);
        if Runtime::of_name(executable).is_some() {
            return Self { elf, markers: Markers::default() };
        }
        let markers = elf.as_ref().map(|elf| Markers::find(file, elf)).unwrap_or_default();
        Self { elf, markers }
    }
}

impl Runtime {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Deno => "Deno",
            Self::Bun => "Bun",
            Self::Java => "Java",
            Self::Python => "Python",
            Self::Go => "Go",
            Self::Ruby => "Ruby",
            Self::Perl => "Perl",
            Self::Php => "PHP",
            Self::OpenSsl => "OpenSSL",
            Self::GnuTls => "GnuTLS",
            Self::Nss => "NSS",
            Self::Rust => "Rust",
            Self::Unknown => "an unknown runtime",
        }
    }

    /// What interprets other files goes by the name of its own.
    fn of_name(executable: &Path) -> Option<Self> {
        let name = executable.file_name()?.to_str()?;
        // Kernels say so of a file that is there no more.
        let name = name.strip_suffix(" (deleted)").unwrap_or(name);
        let stem =
            name.trim_end_matches(|char: char| char.is_ascii_digit() || matches!(char, '.' | '-' | 't'));
        // `python3.13t`, `ruby3.1`, `php8.2`, and `nodejs`, of which the `t` above takes nothing.
        Some(match stem {
            "node" | "nodejs" | "electron" => Self::Node,
            "deno" => Self::Deno,
            "bun" => Self::Bun,
            "java" => Self::Java,
            "python" | "pypy" => Self::Python,
            "ruby" | "jruby" => Self::Ruby,
            "perl" => Self::Perl,
            "php" | "php-fpm" | "php-cgi" => Self::Php,
            _ => return None,
        })
    }

    /// What a library makes of the program that it is in.
    fn of_library(name: &str) -> Option<Self> {
        const PREFIXES: [(&str, Runtime); 9] = [
            ("libjvm.so", Runtime::Java),
            ("libjli.so", Runtime::Java),
            ("libnode.so", Runtime::Node),
            ("libpython", Runtime::Python),
            ("libruby", Runtime::Ruby),
            ("libphp", Runtime::Php),
            ("libperl.so", Runtime::Perl),
            ("libcurl-gnutls.so", Runtime::GnuTls),
            ("libcurl-nss.so", Runtime::Nss),
        ];
        PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, runtime)| *runtime)
    }
}

/// The TLS libraries. Programs that reach several of them, such as curl by way of LDAP, use the first.
const TLS_LIBRARIES: [(&str, Runtime); 4] = [
    ("libssl.so", Runtime::OpenSsl),
    ("libgnutls.so", Runtime::GnuTls),
    ("libssl3.so", Runtime::Nss),
    ("libnss3.so", Runtime::Nss),
];

/// What the program at this path is, by its content and by the names of the libraries that it uses.
pub fn guess(executable: &Path, content: &Content, libraries: &[String]) -> Guess {
    let markers = &content.markers;
    let by_marker = [
        (Marker::Deno, Runtime::Deno),
        (Marker::Bun, Runtime::Bun),
        (Marker::Node, Runtime::Node),
        (Marker::Go, Runtime::Go),
    ];
    let by_marker = by_marker.into_iter().find(|(marker, _)| markers.has(*marker)).map(|(_, found)| found);
    let by_library = || libraries.iter().find_map(|name| Runtime::of_library(name));
    let by_tls = || {
        let uses = |prefix: &str| libraries.iter().any(|name| name.starts_with(prefix));
        TLS_LIBRARIES.iter().find(|(prefix, _)| uses(prefix)).map(|(_, runtime)| *runtime)
    };
    let rest = || {
        let is_rust = markers.has(Marker::Rustls) || markers.has(Marker::Rust);
        if is_rust {
            Runtime::Rust
        } else if markers.has(Marker::OpenSsl) {
            Runtime::OpenSsl
        } else {
            Runtime::Unknown
        }
    };
    let runtime = Runtime::of_name(executable)
        .or(by_marker)
        .or_else(by_library)
        .or_else(|| markers.has(Marker::Rustls).then_some(Runtime::Rust))
        .or_else(by_tls)
        .unwrap_or_else(rest);
    Guess { runtime, roots: roots(runtime, markers) }
}

fn roots(runtime: Runtime, markers: &Markers) -> Roots {
    match runtime {
        // Their roots are compiled in too, but they add what a variable names.
        Runtime::Node | Runtime::Deno | Runtime::Bun => Roots::Outside,
        // Of an interpreter the file says nothing of the program.
        Runtime::Java | Runtime::Python | Runtime::Ruby | Runtime::Perl | Runtime::Php => Roots::Outside,
        // Go falls back on such roots only where the system has none.
        Runtime::Go => Roots::Outside,
        Runtime::OpenSsl | Runtime::GnuTls | Runtime::Nss | Runtime::Rust | Runtime::Unknown => {
            match (markers.has_roots(), markers.has(Marker::CertificateVariable)) {
                (false, _) => Roots::Outside,
                (true, false) => Roots::CompiledIn,
                (true, true) => Roots::Either,
            }
        }
    }
}

#[cfg(test)]
mod tests;
