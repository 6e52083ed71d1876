//! Which cgroup an id names. A cgroup's id is its directory's inode; the kernel tells ids alone.

use super::process;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// How long a removed cgroup's path is kept: the last connections of a job are accepted after its end.
const KEPT: Duration = Duration::from_secs(60);

/// What cgroups there are below one directory, as far as anybody looks after them.
#[derive(Debug)]
pub struct Cgroups {
    mount: PathBuf,
    top: PathBuf,
    known: RwLock<Known>,
    asked: Notify,
}

#[derive(Debug, Default)]
struct Known {
    paths: HashMap<u64, PathBuf>,
    removed: VecDeque<(Instant, u64)>,
}

impl Cgroups {
    /// Those in and below `top`, which lies in the cgroup2 mount `mount`; none is known yet.
    pub fn new(mount: PathBuf, top: PathBuf) -> Self {
        Self { mount, top, known: RwLock::default(), asked: Notify::new() }
    }

    /// The cgroup2 mount.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The directory that they are all in or below.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// The directory of this process's own, where it is in sight.
    pub fn own(&self) -> Option<PathBuf> {
        let text = fs::read_to_string("/proc/self/cgroup").ok()?;
        let name = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let path = self.mount.join(name);
        let is_below = path.components().all(|part| part != Component::ParentDir);
        (is_below && path.is_dir()).then_some(path)
    }

    /// A path as the cgroup2 mount has it, from its root.
    pub fn name(&self, path: &Path) -> PathBuf {
        Path::new("/").join(path.strip_prefix(&self.mount).unwrap_or(path))
    }

    /// Remembers a cgroup's directory.
    pub fn keep(&self, id: u64, path: PathBuf) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.paths.insert(id, path);
    }

    /// The directories of those that are there.
    pub fn here(&self) -> Vec<PathBuf> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let removed: HashSet<u64> = known.removed.iter().map(|(_, id)| *id).collect();
        known.paths.iter().filter(|(id, _)| !removed.contains(id)).map(|(_, path)| path.clone()).collect()
    }

    /// Notes that the cgroup was removed at this time.
    pub fn removed(&self, id: u64, now: Instant) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.removed.push_back((now, id));
        while let Some((at, id)) = known.removed.front().copied()
            && now.saturating_duration_since(at) > KEPT
        {
            known.removed.pop_front();
            known.paths.remove(&id);
        }
    }

    /// The directory of the cgroup with this id, which the process may still be in.
    pub fn find(&self, id: u64, tgid: u32) -> Option<PathBuf> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).paths.get(&id).cloned();
        known.or_else(|| {
            let is_it = |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.ino() == id);
            process::find(&self.mount, &self.top, tgid, is_it)
        })
    }

    /// Asks whoever looks after them to look again.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// Waits until somebody has asked.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_cgroup_is_known_for_a_while() {
        let cgroups = Cgroups::new("/nonexistent".into(), "/nonexistent/top".into());
        let start = Instant::now();
        cgroups.keep(7, "/nonexistent/top/a".into());
        cgroups.keep(8, "/nonexistent/top/b".into());
        cgroups.removed(7, start);
        assert_eq!(cgroups.find(7, 1 << 23).as_deref(), Some(Path::new("/nonexistent/top/a")));
        assert_eq!(cgroups.here(), [Path::new("/nonexistent/top/b")]);
        cgroups.removed(8, start + KEPT + Duration::from_secs(1));
        assert_eq!(cgroups.find(7, 1 << 23), None);
        assert!(cgroups.find(8, 1 << 23).is_some());
        assert_eq!(cgroups.name(Path::new("/nonexistent/top/a")), Path::new("/top/a"));
    }

    #[test]
    fn a_cgroup_that_nobody_has_told_of_is_looked_for() {
        let mount = tempfile::tempdir().unwrap();
        let below = mount.path().join("top/below");
        fs::create_dir_all(&below).unwrap();
        let cgroups = Cgroups::new(mount.path().into(), mount.path().join("top"));
        let id = fs::metadata(&below).unwrap().ino();
        assert_eq!(cgroups.find(id, 1 << 23), Some(below));
    }
}
