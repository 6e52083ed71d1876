//! Records at an OpenTelemetry collector: what comes there, and what does not stop when it is away, slow or hostile.

#[path = "otlp/receiver.rs"]
mod receiver;
#[path = "otlp/traces.rs"]
mod traces;

use anyhow::{Context as _, Result, ensure};
use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse},
    logs::v1::SeverityNumber,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use prost::Message as _;
use receiver::{Behaviour, Receiver, shown, text};
use rustls::ServerConfig;
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tidegate::{
    capture::own_sockets::OwnSockets,
    config::{Audit, Config, Otlp, otlp::Endpoint},
    decide::Effect,
    record::{
        AuditRecord, Durations, RequestFacts, Verdict, fingerprint::Fingerprinter, redact::Redactor,
        sink::Sink, trace_parent::TraceParent,
    },
};
use tidegate_tests::{audit, certificates::Authority, process::wait_until};

const LIMIT: Duration = Duration::from_secs(20);
const TOKEN: &str = "dop_v1_aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd";

/// A log whose records go to a collector as well.
struct Log {
    folder: TempDir,
    audit: Audit,
    sink: Sink,
}

impl Log {
    fn new(address: SocketAddr, change: impl FnOnce(&mut Otlp, &TempDir)) -> Result<Self> {
        let folder = TempDir::new()?;
        let mut otlp = Otlp {
            endpoint: Endpoint::parse(&format!("http://{address}"))?,
            headers: None,
            ca_file: None,
            timeout: Duration::from_secs(5),
            logs: true,
            traces: false,
        };
        change(&mut otlp, &folder);
        let audit =
            Audit { path: folder.path().join("audit.jsonl"), otlp: Some(otlp), ..Config::default().audit };
        let redactor = Redactor::new(Fingerprinter::from_key(&[7; 32]));
        let sink = Sink::open(&audit, redactor, None)?;
        sink.export(&audit, &OwnSockets::default());
        Ok(Self { folder, audit, sink })
    }

    fn write(&self, numbers: std::ops::Range<usize>) -> Result<()> {
        numbers.into_iter().try_for_each(|number| Ok(self.sink.write(&numbered(number)?)?))
    }

    fn lines(&self) -> Result<usize> {
        Ok(audit::read(&self.audit.path)?.len())
    }

    /// Of the metrics; 0 where there is no such line.
    fn count(&self, metric: &str) -> Result<u64> {
        let mut registry = Registry::with_prefix("tidegate");
        self.sink.register(&mut registry);
        let mut told = String::new();
        encode(&mut told, &registry)?;
        let value = told.lines().find_map(|line| line.strip_prefix(&format!("tidegate_otlp_{metric} ")));
        Ok(value.map_or(Ok(0), str::parse)?)
    }

    fn sent(&self) -> Result<u64> {
        self.count("sent_records_total{signal=\"logs\"}")
    }

    fn lost(&self) -> Result<u64> {
        self.count("lost_records_total{signal=\"logs\"}")
    }
}

fn numbered(number: usize) -> Result<AuditRecord> {
    Ok(AuditRecord { detail: Some(format!("number {number}")), ..audit::refused("ci")? })
}

/// A request with everything that a span needs.
fn request(trace: Option<TraceParent>) -> Result<AuditRecord> {
    Ok(AuditRecord {
        timestamp: "2026-01-02T03:04:05.000006Z".into(),
        request: Some(RequestFacts {
            method: "GET".into(),
            path: "/v2/droplets".into(),
            protocol: "2",
            operation: Some("droplets_list".into()),
            required: vec!["droplet:read".into()],
            token_type: "dop",
            trace,
            ..RequestFacts::default()
        }),
        decision: Effect::Allow,
        verdict: Some(Verdict::Forwarded),
        status: Some(200),
        durations: Durations { total: 500, decide: Some(100), upstream: Some(300) },
        ..audit::refused("ci")?
    })
}

/// Which of the numbered records are there, in the order in which they came.
fn numbers(receiver: &Receiver) -> Result<Vec<usize>> {
    let logs = receiver.logs()?;
    let details = logs.iter().filter_map(|(_, record)| text(&record.attributes, "tidegate.detail"));
    details.map(|detail| Ok(detail.strip_prefix("number ").context("another detail")?.parse()?)).collect()
}

#[test]
fn every_key_of_a_record_is_an_attribute_of_its_own_type() -> Result<()> {
    let receiver = Receiver::start(Behaviour::Take)?;
    let log = Log::new(receiver.address, |_, _| ())?;
    log.sink.write(&request(None)?)?;
    log.sink.write(&numbered(0)?)?;
    wait_until("two records", LIMIT, || Ok(receiver.logs()?.len() == 2))?;
    let logs = receiver.logs()?;
    let [(resource, forwarded), (_, refused)] = logs.as_slice() else { anyhow::bail!("{logs:?}") };

    for (key, expected) in [("service.name", "tidegate"), ("service.version", env!("CARGO_PKG_VERSION"))] {
        assert_eq!(text(&resource.attributes, key).as_deref(), Some(expected), "{key}");
    }
    assert!(text(&resource.attributes, "host.name").is_some_and(|name| !name.is_empty()));
    for (key, expected) in [
        ("tidegate.workload", "ci"),
        ("tidegate.verdict", "forwarded"),
        ("http.request.method", "GET"),
        ("http.response.status_code", "int 200"),
        ("tidegate.duration_us.total", "int 500"),
        ("tidegate.scopes.required", "[droplet:read]"),
        ("tidegate.scopes.missing", "[]"),
    ] {
        assert_eq!(text(&forwarded.attributes, key).as_deref(), Some(expected), "{key}");
    }
    // Every key of the line in the file, but for the time and what chains the lines.
    let line = audit::read(&log.audit.path)?.remove(0).json();
    let line: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&line)?;
    let keys = line.keys().filter(|key| !key.starts_with("tidegate.chain.") && *key != "timestamp");
    for key in keys {
        assert!(text(&forwarded.attributes, key).is_some(), "{key}");
    }
    let body = |record: &opentelemetry_proto::tonic::logs::v1::LogRecord| record.body.as_ref().map(shown);
    assert_eq!(body(forwarded).as_deref(), Some("ci: allow GET /v2/droplets (missing_scope)"));
    assert_eq!(forwarded.time_unix_nano, 1_767_323_045_000_006_000);
    assert!(forwarded.observed_time_unix_nano > forwarded.time_unix_nano);
    assert_eq!(forwarded.severity_number(), SeverityNumber::Info);
    assert_eq!((refused.severity_number(), refused.severity_text.as_str()), (SeverityNumber::Warn, "WARN"));
    assert!(forwarded.trace_id.is_empty(), "no traces are wanted");
    let head = &receiver.received()[0].head;
    assert!(head.starts_with("post /v1/logs http/1.1\r\n"), "{head}");
    assert!(head.contains("content-type: application/x-protobuf\r\n"), "{head}");
    // The exporter counts when it has the receiver's answer, which comes after the records are there.
    wait_until("both counted", LIMIT, || Ok(log.sent()? == 2))?;
    assert_eq!(log.lost()?, 0);
    Ok(())
}

#[test]
fn records_wait_for_a_receiver_that_is_away_and_all_of_them_come() -> Result<()> {
    let address = Receiver::start(Behaviour::Take)?.address;
    let log = Log::new(address, |_, _| ())?;
    log.write(0..700)?;
    // Long enough for an attempt that fails.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((log.sent()?, log.lost()?), (0, 0));
    let receiver = Receiver::start_at(address, Behaviour::Take, None)?;
    wait_until("what has waited", LIMIT, || Ok(log.sent()? == 700))?;
    assert_eq!(numbers(&receiver)?, (0..700).collect::<Vec<_>>());

    // It goes in the middle of a connection, and comes back.
    drop(receiver);
    log.write(700..710)?;
    std::thread::sleep(Duration::from_secs(2));
    let receiver = Receiver::start_at(address, Behaviour::Take, None)?;
    wait_until("what came meanwhile", LIMIT, || Ok(log.sent()? == 710))?;
    assert_eq!(numbers(&receiver)?, (700..710).collect::<Vec<_>>());
    assert_eq!((log.lost()?, log.lines()?), (0, 710));
    Ok(())
}

#[test]
fn a_receiver_that_is_overloaded_gets_the_records_later() -> Result<()> {
    let busy = Behaviour::Answer("503 Service Unavailable\r\nRetry-After: 1", Vec::new());
    let receiver = Receiver::start(busy)?;
    let log = Log::new(receiver.address, |_, _| ())?;
    log.write(0..3)?;
    wait_until("an attempt", LIMIT, || Ok(!receiver.received().is_empty()))?;
    receiver.behave(Behaviour::Take);
    wait_until("another", LIMIT, || Ok(log.sent()? == 3))?;
    assert_eq!((numbers(&receiver)?, log.lost()?), (vec![0, 1, 2], 0));
    Ok(())
}

#[test]
fn a_receiver_that_hangs_keeps_nobody_waiting() -> Result<()> {
    let receiver = Receiver::start(Behaviour::Hang)?;
    let log = Log::new(receiver.address, |otlp, _| otlp.timeout = Duration::from_millis(500))?;
    log.write(0..1)?;
    wait_until("a request", LIMIT, || Ok(!receiver.received().is_empty()))?;
    let began = Instant::now();
    log.write(1..100)?;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(log.lines()?, 100);
    // It is given up, and asked again on another connection.
    wait_until("another attempt", LIMIT, || Ok(receiver.received().len() > 1))?;
    receiver.behave(Behaviour::Take);
    wait_until("the records", LIMIT, || Ok(log.sent()? == 100))?;
    assert_eq!(numbers(&receiver)?, (0..100).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn what_the_queue_has_no_room_for_is_counted_and_in_the_file() -> Result<()> {
    let receiver = Receiver::start(Behaviour::Hang)?;
    let log = Log::new(receiver.address, |otlp, _| otlp.timeout = Duration::from_secs(60))?;
    log.write(0..1)?;
    wait_until("a request", LIMIT, || Ok(!receiver.received().is_empty()))?;
    for _ in 0..20 {
        log.sink.write(&AuditRecord { detail: Some(".".repeat(1 << 20)), ..numbered(0)? })?;
    }
    // The queue takes 16 MiB.
    assert_eq!((log.lost()?, log.sent()?), (5, 0));
    assert_eq!(log.lines()?, 21);
    let began = Instant::now();
    log.sink.finish();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "the end waits {took:?} for a collector that hangs");
    assert_eq!(log.lost()?, 21, "what was not sent by the end is lost, too");
    Ok(())
}

#[test]
fn what_the_receiver_refuses_is_lost_and_does_not_stop_the_rest() -> Result<()> {
    let receiver = Receiver::start(Behaviour::Answer("401 Unauthorized", Vec::new()))?;
    let log = Log::new(receiver.address, |_, _| ())?;
    log.write(0..2)?;
    wait_until("a refusal", LIMIT, || Ok(log.lost()? == 2))?;
    let partial = ExportLogsPartialSuccess { rejected_log_records: 1, error_message: "too old".into() };
    let answer = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    receiver.behave(Behaviour::Answer("200 OK", answer));
    log.write(2..5)?;
    wait_until("the rest", LIMIT, || Ok(log.sent()? == 2))?;
    assert_eq!((log.lost()?, log.lines()?), (3, 5));
    Ok(())
}

#[test]
fn the_end_waits_until_everything_is_sent() -> Result<()> {
    let receiver = Receiver::start(Behaviour::Take)?;
    let log = Log::new(receiver.address, |_, _| ())?;
    log.write(0..1_200)?;
    log.sink.finish();
    assert_eq!((log.sent()?, log.lost()?), (1_200, 0));
    assert_eq!(numbers(&receiver)?.len(), 1_200);
    log.write(1_200..1_201)?;
    assert_eq!((log.lines()?, log.lost()?), (1_201, 1), "the log goes on alone");
    Ok(())
}

#[test]
fn no_token_leaves_the_host() -> Result<()> {
    let receiver = Receiver::start(Behaviour::Take)?;
    let log = Log::new(receiver.address, |otlp, _| otlp.traces = true)?;
    let told = request(None)?;
    let hostile = RequestFacts {
        path: format!("/v2/{TOKEN}"),
        query: Some(format!("token={}", TOKEN.replace('_', "%5F"))),
        user_agent: Some(format!("curl Bearer {TOKEN}")),
        operation: Some(TOKEN.into()),
        resources: vec![format!("droplet:{TOKEN}")],
        ..told.request.clone().context("no request")?
    };
    let detail = Some(format!("because of {TOKEN}"));
    let rule = Some(TOKEN.to_owned());
    log.sink.write(&AuditRecord { request: Some(hostile), detail, rule, ..told })?;
    let both = || Ok(receiver.logs()?.len() == 1 && !receiver.spans()?.is_empty());
    wait_until("a log record and a trace", LIMIT, both)?;
    let secret = &TOKEN["dop_v1_".len()..];
    for received in receiver.received() {
        let body = String::from_utf8_lossy(&received.body);
        assert!(!body.contains(secret) && !body.contains(&secret[..32]), "{body}");
        assert!(body.contains("dop_v1_[redacted:"), "{body}");
    }
    Ok(())
}

#[test]
fn headers_come_from_a_file_and_go_nowhere_else() -> Result<()> {
    let receiver = Receiver::start(Behaviour::Take)?;
    let mut settings = None;
    let log = Log::new(receiver.address, |otlp, folder| {
        let path = folder.path().join("headers");
        let written = fs::write(&path, "Api-Key: geheim\nx-scope: a:b\n")
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)));
        otlp.headers = written.ok().map(|()| path);
        otlp.endpoint.path = "/otlp".into();
        settings = Some(otlp.clone());
    })?;
    log.write(0..1)?;
    wait_until("a record", LIMIT, || Ok(log.sent()? == 1))?;
    let received = receiver.received().remove(0);
    assert_eq!(received.path, "/otlp/v1/logs");
    assert!(received.head.contains("api-key: geheim\r\n") && received.head.contains("x-scope: a:b\r\n"));
    let shown = format!("{settings:?} {:?}", log.sink);
    assert!(!shown.contains("geheim"), "{shown}");
    assert!(!String::from_utf8_lossy(&fs::read(&log.audit.path)?).contains("geheim"));
    drop(log.folder);
    Ok(())
}

#[test]
fn over_tls_only_the_receiver_that_proves_itself_gets_records() -> Result<()> {
    let authority = Authority::new("the collector's CA")?;
    let leaf = authority.issue(&["127.0.0.1".to_owned()])?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(leaf.chain, leaf.key)?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let receiver = Receiver::start_at(any, Behaviour::Take, Some(Arc::new(config)))?;
    let with = |pem: String| {
        Log::new(receiver.address, |otlp, folder| {
            let path = folder.path().join("ca.pem");
            otlp.ca_file = fs::write(&path, pem).ok().map(|()| path);
            otlp.endpoint.tls = true;
        })
    };
    let stranger = with(Authority::new("somebody else's CA")?.pem().to_owned())?;
    stranger.write(0..1)?;
    let log = with(authority.pem().to_owned())?;
    log.write(1..3)?;
    wait_until("the records", LIMIT, || Ok(log.sent()? == 2))?;
    ensure!(stranger.sent()? == 0, "an unproven receiver got records");
    stranger.sink.finish();
    assert_eq!((stranger.sent()?, stranger.lost()?), (0, 1));
    assert_eq!(numbers(&receiver)?, [1, 2]);
    Ok(())
}

#[test]
fn a_setting_that_cannot_be_used_leaves_the_log_alone() -> Result<()> {
    let receiver = Receiver::start(Behaviour::Take)?;
    let log = Log::new(receiver.address, |otlp, _| otlp.headers = Some("/nonexistent/headers".into()))?;
    log.write(0..2)?;
    log.sink.finish();
    assert_eq!((log.lines()?, receiver.received().len()), (2, 0));
    Ok(())
}
