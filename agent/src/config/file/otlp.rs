//! `[audit.otlp]` as it is written.

use super::Reader;
use crate::config::{Otlp, otlp::Endpoint};
use serde::Deserialize;
use std::{ops::Range, path::PathBuf, time::Duration};
use toml::Spanned;

/// As OpenTelemetry's own exporters have it.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OtlpTable {
    endpoint: Spanned<String>,
    headers: Option<Spanned<PathBuf>>,
    ca_file: Option<Spanned<PathBuf>>,
    timeout: Option<Spanned<String>>,
    logs: Option<bool>,
    traces: Option<bool>,
}

impl Reader<'_> {
    pub(super) fn otlp(&mut self, table: Spanned<OtlpTable>) -> Option<Otlp> {
        let span = table.span();
        self.check_otlp_is_built_in(cfg!(feature = "otlp"), span.clone());
        let OtlpTable { endpoint, headers, ca_file, timeout, logs, traces } = table.into_inner();
        let (logs, traces) = (logs.unwrap_or(true), traces.unwrap_or(false));
        if !logs && !traces {
            let message = "`[audit.otlp]` with neither `logs` nor `traces` sends nothing; remove it";
            self.findings.add(span, message);
        }
        let mut patience = TIMEOUT;
        self.duration(timeout.as_ref(), &mut patience);
        let (headers, ca_file) = (self.file(headers), self.file(ca_file));
        let parsed = Endpoint::parse(endpoint.as_ref());
        let endpoint = parsed.map_err(|error| self.findings.add(endpoint.span(), error)).ok()?;
        Some(Otlp { endpoint, headers, ca_file, timeout: patience, logs, traces })
    }

    /// Records that would silently go nowhere are worse than a daemon that says why it does not start.
    fn check_otlp_is_built_in(&mut self, is_built_in: bool, span: Range<usize>) {
        if !is_built_in {
            let message = "this tidegate was built without OTLP; remove `[audit.otlp]`, or build it with \
                           `cargo build --release --features otlp`";
            self.findings.add(span, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toml_file::{Findings, Source};
    use std::path::Path;

    #[test]
    fn a_build_without_it_says_so() {
        let source = Source::from_bytes(Path::new("t.toml"), b"[audit.otlp]\n".to_vec()).unwrap();
        for is_built_in in [false, true] {
            let mut reader = Reader { findings: Findings::new(&source) };
            reader.check_otlp_is_built_in(is_built_in, 0..12);
            let finished = reader.findings.finish(()).map_err(|error| error.to_string());
            assert_eq!(finished.is_ok(), is_built_in);
            assert!(finished.err().is_none_or(|error| error.contains("--features otlp")));
        }
    }

    #[cfg(feature = "otlp")]
    mod built_in {
        use super::*;
        use crate::config::file::parse;
        use test_case::test_case;

        fn read(text: &str) -> Result<Option<Otlp>, String> {
            let source = Source::from_bytes(Path::new("t.toml"), text.as_bytes().to_vec()).unwrap();
            parse(&source).map(|config| config.audit.otlp).map_err(|error| error.to_string())
        }

        #[test]
        fn every_key_reaches_the_configuration() {
            let least = read("[audit.otlp]\nendpoint = \"http://127.0.0.1:4318\"").unwrap();
            let endpoint = |text| Endpoint::parse(text).unwrap();
            let expected = Otlp {
                endpoint: endpoint("http://127.0.0.1:4318"),
                headers: None,
                ca_file: None,
                timeout: TIMEOUT,
                logs: true,
                traces: false,
            };
            assert_eq!(least, Some(expected));
            let text = "[audit.otlp]\nendpoint = \"https://otlp.example/x\"\nheaders = \"/h\"\nca_file = \"/c\"\n\
                        timeout = \"3s\"\nlogs = false\ntraces = true\n";
            let expected = Otlp {
                endpoint: endpoint("https://otlp.example:443/x"),
                headers: Some("/h".into()),
                ca_file: Some("/c".into()),
                timeout: Duration::from_secs(3),
                logs: false,
                traces: true,
            };
            assert_eq!(read(text), Ok(Some(expected)));
        }

        #[test_case("", "missing key `endpoint`"; "no endpoint")]
        #[test_case("endpoint = \"a:4318\"", "is not the URL of a collector"; "no url")]
        #[test_case("endpoint = \"http://u:geheim@a\"", "without user and password"; "password")]
        #[test_case("endpoint = \"http://a\"\nheaders = \"h\"", "not an absolute path"; "relative path")]
        #[test_case("endpoint = \"http://a\"\nlogs = false", "sends nothing"; "nothing to send")]
        #[test_case("endpoint = \"http://a\"\ntimeout = \"3\"", "not a duration"; "no unit")]
        #[test_case("endpoint = \"http://a\"\nprotocol = \"grpc\"", "unknown key `protocol`"; "another key")]
        fn what_is_wrong_is_told(lines: &str, expected: &str) {
            let error = read(&format!("[audit.otlp]\n{lines}\n")).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
