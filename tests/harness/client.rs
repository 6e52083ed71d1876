//! Recipes for real, unmodified programs that call an API.

use crate::{process::Finished, programs};
use anyhow::{Context as _, Result, bail};
use std::{path::Path, process::Command};

/// The token that clients send: of the form that DigitalOcean gives out, and of no worth anywhere.
pub const TOKEN: &str = "dop_v1_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// The variables by which programs find certificates to trust.
pub const TRUST_VARIABLES: [&str; 4] =
    ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"];

/// A program that makes one request, writes the answer's body to standard output, and its status to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// curl over HTTP/1.1.
    CurlHttp1,
    /// curl over HTTP/2.
    CurlHttp2,
    /// Python's requests with certifi.
    PythonRequests,
    /// Python's own urllib.
    PythonUrllib,
    /// Node's fetch.
    NodeFetch,
    /// openssl s_client with a request on its standard input.
    OpensslClient,
}

const REQUESTS: &str = r#"
import sys, requests
method, url, token, body = sys.argv[1:]
headers = {"Authorization": "Bearer " + token}
if body: headers["Content-Type"] = "application/json"
answer = requests.request(method, url, headers=headers, data=body or None, timeout=30)
sys.stdout.buffer.write(answer.content)
sys.stderr.write(f"status={answer.status_code} version=1.1\n")
"#;

const URLLIB: &str = r#"
import sys, urllib.error, urllib.request
method, url, token, body = sys.argv[1:]
headers = {"Authorization": "Bearer " + token}
if body: headers["Content-Type"] = "application/json"
request = urllib.request.Request(url, method=method, headers=headers, data=body.encode() or None)
try:
    answer = urllib.request.urlopen(request, timeout=30)
except urllib.error.HTTPError as refused:
    answer = refused
sys.stdout.buffer.write(answer.read())
sys.stderr.write(f"status={answer.status} version=1.1\n")
"#;

const FETCH: &str = r#"
const [method, url, token, body] = process.argv.slice(1);
const headers = { Authorization: "Bearer " + token };
if (body) headers["Content-Type"] = "application/json";
fetch(url, { method, headers, body: body || undefined }).then(async (answer) => {
    process.stdout.write(Buffer.from(await answer.arrayBuffer()));
    process.stderr.write(`status=${answer.status} version=1.1\n`);
}).catch((problem) => {
    process.stderr.write(`${problem} ${problem.cause}\n`);
    process.exitCode = 1;
});
"#;

const S_CLIENT: &str = r#"printf '%s' "$3" | openssl s_client -quiet -verify_return_error \
    -verify_hostname "$1" -servername "$1" -connect "$1:$2""#;

impl Client {
    /// All of them.
    pub const ALL: [Client; 6] = [
        Client::CurlHttp1,
        Client::CurlHttp2,
        Client::PythonRequests,
        Client::PythonUrllib,
        Client::NodeFetch,
        Client::OpensslClient,
    ];

    /// The HTTP version that it speaks where the server can do both.
    pub fn version(self) -> &'static str {
        if self == Client::CurlHttp2 { "2" } else { "1.1" }
    }

    /// The command line of a request; an empty body is none.
    ///
    /// # Errors
    /// When a program is missing or the URL is not `https://NAME[:PORT]/PATH`.
    pub fn request(self, method: &str, url: &str, body: &str) -> Result<Vec<String>> {
        let script = |program: &str, option: &str, script: &str| {
            words(&[program, option, script, method, url, TOKEN, body])
        };
        let python = || -> Result<String> { Ok(programs::python()?.display().to_string()) };
        Ok(match self {
            Client::CurlHttp1 => curl(&["--http1.1", "--request", method], url, body),
            Client::CurlHttp2 => curl(&["--http2", "--request", method], url, body),
            Client::PythonRequests => script(&python()?, "-c", REQUESTS),
            Client::PythonUrllib => script(&python()?, "-c", URLLIB),
            Client::NodeFetch => script("node", "-e", FETCH),
            Client::OpensslClient => {
                let rest = url.strip_prefix("https://").context("an https URL")?;
                let (authority, path) = rest.split_once('/').context("a URL with a path")?;
                let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
                let length = body.len();
                let head = format!("{method} /{path} HTTP/1.1\r\nHost: {authority}\r\n");
                let fields = format!("Authorization: Bearer {TOKEN}\r\nContent-Length: {length}\r\n");
                let request = format!("{head}{fields}Connection: close\r\n\r\n{body}");
                words(&["sh", "-c", S_CLIENT, "s_client", host, port, &request])
            }
        })
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// A command line of curl with more options; an empty body is none.
pub fn curl(options: &[&str], url: &str, body: &str) -> Vec<String> {
    let mut line = words(&["curl", "--silent", "--show-error", "--max-time", "30"]);
    line.extend(words(options));
    line.extend(words(&["--header", &format!("Authorization: Bearer {TOKEN}")]));
    if !body.is_empty() {
        line.extend(words(&["--header", "Content-Type: application/json", "--data-binary", body]));
    }
    line.extend(words(&["--write-out", "%{stderr}status=%{http_code} version=%{http_version}\\n", url]));
    line
}

/// Lets a command trust this authority by the variables that programs know.
pub fn trust(command: &mut Command, ca_file: &Path) {
    for variable in TRUST_VARIABLES {
        command.env(variable, ca_file);
    }
}

/// What a client got.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The HTTP version as the client tells it.
    pub version: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// What a finished client tells.
    ///
    /// # Errors
    /// When it got no answer; shows what it said.
    pub fn of(finished: &Finished) -> Result<Self> {
        let told = finished.stderr.lines().rev().find_map(|line| {
            let (status, version) = line.strip_prefix("status=")?.split_once(" version=")?;
            Some((status.parse::<u16>().ok()?, version.to_owned()))
        });
        match told {
            Some((status, version)) if status != 0 => {
                Ok(Self { status, version, body: finished.stdout.clone() })
            }
            _ => raw_answer(&finished.stdout).with_context(|| format!("no answer: {finished:?}")),
        }
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("the answer is not JSON: {self:?}"))
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.text();
        let shown: String = text.chars().take(2_000).collect();
        write!(f, "{} (HTTP/{}, {} bytes) {shown}", self.status, self.version, self.body.len())
    }
}

/// An HTTP/1.1 answer with a Content-Length, as it came over the wire.
fn raw_answer(bytes: &[u8]) -> Result<Answer> {
    let end =
        bytes.windows(4).position(|window| window == b"\r\n\r\n").context("no end of the answer's head")?;
    let (head, rest) = bytes.split_at(end + 4);
    let head = std::str::from_utf8(head)?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let body = rest.get(..length.unwrap_or(0)).context("the answer's body is cut short")?.to_vec();
    if body.len() != rest.len() {
        bail!("{} bytes follow the answer's body: {head}", rest.len() - body.len());
    }
    Ok(Answer { status: status.context("no status line")?, version: "1.1".to_owned(), body })
}
