//! Facts of the process that connected, as far as the kernel still tells them. They go into records; nothing
//! is decided by what a program can choose.

use super::Subject;
use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
};
use tidegate_ebpf_common::Flow;

/// How many cgroups are looked at for one that its process no longer names.
const SEARCHED: usize = 256;

/// The facts of a flow's process, whose cgroup has this name. The workloads' names are not among them.
pub(super) fn facts(flow: &Flow, cgroup: Option<&Path>) -> Subject {
    let executable = fs::read_link(format!("/proc/{}/exe", flow.tgid)).ok();
    // The kernel side names no process for a packet.
    let named = flow.tgid != 0;
    Subject {
        cgroup: cgroup.map(|path| path.to_string_lossy().into_owned()),
        pid: named.then_some(flow.tgid),
        executable: executable.map(|path| path.to_string_lossy().into_owned()),
        comm: named.then(|| comm(&flow.comm)),
        uid: named.then_some(flow.uid),
        ..Subject::default()
    }
}

/// The directory in or below `top` that is the cgroup. The process itself is asked first, since a workload can make
/// any number of cgroups.
pub(super) fn find(mount: &Path, top: &Path, tgid: u32, is_it: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let told = told(tgid).map(|below| mount.join(below));
    told.filter(|path| is_it(path)).or_else(|| search(top, is_it))
}

/// The process's cgroup as `/proc` has it, below the mount.
fn told(tgid: u32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{tgid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(path.into())
}

/// Looks at no more than [`SEARCHED`] directories: a record without its cgroup is better than a late answer.
fn search(top: &Path, is_it: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut rest = VecDeque::from([top.to_owned()]);
    for _ in 0..SEARCHED {
        let directory = rest.pop_front()?;
        if is_it(&directory) {
            return Some(directory);
        }
        let entries = fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok);
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        rest.extend(below.take(SEARCHED - rest.len().min(SEARCHED)).map(|entry| entry.path()));
    }
    None
}

fn comm(bytes: &[u8; 16]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_ebpf_common::Origin;

    fn flow(tgid: u32, cgroup_id: u64) -> Flow {
        let mut comm = [0; 16];
        comm[..4].copy_from_slice(b"curl");
        Flow {
            address: [0; 16],
            netns_cookie: 1,
            cgroup_id,
            time_ns: 0,
            pid: tgid,
            tgid,
            uid: 1000,
            gid: 1000,
            port: 443,
            listener_family: 4,
            flags: 0,
            origin: Origin::NONE,
            comm,
        }
    }

    #[test]
    fn facts_of_a_living_process_are_told() {
        let facts = facts(&flow(std::process::id(), 1), Some(Path::new("/top/below")));
        assert_eq!(facts.cgroup.as_deref(), Some("/top/below"));
        assert_eq!(facts.comm.as_deref(), Some("curl"));
        assert_eq!(facts.uid, Some(1000));
        let own = std::env::current_exe().unwrap();
        assert_eq!(facts.executable, Some(own.to_string_lossy().into_owned()));
    }

    #[test]
    fn the_search_for_a_cgroup_has_an_end() {
        let top = tempfile::tempdir().unwrap();
        for number in 0..2 * SEARCHED {
            fs::create_dir(top.path().join(number.to_string())).unwrap();
        }
        let looked_at = std::cell::Cell::new(0);
        let found = search(top.path(), |_| {
            looked_at.set(looked_at.get() + 1);
            false
        });
        assert_eq!((found, looked_at.get()), (None, SEARCHED));
    }

    #[test]
    fn what_is_gone_is_left_out() {
        // No process has this id: it is above every possible pid_max.
        let facts = facts(&flow(1 << 23, 0), None);
        assert_eq!((facts.cgroup, facts.executable), (None, None));
        assert_eq!(facts.pid, Some(1 << 23));
    }
}
