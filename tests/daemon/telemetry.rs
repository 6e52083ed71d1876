//! A collector in the world: it gets the daemon's records over connections that are nobody's, and the metrics say so.

use crate::{api, daemon::dashboard, look};
use anyhow::{Context as _, Result};
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::any_value::Value,
};
use prost::Message as _;
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};
use tidegate_tests::{
    agent::{LIMIT, READ_ONLY},
    client::{self, Answer},
    daemon::Daemon,
    process::{Process, wait_until},
    scene::Scene,
};

/// At a port whose connections are captured.
const PORT: u16 = 8080;

/// Keeps the bodies that come to a path one behind the other, which protobuf reads as one message with all of them.
const COLLECTOR: &str = r#"
import http.server, sys
class Take(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["x-scope"] != "ours":
            return self.send_error(401)
        with open(sys.argv[2] + self.path.replace("/", "-"), "ab") as kept:
            kept.write(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Take).serve_forever()
"#;

const METRICS: [&str; 4] = ["curl", "--silent", "--fail", "http://127.0.0.1:9090/metrics"];

/// The paths and decisions of the log records that the collector has.
fn collected(kept: &Path) -> Result<Vec<(String, String)>> {
    let bodies = fs::read(kept.with_extension("kept-v1-logs")).unwrap_or_default();
    let request = ExportLogsServiceRequest::decode(&*bodies)?;
    let scopes = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
    let records = scopes.flat_map(|scope| scope.log_records);
    let text = |attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue], key: &str| {
        let found = attributes.iter().find(|attribute| attribute.key == key);
        match found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
            Some(Value::StringValue(text)) => text.clone(),
            _ => String::new(),
        }
    };
    let told = |key| move |attributes: &[_]| text(attributes, key);
    Ok(records
        .map(|record| (told("url.path")(&record.attributes), told("tidegate.decision")(&record.attributes)))
        .collect())
}

#[test]
fn a_collector_gets_what_the_log_has_over_connections_that_are_nobodys() -> Result<()> {
    let scene = Scene::new()?;
    let kept = scene.directory().join("otlp.kept");
    // Whoever serves may not read it.
    let headers = scene.directory().join("headers");
    fs::write(&headers, "x-scope: ours\n")?;
    fs::set_permissions(&headers, Permissions::from_mode(0o600))?;
    let otlp =
        format!("[audit.otlp]\nendpoint = \"http://127.0.0.1:{PORT}\"\ntraces = true\nheaders = {headers:?}");
    // The daemon's own cgroup is everybody's, too, so that only its sockets' exemption lets it out.
    let daemon = Daemon::new(&scene)?
        .policy("look", READ_ONLY)?
        .workload("all", "look", "[{ any = true }]\nexcept = [{ cgroup = \"CGROUP/outside\" }]")?
        .table(&otlp)
        .table("[health]\nlisten = \"127.0.0.1:9090\"");
    let (ci, outside) = (scene.world.cgroup().child("ci")?, scene.world.cgroup().child("outside")?);
    let running = daemon.start()?;
    assert_eq!(Answer::of(&daemon.run(&ci, &look())?)?.status, 200);
    let delete = client::curl(&["--request", "DELETE"], &api("/v2/droplets/3164444"), "");
    assert_eq!(Answer::of(&daemon.run(&ci, &delete)?)?.status, 403);

    // What has waited comes once the collector is there.
    let port = PORT.to_string();
    let line = ["python3", "-c", COLLECTOR, &port, &kept.display().to_string()];
    let collector = Process::start(&mut scene.world.command_in(&outside, &line), scene.directory())?;
    let mut told = String::new();
    let expected = [
        r#"tidegate_otlp_sent_records_total{signal="logs"} 2"#,
        r#"tidegate_otlp_sent_records_total{signal="traces"} 2"#,
        r#"tidegate_otlp_lost_records_total{signal="logs"} 0"#,
        r#"tidegate_part_healthy{part="canary"} 1"#,
        r#"tidegate_part_healthy{part="programs"} 1"#,
        r#"tidegate_part_healthy{part="subjects"} 1"#,
        r#"tidegate_part_healthy{part="audit_log"} 1"#,
        r#"tidegate_part_healthy{part="event_loop"} 1"#,
    ];
    let all = wait_until("the metrics", LIMIT, || {
        told = String::from_utf8(daemon.run(&outside, &METRICS)?.stdout)?;
        Ok(expected.iter().all(|line| told.contains(line)))
    });
    all.with_context(|| format!("{told}\n{}", running.process.stderr().unwrap_or_default()))?;
    dashboard::check(&told)?;
    let spans = fs::read(kept.with_extension("kept-v1-traces"))?;
    let spans = ExportTraceServiceRequest::decode(&*spans)?;
    assert!(spans.resource_spans.iter().any(|resource| !resource.scope_spans.is_empty()));

    // The last record is sent before the daemon ends.
    assert_eq!(Answer::of(&daemon.run(&ci, &look())?)?.status, 200);
    running.stop()?;
    let pair = |path: &str, decision: &str| (path.to_owned(), decision.to_owned());
    let look = pair("/v2/droplets", "allow");
    assert_eq!(collected(&kept)?, [look.clone(), pair("/v2/droplets/3164444", "deny"), look]);
    let records = daemon.records()?;
    let of_collector = records.iter().filter(|record| record.number("destination.port") == Some(PORT.into()));
    assert_eq!(of_collector.count(), 0, "{records:#?}");
    collector.signal(nix::sys::signal::Signal::SIGKILL)?;
    collector.finish(LIMIT)?;
    Ok(())
}
