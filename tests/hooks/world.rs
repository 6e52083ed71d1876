//! A place with shared pins, and agents that come and go in it.

use crate::{
    CONNECT,
    bench::{Place, Program, in_cgroup},
};
use std::{
    fs,
    net::TcpListener,
    os::fd::AsFd,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};
use tidegate::capture::{
    Capture, Captured, Error, Options,
    event::Refused,
    listener::{self, Listener, SharedFlows},
    own_sockets::OwnSockets,
    pins::Pins,
    program::{HOOKS, Kind},
    sys,
};
use tidegate_tests::process::patience;

/// Where no subject may get to.
pub(crate) const SERVER: &str = "192.0.2.7:443";
/// The size of the tables of flows.
pub(crate) const FLOWS: u32 = 64;

/// A place, and the server that no subject may reach.
pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) server: TcpListener,
    pub(crate) runtime: tokio::runtime::Runtime,
}

/// What a daemon would hold.
pub(crate) struct Agent {
    pub(crate) capture: Capture,
    pub(crate) listeners: Vec<Listener>,
}

impl World {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        let server = TcpListener::bind(SERVER).unwrap();
        server.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { place, server, runtime }
    }

    pub(crate) fn cgroup(&self) -> &Path {
        self.place.cgroup.path()
    }

    pub(crate) fn bpffs(&self) -> &Path {
        self.place.bpffs.path()
    }

    pub(crate) fn pin(&self, path: &str) -> PathBuf {
        let Pins::Shared(directory) = Pins::on(self.bpffs()) else { panic!("pins are shared") };
        directory.join(path)
    }

    /// What tells the programs of a test to end.
    pub(crate) fn stop(&self) -> PathBuf {
        self.bpffs().join("stop")
    }

    pub(crate) fn start_with(&self, pins: &Pins, cgroup: &Path, flows: u32) -> Result<Capture, Error> {
        let _entered = self.runtime.enter();
        start(pins, cgroup, flows)
    }

    pub(crate) fn adopt(&self) -> Capture {
        self.start_with(&Pins::on(self.bpffs()), self.cgroup(), FLOWS).unwrap()
    }

    /// An agent that listens, without any word on who is a subject.
    pub(crate) fn successor(&self) -> Agent {
        let _entered = self.runtime.enter();
        Agent::listening(self.bpffs(), self.cgroup())
    }

    pub(crate) fn first(&self) -> Agent {
        let mut agent = self.successor();
        agent.capture.subjects.add(self.cgroup()).unwrap();
        agent
    }

    pub(crate) fn subject(&self, command: &[&str]) -> Program {
        in_cgroup(self.cgroup(), command)
    }

    pub(crate) fn connect(&self) -> Program {
        self.subject(&["python3", "-c", CONNECT, SERVER])
    }

    pub(crate) fn accept(&self, listeners: &[Listener], flows: &SharedFlows) -> Captured {
        let accepted = self.within(async { listeners[0].accept(flows).await.unwrap() });
        accepted.expect("the connection has a flow")
    }

    pub(crate) fn refused(&self, capture: &mut Capture) -> Refused {
        let mut first = None;
        self.within(async {
            while first.is_none() {
                capture.events.next(|refused| _ = first.get_or_insert(refused)).await.unwrap();
            }
        });
        first.unwrap()
    }

    pub(crate) fn within<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(10) * patience(), future).await.expect("in time")
        })
    }

    pub(crate) fn assert_the_server_saw_nothing(&self) {
        if let Ok((_, peer)) = self.server.accept() {
            panic!("{peer} reached the server");
        }
    }
}

impl Agent {
    /// Within a runtime.
    pub(crate) fn listening(bpffs: &Path, cgroup: &Path) -> Self {
        let mut capture = start(&Pins::on(bpffs), cgroup, FLOWS).unwrap();
        let listeners = listener::bind(&OwnSockets::default(), &[443], [false; 2], |_, _| None).unwrap();
        for listener in &listeners {
            capture.listeners.publish(listener.netns_cookie, listener.address).unwrap();
        }
        Self { capture, listeners }
    }
}

fn start(pins: &Pins, cgroup: &Path, flows: u32) -> Result<Capture, Error> {
    let ports = [443];
    let options = Options {
        cgroup,
        pins,
        sticky_tags: false,
        packet_sockets: false,
        ports: &ports,
        forward_proxies: &[],
        flows,
    };
    Capture::start(&options)
}

/// The programs at each hook of the cgroup.
pub(crate) fn running(cgroup: &Path) -> Vec<Vec<u32>> {
    let directory = fs::File::open(cgroup).unwrap();
    let at_cgroup = HOOKS.iter().filter_map(|hook| match hook.kind {
        Kind::Cgroup(attach_type) => Some(sys::programs_at(directory.as_fd(), attach_type).unwrap()),
        Kind::TracePoint(_) | Kind::Lsm => None,
    });
    at_cgroup.collect()
}

pub(crate) fn wait_until(condition: impl Fn() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("not within 20 s");
}
