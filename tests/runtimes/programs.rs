//! The programs of the matrix. Each asks every URL of its arguments, and prints `URL 200` where it got its answer.

use crate::runtimes::matrix::{BUILT_IN, BY_VARIABLE, NO_VARIABLE, Row, WORKS};
use anyhow::{Result, ensure};
use std::{fs, path::Path, process::Command};
use tidegate_tests::{client::TOKEN, netns::World, programs};

/// A program of the matrix.
#[derive(Debug)]
pub(crate) struct Runtime {
    /// As the document calls it.
    pub(crate) name: &'static str,
    /// How its users name a CA of their own, where SSL_CERT_FILE and REQUESTS_CA_BUNDLE are not for it.
    pub(crate) own: &'static str,
    /// What becomes of it.
    pub(crate) expected: Row,
    /// The command line before the URLs.
    command: &'static [&'static str],
}

const fn runtime(
    name: &'static str,
    own: &'static str,
    expected: Row,
    command: &'static [&'static str],
) -> Runtime {
    Runtime { name, own, expected, command }
}

const CURL: &str = r#"for url; do
    curl -sS --fail --max-time 20 -o /dev/null -H "Authorization: Bearer TOKEN" "$url" && echo "$url 200"
done"#;
const WGET: &str = r#"for url; do
    wget -q -O /dev/null --tries=1 --timeout=20 --header="Authorization: Bearer TOKEN" "$url" && echo "$url 200"
done"#;
const OPENSSL: &str = r#"for url; do
    rest=${url#https://}; host=${rest%%/*}; path=/${rest#*/}
    printf 'GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer TOKEN\r\nConnection: close\r\n\r\n' "$path" "$host" |
        openssl s_client -quiet -verify_return_error -verify_hostname "$host" -servername "$host" -connect "$host:443" |
        grep -q '^HTTP/1.1 200' && echo "$url 200"
done"#;
/// There is no repository: that somebody says so over HTTP is the answer.
const GIT: &str = r#"for url; do
    GIT_TERMINAL_PROMPT=0 git -c http.extraHeader="Authorization: Bearer TOKEN" ls-remote "$url" 2>&1 | tee /dev/stderr |
        grep -q 'returned error: 40\|not found' && echo "$url 200"
done"#;

/// All of them, in the document's order.
pub(crate) const RUNTIMES: [Runtime; 25] = [
    runtime("curl (OpenSSL)", "CURL_CA_BUNDLE", WORKS, &["sh", "-c", CURL, "sh"]),
    runtime("openssl s_client", "", WORKS, &["sh", "-c", OPENSSL, "sh"]),
    runtime("wget (GnuTLS)", "WGETRC", WORKS, &["sh", "-c", WGET, "sh"]),
    runtime("git", "GIT_SSL_CAINFO", WORKS, &["sh", "-c", GIT, "sh"]),
    runtime("Python urllib, the system's", "", WORKS, &["/usr/bin/python3", "SOURCES/client.py", "urllib"]),
    runtime(
        "Python requests, the system's",
        "",
        WORKS,
        &["/usr/bin/python3", "SOURCES/client.py", "requests"],
    ),
    runtime("Python httpx, the system's", "", WORKS, &["/usr/bin/python3", "SOURCES/client.py", "httpx"]),
    runtime("Python aiohttp, the system's", "", WORKS, &["/usr/bin/python3", "SOURCES/client.py", "aiohttp"]),
    runtime(
        "Python urllib, a venv's",
        "",
        WORKS,
        &["MADE/python/bin/python3", "SOURCES/client.py", "urllib"],
    ),
    runtime(
        "Python requests, a venv's",
        "",
        WORKS,
        &["MADE/python/bin/python3", "SOURCES/client.py", "requests"],
    ),
    runtime("Python httpx, a venv's", "", WORKS, &["MADE/python/bin/python3", "SOURCES/client.py", "httpx"]),
    runtime(
        "Python aiohttp, a venv's",
        "",
        WORKS,
        &["MADE/python/bin/python3", "SOURCES/client.py", "aiohttp"],
    ),
    runtime("Node fetch", "NODE_EXTRA_CA_CERTS", BY_VARIABLE, &["node", "SOURCES/client.mjs", "fetch"]),
    runtime("Node https", "NODE_EXTRA_CA_CERTS", BY_VARIABLE, &["node", "SOURCES/client.mjs", "https"]),
    runtime(
        "Deno fetch",
        "DENO_CERT",
        BY_VARIABLE,
        &[
            "MADE/node/node_modules/@deno/linux-x64-glibc/deno",
            "run",
            "--no-config",
            "--no-lock",
            "--allow-all",
            "SOURCES/client.mjs",
            "fetch",
        ],
    ),
    runtime(
        "Bun fetch",
        "NODE_EXTRA_CA_CERTS",
        WORKS,
        &["MADE/node/node_modules/@oven/bun-linux-x64/bin/bun", "SOURCES/client.mjs", "fetch"],
    ),
    runtime("Java HttpClient", "JAVA_TOOL_OPTIONS", WORKS, &["java", "-cp", "MADE/java", "Client"]),
    runtime("Go net/http", "", WORKS, &["MADE/go/go-client"]),
    runtime("Ruby Net::HTTP", "", WORKS, &["ruby", "SOURCES/client.rb"]),
    runtime("Perl LWP", "PERL_LWP_SSL_CA_FILE", WORKS, &["perl", "SOURCES/client.pl", "lwp"]),
    runtime("Perl HTTP::Tiny", "", WORKS, &["perl", "SOURCES/client.pl", "tiny"]),
    runtime("PHP streams", "", WORKS, &["php", "SOURCES/client.php", "streams"]),
    runtime("PHP curl", "", NO_VARIABLE, &["php", "SOURCES/client.php", "curl"]),
    runtime("Rust rustls-native-certs", "", WORKS, &["BUILT/tidegate-rust-client", "native"]),
    runtime("Rust webpki-roots", "", BUILT_IN, &["BUILT/tidegate-rust-client", "compiled-in"]),
];

/// The command line that asks these URLs.
///
/// # Errors
/// When something was not made or built.
pub(crate) fn command_line(runtime: &Runtime, urls: &[&str]) -> Result<Vec<String>> {
    let made = programs::runtimes()?.display().to_string();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/runtimes").display().to_string();
    programs::built("tidegate-rust-client")?;
    let built = programs::profile_directory()?.display().to_string();
    let word = |word: &&str| {
        word.replace("MADE", &made)
            .replace("SOURCES", &sources)
            .replace("BUILT", &built)
            .replace("TOKEN", TOKEN)
    };
    Ok(runtime.command.iter().chain(urls).map(word).collect())
}

/// The value of a variable by which a user names a CA in this file.
///
/// # Errors
/// When a file that it needs cannot be made.
pub(crate) fn own_setting(variable: &str, world: &World, ca_file: &str) -> Result<String> {
    Ok(match variable {
        "WGETRC" => world.write("wgetrc", format!("ca_certificate = {ca_file}\n"))?.display().to_string(),
        "JAVA_TOOL_OPTIONS" => java_options(&java_store(world, ca_file)?),
        _ => ca_file.to_owned(),
    })
}

/// The options by which Java trusts what is in a store; without the password it is empty to it.
pub(crate) fn java_options(store: &str) -> String {
    format!("-Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStorePassword=changeit")
}

/// A store of Java's with the CAs of this file.
///
/// # Errors
/// When Java's tool does not take them.
pub(crate) fn java_store(world: &World, ca_file: &str) -> Result<String> {
    const END: &str = "-----END CERTIFICATE-----\n";
    let store = world.directory().join("own.p12").display().to_string();
    for (number, certificate) in fs::read_to_string(ca_file)?.split_inclusive(END).enumerate() {
        let file = world.write("own.pem", certificate)?;
        let mut command = Command::new("keytool");
        command.args(["-importcert", "-noprompt", "-storepass", "changeit", "-alias", &number.to_string()]);
        let made = command.args(["-keystore", &store, "-file"]).arg(file).output()?;
        ensure!(made.status.success(), "{made:?}");
    }
    Ok(store)
}
