//! What outlives the agent: the gate stays shut without one, the next one takes over, and release undoes it all.

use crate::{
    CONNECT,
    bench::{Place, Program, in_cgroup},
};
use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};
use test_case::test_case;
use tidegate::{
    capture::{
        Capture, Captured, Error, Options,
        attached::Problem,
        event::Refused,
        listener::{self, Listener, SharedFlows},
        pins::{self, Pins, removal},
        program::{HOOKS, Kind},
        sys::{self, Link},
    },
    cli::release::{self, ReleaseArgs},
    reason::Reason,
};

const SERVER: &str = "192.0.2.7:443";
const FLOWS: u32 = 64;

/// A place, and the server that no subject may reach.
struct World {
    place: Place,
    server: TcpListener,
    runtime: tokio::runtime::Runtime,
}

/// What a daemon would hold.
struct Agent {
    capture: Capture,
    listeners: Vec<Listener>,
}

impl World {
    fn new() -> Self {
        let place = Place::new();
        let server = TcpListener::bind(SERVER).unwrap();
        server.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { place, server, runtime }
    }

    fn cgroup(&self) -> &Path {
        self.place.cgroup.path()
    }

    fn bpffs(&self) -> &Path {
        self.place.bpffs.path()
    }

    fn pin(&self, path: &str) -> PathBuf {
        let Pins::Shared(directory) = Pins::on(self.bpffs()) else { panic!("pins are shared") };
        directory.join(path)
    }

    /// What tells the programs of a test to end.
    fn stop(&self) -> PathBuf {
        self.bpffs().join("stop")
    }

    fn start_with(&self, pins: &Pins, cgroup: &Path, flows: u32) -> Result<Capture, Error> {
        let _entered = self.runtime.enter();
        let forward_proxies = [];
        let options = Options {
            cgroup,
            pins,
            sticky_tags: false,
            ports: &[443],
            forward_proxies: &forward_proxies,
            flows,
        };
        Capture::start(&options)
    }

    fn adopt(&self) -> Capture {
        self.start_with(&Pins::on(self.bpffs()), self.cgroup(), FLOWS).unwrap()
    }

    /// An agent that listens, without any word on who is a subject.
    fn successor(&self) -> Agent {
        let mut capture = self.adopt();
        let _entered = self.runtime.enter();
        let listeners = listener::bind(&[443]).unwrap();
        for listener in &listeners {
            capture.listeners.publish(listener.netns_cookie, listener.address).unwrap();
        }
        Agent { capture, listeners }
    }

    fn first(&self) -> Agent {
        let mut agent = self.successor();
        agent.capture.subjects.add(self.cgroup()).unwrap();
        agent
    }

    fn subject(&self, command: &[&str]) -> Program {
        in_cgroup(self.cgroup(), command)
    }

    fn connect(&self) -> Program {
        self.subject(&["python3", "-c", CONNECT, SERVER])
    }

    fn accept(&self, listeners: &[Listener], flows: &SharedFlows) -> Captured {
        let accepted = self.within(async { listeners[0].accept(flows).await.unwrap() });
        accepted.expect("the connection has a flow")
    }

    fn refused(&self, capture: &mut Capture) -> Refused {
        let mut first = None;
        self.within(async {
            while first.is_none() {
                capture.events.next(|refused| _ = first.get_or_insert(refused)).await.unwrap();
            }
        });
        first.unwrap()
    }

    fn within<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(10), future).await.expect("within 10 s")
        })
    }

    fn assert_the_server_saw_nothing(&self) {
        if let Ok((_, peer)) = self.server.accept() {
            panic!("{peer} reached the server");
        }
    }
}

/// The programs at each hook of the cgroup.
fn running(cgroup: &Path) -> Vec<Vec<u32>> {
    let directory = fs::File::open(cgroup).unwrap();
    let at_cgroup = HOOKS.iter().filter_map(|hook| match hook.kind {
        Kind::Cgroup(attach_type) => Some(sys::programs_at(directory.as_fd(), attach_type).unwrap()),
        Kind::TracePoint(_) => None,
    });
    at_cgroup.collect()
}

#[test]
fn the_gate_stays_shut_without_an_agent_and_the_next_one_takes_over() {
    let world = World::new();
    let agent = world.first();
    let program = world.connect();
    let flows = SharedFlows::new(agent.capture.flows);
    world.accept(&agent.listeners, &flows);
    assert_eq!(program.output(), "peer 192.0.2.7 443");
    drop((agent.listeners, agent.capture.attached, agent.capture.subjects, flows));

    assert_eq!(world.connect().output(), "error 111");
    world.assert_the_server_saw_nothing();

    let next = world.successor();
    next.capture.attached.verify().unwrap();
    let program = world.connect();
    let captured = world.accept(&next.listeners, &SharedFlows::new(next.capture.flows));
    assert_eq!(captured.destination.0, SERVER.parse::<SocketAddr>().unwrap());
    assert_eq!(program.output(), "peer 192.0.2.7 443");
    world.assert_the_server_saw_nothing();
}

#[test]
fn at_no_instant_of_a_takeover_is_a_hook_without_a_program() {
    let world = World::new();
    drop(world.first());
    let hammer = r#"
import os, socket, sys
attempts = 0
while not os.path.exists(sys.argv[1]):
    s = socket.socket()
    s.settimeout(5)
    attempts += 1
    try:
        s.connect(("192.0.2.7", 443))
        print("connected")
    except OSError as e:
        if e.errno not in (1, 111):
            print("error", e.errno)
    s.close()
print("attempts" if attempts > 100 else "too few")
"#;
    let (done, cgroup) = (AtomicBool::new(false), world.cgroup().to_owned());
    let program = world.subject(&["python3", "-c", hammer, &world.stop().display().to_string()]);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                let running = running(&cgroup);
                assert!(running.iter().all(|programs| !programs.is_empty()), "{running:?}");
                looks += 1;
            }
            looks
        });
        for _ in 0..10 {
            world.adopt().attached.verify().unwrap();
        }
        thread::sleep(Duration::from_millis(300));
        fs::create_dir(world.stop()).unwrap();
        done.store(true, Ordering::Relaxed);
        assert!(watch.join().unwrap() > 100);
    });
    assert_eq!(program.output(), "attempts");
    world.assert_the_server_saw_nothing();
    assert!(running(&cgroup).iter().all(|programs| programs.len() == 1), "one agent's programs are left");
}

#[test]
fn a_flow_and_an_event_wait_for_the_next_agent() {
    let world = World::new();
    let agent = world.first();
    let listeners = agent.listeners;
    drop(agent.capture);
    let program = world.connect();
    assert_eq!(program.output(), "peer 192.0.2.7 443");
    let datagram = "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'quic', ('192.0.2.7', 443))";
    world.subject(&["python3", "-c", datagram]).output_of(1);

    let mut next = world.adopt();
    assert_eq!(world.refused(&mut next).reason, Reason::QuicRefused);
    let captured = world.accept(&listeners, &SharedFlows::new(next.flows));
    assert_eq!(captured.destination.0, SERVER.parse::<SocketAddr>().unwrap());
}

#[test]
fn maps_of_another_shape_are_refused_and_nothing_changes() {
    let world = World::new();
    drop(world.first());
    let before = running(world.cgroup());
    let pins = Pins::on(world.bpffs());
    let Err(error) = world.start_with(&pins, world.cgroup(), 2 * FLOWS) else { panic!("it was adopted") };
    let text = error.to_string();
    for part in ["maps/FLOWS`", "64 entries", "needs type Hash", "128 entries", "tidegate release"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(running(world.cgroup()), before);
    assert_eq!(world.connect().output(), "error 111");
}

#[test_case(&["links/connect4"]; "a link")]
#[test_case(&["links/connect4", "links/connect6", "links/egress", "links/release"]; "some links")]
#[test_case(&["links"]; "all links")]
#[test_case(&["maps/SUBJECT_CGROUPS"]; "the map of subjects")]
#[test_case(&["maps"]; "all maps")]
#[test_case(&["maps", "links/connect4", "links/create"]; "maps and some links")]
fn half_made_pins_are_completed(gone: &[&str]) {
    let world = World::new();
    drop(world.first());
    for path in gone.iter().map(|path| world.pin(path)) {
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
    let next = world.successor();
    next.capture.attached.verify().unwrap();
    let program = world.connect();
    world.accept(&next.listeners, &SharedFlows::new(next.capture.flows));
    assert_eq!(program.output(), "peer 192.0.2.7 443");
    world.assert_the_server_saw_nothing();
    // What was unpinned is detached a little later.
    for _ in 0..100 {
        if running(world.cgroup()).iter().all(|programs| programs.len() == 1) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{:?}", running(world.cgroup()));
}

#[test]
fn a_replacement_that_was_cut_short_is_completed() {
    let world = World::new();
    drop(world.first());
    // The agent died between the pin of the new link and its renaming, over one that somebody had detached.
    fs::rename(world.pin("links/connect4"), world.pin("links/connect4-next")).unwrap();
    drop(world.adopt());
    Link::open(&world.pin("links/connect4")).unwrap().detach().unwrap();

    let next = world.adopt();
    next.attached.verify().unwrap();
    next.attached.retire_others().unwrap();
    assert!(!world.pin("links/connect4-next").exists());
    assert!(running(world.cgroup()).iter().all(|programs| programs.len() == 1));
}

fn detach(pin: &Path) {
    Link::open(pin).unwrap().detach().unwrap();
}

fn unpin(pin: &Path) {
    fs::remove_file(pin).unwrap();
}

fn cover_with_a_link(pin: &Path) {
    fs::rename(pin.with_file_name("egress"), pin).unwrap();
}

fn cover_with_a_map(pin: &Path) {
    fs::rename(pin.with_file_name("FORWARD_PROXIES"), pin).unwrap();
}

#[test_case("links/connect4", detach, "connect4", &Problem::Runs(0); "a detached link")]
#[test_case("links/egress", detach, "egress", &Problem::Runs(0); "the detached backstop")]
#[test_case("maps/SUBJECT_CGROUPS", unpin, "SUBJECT_CGROUPS", &Problem::NoPin; "an unpinned map")]
#[test_case("maps/SUBJECT_CGROUPS", cover_with_a_map, "SUBJECT_CGROUPS", &Problem::OtherPin; "a map under another")]
#[test_case("links/connect6", cover_with_a_link, "connect6", &Problem::Runs(0); "a link under another")]
#[test_case("links/connect6", cover_with_a_link, "egress", &Problem::NoPin; "a link in place of another")]
fn what_is_taken_away_is_named_and_restored(pin: &str, take_away: fn(&Path), name: &str, problem: &Problem) {
    let world = World::new();
    let agent = world.first();
    agent.capture.attached.verify().unwrap();
    take_away(&world.pin(pin));
    let missing = agent.capture.attached.verify().unwrap_err();
    assert!(
        missing.0.iter().any(|fault| fault.name == name && fault.problem == *problem),
        "{missing}: {missing:?}"
    );
    assert!(missing.to_string().contains(name), "{missing}");

    agent.capture.attached.repair().unwrap();
    agent.capture.attached.verify().unwrap();
    assert!(agent.capture.attached.repair().unwrap().is_empty());
    let program = world.connect();
    world.accept(&agent.listeners, &SharedFlows::new(agent.capture.flows));
    assert_eq!(program.output(), "peer 192.0.2.7 443");
}

#[test]
fn a_link_without_a_pin_is_named_and_restored() {
    let world = World::new();
    let agent = world.first();
    // Whoever has it open keeps it attached.
    let held = Link::open(&world.pin("links/connect4")).unwrap();
    unpin(&world.pin("links/connect4"));
    let missing = agent.capture.attached.verify().unwrap_err();
    assert_eq!(missing.to_string(), "the pin of `connect4` is gone");
    drop(held);
    wait_until(|| agent.capture.attached.verify().unwrap_err().to_string() == "`connect4` is not attached");
    assert_eq!(agent.capture.attached.repair().unwrap().len(), 1);
    agent.capture.attached.verify().unwrap();
}

fn wait_until(condition: impl Fn() -> bool) {
    for _ in 0..200 {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("not within 2 s");
}

#[test]
fn a_second_agent_is_refused_and_told_who_is_at_work() {
    let world = World::new();
    let first = world.adopt();
    let before = running(world.cgroup());
    let pid = format!("process {} (", std::process::id());
    let other_pins = Pins::Shared(world.bpffs().join("others/v1"));
    let other_root = world.cgroup().join("below");
    fs::create_dir(&other_root).unwrap();
    for (pins, cgroup) in [
        (Pins::on(world.bpffs()), world.cgroup()),
        (other_pins, world.cgroup()),
        (Pins::on(world.bpffs()), &other_root),
    ] {
        let Err(error) = world.start_with(&pins, cgroup, FLOWS) else { panic!("a second agent started") };
        assert!(error.to_string().contains(&pid), "{error}");
    }
    assert_eq!(running(world.cgroup()), before);
    drop(first);
    world.adopt();
}

#[test]
fn another_root_is_guarded_before_the_old_one_is_let_go() {
    let world = World::new();
    let old = world.cgroup().join("old");
    let new = world.cgroup().join("new");
    for cgroup in [&old, &new] {
        fs::create_dir(cgroup).unwrap();
    }
    let pins = Pins::on(world.bpffs());
    drop(world.start_with(&pins, &old, FLOWS).unwrap());
    let agent = world.start_with(&pins, &new, FLOWS).unwrap();
    agent.attached.verify().unwrap();
    for cgroup in [&old, &new] {
        assert!(running(cgroup).iter().all(|programs| programs.len() == 1));
    }
    assert_eq!(agent.attached.retire_others().unwrap().len(), HOOKS.len());
    assert!(running(&old).iter().all(Vec::is_empty));
    agent.attached.verify().unwrap();
}

#[test]
fn another_layout_holds_until_the_new_one_is_ready() {
    let world = World::new();
    let before = Pins::Shared(pins::base(world.bpffs()).join("v0"));
    let mut old = world.start_with(&before, world.cgroup(), FLOWS).unwrap();
    old.subjects.add(world.cgroup()).unwrap();
    drop(old);
    let agent = world.adopt();
    assert!(running(world.cgroup()).iter().all(|programs| programs.len() == 2));
    assert_eq!(world.connect().output(), "error 1");
    let removed = agent.attached.retire_others().unwrap();
    assert!(
        removed.len() > HOOKS.len()
            && removed.iter().all(|path| path.starts_with(pins::base(world.bpffs()).join("v0")))
    );
    assert!(running(world.cgroup()).iter().all(|programs| programs.len() == 1));
    agent.attached.verify().unwrap();
}

#[test]
fn release_waits_for_the_agent_and_leaves_nothing() {
    let world = World::new();
    let agent = world.first();
    let root = [world.cgroup()];
    let error = removal::release(world.bpffs(), &root, false).unwrap_err();
    assert!(error.to_string().contains(&format!("process {} (", std::process::id())), "{error}");
    agent.capture.attached.verify().unwrap();
    drop(agent);
    drop(
        world.start_with(&Pins::Shared(pins::base(world.bpffs()).join("v0")), world.cgroup(), FLOWS).unwrap(),
    );

    let removed = removal::release(world.bpffs(), &root, false).unwrap();
    assert!(removed.len() > 2 * HOOKS.len(), "{removed:?}");
    assert!(running(world.cgroup()).iter().all(Vec::is_empty));
    assert_eq!(fs::read_dir(world.bpffs()).unwrap().filter(|entry| !is_debug(entry)).count(), 0);
    assert_eq!(world.connect().output(), "peer 192.0.2.7 443");
    world.server.accept().unwrap();
    assert!(removal::release(world.bpffs(), &root, false).unwrap().is_empty());
}

/// The kernel puts files of its own into every bpffs.
fn is_debug(entry: &std::io::Result<fs::DirEntry>) -> bool {
    entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|extension| extension == "debug"))
}

#[test]
fn release_opens_the_gate_in_one_step() {
    let world = World::new();
    drop(world.first());
    let removed = removal::release(world.bpffs(), &[], false).unwrap();
    let order: Vec<&str> =
        removed.iter().filter_map(|path| path.file_name().and_then(|name| name.to_str())).collect();
    let at = |name: &str| order.iter().position(|removed| *removed == name).unwrap();
    assert!(at("connect6") < at("egress") && at("connect4") < at("egress") && at("egress") < at("release"));
    assert!(at("release") < at("SUBJECT_CGROUPS"));
}

#[test]
fn the_release_command_says_what_it_did() {
    let world = World::new();
    nix::mount::mount(
        Some(world.bpffs()),
        Path::new(pins::BPFFS),
        None::<&str>,
        nix::mount::MsFlags::MS_BIND,
        None::<&str>,
    )
    .unwrap();
    let config =
        world.bpffs().parent().unwrap().join(format!("tidegate-release-{}.toml", std::process::id()));
    fs::write(&config, format!("capture.cgroup_root = {:?}\n", world.cgroup())).unwrap();
    let run = |force| {
        let mut out = Vec::new();
        let result = release::run(&ReleaseArgs { config: Some(config.clone()), force }, &mut out);
        (result.map_err(|error| error.to_string()), String::from_utf8(out).unwrap())
    };
    let agent = world.first();
    let (result, out) = run(false);
    assert!(result.unwrap_err().contains("stop it first") && out.is_empty());
    let (result, out) = run(true);
    assert_eq!(result, Ok(0));
    assert!(out.contains("removed /sys/fs/bpf/tidegate/v1/links/connect4\n"), "{out}");
    assert!(out.trim_end().ends_with("the daemon's workloads are no longer held by anything"), "{out}");
    let missing = agent.capture.attached.verify().unwrap_err();
    assert!(missing.0.len() > HOOKS.len(), "{missing}");
    assert_eq!(run(false), (Ok(0), "nothing to release in /sys/fs/bpf/tidegate\n".to_owned()));
    fs::remove_file(config).unwrap();
}
