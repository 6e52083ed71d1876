//! `tidegate status`, and who may ask.

use anyhow::Context as _;
use std::{
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};
use tidegate::{
    control::{Admission, Callers, Control, Desk, peer::Peer},
    health::{Health, Part, status::Status},
};
use tidegate_tests::{
    process::{Finished, Process},
    programs,
};

const LIMIT: Duration = Duration::from_secs(30);

/// A daemon with nothing behind it, to which everybody who is not root is a subject.
struct Front(Health);

impl Desk for Front {
    fn is_subject(&self, peer: &Peer) -> bool {
        peer.uid != 0
    }

    fn is_trusted(&self, peer: &Peer) -> bool {
        peer.uid == 0
    }

    fn status(&self) -> Status {
        Status::of(&self.0)
    }

    fn admit(&self, _: &Peer, _: &str) -> Result<Admission, String> {
        Err("there is no workload".to_owned())
    }

    fn reload(&self) -> Result<String, String> {
        Err("there is no policy".to_owned())
    }

    fn may_follow(&self, _: u32) -> Result<(), String> {
        Err("there is nothing to follow".to_owned())
    }

    fn keep_follower(&self, _: UnixStream) {}
}

fn ask(directory: &Path, prefix: &[&str], socket: &Path, json: bool) -> anyhow::Result<Finished> {
    // Where everybody may run it.
    let program = directory.join("tidegate");
    std::fs::copy(programs::built("tidegate")?, &program)?;
    let mut words: Vec<_> = prefix.iter().map(std::ffi::OsStr::new).collect();
    words.extend([program.as_os_str(), "status".as_ref(), "--socket".as_ref(), socket.as_os_str()]);
    let (first, rest) = words.split_first().context("a program")?;
    let mut command = Command::new(first);
    command.args(rest).args(json.then_some("--json"));
    Process::run(&mut command, directory, LIMIT)
}

fn with_daemon(health: Health, ask: impl FnOnce(&Path, &Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755))?;
    let socket = directory.path().join("control.sock");
    let runtime = tokio::runtime::Runtime::new()?;
    let control = runtime.block_on(async { Control::bind(&socket, Callers::Group(None)) })?;
    runtime.spawn(control.serve(Arc::new(Front(health))));
    ask(directory.path(), &socket)
}

#[test]
fn a_daemon_that_is_well_is_told_of_with_status_0() -> anyhow::Result<()> {
    let health = Health::new(&[Part::Canary]);
    health.report(Part::Canary, Ok(()));
    with_daemon(health, |directory, socket| {
        let text = ask(directory, &[], socket, false)?;
        assert!(text.status.success() && text.text().contains(": healthy\n"), "{text:?}");
        let json = ask(directory, &[], socket, true)?;
        let document: serde_json::Value = serde_json::from_slice(&json.stdout)?;
        assert_eq!((&document["healthy"], json.status.code()), (&true.into(), Some(0)));
        Ok(())
    })
}

#[test]
fn a_daemon_that_is_not_well_is_told_of_with_status_1() -> anyhow::Result<()> {
    let health = Health::new(&[Part::Canary]);
    health.report(Part::Canary, Err("a TCP connection to 127.1.2.3:443 did not come".into()));
    with_daemon(health, |directory, socket| {
        let text = ask(directory, &[], socket, false)?;
        assert_eq!(text.status.code(), Some(1));
        assert!(text.text().contains("canary: a TCP connection to 127.1.2.3:443"), "{text:?}");
        let json = ask(directory, &[], socket, true)?;
        let document: serde_json::Value = serde_json::from_slice(&json.stdout)?;
        assert_eq!((&document["problems"][0]["part"], json.status.code()), (&"canary".into(), Some(1)));
        Ok(())
    })
}

#[test]
fn without_a_daemon_it_says_so_with_status_1() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let told = ask(directory.path(), &[], &directory.path().join("control.sock"), true)?;
    assert_eq!((told.status.code(), told.stdout.len()), (Some(1), 0));
    assert!(told.stderr.starts_with("tidegate: no tidegate daemon answers at "), "{told:?}");
    Ok(())
}

#[test]
fn whoever_is_a_subject_or_not_root_gets_no_answer() -> anyhow::Result<()> {
    with_daemon(Health::new(&[]), |directory, socket| {
        let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        let told = ask(directory, &nobody, socket, false)?;
        assert!(told.status.code() == Some(1) && told.stderr.contains("cannot ask"), "{told:?}");
        // Whatever the file's mode is.
        std::fs::set_permissions(socket, PermissionsExt::from_mode(0o666))?;
        let told = ask(directory, &nobody, socket, false)?;
        assert!(
            told.status.code() == Some(1) && told.stderr.contains("a subject gets no answer"),
            "{told:?}"
        );
        Ok(())
    })
}
