//! A run directory and a cgroup of one test's own, and what a test looks at there.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_enclosure");

/// A run directory and a cgroup of one test's own.
pub(crate) struct Place {
    pub(crate) run_dir: PathBuf,
    pub(crate) cgroup: PathBuf,
    pub(crate) scratch: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "these tests need root: run them with sudo");
        let id = format!(
            "tidegate-enclosure-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("a cgroup2 mount");
        let root = Path::new(mount.split(' ').nth(4).unwrap());
        let place = Self {
            run_dir: Path::new("/run").join(&id),
            cgroup: root.join(&id),
            scratch: std::env::temp_dir().join(&id),
        };
        fs::create_dir(&place.cgroup).unwrap();
        fs::create_dir(&place.scratch).unwrap();
        let make_ca = format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj '/CN=Test CA {id}' \
             -keyout ca.key -out ca.pem && \
             openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout leaf.key \
             -out leaf.csr && echo subjectAltName=DNS:localhost > leaf.ext && \
             openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -days 2 -extfile leaf.ext -out leaf.pem"
        );
        let made = Command::new("sh").args(["-c", &make_ca]).current_dir(&place.scratch).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        place
    }

    pub(crate) fn command_as(&self, user: &str, command: &[&str]) -> Command {
        let mut run = Command::new(BINARY);
        run.arg("run").args([&self.run_dir, &self.cgroup, &self.scratch.join("ca.pem")]).arg(user).arg("--");
        run.args(command).stdin(Stdio::null());
        run
    }

    pub(crate) fn command(&self, command: &[&str]) -> Command {
        self.command_as("-", command)
    }

    pub(crate) fn shell(&self, script: &str) -> Output {
        self.command(&["sh", "-c", script]).output().unwrap()
    }

    /// Starts a command and waits for the first line that it prints.
    pub(crate) fn start(&self, script: &str) -> (Child, String) {
        let mut child = self.command(&["sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (child, line.trim().to_owned())
    }

    /// The reaper that is a child of `tidegate`.
    pub(crate) fn reaper_of(&self, tidegate: &Child) -> Option<i32> {
        let parent = format!("PPid:\t{}", tidegate.id());
        let entries = fs::read_dir("/proc").unwrap().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid: &i32| {
            let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
            read("cmdline").contains("__reap") && read("status").lines().any(|line| line == parent)
        })
    }

    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> = Vec::new();
        let mut list = |directory: &Path, except: &str| {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let paths = entries.filter(|entry| entry.file_name() != except).map(|entry| entry.path());
            left.extend(paths.filter(|path| path.is_dir()).map(|path| path.display().to_string()));
        };
        list(&self.cgroup, "");
        list(&self.run_dir.join("runs"), "lock");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let of_ours = mounts.lines().filter(|line| line.contains(self.run_dir.to_str().unwrap()));
        left.extend(of_ours.map(str::to_owned));
        left
    }

    pub(crate) fn expect_nothing_left(&self, within: Duration) {
        let end = Instant::now() + within;
        while !self.leftovers().is_empty() {
            assert!(Instant::now() < end, "left: {:#?}", self.leftovers());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A run takes down what a failed test has left.
        let _ = self.command(&["true"]).output();
        let _ = fs::remove_dir(&self.cgroup);
        let _ = fs::remove_dir_all(&self.run_dir);
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

pub(crate) fn is_alive(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// Whether a killed process is gone within a moment: it leaves its cgroup a little before its state says so.
pub(crate) fn is_gone(pid: &str) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    while is_alive(pid) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    !is_alive(pid)
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap().trim()
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

pub(crate) fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}
