use super::{
    mounts::{self, Inside},
    process::{self, Process},
    *,
};
use crate::{containers::member::MadeWith, run::mountinfo};
use nix::sched::{CloneFlags, unshare};
use rustix::{
    fs::{Mode, OFlags, open},
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    ffi::OsStr,
    os::fd::{AsFd as _, OwnedFd},
    sync::mpsc,
    thread,
};
use test_case::test_case;

fn opened(path: &str, flags: OFlags) -> OwnedFd {
    open(path, flags | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn own_cgroup() -> PathBuf {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().into()
}

#[test]
fn a_process_is_taken_only_in_its_containers_cgroup_and_elsewhere_than_on_the_machine() {
    let own = std::process::id();
    let process = Process::open(own, &own_cgroup()).unwrap();
    assert!(matches!(process.surroundings(), Err(process::Error::OfMachine(pid)) if pid == own));
    let another = Process::open(own, Path::new("/kubepods/pod1/c1"));
    assert!(matches!(another, Err(process::Error::Another(pid)) if pid == own));
    // No process has this id: it is above every possible pid_max.
    assert!(matches!(Process::open(1 << 23, Path::new("/")), Err(process::Error::Gone(_))));
}

/// Root only.
#[test]
fn a_process_that_a_runtime_has_not_put_into_its_own_root_yet_is_not_entered() {
    let scratch = tempfile::tempdir().unwrap();
    let (told, steps) = mpsc::channel();
    let (go_on, awaited) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let root = scratch.path();
        scope.spawn(move || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            told.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            awaited.recv().unwrap();
            rustix::process::chroot(root).unwrap();
            told.send(0).unwrap();
            let _dropped = awaited.recv();
        });
        let process = Process::open(steps.recv().unwrap().cast_unsigned(), &own_cgroup()).unwrap();
        assert!(matches!(process.surroundings(), Err(process::Error::Early(_))));
        go_on.send(()).unwrap();
        steps.recv().unwrap();
        assert!(process.surroundings().is_ok());
        assert!(matches!(process.check_program(), Err(process::Error::Early(_))), "it came from outside");
        drop(go_on);
    });
}

#[test]
fn what_a_process_was_started_with_is_read() {
    let mut child = std::process::Command::new("/bin/sleep")
        .arg("1000")
        .env_clear()
        .envs([("JAVA_HOME", "/opt/a=b"), ("EMPTY", "")])
        .spawn()
        .unwrap();
    let process = Process::open(child.id(), &own_cgroup()).unwrap();
    // The kernel lets the parent go on before it has noted where they are.
    while process.environment().unwrap().is_empty() {
        thread::yield_now();
    }
    let environment = process.environment().unwrap();
    assert_eq!(environment.get(OsStr::new("JAVA_HOME")).unwrap(), "/opt/a=b");
    assert_eq!(environment.len(), 2);
    assert_eq!(process.command().unwrap(), ["/bin/sleep", "1000"]);
    assert!(process.check_program().is_ok());
    assert_eq!(process.working_directory(), env::current_dir().ok());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(process.environment(), Err(process::Error::Gone(_))), "and no other takes its place");
}

#[test_case(Some(7), "3\n", Some(7); "the first one, where it is known")]
#[test_case(None, "0\n41\n42\n", Some(41); "one that can be seen from here")]
#[test_case(None, "", None; "nothing runs")]
fn a_container_is_entered_by_a_process(pid: Option<u32>, procs: &str, expected: Option<u32>) {
    let cgroups = tempfile::tempdir().unwrap();
    fs::create_dir(cgroups.path().join("c")).unwrap();
    fs::write(cgroups.path().join("c/cgroup.procs"), procs).unwrap();
    let nowhere = PathBuf::from("/nowhere");
    let cover = Cover { published: nowhere.clone(), copies: nowhere, cgroups: cgroups.path().to_owned() };
    let container = Container { pid, cgroup: Some("/c".into()), ..Container::default() };
    assert_eq!(cover.process_of(&container), expected);
}

/// A mount namespace that another thread lives in: `private` has a tmpfs of its own, `shared` one that passes on.
fn elsewhere(scratch: &Path) -> (OwnedFd, mpsc::Sender<()>, thread::JoinHandle<String>) {
    let scratch = scratch.to_owned();
    let (told, namespace) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    let container = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        for name in ["private", "shared"] {
            mount("none", scratch.join(name), "tmpfs", MountFlags::empty(), None).unwrap();
            fs::write(scratch.join(name).join("store"), "the image's").unwrap();
        }
        std::os::unix::fs::symlink("store", scratch.join("private/link")).unwrap();
        mount_change(scratch.join("shared"), MountPropagationFlags::SHARED).unwrap();
        told.send(opened("/proc/thread-self/ns/mnt", OFlags::RDONLY)).unwrap();
        let _dropped = ended.recv();
        assert!(fs::write(scratch.join("private/store"), "changed").is_err(), "it is read-only");
        ["private/store", "shared/store"]
            .map(|name| fs::read_to_string(scratch.join(name)).unwrap())
            .join(", ")
    });
    (namespace.recv().unwrap(), end, container)
}

/// Root only.
#[test]
fn a_copy_lies_over_its_store_in_that_namespace_alone_and_not_where_others_would_see_it() {
    let scratch = tempfile::tempdir().unwrap();
    for name in ["private", "shared", "copies"] {
        fs::create_dir(scratch.path().join(name)).unwrap();
    }
    let copies = ["one", "two", "three"].map(|name| scratch.path().join("copies").join(name));
    copies.iter().for_each(|copy| fs::write(copy, "merged").unwrap());
    let (namespace, end, container) = elsewhere(scratch.path());
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let detached = mounts::detach(&scratch.path().join("copies"), &copies).unwrap();
            let [one, two, three] = &detached[..] else { panic!("three copies") };
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount)).unwrap();
            let private = mountinfo::own().unwrap().into_iter().filter(|mount| !mount.is_shared);
            let private = private.map(|mount| mount.id).collect();
            let root = opened("/", OFlags::PATH);
            let mut inside = Inside::enter(root, &namespace, private).unwrap();
            inside.lay(one, &scratch.path().join("private/store")).unwrap();
            let refused = inside.lay(two, &scratch.path().join("shared/store")).unwrap_err();
            assert!(matches!(refused, mounts::Error::Shared(_)), "{refused}");
            let linked = inside.lay(three, &scratch.path().join("private/link")).unwrap_err();
            assert!(matches!(linked, mounts::Error::Lay { .. }), "{linked}");
        });
    });
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before, "nothing of it is seen here");
    drop(end);
    assert_eq!(container.join().unwrap(), "merged, the image's");
}

#[test]
fn what_a_container_was_made_with_is_not_shown() {
    let spec = Spec { environment: vec![("TOKEN".into(), "secret".into())], ..Default::default() };
    let container = Container { made_with: Some(MadeWith(spec.into())), ..Container::default() };
    assert!(!format!("{container:?}").contains("secret"));
}
