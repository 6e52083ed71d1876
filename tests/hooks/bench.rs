//! A network namespace, a cgroup and the attached hooks, with nothing of the proxy.

use nix::{
    mount::{MntFlags, umount2},
    sched::{CloneFlags, unshare},
};
use std::{
    cell::{RefCell, RefMut},
    io::{Read, Write},
    net::SocketAddr,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use tidegate::capture::{
    Capture, Captured, Options,
    event::Refused,
    listener::{self, Listener, SharedFlows},
    maps::{Exempt, ForwardProxies, Protected, SettingsMap, Sticky, Subjects},
    own_sockets::OwnSockets,
    pins::Pins,
};
use tidegate_tests::{cgroup::Cgroup, process::patience};
use tokio::io::AsyncReadExt;

/// The forward proxies that every bench captures.
pub(crate) const PROXIES: [&str; 2] = ["192.0.2.8:3128", "[2001:db8::8]:3128"];

pub(crate) struct Bench {
    capture: RefCell<Parts>,
    lists: RefCell<Lists>,
    forward_proxies: ForwardProxies,
    listeners: Vec<Listener>,
    flows: SharedFlows,
    runtime: tokio::runtime::Runtime,
    place: Place,
}

/// A network namespace in which every address is local, a cgroup, and a bpffs; for the calling thread and its children.
pub(crate) struct Place {
    pub(crate) cgroup: Cgroup,
    pub(crate) bpffs: tempfile::TempDir,
}

/// What stays of the capture once its flow table is shared.
struct Parts {
    events: tidegate::capture::event::Events,
}

/// The lists that the kernel side goes by.
pub(crate) struct Lists {
    pub(crate) subjects: Subjects,
    pub(crate) protected: Protected,
    pub(crate) exempt: Exempt,
    pub(crate) settings: SettingsMap,
    pub(crate) sticky: Sticky,
}

pub(crate) struct Program(Child);

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self::start(1024, true);
        bench.lists().subjects.add(bench.cgroup()).unwrap();
        bench
    }

    /// With nobody as a subject yet.
    pub(crate) fn without_subjects() -> Self {
        Self::start(1024, true)
    }

    pub(crate) fn with_flows(flows: u32) -> Self {
        let bench = Self::start(flows, true);
        bench.lists().subjects.add(bench.cgroup()).unwrap();
        bench
    }

    pub(crate) fn without_listeners() -> Self {
        let bench = Self::start(1024, false);
        bench.lists().subjects.add(bench.cgroup()).unwrap();
        bench
    }

    fn start(flows: u32, publish: bool) -> Self {
        let place = Place::new();
        let cgroup = &place.cgroup;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        let forward_proxies = proxies();
        let options = Options {
            cgroup: cgroup.path(),
            pins: &Pins::Private(place.bpffs.path().to_owned()),
            sticky_tags: false,
            packet_sockets: false,
            ports: &[443],
            forward_proxies: &forward_proxies,
            flows,
        };
        let mut capture = Capture::start(&options).unwrap();
        let listeners = listener::bind(&OwnSockets::default(), &[443], [false; 2], |_, _| None).unwrap();
        assert_eq!(listeners.len(), 2, "both families have a global route here");
        if publish {
            for listener in &listeners {
                capture.listeners.publish(listener.netns_cookie, listener.address).unwrap();
            }
        }
        drop(_entered);
        let Capture { events, flows, forward_proxies, subjects, protected, exempt, settings, sticky, .. } =
            capture;
        Self {
            capture: RefCell::new(Parts { events }),
            lists: RefCell::new(Lists { subjects, protected, exempt, settings, sticky }),
            forward_proxies,
            listeners,
            flows: SharedFlows::new(flows),
            runtime,
            place,
        }
    }

    pub(crate) fn lists(&self) -> RefMut<'_, Lists> {
        self.lists.borrow_mut()
    }

    pub(crate) fn forward_proxies(&mut self) -> &mut ForwardProxies {
        &mut self.forward_proxies
    }

    pub(crate) fn cgroup(&self) -> &Path {
        self.place.cgroup.path()
    }

    pub(crate) fn cgroup_id(&self) -> u64 {
        std::fs::metadata(self.cgroup()).unwrap().ino()
    }

    /// Takes one hook away.
    pub(crate) fn detach(&self, hook: &str) {
        std::fs::remove_file(self.place.bpffs.path().join(hook)).unwrap();
    }

    pub(crate) fn listener_port(&self) -> u16 {
        self.listeners[0].address.port()
    }

    pub(crate) fn subject(&self, command: &[&str]) -> Program {
        self.in_cgroup(self.cgroup(), command)
    }

    pub(crate) fn in_cgroup(&self, cgroup: &Path, command: &[&str]) -> Program {
        in_cgroup(cgroup, command)
    }

    /// A subject to talk with, line by line.
    pub(crate) fn talking(&self, command: &[&str]) -> Program {
        let mut join = joining(self.cgroup());
        join.args(command).stdin(Stdio::piped());
        spawn(join)
    }

    /// A subject with this standard input.
    pub(crate) fn with_input(&self, input: OwnedFd, command: &[&str]) -> Program {
        let mut join = joining(self.cgroup());
        join.args(command).stdin(input);
        spawn(join)
    }

    pub(crate) fn outsider(&self, command: &[&str]) -> Program {
        let mut program = Command::new(command[0]);
        program.args(&command[1..]);
        spawn(program)
    }

    pub(crate) fn accept(&self) -> Captured {
        self.accept_any().expect("the connection has a flow")
    }

    pub(crate) fn accept_without_flow(&self) {
        assert!(self.accept_any().is_err(), "the connection has a flow");
    }

    /// A server of the namespace that has nothing to do with capture.
    pub(crate) fn server(&self) -> (tokio::net::TcpListener, u16) {
        self.server_at("0.0.0.0", 0)
    }

    pub(crate) fn server_at(&self, address: &str, port: u16) -> (tokio::net::TcpListener, u16) {
        let server = self.within(tokio::net::TcpListener::bind((address, port))).unwrap();
        let port = server.local_addr().unwrap().port();
        (server, port)
    }

    pub(crate) fn accept_on(&self, server: &tokio::net::TcpListener) {
        self.within(server.accept()).unwrap();
    }

    pub(crate) fn accepted(&self, server: &tokio::net::TcpListener) -> tokio::net::TcpStream {
        self.within(server.accept()).unwrap().0
    }

    /// The next bytes of a connection, if they come soon.
    pub(crate) fn received(&self, connection: &mut tokio::net::TcpStream) -> Option<Vec<u8>> {
        let mut bytes = [0; 64];
        let read = async {
            let read = connection.read(&mut bytes);
            tokio::time::timeout(Duration::from_millis(500), read).await.ok().map(Result::unwrap)
        };
        let length = self.runtime.block_on(read)?;
        Some(bytes[..length].to_vec())
    }

    pub(crate) fn refused(&self) -> Refused {
        let mut first = None;
        let events = &mut self.capture.borrow_mut().events;
        self.within(async {
            while first.is_none() {
                events.next(|refused| _ = first.get_or_insert(refused)).await.unwrap();
            }
        });
        first.unwrap()
    }

    pub(crate) fn assert_nothing_arrived(&self) {
        let arrived = self.runtime.block_on(async {
            tokio::time::timeout(Duration::from_millis(50), self.listeners[0].accept(&self.flows)).await
        });
        assert!(arrived.is_err(), "a connection arrived");
    }

    fn accept_any(&self) -> Result<Captured, listener::NoFlow> {
        let [v4, v6] = &self.listeners[..] else { panic!("two listeners") };
        self.within(async {
            tokio::select! {
                accepted = v4.accept(&self.flows) => accepted.unwrap(),
                accepted = v6.accept(&self.flows) => accepted.unwrap(),
            }
        })
    }

    /// The next connection that has a flow, if there is one soon.
    pub(crate) fn accept_within(&self, limit: Duration) -> Option<Captured> {
        let [v4, v6] = &self.listeners[..] else { panic!("two listeners") };
        let accepted = self.runtime.block_on(async {
            let either = async {
                tokio::select! {
                    accepted = v4.accept(&self.flows) => accepted.unwrap(),
                    accepted = v6.accept(&self.flows) => accepted.unwrap(),
                }
            };
            tokio::time::timeout(limit, either).await
        });
        accepted.ok()?.ok()
    }

    pub(crate) fn within<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(10) * patience(), future).await.expect("in time")
        })
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        // Only this thread and its children live in the new namespaces.
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let bpffs = tempfile::tempdir().unwrap();
        shell(&format!(
            "mount --make-rprivate / && mount -t bpf bpf {} && ip link set lo up \
             && ip route add local default dev lo && ip -6 route add local default dev lo",
            bpffs.path().display()
        ));
        Self { cgroup: own_cgroup(), bpffs }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What something is mounted on cannot be removed, and its removal follows.
        let unmounted = umount2(self.bpffs.path(), MntFlags::MNT_DETACH);
        if let Err(errno) = unmounted {
            eprintln!("{} stays: {errno}", self.bpffs.path().display());
        }
        // The test's processes have been waited for, or die here; their cgroups go with them.
        let kill = std::fs::write(self.cgroup.path().join("cgroup.kill"), "1");
        let remove = "find \"$0\" -depth -type d -exec rmdir {} +";
        for _ in 0..50 {
            let removed = Command::new("sh").args(["-c", remove]).arg(self.cgroup.path()).status();
            if removed.is_ok_and(|status| status.success()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("{} stays: {kill:?}", self.cgroup.path().display());
    }
}

impl Program {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        let mut byte = [0];
        let output = self.0.stdout.as_mut().unwrap();
        while output.read(&mut byte).unwrap() == 1 && byte != [b'\n'] {
            line.push(char::from(byte[0]));
        }
        line
    }

    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    pub(crate) fn output(self) -> String {
        self.output_of(0)
    }

    /// What it printed, where it ended with this status.
    pub(crate) fn output_of(self, status: i32) -> String {
        let output = self.0.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

fn proxies() -> Vec<SocketAddr> {
    PROXIES.iter().map(|proxy| proxy.parse().unwrap()).collect()
}

/// Enters the cgroup before it becomes what its arguments say.
fn joining(cgroup: &Path) -> Command {
    let mut join = Command::new("sh");
    join.args(["-c", "echo 0 > \"$0\" && exec \"$@\""]).arg(cgroup.join("cgroup.procs"));
    join
}

/// A command in a cgroup.
pub(crate) fn in_cgroup(cgroup: &Path, command: &[&str]) -> Program {
    let mut join = joining(cgroup);
    join.args(command);
    spawn(join)
}

fn spawn(mut command: Command) -> Program {
    Program(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

fn shell(script: &str) {
    assert!(Command::new("sh").args(["-ec", script]).status().unwrap().success(), "{script}");
}

fn own_cgroup() -> Cgroup {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    assert!(nix::unistd::geteuid().is_root(), "these tests need root: run them with sudo");
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Cgroup::create(&format!("tidegate-hooks-test-{}-{number}", std::process::id())).unwrap()
}
