//! What changes around a daemon at work reaches the process that serves, which sees none of it by itself.

use crate::{api, daemon::privileges, look};
use anyhow::{Result, ensure};
use std::{fs, path::Path};
use tidegate_tests::{
    agent::LIMIT,
    client::{self, Answer},
    process::{Process, wait_until},
    programs,
    scene::Scene,
};

/// The ids of the requests that a log tells of.
fn requests_in(log: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(log)?;
    let id = |line: &str| -> Result<Option<String>> {
        let record: serde_json::Value = serde_json::from_str(line)?;
        Ok(record.get("tidegate.request.id").and_then(|id| Some(id.as_str()?.to_owned())))
    };
    text.lines().filter_map(|line| id(line).transpose()).collect()
}

#[test]
fn a_record_comes_to_where_the_log_is_configured_though_it_was_moved_away() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = privileges::daemon(&scene)?;
    let ci = scene.world.cgroup().child("ci")?;
    let running = daemon.start()?;
    assert_eq!(Answer::of(&daemon.run(&ci, &look())?)?.status, 200);
    let log = daemon.audit();
    wait_until("the first record", LIMIT, || Ok(requests_in(log)?.len() == 1))?;
    let moved = log.with_extension("moved");
    fs::rename(log, &moved)?;
    assert_eq!(Answer::of(&daemon.run(&ci, &look())?)?.status, 200);
    wait_until("the second record", LIMIT, || Ok(log.exists() && requests_in(log)?.len() == 1))?;
    running.stop()?;
    let (first, second) = (requests_in(&moved)?, requests_in(log)?);
    ensure!(first.len() == 1 && second.len() == 1 && first != second, "{first:?} {second:?}");
    Ok(())
}

#[test]
fn the_next_ca_signs_for_connections_after_it() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = privileges::daemon(&scene)?;
    let ci = scene.world.cgroup().child("ci")?;
    let running = daemon.start()?;
    // As `look`, and shows what the gate proves itself with.
    let line = client::curl(&["--output", "/dev/null", "--no-progress-meter"], &api("/v2/droplets"), "");
    let line = line.into_iter().map(|word| if word.contains("http_code") { "%{certs}".into() } else { word });
    let line: Vec<String> = line.collect();
    let chain = || -> Result<String> {
        let finished = daemon.run(&ci, &line)?;
        ensure!(finished.status.success(), "{finished:?}");
        Ok(finished.text())
    };
    let before = chain()?;
    ensure!(before.contains("BEGIN CERTIFICATE"), "{before}");
    assert_eq!(chain()?, before);
    let tidegate = programs::built("tidegate")?;
    let line = [
        tidegate.as_os_str(),
        "ca".as_ref(),
        "rotate".as_ref(),
        "--now".as_ref(),
        "--config".as_ref(),
        daemon.config().as_os_str(),
    ];
    let rotated = Process::run(&mut scene.world.command(&line), scene.directory(), LIMIT)?;
    ensure!(rotated.status.success(), "{rotated:?}");
    wait_until("another chain", LIMIT, || Ok(chain()? != before))?;
    running.stop()?;
    Ok(())
}
