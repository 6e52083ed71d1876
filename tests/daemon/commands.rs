//! `tidegate run` without root: whoever `run_by` names runs commands as a workload of the daemon's, and cannot leave it.

use crate::{api, look};
use anyhow::{Context as _, Result};
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};
use test_case::test_case;
use tidegate_tests::{
    agent::{LIMIT, READ_ONLY},
    cgroup::Cgroup,
    client::{self, Answer},
    daemon::Daemon,
    process::{Finished, Process},
    programs,
    scene::Scene,
};

/// A user that `run_by` names by number, and one that it names by group.
const ALICE: (u32, u32) = (4242, 4242);
const BOB: (u32, u32) = (4243, 4300);
const MALLORY: (u32, u32) = (4244, 4244);

/// A world with a daemon of which some may run commands as `ci`.
struct Office<'s> {
    scene: &'s Scene,
    daemon: Daemon<'s>,
    tidegate: String,
    desk: Cgroup,
    home: PathBuf,
}

impl<'s> Office<'s> {
    fn new(scene: &'s Scene) -> Result<Self> {
        let daemon = Daemon::new(scene)?.policy("look", READ_ONLY)?.policy("none", "allow = []")?;
        let daemon = daemon.run_by("ci", "look", r#"["user:4242", "group:4300"]"#).run_by(
            "others",
            "none",
            r#"["user:1"]"#,
        );
        let home = scene.directory().join("home");
        fs::create_dir(&home)?;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o1777))?;
        let tidegate = programs::built("tidegate")?.display().to_string();
        Ok(Self { scene, daemon, tidegate, desk: scene.world.cgroup().child("desk")?, home })
    }

    /// As this user, outside of every workload.
    fn command(&self, (uid, gid): (u32, u32), line: &[&str]) -> Command {
        let (uid, gid) = (format!("--reuid={uid}"), format!("--regid={gid}"));
        let words = [&["setpriv", &uid, &gid, "--clear-groups", "--"], line].concat();
        let mut command = self.scene.world.command_in(&self.desk, &words);
        command.env("HOME", &self.home).env("TMPDIR", &self.home).current_dir(&self.home);
        command
    }

    fn tidegate(&self, user: (u32, u32), line: &[&str]) -> Result<Finished> {
        let words = [&[self.tidegate.as_str()], line].concat();
        Process::run(&mut self.command(user, &words), self.scene.directory(), LIMIT)
    }

    /// `tidegate run --workload ci -- …`.
    fn run(&self, user: (u32, u32), line: &[&str]) -> Result<Finished> {
        self.tidegate(user, &[&["run", "--workload", "ci", "--"], line].concat())
    }
}

fn words(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}

fn told(finished: &Finished) -> String {
    finished.stderr.clone()
}

#[test_case(ALICE; "by user")]
#[test_case(BOB; "by group")]
fn a_command_without_root_is_held_to_the_workloads_policy(user: (u32, u32)) -> Result<()> {
    let scene = Scene::new()?;
    let office = Office::new(&scene)?;
    let running = office.daemon.start()?;
    let read = office.run(user, &words(&look()))?;
    assert!(told(&read).contains("environment variables alone"), "{}", told(&read));
    assert_eq!(Answer::of(&read)?.status, 200);
    let delete = client::curl(&["--request", "DELETE"], &api("/v2/droplets/3164444"), "");
    let refused = Answer::of(&office.run(user, &words(&delete))?)?;
    assert_eq!(
        (refused.status, refused.json()?.get("id").and_then(|id| id.as_str())),
        (403, Some("forbidden"))
    );
    let records = office.daemon.records()?;
    let of: Vec<_> = records.iter().map(|record| record.text("tidegate.workload")).collect();
    assert_eq!(of, ["ci", "ci"]);
    let ids: Vec<_> = records.iter().map(|record| record.number("process.user.id")).collect();
    assert_eq!(ids, [Some(u64::from(user.0)); 2]);
    assert_eq!(fs::read_dir(&office.home)?.count(), 0, "nothing is left of the run");
    running.stop()?;
    Ok(())
}

#[test]
fn a_command_cannot_leave_its_workload() -> Result<()> {
    let scene = Scene::new()?;
    let office = Office::new(&scene)?;
    let running = office.daemon.start()?;
    let script = format!(
        "grep NoNewPrivs /proc/self/status
         cat /proc/self/cgroup
         for procs in {root}/cgroup.procs {desk}/cgroup.procs; do
             (echo $$ > $procs) 2>/dev/null && echo LEFT $procs
         done
         {tidegate} run --workload ci -- true 2>&1; echo again $?
         {tidegate} status 2>&1; echo status $?
         exit 7",
        root = scene.world.cgroup().path().display(),
        desk = office.desk.path().display(),
        tidegate = office.tidegate,
    );
    let finished = office.run(ALICE, &["sh", "-c", &script])?;
    let shown = String::from_utf8_lossy(&finished.stdout).into_owned();
    assert_eq!(finished.status.code(), Some(7), "{shown}{}", told(&finished));
    assert!(shown.contains("NoNewPrivs:\t1"), "{shown}");
    assert!(shown.contains("/tidegate-commands/workload-ci\n"), "{shown}");
    assert!(!shown.contains("LEFT"), "{shown}");
    assert!(shown.contains("a subject gets no answer") && shown.contains("again 125"), "{shown}");
    assert!(shown.contains("status 1"), "{shown}");
    running.stop()?;
    Ok(())
}

#[test]
fn a_command_is_shut_off_while_the_daemon_is_gone() -> Result<()> {
    let scene = Scene::new()?;
    let office = Office::new(&scene)?;
    let running = office.daemon.start()?;
    let go = office.home.join("go");
    let ask = "curl --silent --max-time 20 --output /dev/null --write-out '%{http_code}' \
               --header 'Authorization: Bearer token' https://api.digitalocean.com/v2/droplets";
    let script =
        format!("{ask}; echo; while ! [ -e {0} ]; do sleep 0.05; done; {ask}; echo \" $?\"", go.display());
    let line = [&office.tidegate, "run", "--workload", "ci", "--", "sh", "-c", &script];
    let mut command = Process::start(&mut office.command(ALICE, &line), scene.directory())?;
    command.wait_for_output("200", LIMIT)?;
    running.kill()?;
    fs::write(&go, "")?;
    let finished = command.finish(LIMIT)?;
    let shown = String::from_utf8_lossy(&finished.stdout).into_owned();
    let lines: Vec<_> = shown.lines().collect();
    assert!(matches!(lines.as_slice(), ["200", second] if second.starts_with("000 ")), "{shown}");
    assert_eq!(scene.requests()?.len(), 1, "nothing passed without the daemon");
    Ok(())
}

#[test_case(MALLORY, &["run", "--workload", "ci", "--", "true"], 125, "no workload's `run_by` names you"; "a stranger")]
#[test_case(ALICE, &["run", "--workload", "others", "--", "true"], 125, "you may take `ci`"; "another's workload")]
#[test_case(ALICE, &["run", "--workload", "../x", "--", "true"], 125, "may not run commands as `../x`"; "no workload")]
#[test_case(ALICE, &["run", "--", "true"], 2, "name a workload"; "no name")]
#[test_case(ALICE, &["run", "--policy", "/dev/null", "--", "true"], 2, "`--policy` needs root"; "a policy of one's own")]
#[test_case(ALICE, &["run", "--workload", "ci", "--user", "root", "--", "true"], 2, "`--user` needs root"; "another user")]
#[test_case(ALICE, &["run", "--workload", "ci", "--", "/nonexistent"], 127, "cannot execute"; "no program")]
#[test_case(ALICE, &["status"], 1, "only root and the members of the group"; "the status")]
#[test_case(ALICE, &["reload"], 1, "only root and the members of the group"; "a reload")]
fn what_is_not_granted_is_refused(user: (u32, u32), line: &[&str], status: i32, why: &str) -> Result<()> {
    let scene = Scene::new()?;
    let office = Office::new(&scene)?;
    let running = office.daemon.start()?;
    let finished = office.tidegate(user, line)?;
    assert_eq!(finished.status.code(), Some(status), "{}", told(&finished));
    assert!(told(&finished).contains(why), "{}", told(&finished));
    running.stop()?;
    Ok(())
}

#[test]
fn a_release_leaves_no_cgroup() -> Result<()> {
    let scene = Scene::new()?;
    let office = Office::new(&scene)?;
    let running = office.daemon.start()?;
    let place = scene.world.cgroup().path().join("tidegate-commands");
    assert!(place.join("workload-ci").is_dir());
    running.stop()?;
    let config = office.daemon.config().display().to_string();
    let released = office.tidegate((0, 0), &["release", "--config", &config])?;
    assert!(released.status.success(), "{}", told(&released));
    assert!(!place.exists());
    Ok(())
}

#[test]
fn without_a_daemon_nothing_runs() -> Result<()> {
    let scene = Scene::new()?;
    let office = Office::new(&scene)?;
    let finished = office.run(ALICE, &["touch", "ran"])?;
    assert_eq!(finished.status.code(), Some(125));
    assert!(told(&finished).contains("no tidegate daemon answers"), "{}", told(&finished));
    assert!(!office.home.join("ran").exists());
    Ok(())
}

/// A corporate CA that the user has named stays trusted, and what cannot be covered is not.
#[test]
fn variables_that_the_user_has_set_are_merged() -> Result<()> {
    let scene = Scene::new()?;
    let office = Office::new(&scene)?;
    let running = office.daemon.start()?;
    let own = office.home.join("own.pem");
    fs::copy(scene.standin.ca_file(), &own)?;
    let script = "echo $SSL_CERT_FILE; grep -c BEGIN $SSL_CERT_FILE; grep -c BEGIN $NODE_EXTRA_CA_CERTS";
    let line = [&office.tidegate, "run", "--workload", "ci", "--", "sh", "-c", script];
    let mut command = office.command(ALICE, &line);
    let finished = Process::run(command.env("SSL_CERT_FILE", &own), scene.directory(), LIMIT)?;
    let shown = String::from_utf8_lossy(&finished.stdout).into_owned();
    let [copy, merged, anchors] = shown.lines().collect::<Vec<_>>()[..] else { panic!("{shown}") };
    assert_ne!(copy, own.display().to_string());
    assert_eq!((merged, anchors), ("2", "1"), "{}", told(&finished));
    running.stop()?;
    Ok(())
}

#[test]
fn a_reload_tells_what_came_of_it() -> Result<()> {
    let scene = Scene::new()?;
    let office = Office::new(&scene)?;
    let running = office.daemon.start()?;
    let root = (0, 0);
    let reload = || -> Result<(Option<i32>, String)> {
        let finished = office.tidegate(root, &["reload"])?;
        let shown = String::from_utf8_lossy(&finished.stdout).into_owned() + &told(&finished);
        Ok((finished.status.code(), shown))
    };
    assert_eq!(reload()?, (Some(0), "the policies are as they were\n".to_owned()));

    office.daemon.write_policy("look", "allow = [\"droplet:read\"]")?;
    let (status, shown) = reload()?;
    assert!(status == Some(0) && shown.starts_with("reloaded the policies look"), "{shown}");

    office.daemon.write_policy("look", "allow = [\"droplet:raed\"]")?;
    let (status, shown) = reload()?;
    assert!(
        status == Some(1) && shown.contains("look.toml:1") && shown.contains("stay as they are"),
        "{shown}"
    );
    assert_eq!(Answer::of(&office.run(ALICE, &words(&look()))?)?.status, 200, "the last good set stays");

    office.daemon.write_policy("look", "allow = [\"droplet:read\"]")?;
    let text = fs::read_to_string(office.daemon.config())?;
    fs::write(office.daemon.config(), format!("{text}[limits]\nconnections = 7\n"))?;
    let (status, shown) = reload()?;
    assert!(status == Some(0) && shown.contains("restart the daemon to make `[limits]` count"), "{shown}");
    fs::write(office.daemon.config(), "[limits]\nconnections = many\n")?;
    let (status, shown) = reload()?;
    assert!(status == Some(1) && shown.contains("tidegate.toml:2"), "{shown}");
    running.stop().context("the daemon goes on all the while")?;
    Ok(())
}
