//! Who holds sockets, by procfs and cgroupfs: the processes of cgroups and users, their descriptors, and the
//! network namespaces that they are in.

use rustix::io::Errno;
use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// What a set of processes holds.
#[derive(Debug, Default)]
pub(super) struct Holders {
    sockets: HashSet<u32>,
    /// By device and inode. Open, so that a namespace whose last process ends can still be searched.
    namespaces: BTreeMap<(u64, u64), File>,
}

impl Holders {
    /// Notes the sockets of a process, and the namespaces of its threads; one that is gone has none.
    pub(super) fn add(&mut self, process: u32) {
        self.sockets.extend(sockets(Path::new("/proc").join(process.to_string()).join("fd")));
        self.add_namespaces(process);
    }

    /// Notes the sockets of those of a user's processes that count, and every namespace on the machine: any could hold some that
    /// outlived their process.
    pub(super) fn add_user(&mut self, uid: u32, counts: &dyn Fn(u32) -> bool) -> io::Result<()> {
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(process) = number(&entry.file_name()) else { continue };
            if counts(process) && real_user(process) == Some(uid) {
                self.add(process);
            } else {
                self.add_namespaces(process);
            }
        }
        Ok(())
    }

    pub(super) fn hold(&self, socket: u32) -> bool {
        // 0 is none: a socket that no process has any more.
        socket != 0 && self.sockets.contains(&socket)
    }

    pub(super) fn namespaces(&self) -> impl Iterator<Item = &File> {
        self.namespaces.values()
    }

    /// Each thread can be in a namespace of its own.
    pub(super) fn add_namespaces(&mut self, process: u32) {
        let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return };
        for thread in threads.flatten() {
            let path = thread.path().join("ns/net");
            let Ok(facts) = fs::metadata(&path) else { continue };
            if let std::collections::btree_map::Entry::Vacant(place) =
                self.namespaces.entry((facts.dev(), facts.ino()))
                && let Ok(file) = File::open(&path)
            {
                place.insert(file);
            }
        }
    }
}

/// The inodes of this process's own sockets.
pub(super) fn own_sockets(other: Option<u32>) -> io::Result<HashSet<u32>> {
    let directory = PathBuf::from("/proc/self/fd");
    fs::metadata(&directory)?;
    let others = other.map(|process| sockets(format!("/proc/{process}/fd").into()));
    Ok(sockets(directory).chain(others.into_iter().flatten()).collect())
}

/// Calls `each` with the id of every cgroup in the tree and the processes right in it.
pub(super) fn walk(cgroup: &Path, each: &mut dyn FnMut(u64, &[u32])) -> io::Result<()> {
    let mut waiting = vec![cgroup.to_owned()];
    while let Some(directory) = waiting.pop() {
        let Some(facts) = present(fs::metadata(&directory))? else { continue };
        let processes = present(processes(&directory))?.unwrap_or_default();
        each(facts.ino(), &processes);
        for entry in present(fs::read_dir(&directory))?.into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
            }
        }
    }
    Ok(())
}

fn processes(cgroup: &Path) -> io::Result<Vec<u32>> {
    let text = match fs::read_to_string(cgroup.join("cgroup.procs")) {
        // A threaded cgroup lists its threads only.
        Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {
            fs::read_to_string(cgroup.join("cgroup.threads"))?
        }
        text => text?,
    };
    // 0 stands for a process that this process namespace does not have.
    Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|process| *process != 0).collect())
}

/// What is gone meanwhile is none.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

fn sockets(descriptors: PathBuf) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(descriptors).into_iter().flatten().flatten();
    entries.filter_map(|entry| socket(fs::read_link(entry.path()).ok()?.as_os_str()))
}

/// The inode in a link such as `socket:[4242]`.
fn socket(link: &OsStr) -> Option<u32> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn number(name: &OsStr) -> Option<u32> {
    name.to_str()?.parse().ok()
}

/// The user that the kernel side goes by.
fn real_user(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use test_case::test_case;

    #[test_case("socket:[4242]", Some(4242); "socket")]
    #[test_case("pipe:[4242]", None; "pipe")]
    #[test_case("socket:[4242", None; "cut short")]
    #[test_case("/tmp/socket:[1]", None; "file")]
    #[test_case("socket:[-1]", None; "negative")]
    fn a_socket_is_known_by_its_link(link: &str, expected: Option<u32>) {
        assert_eq!(socket(OsStr::new(link)), expected);
    }

    #[test]
    fn a_process_holds_its_sockets_and_its_namespace() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let inode = fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap().ino();
        let inode = u32::try_from(inode).unwrap();
        let mut holders = Holders::default();
        holders.add(std::process::id());
        assert!(holders.hold(inode) && !holders.hold(0));
        assert!(own_sockets(None).unwrap().contains(&inode));
        let own = fs::metadata("/proc/thread-self/ns/net").unwrap();
        assert!(holders.namespaces.contains_key(&(own.dev(), own.ino())));
        drop(socket);
        let mut later = Holders::default();
        later.add(std::process::id());
        assert!(!later.hold(inode));
    }

    #[test]
    fn what_is_gone_holds_nothing() {
        let mut holders = Holders::default();
        holders.add(u32::MAX);
        assert_eq!(holders.namespaces().count(), 0);
        walk(Path::new("/nowhere"), &mut |_, _| panic!("a cgroup")).unwrap();
        assert_eq!(real_user(u32::MAX), None);
        assert_eq!(real_user(std::process::id()), Some(rustix::process::getuid().as_raw()));
    }
}
