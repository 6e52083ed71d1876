//! The enclosure of `tidegate run` on the real kernel. Needs root.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, too"
)]

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};
use test_case::test_case;

const BINARY: &str = env!("CARGO_BIN_EXE_enclosure");

/// A run directory and a cgroup of one test's own.
struct Place {
    run_dir: PathBuf,
    cgroup: PathBuf,
    scratch: PathBuf,
}

impl Place {
    fn new() -> Self {
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

    fn command_as(&self, user: &str, command: &[&str]) -> Command {
        let mut run = Command::new(BINARY);
        run.arg("run").args([&self.run_dir, &self.cgroup, &self.scratch.join("ca.pem")]).arg(user).arg("--");
        run.args(command).stdin(Stdio::null());
        run
    }

    fn command(&self, command: &[&str]) -> Command {
        self.command_as("-", command)
    }

    fn shell(&self, script: &str) -> Output {
        self.command(&["sh", "-c", script]).output().unwrap()
    }

    /// Starts a command and waits for the first line that it prints.
    fn start(&self, script: &str) -> (Child, String) {
        let mut child = self.command(&["sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (child, line.trim().to_owned())
    }

    /// The reaper that is a child of `tidegate`.
    fn reaper_of(&self, tidegate: &Child) -> Option<i32> {
        let parent = format!("PPid:\t{}", tidegate.id());
        let entries = fs::read_dir("/proc").unwrap().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid: &i32| {
            let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
            read("cmdline").contains("__reap") && read("status").lines().any(|line| line == parent)
        })
    }

    fn leftovers(&self) -> Vec<String> {
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

    fn expect_nothing_left(&self, within: Duration) {
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

fn is_alive(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap().trim()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

#[test_case(&["true"], 0, ""; "success")]
#[test_case(&["sh", "-c", "exit 7"], 7, ""; "failure")]
#[test_case(&["sh", "-c", "kill -TERM $$"], 143, ""; "killed by a signal")]
#[test_case(&["no-such-program"], 127, "tidegate: cannot execute `no-such-program`"; "not found")]
#[test_case(&["/etc/passwd"], 126, "tidegate: cannot execute `/etc/passwd`"; "not executable")]
#[test_case(&[], 125, "tidegate: no command was given"; "no command")]
fn the_exit_status_is_that_of_the_command(command: &[&str], status: i32, message: &str) {
    let place = Place::new();
    let output = place.command(command).output().unwrap();
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    assert!(stderr(&output).starts_with(message), "{output:?}");
    assert_eq!(message.is_empty(), output.stderr.is_empty(), "{output:?}");
    place.expect_nothing_left(Duration::ZERO);
}

#[test]
fn what_the_command_leaves_behind_is_killed() {
    let place = Place::new();
    let output = place.shell("setsid sh -c 'setsid sleep 1000 & echo $!' ");
    let pid = stdout(&output).to_owned();
    assert!(output.status.success() && !pid.is_empty(), "{output:?}");
    assert!(!is_alive(&pid));
    place.expect_nothing_left(Duration::ZERO);
}

#[test]
fn a_killed_tidegate_takes_its_command_along() {
    let place = Place::new();
    let (mut tidegate, pid) = place.start("setsid sleep 1000 & echo $!; wait");
    assert!(is_alive(&pid));
    send(&tidegate, Signal::SIGKILL);
    place.expect_nothing_left(Duration::from_secs(2));
    assert!(!is_alive(&pid));
    tidegate.wait().unwrap();
}

#[test]
fn a_killed_reaper_is_replaced() {
    let place = Place::new();
    let (mut tidegate, pid) = place.start("sleep 1000 & echo $!; wait");
    let first = place.reaper_of(&tidegate).unwrap();
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    let end = Instant::now() + Duration::from_secs(2);
    while place.reaper_of(&tidegate).is_none_or(|reaper| reaper == first) {
        assert!(Instant::now() < end, "no second reaper");
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(100));
    send(&tidegate, Signal::SIGKILL);
    place.expect_nothing_left(Duration::from_secs(2));
    assert!(!is_alive(&pid));
    tidegate.wait().unwrap();
}

#[test]
fn the_next_run_takes_down_one_whose_tidegate_and_reaper_were_killed() {
    let place = Place::new();
    let (mut tidegate, pid) = place.start("sleep 1000 & echo $!; wait");
    let reaper = Pid::from_raw(place.reaper_of(&tidegate).unwrap());
    // Stopped first: a reaper may be faster than the second signal.
    kill(reaper, Signal::SIGSTOP).unwrap();
    send(&tidegate, Signal::SIGKILL);
    kill(reaper, Signal::SIGKILL).unwrap();
    tidegate.wait().unwrap();
    assert!(is_alive(&pid) && place.leftovers().len() >= 3, "{:?}", place.leftovers());
    assert!(place.shell("true").status.success());
    assert!(!is_alive(&pid));
    place.expect_nothing_left(Duration::ZERO);
}

#[test]
fn the_command_becomes_the_user() {
    let place = Place::new();
    let output = place
        .command_as(
            "nobody",
            &["sh", "-c", "id -un; id -Gn; echo $HOME $USER $LOGNAME; grep ^CapEff /proc/self/status"],
        )
        .output()
        .unwrap();
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let home = passwd.lines().find(|line| line.starts_with("nobody:")).unwrap().split(':').nth(5).unwrap();
    let expected = format!("nobody\nnogroup\n{home} nobody nobody\nCapEff:\t0000000000000000");
    assert_eq!(stdout(&output), expected, "{output:?}");
    let bundle = place.command_as("nobody", &["sh", "-c", "head -c 1 $SSL_CERT_FILE $NODE_EXTRA_CA_CERTS"]);
    assert!({ bundle }.output().unwrap().status.success());
}

#[test]
fn the_capabilities_that_undo_the_enclosure_are_gone_for_good() {
    const DAC_READ_SEARCH: u64 = 1 << 2;
    const NET_ADMIN: u64 = 1 << 12;
    const NET_RAW: u64 = 1 << 13;
    const SYS_MODULE: u64 = 1 << 16;
    const SYS_PTRACE: u64 = 1 << 19;
    const SYS_ADMIN: u64 = 1 << 21;
    const BPF: u64 = 1 << 39;
    let place = Place::new();
    let status = place.shell("cat /proc/self/status");
    let mask = |name: &str| {
        let line = stdout(&status).lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    let gone = DAC_READ_SEARCH | NET_ADMIN | NET_RAW | SYS_MODULE | SYS_PTRACE | SYS_ADMIN | BPF;
    for name in ["CapBnd:", "CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
        assert_eq!(mask(name) & gone, 0, "{name}");
    }
    assert_eq!(mask("CapBnd:") >> 41, 0);
    assert_ne!(mask("CapEff:") & 1, 0, "root still may chown");
    assert_eq!((mask("SigBlk:"), mask("NoNewPrivs:")), (0, 0));
}

#[test_case("echo 0 > $CGROUP/cgroup.procs"; "move itself to another cgroup")]
#[test_case("for m in $(awk '/ - cgroup2? /{print $5}' /proc/self/mountinfo); do mkdir $m/x && exit; done; exit 1"; "make a cgroup")]
#[test_case("umount /sys/fs/cgroup/unified || umount /sys/fs/cgroup"; "unmount the view of cgroups")]
#[test_case("echo '|/bin/true' > /proc/sys/kernel/core_pattern"; "name a program that the kernel starts")]
#[test_case("echo h > /proc/sysrq-trigger"; "use the magic keys")]
#[test_case("touch /etc/ssl/certs/x"; "change its trust store")]
#[test_case("nsenter -t 1 -m true"; "enter the mounts of another process")]
#[test_case("ls /proc/$PPID/root"; "look through the root of another process")]
#[test_case("unshare -m true"; "make a mount namespace")]
#[test_case("unshare -Ur umount $RUN_DIR"; "uncover in a user namespace")]
#[test_case("unshare -Urm mount -o remount,rw,bind /sys"; "remount in a user namespace")]
fn the_command_cannot(script: &str) {
    let place = Place::new();
    let mut run = place.command(&["sh", "-c", script]);
    run.env("CGROUP", &place.cgroup).env("RUN_DIR", &place.run_dir);
    let output = run.output().unwrap();
    assert!(matches!(output.status.code(), Some(1..125)), "{output:?}");
}

/// Takes on the user of a process outside, whose capabilities are then no more than its own, and goes through the
/// mounts of that process to the cgroups and to the pins, which are not read-only there.
const THROUGH_A_NEIGHBOUR: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
neighbour, cgroup, run_dir = sys.argv[1:]
libc.setfsgid(65534)
libc.setfsuid(65534)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
sets = (ctypes.c_uint32 * 6)()
libc.capget(header, sets)
sets[0], sets[3] = sets[1], sets[4]
assert libc.capset(header, sets) == 0
def attempt(name, action):
    try: action(); print(name)
    except OSError: pass
root = f"/proc/{neighbour}/root"
attempt("sees the runs", lambda: os.listdir(f"{root}{run_dir}/runs"))
attempt("left its cgroup", lambda: open(f"{root}{cgroup}/cgroup.procs", "w").write("0"))
attempt("reads the memory", lambda: open(f"/proc/{neighbour}/mem", "rb"))
attempt("killed", lambda: os.kill(int(neighbour), 9))
print("done")
"#;

#[test]
fn the_command_cannot_reach_the_host_through_a_process_outside() {
    let place = Place::new();
    let mut neighbour = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "sleep", "100"])
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    let status = format!("/proc/{}/status", neighbour.id());
    while !fs::read_to_string(&status).unwrap().contains("Name:\tsleep") {
        assert!(Instant::now() < end, "the neighbour does not start");
        thread::sleep(Duration::from_millis(10));
    }
    let id = neighbour.id().to_string();
    let (cgroup, run_dir) = (place.cgroup.to_str().unwrap(), place.run_dir.to_str().unwrap());
    let output =
        place.command(&["python3", "-c", THROUGH_A_NEIGHBOUR, &id, cgroup, run_dir]).output().unwrap();
    neighbour.kill().unwrap();
    neighbour.wait().unwrap();
    assert_eq!(stdout(&output), "done", "{output:?}");
}

#[test]
fn the_command_still_moves_files_and_mounts_in_a_user_namespace_of_its_own() {
    let place = Place::new();
    let script = "mkdir a b && touch a/x && mv a/x b/x && ln b/x a/y && unshare -Urm mount -t tmpfs none a && echo done";
    let output = place.command(&["sh", "-c", script]).current_dir(&place.scratch).output().unwrap();
    assert_eq!(stdout(&output), "done", "{output:?}");
}

#[test]
fn the_command_sees_only_what_is_its_own() {
    let place = Place::new();
    let (mut other, _) = place.start("echo ready; exec sleep 1000");
    let script = format!(
        "ls -A {0}; echo; ls -A /sys/fs/bpf; cat /proc/self/cgroup | grep ^0; \
         for m in $(awk '/ - cgroup2 /{{print $5}}' /proc/self/mountinfo); do cat $m/cgroup.procs | wc -l; done | tail -1",
        place.run_dir.display()
    );
    let output = place.shell(&script);
    send(&other, Signal::SIGTERM);
    assert_eq!(other.wait().unwrap().code(), Some(143));
    let lines: Vec<_> = stdout(&output).lines().collect();
    assert_eq!(lines.get(..3), Some(["trust", "", "0::/"].as_slice()), "{output:?}");
    let processes: u32 = lines.last().unwrap().parse().unwrap();
    assert!((1..10).contains(&processes), "{output:?}");
}

#[test_case(Signal::SIGUSR1)]
#[test_case(Signal::SIGUSR2)]
#[test_case(Signal::SIGTERM)]
#[test_case(Signal::SIGHUP)]
#[test_case(Signal::SIGINT)]
#[test_case(Signal::SIGQUIT)]
fn signals_reach_the_command(signal: Signal) {
    let place = Place::new();
    let name = signal.as_str().trim_start_matches("SIG");
    let script = format!("trap 'exit 9' {name}; echo ready; while :; do sleep 0.02; done");
    let (mut tidegate, _) = place.start(&script);
    send(&tidegate, signal);
    assert_eq!(tidegate.wait().unwrap().code(), Some(9));
    place.expect_nothing_left(Duration::ZERO);
}

#[test]
fn a_signal_that_the_caller_ignores_stays_ignored() {
    let place = Place::new();
    let mut run = Command::new("nohup");
    run.arg(BINARY).arg("run").args([&place.run_dir, &place.cgroup, &place.scratch.join("ca.pem")]);
    run.args(["-", "--", "sh", "-c", "echo ready; sleep 0.3; exit 4"])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let mut tidegate = run.stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(tidegate.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    send(&tidegate, Signal::SIGHUP);
    assert_eq!(tidegate.wait().unwrap().code(), Some(4));
}

#[test]
fn an_inherited_network_socket_is_closed_or_refused() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let run = |redirection: &str, command: &[&str]| {
        let mut shell = Command::new("bash");
        let inner = format!("exec {redirection}<>/dev/tcp/127.0.0.1/{port}; exec 6</; exec \"$@\"");
        let given = place.command(command);
        shell.args(["-c", &inner, "bash"]).arg(given.get_program()).args(given.get_args());
        shell.output().unwrap()
    };
    let kept = run("5", &["sh", "-c", "ls -l /proc/self/fd"]);
    assert!(kept.status.success() && !stdout(&kept).contains("socket:"), "{kept:?}");
    assert!(!stdout(&kept).contains(" 6 -> "), "{kept:?}");
    let refused = run("0", &["true"]);
    assert_eq!(refused.status.code(), Some(125), "{refused:?}");
    assert!(stderr(&refused).contains("descriptor 0"), "{refused:?}");
}

/// A TLS server whose certificate only the test's CA vouches for.
struct Server(Child, String);

impl Server {
    fn new(place: &Place) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", "-www", "-accept", &port, "-cert", "leaf.pem", "-key", "leaf.key"])
            .current_dir(&place.scratch)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        while std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
            assert!(Instant::now() < end, "the TLS server does not come up");
            thread::sleep(Duration::from_millis(10));
        }
        Self(child, format!("localhost:{port}"))
    }

    fn url(&self) -> String {
        format!("https://{}/", self.1)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

const PYTHON: &str =
    "import ssl,sys,urllib.request as u; ssl.create_default_context(); u.urlopen(sys.argv[1])";

#[test_case(&["curl", "-sS", "-o", "/dev/null"]; "curl by the bundle")]
#[test_case(&["openssl", "s_client", "-verify_return_error", "-no-CAfile", "-no-CAstore", "-CApath", "/etc/ssl/certs", "-connect"]; "OpenSSL by the hashed directory")]
#[test_case(&["/usr/bin/python3", "-c", PYTHON]; "Python")]
fn programs_trust_the_local_ca_without_any_variable(client: &[&str]) {
    let place = Place::new();
    let server = Server::new(&place);
    let url = server.url();
    let mut arguments = vec!["env", "-i", "PATH=/usr/bin:/bin"];
    arguments.extend(client);
    let is_openssl = client.first() == Some(&"openssl");
    arguments.push(if is_openssl { &server.1 } else { &url });
    let outside = Command::new("env").args(&arguments[1..]).stdin(Stdio::null()).output().unwrap();
    assert!(!outside.status.success(), "outside it must not be trusted: {outside:?}");
    let inside = place.command(&arguments).output().unwrap();
    assert!(inside.status.success(), "{inside:?}");
    let unprivileged = place.command_as("nobody", &arguments).output().unwrap();
    assert!(unprivileged.status.success(), "{unprivileged:?}");
}

#[test]
fn the_users_own_bundle_is_merged_and_a_bad_one_stays_with_a_warning() {
    let place = Place::new();
    let server = Server::new(&place);
    let own = place.scratch.join("own.pem");
    let bundle = fs::read("/etc/ssl/certs/ca-certificates.crt").unwrap();
    fs::write(&own, &bundle[..bundle.len().min(4000)]).unwrap();
    let run = |file: &Path| {
        let script = format!("curl -sS -o /dev/null {}; echo $? $CURL_CA_BUNDLE", server.url());
        place.command(&["sh", "-c", &script]).env("CURL_CA_BUNDLE", file).output().unwrap()
    };
    let merged = run(&own);
    assert_eq!(
        stdout(&merged),
        format!("0 {}/trust/CURL_CA_BUNDLE.crt", place.run_dir.display()),
        "{merged:?}"
    );
    let missing = run(Path::new("/nonexistent.pem"));
    assert_eq!(stdout(&missing), "77 /nonexistent.pem", "{missing:?}");
    assert!(stderr(&missing).contains("CURL_CA_BUNDLE=`/nonexistent.pem` cannot be read"), "{missing:?}");
}

#[test]
fn what_the_order_hides_cannot_be_read_or_written() {
    let place = Place::new();
    let (file, directory) = (place.scratch.join("hidden-file"), place.scratch.join("hidden-directory"));
    fs::write(&file, "secret").unwrap();
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("key"), "secret").unwrap();
    let script = "cat hidden-file; echo x >> hidden-file; ls -A hidden-directory; touch hidden-directory/x; \
                  rm -f hidden-file; exit 5";
    let output = place.command(&["sh", "-c", script]).current_dir(&place.scratch).output().unwrap();
    assert_eq!((output.status.code(), stdout(&output)), (Some(5), ""), "{output:?}");
    assert_eq!(fs::read(&file).unwrap(), b"secret");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
}

#[test]
fn the_default_parent_is_the_callers_own_cgroup() {
    let place = Place::new();
    let given =
        place.command(&["sh", "-c", "awk '/ - cgroup2 /{p=$5} END{print p}' /proc/self/mountinfo; cat"]);
    let arguments: Vec<_> = given.get_args().collect();
    let within = |before: &str| {
        let script = format!("echo 0 > '{}/cgroup.procs' && {before} \"$@\"", place.cgroup.display());
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "sh", BINARY, "run"]).arg(&place.run_dir).arg("-").args(&arguments[3..]);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut tidegate = within("exec");
    BufReader::new(tidegate.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    let below = fs::read_dir(&place.cgroup).unwrap().flatten().map(|entry| entry.file_name());
    assert_eq!(below.filter(|name| name.to_str().unwrap().starts_with("tidegate-run-")).count(), 1);
    drop(tidegate.stdin.take());
    assert!(tidegate.wait().unwrap().success());

    let root = place.cgroup.parent().unwrap().display();
    let container =
        format!("exec unshare -Cm sh -c 'mount --bind {} {root} && exec \"$@\"' sh", place.cgroup.display());
    let refused = within(&container).wait_with_output().unwrap();
    assert_eq!(refused.status.code(), Some(125), "{refused:?}");
    assert!(
        stderr(&refused).contains("root of a container, not of the machine: set capture.cgroup_root"),
        "{refused:?}"
    );
    let out_of_sight = within("exec unshare -C").wait_with_output().unwrap();
    assert!(stderr(&out_of_sight).contains("is not visible below"), "{out_of_sight:?}");
}

#[test]
fn the_host_sees_none_of_the_commands_mounts() {
    let place = Place::new();
    let (mut tidegate, _) = place.start("echo ready; sleep 0.2");
    let during = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let own: Vec<_> = during.lines().filter(|line| line.contains(place.run_dir.to_str().unwrap())).collect();
    assert_eq!(own.len(), 1, "only the bpffs: {own:?}");
    assert!(!during.contains(" - tmpfs tidegate "), "{during}");
    assert!(tidegate.wait().unwrap().success());
    place.expect_nothing_left(Duration::ZERO);
}
