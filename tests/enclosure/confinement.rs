//! What the command cannot do, see or inherit.

use crate::place::{Place, send, stderr, stdout};
use nix::sys::signal::Signal;
use std::{
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    process::Command,
    thread,
    time::{Duration, Instant},
};
use test_case::test_case;

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

/// Every way by which a root command might change what lies in the directory. Each must fail.
const WAYS_TO_WRITE: [&str; 10] = [
    "echo wide > read-only/p.toml",
    "echo wide >> read-only/p.toml",
    "echo wide > new && mv new read-only/p.toml",
    "ln new read-only/other",
    "rm read-only/p.toml",
    "chmod 666 read-only/p.toml",
    "mv read-only away",
    "umount read-only",
    "ln read-only/p.toml link && echo wide > link",
    "unshare -Urm sh -c 'mount -o remount,rw,bind read-only || umount read-only || mount --bind . /mnt && echo wide > \
     /mnt/read-only/p.toml'",
];

#[test]
fn what_the_order_keeps_read_only_can_be_read_and_run_and_not_changed() {
    let place = Place::new();
    let (directory, alias) = (place.scratch.join("read-only"), place.scratch.join("alias"));
    fs::create_dir(&directory).unwrap();
    fs::create_dir(&alias).unwrap();
    fs::write(directory.join("p.toml"), "narrow").unwrap();
    fs::write(directory.join("tool"), "#!/bin/sh\necho ran\n").unwrap();
    fs::set_permissions(directory.join("tool"), Permissions::from_mode(0o755)).unwrap();
    let ways =
        WAYS_TO_WRITE.map(|way| format!("if {way}; then echo \"could: {way}\"; fi 2>/dev/null\n")).concat();
    let script = format!(
        "cd {}; cat read-only/p.toml; echo; ./read-only/tool; {ways} echo wide > alias/p.toml",
        place.scratch.display()
    );
    // The same directory at another place, as a chroot or container may have it.
    let bind = "mount --bind \"$0/read-only\" \"$0/alias\" && exec \"$@\"";
    let given = place.command(&["sh", "-c", &script]);
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", bind])
        .arg(&place.scratch)
        .arg(given.get_program())
        .args(given.get_args())
        .output()
        .unwrap();
    assert_eq!(stdout(&output), "narrow\nran", "{output:?}");
    assert!(stderr(&output).contains("alias/p.toml: Read-only file system"), "{output:?}");
    assert_eq!(fs::read(directory.join("p.toml")).unwrap(), b"narrow");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
}
