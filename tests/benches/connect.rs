//! What the hooks cost a connect, in one run: with no program, with one that does nothing, and with tidegate's, for
//! a program that is no subject, a subject at another port, and a subject that is redirected.
//!
//! `cargo bench -p tidegate-tests --bench connect` (root)

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark fails by panicking, and says what it measures"
)]
#![expect(unsafe_code, reason = "aya loads no program without an object")]

use nix::{
    libc,
    sched::{CloneFlags, unshare},
};
use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Instant,
};
use tidegate::capture::{
    Capture, Options, attached,
    listener::{self, SharedFlows},
    maps,
    own_sockets::OwnSockets,
    pins::Pins,
    sys::{AttachType, Link},
};
use tidegate_tests::cgroup::Cgroup;

const ROUNDS: usize = 40;
const CONNECTS: u32 = 250;

const OTHER_PORT: &str = "192.0.2.7:5000";
const CAPTURED: &str = "192.0.2.7:443";

fn main() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("root");
    let scratch = tempfile::tempdir().unwrap();
    let pins = scratch.path().join("pins");
    fs::create_dir(&pins).unwrap();
    shell(&format!(
        "mount --make-rprivate / && mount -t bpf bpf {} && ip link set lo up && ip route add local default dev lo",
        pins.display()
    ));
    // Connections that have ended would otherwise take all ports.
    shell(
        "echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse; echo '1024 65000' >/proc/sys/net/ipv4/ip_local_port_range",
    );
    for address in [OTHER_PORT, CAPTURED] {
        serve(TcpListener::bind(address).unwrap());
    }

    let place = Place::new();
    let plain = Case {
        name: "no program",
        attached: Attached::Nothing,
        cgroup: place.outside.clone(),
        to: OTHER_PORT,
    };
    let idle = Case { name: "a program that does nothing", attached: Attached::Idle, ..plain.clone() };
    let untagged = Case { name: "tidegate, no subject", attached: Attached::Tidegate, ..plain.clone() };
    let other =
        Case { name: "tidegate, a subject, another port", cgroup: place.inside.clone(), ..untagged.clone() };
    let redirected = Case { name: "tidegate, a subject, redirected", to: CAPTURED, ..other.clone() };
    let cases = [plain, idle, untagged, other, redirected];

    // The cases take turns, so that a change of the machine's speed meets all of them.
    let mut samples = vec![Vec::with_capacity(ROUNDS); cases.len()];
    for _ in 0..ROUNDS {
        for (case, samples) in cases.iter().zip(&mut samples) {
            samples.push(place.measure(case, &pins));
        }
    }
    println!(
        "one connect and close, µs: median and least of {ROUNDS} rounds of {CONNECTS}; ratio of medians to `{}`",
        cases[0].name
    );
    let first = median(&mut samples[0]);
    for (case, samples) in cases.iter().zip(&mut samples) {
        let median = median(samples);
        println!("{:36} {median:7.2} {:7.2}   {:.2}", case.name, samples[0], median / first);
    }
}

#[derive(Clone, Copy)]
enum Attached {
    Nothing,
    Idle,
    Tidegate,
}

#[derive(Clone)]
struct Case {
    name: &'static str,
    attached: Attached,
    cgroup: PathBuf,
    to: &'static str,
}

/// What keeps tidegate's hooks at work.
type Attachment = (attached::Attached, maps::Subjects);

/// The cgroup that programs are attached at, with one in which nobody is a subject, and one in which everybody is.
struct Place {
    root: Cgroup,
    outside: PathBuf,
    inside: PathBuf,
    home: PathBuf,
}

impl Place {
    fn new() -> Self {
        let text = fs::read_to_string("/proc/self/cgroup").unwrap();
        let home = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
        let home = tidegate_tests::cgroup::mount_point().unwrap().join(home);
        let root = Cgroup::create(&format!("tidegate-bench-{}", std::process::id())).unwrap();
        let outside = root.child("outside").unwrap().path().to_owned();
        let inside = root.child("inside").unwrap().path().to_owned();
        Self { root, outside, inside, home }
    }

    /// Microseconds for one connect and close.
    fn measure(&self, case: &Case, pins: &Path) -> f64 {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _entered = runtime.enter();
        let idle = matches!(case.attached, Attached::Idle).then(|| attach_idle(self.root.path()));
        let capture = matches!(case.attached, Attached::Tidegate).then(|| self.attach(pins));
        fs::write(case.cgroup.join("cgroup.procs"), "0").unwrap();
        let to: SocketAddr = case.to.parse().unwrap();
        let start = Instant::now();
        for _ in 0..CONNECTS {
            drop(TcpStream::connect(to).unwrap());
        }
        let elapsed = start.elapsed();
        fs::write(self.home.join("cgroup.procs"), "0").unwrap();
        drop((idle, capture));
        for pin in fs::read_dir(pins).unwrap().flatten().filter(|pin| pin.path().extension().is_none()) {
            fs::remove_file(pin.path()).unwrap();
        }
        elapsed.as_secs_f64() * 1e6 / f64::from(CONNECTS)
    }

    fn attach(&self, pins: &Path) -> Attachment {
        let options = Options {
            cgroup: self.root.path(),
            pins: &Pins::Private(pins.to_owned()),
            sticky_tags: false,
            packet_sockets: false,
            ports: &[443],
            forward_proxies: &[],
            flows: 65_536,
        };
        let mut capture = Capture::start(&options).unwrap();
        let flows = SharedFlows::new(capture.flows);
        for listener in listener::bind(&OwnSockets::default(), &[443], [false; 2], |_, _| None).unwrap() {
            capture.listeners.publish(listener.netns_cookie, listener.address).unwrap();
            let flows = flows.clone();
            tokio::spawn(async move { while listener.accept(&flows).await.is_ok() {} });
        }
        capture.subjects.add(&self.inside).unwrap();
        (capture.attached, capture.subjects)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for path in [&self.inside, &self.outside, self.root.path()] {
            fs::remove_dir(path).unwrap();
        }
    }
}

fn serve(server: TcpListener) {
    thread::spawn(move || {
        for connection in server.incoming() {
            drop(connection);
        }
    });
}

fn shell(script: &str) {
    assert!(Command::new("sh").args(["-ec", script]).status().unwrap().success(), "{script}");
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Attaches a program of two instructions that lets every connect pass.
fn attach_idle(cgroup: &Path) -> Link {
    // r0 = 1; exit
    let instructions: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];
    let license = c"Dual MIT/GPL";
    let mut attributes = [0_u64; 16];
    // Type CGROUP_SOCK_ADDR, two instructions.
    attributes[0] = 18 | 2 << 32;
    attributes[1] = instructions.as_ptr() as u64;
    attributes[2] = license.as_ptr() as u64;
    // The expected attach type lies at byte 68.
    attributes[8] = u64::from(AttachType::Inet4Connect as u32) << 32;
    // SAFETY: the attributes are of 128 bytes, zero behind those that are set, and point to data that outlives the call;
    // the kernel answers a new descriptor.
    let program = unsafe {
        let descriptor = libc::syscall(libc::SYS_bpf, 5, attributes.as_ptr(), size_of_val(&attributes));
        assert!(descriptor >= 0, "BPF_PROG_LOAD: {}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(i32::try_from(descriptor).unwrap())
    };
    let directory = File::open(cgroup).unwrap();
    Link::attach_to_cgroup(program.as_fd(), directory.as_fd(), AttachType::Inet4Connect).unwrap()
}
