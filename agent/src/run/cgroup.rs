//! The cgroup2 directory of one command: found, made, killed, waited for, removed.

mod nested;
mod place;

pub use place::{own, parent, root};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use std::{
    fs,
    io::{self, Read, Seek},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// What the name of every run's cgroup begins with.
pub const NAME_PREFIX: &str = "tidegate-run-";

/// How long to wait between two kills, since a process may have been moved in meanwhile.
const KILL_INTERVAL: Duration = Duration::from_millis(100);

/// Why a cgroup could not be found, made or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// There is no cgroup2 mount.
    #[error("no cgroup2 filesystem is mounted: mount one, or set capture.cgroup_root to a directory of one")]
    NotMounted,
    /// The mounted root is not the machine's.
    #[error(
        "`{}` is the cgroup root of a container, not of the machine: \
         set capture.cgroup_root to the cgroup2 directory to work below", path.display()
    )]
    Container {
        /// The mount point.
        path: PathBuf,
    },
    /// A configured root is something else.
    #[error("capture.cgroup_root `{}` is not a directory of a cgroup2 filesystem", path.display())]
    NotCgroup2 {
        /// The configured path.
        path: PathBuf,
    },
    /// The caller's cgroup is not below any mount.
    #[error(
        "this process's own cgroup `{}` is not visible below `{}`: set capture.cgroup_root",
        cgroup.display(), mount.display()
    )]
    OutOfSight {
        /// As `/proc/self/cgroup` has it.
        cgroup: PathBuf,
        /// The mount point.
        mount: PathBuf,
    },
    /// SIGKILL did not help.
    #[error(
        "processes of cgroup `{}` are still alive {} s after SIGKILL ({pids}): see what they wait for in \
         /proc/PID/stack", path.display(), waited.as_secs()
    )]
    StillPopulated {
        /// The cgroup.
        path: PathBuf,
        /// How long they were waited for.
        waited: Duration,
        /// Their ids.
        pids: String,
    },
}

/// A cgroup2 directory, which may no longer exist.
#[derive(Clone, Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// The cgroup at `path`, existing or not.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Makes it.
    ///
    /// # Errors
    /// The directory cannot be made, or exists.
    pub fn create(&self) -> Result<(), Error> {
        fs::create_dir(&self.path).map_err(failed("make cgroup", &self.path))
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its id as the kernel side sees it: on cgroup2, the inode number.
    ///
    /// # Errors
    /// It does not exist.
    pub fn id(&self) -> Result<u64, Error> {
        fs::metadata(&self.path).map(|status| status.ino()).map_err(failed("inspect", &self.path))
    }

    /// Moves the calling process into it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn join(&self) -> Result<(), Error> {
        fs::write(self.path.join("cgroup.procs"), "0").map_err(failed("join cgroup", &self.path))
    }

    /// Kills every process in it and below, until none is left or `timeout` has passed.
    ///
    /// # Errors
    /// Some are still alive.
    pub fn empty(&self, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        while self.path.exists() {
            self.kill()?;
            let now = Instant::now();
            if self.wait_until_empty((now + KILL_INTERVAL).min(deadline))? {
                break;
            }
            if now >= deadline {
                let pids = self.processes().into_iter().map(|pid| pid.to_string());
                let pids = pids.collect::<Vec<_>>().join(" ");
                return Err(Error::StillPopulated { path: self.path.clone(), waited: timeout, pids });
            }
        }
        Ok(())
    }

    /// Removes it with every cgroup below it; nothing to do where it is gone already.
    ///
    /// # Errors
    /// It is not empty.
    pub fn remove(&self, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        nested::remove(&self.path).map_err(failed("remove the cgroups below", &self.path))?;
        while let Err(error) = fs::remove_dir(&self.path) {
            if error.kind() == io::ErrorKind::NotFound {
                break;
            }
            // The last process has left, but its exit may not have come to the end.
            if error.kind() != io::ErrorKind::ResourceBusy || Instant::now() >= deadline {
                return Err(failed("remove cgroup", &self.path)(error));
            }
            thread::sleep(Duration::from_millis(5));
            nested::remove(&self.path).map_err(failed("remove the cgroups below", &self.path))?;
        }
        Ok(())
    }

    fn kill(&self) -> Result<(), Error> {
        // Open without creating: kernels before 5.14 have no such file, and threaded cgroups refuse the write.
        let file = fs::OpenOptions::new().write(true).open(self.path.join("cgroup.kill"));
        match file.and_then(|mut file| io::Write::write_all(&mut file, b"1")) {
            Ok(()) => Ok(()),
            Err(_) => self.kill_each(),
        }
    }

    /// What `cgroup.kill` does, for kernels without it. Freezing first keeps processes from forking away.
    fn kill_each(&self) -> Result<(), Error> {
        let _ = fs::write(self.path.join("cgroup.freeze"), "1");
        let handles: Vec<_> = self
            .processes()
            .into_iter()
            .filter_map(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?)))
            .collect();
        // A process that is still a member after its handle was opened is the one that the handle names.
        let members = self.processes();
        for (_, handle) in handles.iter().filter(|(pid, _)| members.contains(pid)) {
            match pidfd_send_signal(handle, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(failed("kill the processes of", &self.path)(error.into())),
            }
        }
        let _ = fs::write(self.path.join("cgroup.freeze"), "0");
        Ok(())
    }

    fn wait_until_empty(&self, deadline: Instant) -> Result<bool, Error> {
        let path = self.path.join("cgroup.events");
        let gone = |error: &io::Error| {
            matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(errno)
                if errno == Errno::NODEV || errno == Errno::NOENT)
        };
        let mut file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if gone(&error) => return Ok(true),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        loop {
            let mut text = String::new();
            match file.rewind().and_then(|()| file.read_to_string(&mut text)) {
                Ok(_) if text.lines().any(|line| line == "populated 0") => return Ok(true),
                Ok(_) => {}
                Err(error) if gone(&error) => return Ok(true),
                Err(error) => return Err(failed("read", &path)(error)),
            }
            let remaining = deadline.saturating_duration_since(Instant::now());
            let Ok(timeout) = Timespec::try_from(remaining) else { return Ok(false) };
            match poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&timeout)) {
                Ok(0) => return Ok(false),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(failed("wait for", &path)(error.into())),
            }
        }
    }

    /// Every process in the cgroup and below it that this PID namespace can name.
    fn processes(&self) -> Vec<Pid> {
        let lists =
            self.tree().into_iter().filter_map(|path| fs::read_to_string(path.join("cgroup.procs")).ok());
        let numbers = lists.flat_map(|list| list.lines().map(str::parse).collect::<Vec<_>>());
        numbers.filter_map(|number| Pid::from_raw(number.ok()?)).collect()
    }

    /// The cgroup and those below it, each before its children.
    fn tree(&self) -> Vec<PathBuf> {
        let mut found = vec![self.path.clone()];
        let mut next = 0;
        while let Some(directory) = found.get(next) {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let children = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            found.extend(children.map(|entry| entry.path()).collect::<Vec<_>>());
            next += 1;
        }
        found
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::mountinfo;
    use std::process::{Command, Stdio};

    /// A cgroup of this test's own, removed with its processes at the end.
    struct Scratch(Cgroup);

    impl Scratch {
        fn new(name: &str) -> Self {
            assert!(rustix::process::geteuid().is_root(), "this test needs root: run it with sudo");
            let mounts = mountinfo::own().unwrap();
            let root =
                mounts.into_iter().find(|mount| mount.filesystem == "cgroup2").expect("a cgroup2 mount");
            let name = format!("tidegate-cgroup-test-{}-{name}", std::process::id());
            let cgroup = Cgroup::at(root.point.join(name));
            cgroup.create().unwrap();
            Self(cgroup)
        }

        fn start(&self, below: &str) -> std::process::Child {
            let procs = self.0.path.join(below).join("cgroup.procs");
            let script = format!("echo 0 > '{}' && exec sleep 1000", procs.display());
            Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).spawn().unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            self.0.empty(Duration::from_secs(5)).unwrap();
            self.0.remove(Duration::from_secs(5)).unwrap();
        }
    }

    #[test]
    fn both_ways_of_killing_reach_sub_cgroups() {
        for (name, way) in [("kill", Cgroup::kill as fn(&Cgroup) -> _), ("each", Cgroup::kill_each)] {
            let scratch = Scratch::new(name);
            fs::create_dir_all(scratch.0.path.join("a/b")).unwrap();
            let mut children = [scratch.start(""), scratch.start("a/b")];
            while scratch.0.processes().len() < 2 {
                thread::sleep(Duration::from_millis(5));
            }
            way(&scratch.0).unwrap();
            assert!(scratch.0.wait_until_empty(Instant::now() + Duration::from_secs(5)).unwrap(), "{name}");
            assert!(children.iter_mut().all(|child| child.wait().unwrap().code().is_none()), "{name}");
            scratch.0.remove(Duration::from_secs(1)).unwrap();
            assert!(!scratch.0.path.exists(), "{name}");
        }
    }

    #[test]
    fn cgroups_nested_deeper_than_a_path_is_long_are_removed() {
        let scratch = Scratch::new("deep");
        let script = "cd \"$1\"; mkdir -p sibling/of/it; n=$(printf %0200d 0); \
                      for i in $(seq 40); do mkdir $n beside && cd -P $n || exit 1; done";
        let made = Command::new("bash").args(["-c", script, "bash"]).arg(&scratch.0.path).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        scratch.0.remove(Duration::from_secs(1)).unwrap();
        assert!(!scratch.0.path.exists());
    }

    #[test]
    fn a_cgroup_that_is_gone_is_empty_and_removed() {
        let gone = Cgroup::at("/nonexistent/tidegate-run-1".into());
        gone.empty(Duration::ZERO).unwrap();
        gone.remove(Duration::ZERO).unwrap();
    }
}
