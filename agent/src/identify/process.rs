//! Facts of the process that connected, as far as the kernel still tells them. They go into records; nothing
//! is decided by what a program can choose.

use crate::record::Subject;
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use tidegate_ebpf_common::Flow;

/// The facts of a flow's process. `mount` is the cgroup2 mount, `top` the subject's cgroup below it.
pub fn facts(flow: &Flow, workload: &str, policy: &str, mount: &Path, top: &Path) -> Subject {
    let cgroup = find(top, flow.cgroup_id);
    let cgroup = cgroup.as_deref().and_then(|path| path.strip_prefix(mount).ok());
    let executable = fs::read_link(format!("/proc/{}/exe", flow.tgid)).ok();
    Subject {
        workload: workload.to_owned(),
        policy: policy.to_owned(),
        cgroup: cgroup.map(|path| Path::new("/").join(path).to_string_lossy().into_owned()),
        pid: Some(flow.tgid),
        executable: executable.map(|path| path.to_string_lossy().into_owned()),
        comm: Some(comm(&flow.comm)),
        uid: Some(flow.uid),
    }
}

/// The directory in or below `top` that is the cgroup `id`: a cgroup's id is its directory's inode.
fn find(top: &Path, id: u64) -> Option<PathBuf> {
    let mut rest = vec![top.to_owned()];
    while let Some(directory) = rest.pop() {
        if fs::metadata(&directory).is_ok_and(|metadata| metadata.ino() == id) {
            return Some(directory);
        }
        let entries = fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok);
        rest.extend(
            entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
        );
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
            comm,
        }
    }

    #[test]
    fn facts_of_a_living_process_are_told() {
        let mount = tempfile::tempdir().unwrap();
        let below = mount.path().join("top/below");
        fs::create_dir_all(&below).unwrap();
        let id = fs::metadata(&below).unwrap().ino();
        let facts = facts(&flow(std::process::id(), id), "ci", "read-only", mount.path(), &mount.path().join("top"));
        assert_eq!(facts.cgroup.as_deref(), Some("/top/below"));
        assert_eq!(facts.comm.as_deref(), Some("curl"));
        assert_eq!(facts.uid, Some(1000));
        let own = std::env::current_exe().unwrap();
        assert_eq!(facts.executable, Some(own.to_string_lossy().into_owned()));
    }

    #[test]
    fn what_is_gone_is_left_out() {
        let mount = tempfile::tempdir().unwrap();
        // No process has this id: it is above every possible pid_max.
        let facts = facts(&flow(1 << 23, 0), "ci", "read-only", mount.path(), mount.path());
        assert_eq!((facts.cgroup, facts.executable), (None, None));
        assert_eq!(facts.pid, Some(1 << 23));
    }
}
