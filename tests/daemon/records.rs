//! What is left of decisions: metrics, and a log that shows what was done to it.

use crate::{api, look};
use anyhow::{Context as _, Result};
use std::fs;
use tidegate_tests::{
    agent::{LIMIT, READ_ONLY},
    client::{self, Answer},
    daemon::Daemon,
    process::{Finished, wait_until},
    programs,
    scene::Scene,
};

fn daemon(scene: &Scene) -> Result<Daemon<'_>> {
    Daemon::new(scene)?
        .policy("look", READ_ONLY)?
        .workload("ci", "look", r#"[{ cgroup = "CGROUP/ci" }]"#)
        .map(|daemon| daemon.table("[health]\nlisten = \"127.0.0.1:9090\""))
}

#[test]
fn metrics_count_what_was_decided() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?;
    let (ci, outside) = (scene.world.cgroup().child("ci")?, scene.world.cgroup().child("outside")?);
    let running = daemon.start()?;
    for _ in 0..2 {
        assert_eq!(Answer::of(&daemon.run(&ci, &look())?)?.status, 200);
    }
    let delete = client::curl(&["--request", "DELETE"], &api("/v2/droplets/3164444"), "");
    assert_eq!(Answer::of(&daemon.run(&ci, &delete)?)?.status, 403);
    let ask = ["curl", "--silent", "--fail", "http://127.0.0.1:9090/metrics"];
    let expected = [
        r#"tidegate_outcomes_total{workload="ci",decision="allow",verdict="forwarded",reason="scopes_allowed"} 2"#,
        r#"tidegate_outcomes_total{workload="ci",decision="deny",verdict="refused",reason="missing_scope"} 1"#,
        r#"tidegate_request_duration_seconds_count{workload="ci"} 2"#,
        "tidegate_healthy 1",
        "tidegate_redirected_connections_total 3",
        "# EOF",
    ];
    let mut told = String::new();
    let all = wait_until("the metrics", LIMIT, || {
        told = String::from_utf8(daemon.run(&outside, &ask)?.stdout)?;
        Ok(expected.iter().all(|line| told.contains(line)))
    });
    all.with_context(|| told.clone())?;
    running.stop()?;
    Ok(())
}

#[test]
fn a_log_across_restarts_is_whole_and_shows_what_was_done_to_it() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?;
    let (ci, outside) = (scene.world.cgroup().child("ci")?, scene.world.cgroup().child("outside")?);
    let tidegate = programs::built("tidegate")?.display().to_string();
    let ask = |line: &[&str]| -> Result<Finished> {
        let config = daemon.config().display().to_string();
        let words = [&[tidegate.as_str(), "audit"], line, &["--config", &config]].concat();
        daemon.run(&outside, &words)
    };
    for is_killed in [false, true, false] {
        let running = daemon.start()?;
        assert_eq!(Answer::of(&daemon.run(&ci, &look())?)?.status, 200);
        wait_until("a record", LIMIT, || Ok(!daemon.records()?.is_empty()))?;
        if is_killed {
            running.kill()?;
        } else {
            running.stop()?;
        }
    }
    let verified = ask(&["verify"])?;
    let told = String::from_utf8(verified.stdout)?;
    assert!(verified.status.success(), "{told}");
    assert!(told.contains("of 3 writers") && told.contains("signed by key"), "{told}");

    let shown = String::from_utf8(ask(&["--workload", "ci"])?.stdout)?;
    assert!(shown.contains("GET /v2/droplets") && shown.contains("scopes_allowed"), "{shown}");

    // A record that shows a read becomes one of something else.
    let text = fs::read_to_string(daemon.audit())?;
    fs::write(daemon.audit(), text.replacen("/v2/droplets", "/v2/sizes---", 1))?;
    let verified = ask(&["verify", "--json"])?;
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
    let report: serde_json::Value = serde_json::from_slice(&verified.stdout)?;
    assert_eq!(report["problems"][0]["fault"], "altered", "{report:#}");

    // What the last daemon signed at its end is cut off.
    let lines: Vec<&str> = text.lines().collect();
    fs::write(daemon.audit(), lines[..lines.len() - 2].join("\n") + "\n")?;
    let told = String::from_utf8(ask(&["verify"])?.stdout)?;
    assert!(told.contains("cut off the end"), "{told}");
    Ok(())
}
