//! What everybody else sees while a command trusts the local CA, and what is left of it when it was killed: nothing.

use crate::place::{Place, is_alive, is_gone, send};
use nix::sys::signal::Signal;
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};
use tidegate_tests::programs;

/// A digest of every file of every store: where it is, its inode, owner, mode, size, times and content, and what is
/// mounted over it.
const FACTS: &str = "{ for place in /etc/ssl /etc/pki /etc/ca-certificates /var/lib/ca-certificates \
    /usr/local/share/ca-certificates /usr/share/ca-certificates /usr/lib/ssl /usr/lib/jvm/*/lib/security \
    /etc/java-*/security /usr/lib/python3/dist-packages/certifi PLACES; do [ -e $place ] || continue; \
    find -H $place -printf '%p %i %y %m %u %g %s %T@ %C@ %l\\n'; find -H $place -type f -exec sha256sum {} +; done | sort; \
    grep -E ' [^ ]*(ssl|pki|certifi|certificates|cacerts|security)[^ ]* ' /proc/self/mountinfo; } | sha256sum";

/// A shell outside that was there before the command.
struct Bystander {
    shell: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Bystander {
    fn new() -> Self {
        let mut shell = Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
        Self { shell, input, output: BufReader::new(output) }
    }

    fn sees(&mut self, script: &str) -> String {
        writeln!(self.input, "{script}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(line.len() > 64, "{line}");
        line
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.shell.kill().unwrap();
        self.shell.wait().unwrap();
    }
}

/// A run that ends with the test, also where that fails; its reaper does the rest.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn nobody_else_sees_a_difference_while_a_command_runs_or_when_it_was_killed() {
    let place = Place::new();
    let own = place.scratch.join("own.pem");
    let end = "-----END CERTIFICATE-----\n";
    let system = fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").unwrap();
    fs::write(&own, format!("{}{end}", system.split_once(end).unwrap().0)).unwrap();
    let target = programs::profile_directory().unwrap().join("..");
    let certifi = ["python", "runtimes/python"].map(|name| target.join(name).display().to_string());
    let places =
        format!("{}/lib/*/site-packages/certifi {}/lib/*/site-packages/certifi", certifi[0], certifi[1]);
    let facts = FACTS.replace("PLACES", &format!("{places} {}", own.display()));
    let mut earlier = Bystander::new();
    let before = earlier.sees(&facts);

    let script = format!("{facts}; echo $$; grep -c BEGIN $SSL_CERT_FILE; sleep 1000");
    let mut run = place.command(&["sh", "-c", &script]);
    let mut tidegate = Ended(run.env("SSL_CERT_FILE", &own).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(tidegate.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let inside = lines.next().unwrap();
    assert_ne!(inside, before.trim(), "the command sees no difference, so that this test proves nothing");
    let pid = lines.next().unwrap();
    assert_eq!(lines.next().unwrap(), "2", "the user's own bundle and the local CA");

    assert_eq!(earlier.sees(&facts), before, "who was there before");
    assert_eq!(Bystander::new().sees(&facts), before, "who comes later");

    send(&tidegate.0, Signal::SIGKILL);
    tidegate.0.wait().unwrap();
    place.expect_nothing_left(Duration::from_secs(2));
    assert!(is_gone(&pid) && !is_alive(&pid));
    assert_eq!(earlier.sees(&facts), before, "after it");
    assert_eq!(files_below(&place), files_of_a_clean_end(), "files that the killed one has left");
}

/// Every file that is left in the run directory.
fn files_below(place: &Place) -> String {
    let found =
        Command::new("find").arg(".").arg("!").args(["-type", "d"]).current_dir(&place.run_dir).output();
    let mut lines: Vec<String> =
        String::from_utf8(found.unwrap().stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines.join("\n")
}

/// The same for a run that ended by itself.
fn files_of_a_clean_end() -> String {
    let place = Place::new();
    assert!(place.shell("true").status.success());
    files_below(&place)
}
