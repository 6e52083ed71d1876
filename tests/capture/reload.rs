//! A policy that changes while the command runs: loaded when it is good, and never by the command's own doing.

use crate::api;
use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{ChildStdin, Stdio},
    time::{Duration, Instant},
};
use tidegate_tests::{
    agent::{LIMIT, READ_ONLY, Tidegate},
    client,
    process::{Process, wait_until},
    scene::Scene,
};

/// A policy that allows to delete, too.
const DELETER: &str = "allow = [\"api:read\", \"droplet:delete\"]\n";

/// How soon a change of the file must tell.
const SOON: Duration = Duration::from_secs(2);

/// Deletes a Droplet for each line that it reads, on one connection, and prints the status.
const DELETE_WHEN_TOLD: &str = r#"
import http.client, sys
connection = http.client.HTTPSConnection("api.digitalocean.com", timeout=20)
for line in sys.stdin:
    connection.request("DELETE", "/v2/droplets/3164444", headers={"Authorization": "Bearer some-token"})
    answer = connection.getresponse()
    answer.read()
    print(answer.status, flush=True)
"#;

/// A command that runs as long as the test wants.
struct Running {
    process: Process,
    stdin: ChildStdin,
    asked: usize,
}

impl Running {
    fn start(tidegate: &Tidegate<'_>, scene: &Scene) -> Result<Self> {
        let mut command = tidegate.command(&["python3", "-c", DELETE_WHEN_TOLD])?;
        command.stdin(Stdio::piped()).env("TIDEGATE_LOG", "info");
        let mut process = Process::start(&mut command, scene.directory())?;
        let stdin = process.take_stdin().context("standard input")?;
        Ok(Self { process, stdin, asked: 0 })
    }

    fn delete(&mut self) -> Result<u16> {
        writeln!(self.stdin)?;
        self.asked += 1;
        wait_until("an answer", LIMIT, || Ok(self.process.stdout()?.lines().count() == self.asked))?;
        Ok(self.process.stdout()?.lines().last().context("a line")?.parse()?)
    }

    /// Deletes until the status is this one; the statuses before it all are 403.
    fn delete_until(&mut self, expected: u16, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.delete()?;
            if status == expected {
                return Ok(());
            }
            assert_eq!(status, 403);
            assert!(Instant::now() < deadline, "{}", self.process.stderr()?);
        }
    }

    fn wait_for_log(&self, text: &str) -> Result<()> {
        wait_until(text, LIMIT, || Ok(self.process.stderr()?.contains(text)))
            .with_context(|| self.process.stderr().unwrap_or_default())
    }

    fn finish(self) -> Result<()> {
        drop(self.stdin);
        let finished = self.process.finish(LIMIT)?;
        assert!(finished.status.success(), "{finished:?}");
        Ok(())
    }
}

/// As an administrator should: the file is never half written.
fn replace(path: &Path, text: &str) -> Result<()> {
    let draft = path.with_extension("draft");
    fs::write(&draft, text)?;
    Ok(fs::rename(draft, path)?)
}

#[test]
fn a_changed_file_is_in_force_soon_on_the_same_connection_and_recorded() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("reload")?;
    let mut running = Running::start(&tidegate, &scene)?;
    assert_eq!(running.delete()?, 403);
    replace(tidegate.policy_path(), DELETER)?;
    running.delete_until(204, SOON)?;
    replace(tidegate.policy_path(), READ_ONLY)?;
    wait_until("the second reload", SOON, || {
        Ok(running.process.stderr()?.matches("reloaded the policies").count() == 2)
    })?;
    assert_eq!(running.delete()?, 403);
    running.finish()?;

    let records = tidegate.records()?;
    let digest_of = |decision: &str, last: bool| -> Result<&str> {
        let mut fitting = records.iter().filter(|record| record.decision() == decision);
        let record = if last { fitting.next_back() } else { fitting.next() };
        Ok(record.context("a record")?.text("tidegate.policy.digest"))
    };
    let (first, between, last) =
        (digest_of("deny", false)?, digest_of("allow", false)?, digest_of("deny", true)?);
    assert!(first.len() == 64 && between.len() == 64 && first == last && first != between, "{records:#?}");
    Ok(())
}

#[test]
fn a_file_that_does_not_load_leaves_the_policy_as_it_is() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("reload")?.policy("kept", DELETER)?;
    let mut running = Running::start(&tidegate, &scene)?;
    assert_eq!(running.delete()?, 204);
    for (index, broken) in
        ["allow = [\"no_such:scope\"]\n", "allow = [\n", "alow = []\n"].into_iter().enumerate()
    {
        replace(tidegate.policy_path(), broken)?;
        wait_until("the refusal to load it", SOON, || {
            Ok(running.process.stderr()?.matches("the policies stay as they are").count() == index + 1)
        })?;
        // It is gone by now, and the API is asked all the same.
        assert_eq!(running.delete()?, 404);
    }
    running.wait_for_log("kept.toml:1: ")?;
    running.wait_for_log("alow")?;
    running.finish()
}

#[test]
fn a_hangup_reloads_and_the_command_goes_on() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("reload")?;
    let mut running = Running::start(&tidegate, &scene)?;
    assert_eq!(running.delete()?, 403);
    running.process.signal(Signal::SIGHUP)?;
    running.wait_for_log("the policies are as they were")?;
    replace(tidegate.policy_path(), DELETER)?;
    running.process.signal(Signal::SIGHUP)?;
    running.delete_until(204, Duration::from_secs(1))?;
    running.finish()
}

/// What a root command tries to give itself more with; it may call the API after each, and after a hangup.
const WIDEN: &str = r#"
policy=$1; directory=${policy%/*}; parent=${directory%/*}
printf 'allow = ["api:write"]\n' >/tmp/wide.$$ && trap 'rm -f /tmp/wide.$$' EXIT
attempt() { sh -c "$1" attempt "$policy" "$directory" "$parent" /tmp/wide.$$ 2>/dev/null && echo "could: $1"; }
attempt 'cat "$4" >"$1"'
attempt 'cat "$4" >>"$1"'
attempt 'cp "$4" "$2/new" && mv "$2/new" "$1"'
attempt 'mv "$4" "$1"'
attempt 'ln "$4" "$2/new"'
attempt 'rm "$1"'
attempt 'chmod 666 "$1"'
attempt 'mv "$2" "$2.old"'
attempt 'umount "$2"'
attempt 'mount -o remount,rw "$2"'
# Nothing forbids this, and it must be of no use.
mv "$parent" "$parent.old" && mkdir -p "$directory" && cp /tmp/wide.$$ "$policy" && echo "replaced"
kill -HUP "$PPID" 2>/dev/null
sleep 1.5
shift
"$@"
rm -r "$parent" && mv "$parent.old" "$parent"
"#;

#[test]
fn a_root_command_cannot_give_itself_more() -> Result<()> {
    let scene = Scene::new()?;
    let policy = scene.directory().join("etc/policies/narrow.toml");
    fs::create_dir_all(policy.parent().context("a directory")?)?;
    fs::write(&policy, READ_ONLY)?;
    let tidegate = scene.tidegate("reload")?.policy_file(&policy);
    let policy = policy.display().to_string();
    let delete = client::curl(&["--request", "DELETE"], &api("/v2/droplets/3164444"), "");
    let mut arguments: Vec<String> = ["sh", "-c", WIDEN, "widen", &policy].map(str::to_owned).into();
    arguments.extend(delete);
    let ran = tidegate.run(&arguments)?;
    let text = ran.finished.text();
    assert!(text.contains("replaced") && !text.contains("could: "), "{ran:#?}");
    assert!(text.contains("\"forbidden\""), "{ran:#?}");
    assert!(ran.finished.stderr.contains("not the directory that was there at the start"), "{ran:#?}");
    assert!(scene.requests()?.is_empty());
    assert_eq!(fs::read_to_string(&policy)?, READ_ONLY);
    Ok(())
}

#[test]
fn a_policy_where_the_command_is_to_write_is_not_loaded_again() -> Result<()> {
    const SCRIPT: &str = r#"
printf 'allow = ["api:write"]\n' >"$1" && echo "could write"
kill -HUP "$PPID" 2>/dev/null
sleep 1.5
shift
"$@"
"#;
    let scene = Scene::new()?;
    let policy = scene.world.write("narrow.toml", READ_ONLY)?;
    let tidegate = scene.tidegate("reload")?.policy_file(&policy);
    let mut arguments: Vec<String> = ["sh", "-c", SCRIPT, "rewrite"].map(str::to_owned).into();
    arguments.push(policy.display().to_string());
    arguments.extend(client::curl(&["--request", "DELETE"], &api("/v2/droplets/3164444"), ""));
    // The home directory is the one that it lies in.
    let finished = tidegate.run(&arguments)?.finished;
    let text = finished.text();
    assert!(text.contains("could write") && text.contains("\"forbidden\""), "{finished:?}");
    assert!(finished.stderr.contains("keep the policy in a directory of its own"), "{finished:?}");
    assert!(scene.requests()?.is_empty());
    Ok(())
}
