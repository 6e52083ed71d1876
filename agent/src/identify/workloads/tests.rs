use super::*;
use crate::{
    config::CgroupPattern,
    identify::{
        members::{MemberPattern, RecordFacts},
        table::Program,
    },
};
use std::{
    ops::RangeInclusive,
    sync::atomic::{AtomicU64, Ordering},
};
use test_case::test_case;
use tidegate_ebpf_common::{NO_UID, Origin};

/// No process has this id: it is above every possible pid_max.
const NO_PROCESS: u32 = 1 << 23;

fn cgroup(pattern: &str) -> Table {
    Table { cgroup: Some(CgroupPattern::parse(pattern).unwrap()), ..Table::default() }
}

fn user(uids: RangeInclusive<u32>) -> Table {
    Table { users: Some(vec![uids]), ..Table::default() }
}

fn pods() -> Table {
    Table { member: Some(MemberPattern::default()), ..Table::default() }
}

fn pods_of(name: &str) -> Arc<List> {
    Arc::new(List::new(vec![matched(name, vec![pods()], vec![])]))
}

fn matched(name: &str, matches: Vec<Table>, except: Vec<Table>) -> Matched {
    let workload = Workload { name: name.into(), policy: format!("{name}-policy").into() };
    Matched { workload, matches, except }
}

/// A tree of cgroups in a directory, whose ids are inodes as well.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(paths: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for path in paths {
            fs::create_dir_all(directory.path().join(path)).unwrap();
        }
        Self(directory)
    }

    fn id(&self, path: &str) -> u64 {
        fs::metadata(self.0.path().join(path)).unwrap().ino()
    }

    fn workloads(&self, list: Vec<Matched>) -> Workloads {
        let mount = self.0.path().to_owned();
        Workloads::matched(Arc::new(List::new(list)), Arc::new(Cgroups::new(mount.clone(), mount)), None)
    }
}

fn flow(cgroup_id: u64, origin_cgroup: u64, uid: u32, origin_uid: u32) -> Flow {
    Flow {
        address: [0; 16],
        netns_cookie: 1,
        cgroup_id,
        time_ns: 0,
        pid: NO_PROCESS,
        tgid: NO_PROCESS,
        uid,
        gid: 0,
        port: 443,
        listener_family: 4,
        flags: 0,
        origin: Origin { cgroup_id: origin_cgroup, uid: origin_uid, executables: 0 },
        comm: [0; 16],
    }
}

fn told(whose: Whose) -> String {
    match whose {
        Whose::Workloads(principal) => {
            assert_eq!(*principal.name, *principal.subject.workload);
            principal.name.to_string()
        }
        Whose::Nobody(_) => "nobody".to_owned(),
        Whose::Unknown(_) => "unknown".to_owned(),
    }
}

#[test_case("ci/a", "ci-workload"; "a cgroup")]
#[test_case("ci/a/deep/er", "ci-workload"; "below it, where another pattern fits too")]
#[test_case("ci", "nobody"; "above it")]
#[test_case("other/deep", "deep"; "the other pattern by itself")]
#[test_case("none", "nobody"; "no pattern")]
fn the_outermost_cgroup_decides(path: &str, expected: &str) {
    let tree = Tree::new(&["ci/a/deep/er", "other/deep", "none"]);
    let workloads = tree.workloads(vec![
        matched("deep", vec![cgroup("/**/deep")], vec![]),
        matched("ci-workload", vec![cgroup("/ci/*")], vec![]),
    ]);
    let id = tree.id(path);
    assert_eq!(told(workloads.identify(&flow(id, id, 0, NO_UID))), expected);
}

#[test]
fn several_that_fit_are_all_named_in_the_order_of_the_configuration() {
    let tree = Tree::new(&["ci/a"]);
    let workloads = tree.workloads(vec![
        matched("alice", vec![user(1000..=1000), user(100_000..=165_535)], vec![]),
        matched("ci", vec![cgroup("/ci/*")], vec![]),
        matched("a", vec![cgroup("/ci/a")], vec![]),
    ]);
    let id = tree.id("ci/a");
    let Whose::Workloads(principal) = workloads.identify(&flow(id, id, 1000, 1000)) else { panic!() };
    assert_eq!((&*principal.name, principal.workloads.len()), ("alice+ci+a", 3));
    assert_eq!(principal.subject.policy, "alice-policy+ci-policy+a-policy");
    assert_eq!(told(workloads.identify(&flow(id, id, 1001, NO_UID))), "ci+a");
    assert_eq!(told(workloads.identify(&flow(tree.id("ci"), 0, 1000, 1000))), "alice");
    assert_eq!(told(workloads.identify(&flow(tree.id("ci"), 0, 100_007, 100_007))), "alice");
}

#[test_case("jobs/7/below", 5, "seven+all+five"; "by every table")]
#[test_case("jobs/70", 5, "all+five"; "by a glob and a user")]
#[test_case("elsewhere/7", 5, "seven+five"; "by the second table and a user")]
#[test_case("elsewhere/70", 9, "nobody"; "by none")]
fn each_of_many_tables_is_found(path: &str, uid: u32, expected: &str) {
    let tree = Tree::new(&[path]);
    let others = |range: RangeInclusive<u32>| {
        range.map(|number| matched(&number.to_string(), vec![cgroup(&format!("/others/{number}"))], vec![]))
    };
    let seven = matched("seven", vec![cgroup("/jobs/7"), cgroup("/elsewhere/7")], vec![]);
    let all = matched("all", vec![cgroup("/none"), cgroup("/jobs/*")], vec![]);
    let five = matched("five", vec![cgroup("/none"), user(5..=5), user(5..=6)], vec![]);
    let workloads = others(1..=20).chain([seven]).chain(others(21..=40)).chain([all, five]);
    let workloads = tree.workloads(workloads.collect());
    let id = tree.id(path);
    assert_eq!(told(workloads.identify(&flow(id, id, uid, uid))), expected);
}

#[test]
fn a_table_names_a_cgroup_and_those_below_it_are_not_named() {
    let list = List::new(vec![
        matched("user", vec![user(1..=1), cgroup("/ci/a")], vec![]),
        matched("all", vec![cgroup("/ci/*"), cgroup("/**")], vec![]),
    ]);
    let naming = |path: &str| {
        list.naming(Path::new(path)).map(|place| (place.workload, place.table)).collect::<Vec<_>>()
    };
    assert_eq!(naming("/ci/a"), [(0, 1), (1, 0)]);
    assert_eq!(naming("/ci"), [(1, 1)]);
    assert_eq!(naming("/ci/a/below"), []);
}

#[test_case(&[1000], 1000, "ci"; "the user there")]
#[test_case(&[1000], 1001, "nobody"; "another user there")]
fn keys_of_one_table_must_all_fit(users: &[u32], uid: u32, expected: &str) {
    let tree = Tree::new(&["ci/a"]);
    let users = Some(users.iter().map(|uid| *uid..=*uid).collect());
    let table = Table { users, ..cgroup("/ci/**") };
    let workloads = tree.workloads(vec![matched("ci", vec![table], vec![])]);
    let id = tree.id("ci/a");
    assert_eq!(told(workloads.identify(&flow(id, id, uid, NO_UID))), expected);
}

#[test_case(vec![cgroup("/ci/b")], 7, "nobody"; "an excepted cgroup")]
#[test_case(vec![cgroup("/ci/c")], 7, "ci"; "another cgroup excepted")]
#[test_case(vec![user(7..=7)], 7, "nobody"; "an excepted user")]
#[test_case(vec![Table { users: Some(vec![7..=7]), ..cgroup("/ci/c") }], 7, "ci"; "half an exception")]
fn exceptions_are_taken_out(except: Vec<Table>, uid: u32, expected: &str) {
    let tree = Tree::new(&["ci/b/below"]);
    let workloads = tree.workloads(vec![matched("ci", vec![cgroup("/ci/**")], except)]);
    let id = tree.id("ci/b/below");
    assert_eq!(told(workloads.identify(&flow(id, tree.id("ci/b"), uid, NO_UID))), expected);
}

#[test]
fn what_nobody_can_tell_any_more_is_unknown() {
    let tree = Tree::new(&["ci"]);
    let workloads = tree
        .workloads(vec![matched("ci", vec![cgroup("/ci")], vec![]), matched("u", vec![user(5..=5)], vec![])]);
    let gone = u64::MAX;
    assert_eq!(told(workloads.identify(&flow(gone, gone, 0, NO_UID))), "unknown");
    assert_eq!(told(workloads.identify(&flow(gone, gone, 5, 5))), "unknown", "the cgroup's policy may deny");
    assert_eq!(told(workloads.identify(&flow(gone, 0, 5, 5))), "u", "the user is one in any cgroup");
    assert_eq!(told(workloads.identify(&flow(gone, tree.id("ci"), 0, NO_UID))), "ci", "it has moved");
}

#[test]
fn a_program_narrows_and_counts_where_it_cannot_be_told() {
    let tree = Tree::new(&["ci"]);
    let own = std::env::current_exe().unwrap();
    let id = tree.id("ci");
    let of_process = |path: &Path, bit, tgid, executables| {
        let program = Some(Program { path: path.to_owned(), bit });
        let workloads = tree.workloads(vec![matched("ci", vec![Table { program, ..cgroup("/ci") }], vec![])]);
        let mut flow = flow(id, id, 0, NO_UID);
        (flow.tgid, flow.origin.executables) = (tgid, executables);
        told(workloads.identify(&flow))
    };
    let here = std::process::id();
    assert_eq!(of_process(&own, 0, here, 0), "ci", "it runs the program");
    assert_eq!(of_process(Path::new("/usr/bin/env"), 0, here, 0), "nobody", "it runs another");
    assert_eq!(of_process(Path::new("/usr/bin/env"), 2, here, 2), "ci", "it has run it");
    assert_eq!(of_process(Path::new("/usr/bin/env"), 2, here, 1), "nobody", "it has run another that counts");
    assert_eq!(of_process(Path::new("/usr/bin/env"), 0, NO_PROCESS, 0), "ci", "the process is gone");
}

#[test_case("docker/0123", "nobody"; "docker below the root")]
#[test_case("system.slice/docker-0123.scope", "nobody"; "docker below systemd")]
#[test_case("kubepods.slice/kubepods-burstable.slice/x", "nobody"; "kubernetes")]
#[test_case("machine.slice/libpod-0123.scope/container", "nobody"; "podman of root")]
#[test_case("system.slice/docker.service", "alice"; "docker's own service")]
#[test_case("user.slice/user-1000.slice/session-1.scope", "alice"; "a session")]
#[test_case("dockers/x", "alice"; "a longer name")]
fn a_user_counts_outside_containers_only(path: &str, expected: &str) {
    let tree = Tree::new(&[path]);
    let workloads = tree.workloads(vec![matched("alice", vec![user(1000..=1000)], vec![])]);
    assert_eq!(told(workloads.identify(&flow(tree.id(path), 0, 1000, 1000))), expected);
}

#[test]
fn a_container_that_a_user_has_made_is_the_users_own() {
    let tree = Tree::new(&["user.slice/delegated/docker-0123.scope"]);
    let delegated = tree.0.path().join("user.slice/delegated");
    if std::os::unix::fs::chown(&delegated, Some(1000), Some(1000)).is_err() {
        // Only root can give a directory away.
        return;
    }
    let workloads = tree.workloads(vec![matched("alice", vec![user(1000..=1000)], vec![])]);
    let id = tree.id("user.slice/delegated/docker-0123.scope");
    assert_eq!(told(workloads.identify(&flow(id, 0, 1000, 1000))), "alice");
}

#[test]
fn of_one_workload_is_everything() {
    let tree = Tree::new(&["run"]);
    let mount = tree.0.path().to_owned();
    let workload = Workload { name: "run".into(), policy: "p".into() };
    let workloads = Workloads::only(workload.clone(), Arc::new(Cgroups::new(mount.clone(), mount)));
    assert_eq!(told(workloads.identify(&flow(u64::MAX, 0, 0, NO_UID))), "run");
    assert_eq!(workloads.sole(), Some(&workload));
}

/// Whoever says the same of every cgroup, and whether more is to come.
#[derive(Debug)]
struct Saying(Standing, bool);

impl Members for Saying {
    fn standing(&self, _: &Path) -> Standing {
        self.0
    }

    fn awaits(&self, _: &Path) -> bool {
        self.1
    }

    fn meant(&self, cgroup: &Path, _: &MemberPattern, _: bool) -> Option<PathBuf> {
        (self.0 == Standing::Claimed).then(|| cgroup.to_owned())
    }

    fn generation(&self) -> u64 {
        0
    }

    fn facts(&self, _: &Path) -> Option<RecordFacts> {
        None
    }
}

#[test_case(Standing::Claimed, false, "pods"; "a claimed pod")]
#[test_case(Standing::Claimed, true, "unknown"; "a claimed pod that others may claim as well")]
#[test_case(Standing::Free, true, "unknown"; "a pod that somebody may claim")]
#[test_case(Standing::Unknown, false, "unknown"; "a container of which nobody has told yet")]
#[test_case(Standing::Free, false, "nobody"; "a pod that nobody claims")]
#[test_case(Standing::Above, false, "nobody"; "above pods")]
#[test_case(Standing::Elsewhere, false, "nobody"; "no pod")]
fn what_is_not_told_of_yet_is_not_nobodys(standing: Standing, awaits: bool, expected: &str) {
    let tree = Tree::new(&["kubepods/pod1"]);
    let mount = tree.0.path().to_owned();
    let cgroups = Arc::new(Cgroups::new(mount.clone(), mount));
    let workloads = Workloads::matched(pods_of("pods"), cgroups, Some(Arc::new(Saying(standing, awaits))));
    let id = tree.id("kubepods/pod1");
    assert_eq!(told(workloads.identify(&flow(id, id, 0, NO_UID))), expected);
}

#[test]
fn workloads_come_and_go_beside_those_of_the_configuration() {
    let tree = Tree::new(&["kubepods/pod1", "a"]);
    let mount = tree.0.path().to_owned();
    let cgroups = Arc::new(Cgroups::new(mount.clone(), mount));
    let members = Some(Arc::new(Saying(Standing::Claimed, false)) as Arc<dyn Members>);
    let workloads = Workloads::matched(pods_of("own"), cgroups, members);
    let id = tree.id("kubepods/pod1");
    let identified = || told(workloads.identify(&flow(id, id, 0, NO_UID)));
    assert_eq!(identified(), "own");
    workloads.set_further(vec![matched("further", vec![pods()], vec![])]);
    assert_eq!(identified(), "own+further");
    assert_eq!(workloads.matched_now().iter().map(|list| list.all().len()).sum::<usize>(), 2);
    workloads.set_further(Vec::new());
    assert_eq!(identified(), "own");
}

/// Whoever tells pods apart in another way after every look, so many times.
#[derive(Debug, Default)]
struct Turning {
    turns: u64,
    looks: AtomicU64,
}

impl Members for Turning {
    fn standing(&self, _: &Path) -> Standing {
        Standing::Claimed
    }

    fn awaits(&self, _: &Path) -> bool {
        false
    }

    /// Of a pod that is one workload's before a turn and another's after it, each says in the turn that it is not its own.
    fn meant(&self, cgroup: &Path, _: &MemberPattern, _: bool) -> Option<PathBuf> {
        (self.looks.fetch_add(1, Ordering::SeqCst) >= self.turns).then(|| cgroup.to_owned())
    }

    fn generation(&self) -> u64 {
        self.looks.load(Ordering::SeqCst).min(self.turns)
    }

    fn facts(&self, _: &Path) -> Option<RecordFacts> {
        None
    }
}

#[test_case(0, "pods"; "none")]
#[test_case(3, "pods"; "a few")]
#[test_case(u64::MAX, "unknown"; "always")]
fn who_is_told_apart_in_another_way_meanwhile_is_looked_at_again(turns: u64, expected: &str) {
    let tree = Tree::new(&["kubepods/pod1"]);
    let mount = tree.0.path().to_owned();
    let cgroups = Arc::new(Cgroups::new(mount.clone(), mount));
    let members = Some(Arc::new(Turning { turns, ..Turning::default() }) as Arc<dyn Members>);
    let workloads = Workloads::matched(pods_of("pods"), cgroups, members);
    let id = tree.id("kubepods/pod1");
    assert_eq!(told(workloads.identify(&flow(id, id, 0, NO_UID))), expected);
}
