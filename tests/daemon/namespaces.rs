//! Subjects in network namespaces of their own, as containers are: captured at their own loopback, and served from there.

use crate::{api, look, told};
use anyhow::{Context as _, Result, ensure};
use std::net::{IpAddr, Ipv4Addr};
use tidegate_tests::{
    agent::{LIMIT, READ_ONLY},
    cgroup::Cgroup,
    client::{self, Answer},
    daemon::Daemon,
    process::{Finished, Process, wait_until},
    scene::Scene,
};

/// Where the box is, as the other end of its only link sees it.
const BOX: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 2));

/// A network namespace with one link to the world, and the process that keeps it.
pub(super) struct Container<'s> {
    scene: &'s Scene,
    process: Process,
    link: String,
}

impl<'s> Container<'s> {
    /// Starts its process in this cgroup and links it to the world. Its routes come later, as a container's do.
    pub(super) fn linked(scene: &'s Scene, cgroup: &Cgroup) -> Result<Self> {
        let container = Self::start(scene, cgroup)?;
        container.link()?;
        Ok(container)
    }

    /// Starts its process; it has no link yet.
    fn start(scene: &'s Scene, cgroup: &Cgroup) -> Result<Self> {
        let script = "ip link set lo up; echo up; exec sleep 600";
        let mut command = scene.world.command_in(cgroup, &["unshare", "--net", "sh", "-c", script]);
        let mut process = Process::start(&mut command, scene.directory())?;
        process.wait_for_output("up", LIMIT)?;
        let link = format!("box{}", process.id());
        Ok(Self { scene, process, link })
    }

    /// Links it to the world.
    fn link(&self) -> Result<()> {
        let pid = self.process.id();
        let link = &self.link;
        let script = format!(
            "ip link add {link} type veth peer name eth0 netns {pid} && ip address add 10.99.0.1/24 dev {link} && \
             ip link set {link} up && nsenter --net=/proc/{pid}/ns/net sh -c '\
             ip address add {BOX}/24 dev eth0 && ip link set eth0 up && ip route add default via 10.99.0.1'"
        );
        let mut command = self.scene.world.command(&["sh", "-c", &script]);
        let linked = Process::run(&mut command, self.scene.directory(), LIMIT)?;
        ensure!(linked.status.success(), "{linked:?}");
        Ok(())
    }

    /// What a command line begins with that is run in there.
    pub(super) fn within(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.process.id())]
    }

    /// Ends its last process.
    pub(super) fn end(&mut self) -> Result<()> {
        self.process.signal(nix::sys::signal::Signal::SIGKILL)?;
        wait_until("the process to end", LIMIT, || Ok(self.process.ended()?.is_some()))
    }

    /// Runs a command in there, in this cgroup, that trusts this file.
    fn run(&self, cgroup: &Cgroup, line: &[String], ca: &str) -> Result<Finished> {
        let mut command = self.scene.world.command_in(cgroup, &[&self.within(), line].concat());
        client::trust(&mut command, ca.as_ref());
        Process::run(&mut command, self.scene.directory(), LIMIT)
    }

    /// What the API answers a subject in there, once there is a listener.
    pub(super) fn ask(&self, cgroup: &Cgroup, line: &[String]) -> Result<Answer> {
        let mut answer = None;
        wait_until("an answer in the container", LIMIT, || {
            answer = Answer::of(&self.run(cgroup, line, "/run/tidegate/ca.pem")?).ok();
            Ok(answer.is_some())
        })?;
        answer.context("an answer")
    }

    /// Whether the world still has the link's other end, which goes with the namespace.
    pub(super) fn is_there(&self) -> Result<bool> {
        let mut command = self.scene.world.command(&["ip", "link", "show", &self.link]);
        Ok(Process::run(&mut command, self.scene.directory(), LIMIT)?.status.success())
    }
}

pub(super) fn daemon(scene: &Scene) -> Result<Daemon<'_>> {
    Daemon::new(scene)?.policy("look", READ_ONLY)?.workload("ci", "look", r#"[{ cgroup = "CGROUP/ci/**" }]"#)
}

fn delete() -> Vec<String> {
    client::curl(&["-X", "DELETE"], &api("/v2/droplets/1"), "")
}

#[test]
fn a_subject_in_a_namespace_of_its_own_is_served_from_there() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?;
    let ci = scene.world.cgroup().child("ci")?;
    let running = daemon.start()?;
    let job = ci.child("job")?;
    let container = Container::linked(&scene, &job)?;
    assert_eq!(container.ask(&job, &look())?.status, 200);
    assert_eq!(container.ask(&job, &delete())?.status, 403);
    let requests = scene.requests()?;
    let peers: Vec<_> = requests.iter().filter_map(|request| request.peer).map(|peer| peer.ip()).collect();
    assert_eq!((requests.len(), peers.as_slice()), (1, [BOX].as_slice()), "{requests:?}");
    running.stop()?;
    let records = daemon.records()?;
    let decided: Vec<_> =
        told(&records).into_iter().filter(|(_, _, reason)| *reason != "no_listener").collect();
    assert_eq!(decided, [("ci", "look", "scopes_allowed"), ("ci", "look", "missing_scope")]);
    Ok(())
}

#[test]
fn a_namespace_goes_when_its_last_process_does() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?;
    let ci = scene.world.cgroup().child("ci")?;
    let running = daemon.start()?;
    assert_eq!(daemon.listeners_elsewhere()?, 0);
    for number in 0..3 {
        let job = ci.child(&format!("job-{number}"))?;
        let mut container = Container::linked(&scene, &job)?;
        // A connection that is kept for later use would keep the namespace, too.
        assert_eq!(container.ask(&job, &look())?.status, 200);
        assert_eq!(daemon.listeners_elsewhere()?, 1);
        container.end()?;
        wait_until("the namespace to go", LIMIT, || Ok(!container.is_there()?))?;
        assert_eq!(daemon.listeners_elsewhere()?, 0);
    }
    running.stop()?;
    Ok(())
}

#[test]
fn a_neighbour_that_is_no_subject_is_not_touched() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?;
    let other = scene.world.cgroup().child("other")?;
    let running = daemon.start()?;
    let container = Container::linked(&scene, &other)?;
    let ca = scene.standin.ca_file();
    let answer = Answer::of(&container.run(&other, &look(), &ca.display().to_string())?)?;
    assert_eq!((answer.status, daemon.listeners_elsewhere()?), (200, 0), "{answer:?}");
    running.stop()?;
    assert_eq!(told(&daemon.records()?), []);
    Ok(())
}

#[test]
fn a_container_is_shut_while_the_daemon_is_gone_and_served_again_after() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?;
    let ci = scene.world.cgroup().child("ci")?;
    let running = daemon.start()?;
    let job = ci.child("job")?;
    let container = Container::linked(&scene, &job)?;
    assert_eq!(container.ask(&job, &look())?.status, 200);
    running.kill()?;
    let ca = "/run/tidegate/ca.pem";
    assert!(Answer::of(&container.run(&job, &look(), ca)?).is_err());
    assert!(
        Answer::of(&container.run(&job, &look(), &scene.standin.ca_file().display().to_string())?).is_err()
    );
    assert_eq!(scene.requests()?.len(), 1);
    let running = daemon.start()?;
    assert_eq!(container.ask(&job, &look())?.status, 200);
    running.stop()?;
    Ok(())
}

#[test]
fn no_connection_of_a_container_is_refused_between_two_daemons_where_listeners_are_kept() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?.keeping();
    let ci = scene.world.cgroup().child("ci")?;
    let running = daemon.start()?;
    let job = ci.child("job")?;
    let container = Container::linked(&scene, &job)?;
    assert_eq!(container.ask(&job, &look())?.status, 200);
    running.stop()?;
    // It waits in the listener until the next daemon has it.
    let waiting = std::thread::scope(|scope| {
        let asked = scope.spawn(|| container.run(&job, &look(), "/run/tidegate/ca.pem"));
        let running = daemon.start();
        let answer = asked.join();
        running.and_then(|running| {
            running.stop()?;
            answer.map_err(|_| anyhow::anyhow!("it panicked"))?
        })
    })?;
    assert_eq!(Answer::of(&waiting)?.status, 200);
    Ok(())
}
