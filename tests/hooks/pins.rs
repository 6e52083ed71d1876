//! What outlives the agent: the gate stays shut without one, and the next one takes over.

use crate::world::{FLOWS, SERVER, World, running, wait_until};
use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};
use test_case::test_case;
use tidegate::{
    capture::{attached::Problem, listener::SharedFlows, pins::Pins, sys::Link},
    reason::Reason,
};

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
fn a_takeover_changes_the_programs_of_the_links_that_are_there() {
    let world = World::new();
    let links = || {
        let names = fs::read_dir(world.pin("links")).unwrap().map(|entry| entry.unwrap().path());
        let links = names.map(|path| (path.clone(), Link::open(&path).unwrap().info().unwrap()));
        links.collect::<BTreeMap<_, _>>()
    };
    drop(world.first());
    let before = links();
    let next = world.adopt();
    let after = links();
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (path, link) in before {
        assert_eq!(after[&path].id, link.id, "{}", path.display());
        assert_ne!(after[&path].program_id, link.program_id, "{}", path.display());
    }
    next.attached.verify().unwrap();
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
#[test_case(&["maps/CGROUPS"]; "the map of subjects")]
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
    wait_until(|| running(world.cgroup()).iter().all(|programs| programs.len() == 1));
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
    // What is only unpinned is detached a little later.
    detach(pin);
    fs::rename(pin.with_file_name("egress"), pin).unwrap();
}

fn cover_with_a_map(pin: &Path) {
    fs::rename(pin.with_file_name("FORWARD_PROXIES"), pin).unwrap();
}

#[test_case("links/connect4", detach, "connect4", &Problem::Runs(0); "a detached link")]
#[test_case("links/egress", detach, "egress", &Problem::Runs(0); "the detached backstop")]
#[test_case("maps/CGROUPS", unpin, "CGROUPS", &Problem::NoPin; "an unpinned map")]
#[test_case("maps/CGROUPS", cover_with_a_map, "CGROUPS", &Problem::OtherPin; "a map under another")]
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

#[test]
fn a_pin_of_another_link_is_named_while_the_own_link_still_holds() {
    let world = World::new();
    let agent = world.first();
    let held = Link::open(&world.pin("links/connect6")).unwrap();
    fs::rename(world.pin("links/getpeername4"), world.pin("links/connect6")).unwrap();
    let missing = agent.capture.attached.verify().unwrap_err();
    assert_eq!(
        missing.to_string(),
        "the pin of `getpeername4` is gone; the pin of `connect6` is not the agent's"
    );
    held.detach().unwrap();
    agent.capture.attached.repair().unwrap();
    agent.capture.attached.verify().unwrap();
}

#[test]
fn root_alone_gets_at_the_pins() {
    let world = World::new();
    let base = world.bpffs().join("tidegate");
    fs::create_dir(&base).unwrap();
    fs::set_permissions(&base, fs::Permissions::from_mode(0o777)).unwrap();
    drop(world.adopt());
    for directory in [base, world.pin(""), world.pin("maps"), world.pin("links")] {
        assert_eq!(
            fs::metadata(&directory).unwrap().permissions().mode() & 0o7777,
            0o700,
            "{}",
            directory.display()
        );
    }
}

#[test]
fn pins_of_somebody_else_are_refused() {
    let world = World::new();
    let base = world.bpffs().join("tidegate");
    fs::create_dir(&base).unwrap();
    std::os::unix::fs::chown(&base, Some(65534), None).unwrap();
    let Err(error) = world.start_with(&Pins::on(world.bpffs()), world.cgroup(), FLOWS) else {
        panic!("adopted")
    };
    assert!(error.to_string().contains("belongs to user 65534"), "{error}");
}
