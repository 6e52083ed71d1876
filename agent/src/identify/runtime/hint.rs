//! What to set so that a program trusts the local CA, in a sentence or two.

use super::{Guess, Roots, Runtime};

impl Guess {
    /// What to do about such a program when it has refused the local CA.
    pub fn hint(self) -> &'static str {
        match (self.runtime, self.roots) {
            (Runtime::Rust, Roots::CompiledIn) => {
                "compiled-in roots (webpki-roots), which no setting can add to: build it with rustls-native-certs or \
                 rustls-platform-verifier"
            }
            (_, Roots::CompiledIn) => {
                "compiled-in roots, which no setting can add to: build it so that it reads the system's, or look for \
                 an option of its own that names a CA file"
            }
            (_, Roots::Either) => {
                "compiled-in roots, and code that can read others: look for its own setting that takes the system's \
                 certificates, and set SSL_CERT_FILE to a bundle with the local CA"
            }
            (runtime, Roots::Outside) => of_runtime(runtime),
        }
    }
}

fn of_runtime(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Node => {
            "Node has roots of its own: set NODE_EXTRA_CA_CERTS to the local CA's certificate before it starts, and \
             look for what clears that variable, or for a `ca` option in the program"
        }
        Runtime::Deno => {
            "Deno has roots of its own: set DENO_CERT to the local CA's certificate, or DENO_TLS_CA_STORE=system"
        }
        Runtime::Bun => {
            "Bun has roots of its own: set NODE_EXTRA_CA_CERTS to the local CA's certificate before it starts"
        }
        Runtime::Java => {
            "Java trusts its JDK's keystore: run `tidegate ca install`, or set JAVA_TOOL_OPTIONS to \
             -Djavax.net.ssl.trustStore= with a keystore that has the local CA; a daemon that already runs, such as \
             Gradle's, keeps its old one"
        }
        Runtime::Python => {
            "Python's ssl reads SSL_CERT_FILE or the system's bundle; requests, httpx and SDKs bring certifi's: set \
             REQUESTS_CA_BUNDLE and SSL_CERT_FILE to a bundle with the local CA, and look for `verify=` in the program"
        }
        Runtime::Go => {
            "Go reads SSL_CERT_FILE or the system's bundle, once: set it to a bundle with the local CA and start the \
             program again; one that has RootCAs of its own needs its own option"
        }
        Runtime::Ruby => {
            "Ruby reads SSL_CERT_FILE or the system's bundle: set it to a bundle with the local CA; look for \
             `ca_file` in the program, and for gems that bring certificates"
        }
        Runtime::Perl => {
            "Perl reads the system's bundle or Mozilla::CA's: set PERL_LWP_SSL_CA_FILE and SSL_CERT_FILE to a bundle \
             with the local CA"
        }
        Runtime::Php => {
            "PHP reads openssl.cafile and curl.cainfo of its php.ini, else SSL_CERT_FILE or the system's bundle: name \
             a bundle with the local CA there"
        }
        Runtime::OpenSsl => {
            "OpenSSL reads SSL_CERT_FILE or the system's certificates: set it to a bundle with the local CA; for curl \
             CURL_CA_BUNDLE, for git GIT_SSL_CAINFO; look for options such as --cacert, and for pinned keys"
        }
        Runtime::GnuTls => {
            "GnuTLS reads the system's bundle and no variable: run `tidegate ca install`, or name a bundle with the \
             local CA by an option (ca_certificate in WGETRC for wget, GIT_SSL_CAINFO for git)"
        }
        Runtime::Nss => {
            "NSS trusts its own database: add the local CA with `certutil -d sql:DIR -A -t C,, -n tidegate -i FILE`"
        }
        Runtime::Rust => {
            "Rust with native roots reads SSL_CERT_FILE or the system's bundle: set it to a bundle with the local CA; \
             a program with webpki-roots or a pinned certificate cannot be told"
        }
        Runtime::Unknown => {
            "let it read the system's bundle, or set SSL_CERT_FILE to one with the local CA; a program that pins \
             certificates cannot be used; `tidegate doctor --command PROGRAM` tells more"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiled_in_roots_are_said_to_be_beyond_any_setting() {
        for runtime in [Runtime::Rust, Runtime::Unknown, Runtime::OpenSsl] {
            assert!(Guess { runtime, roots: Roots::CompiledIn }.hint().contains("no setting can add to"));
        }
        let rust = Guess { runtime: Runtime::Rust, roots: Roots::CompiledIn };
        assert!(rust.hint().contains("rustls-native-certs or rustls-platform-verifier"));
    }

    #[test]
    fn every_hint_names_something_to_set_or_to_do() {
        for runtime in [
            Runtime::Node,
            Runtime::Deno,
            Runtime::Bun,
            Runtime::Java,
            Runtime::Python,
            Runtime::Go,
            Runtime::Ruby,
            Runtime::Perl,
            Runtime::Php,
            Runtime::OpenSsl,
            Runtime::GnuTls,
            Runtime::Nss,
            Runtime::Rust,
            Runtime::Unknown,
        ] {
            let hint = of_runtime(runtime);
            let names = hint.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
            let is_variable = |word: &str| word.contains('_') && word.to_ascii_uppercase() == word;
            assert!(names.into_iter().any(is_variable) || hint.contains("certutil"), "{runtime:?}: {hint}");
        }
    }
}
