//! Cgroups of a test's own: below the machine's cgroup2 mount, never its root.

use anyhow::{Context as _, Result};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A cgroup2 directory. Whoever makes the first one ([`crate::netns::World`]) removes it with all below.
#[derive(Clone, Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// A new cgroup right below the mount.
    ///
    /// # Errors
    /// When no cgroup2 is mounted, the caller is not root, or the name is taken.
    pub fn create(name: &str) -> Result<Self> {
        Self::at(mount_point()?.join(name))
    }

    /// A new cgroup below this one.
    ///
    /// # Errors
    /// When it cannot be made or the name is taken.
    pub fn child(&self, name: &str) -> Result<Self> {
        Self::at(self.path.join(name))
    }

    fn at(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("making the cgroup {} (root only)", path.display()))?;
        Ok(Self { path })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its path below the mount, as `/proc/PID/cgroup` writes it.
    ///
    /// # Errors
    /// When no cgroup2 is mounted.
    pub fn name(&self) -> Result<String> {
        let below = self.path.strip_prefix(mount_point()?).context("a cgroup outside the mount")?;
        Ok(format!("/{}", below.display()))
    }

    /// The names of the cgroups right below.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn children(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).with_context(|| format!("reading {}", self.path.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The processes in it and below.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        let mut directories = vec![self.path.clone()];
        while let Some(directory) = directories.pop() {
            let text = match fs::read_to_string(directory.join("cgroup.procs")) {
                Err(problem) if problem.kind() == io::ErrorKind::NotFound => continue,
                text => text.with_context(|| format!("reading {}", directory.display()))?,
            };
            found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            for entry in fs::read_dir(&directory)?.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    directories.push(entry.path());
                }
            }
        }
        Ok(found)
    }
}

/// Where cgroup2 is mounted; on a hybrid machine that is not `/sys/fs/cgroup`.
///
/// # Errors
/// When it is mounted nowhere.
pub fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    mounts.lines().find_map(cgroup2_mount).context("no cgroup2 is mounted on this machine")
}

/// The mount point in a line of mountinfo, where it is the whole of a cgroup2.
fn cgroup2_mount(line: &str) -> Option<PathBuf> {
    let (mount, source) = line.split_once(" - ")?;
    let mut fields = mount.split(' ');
    let (root, point) = (fields.nth(3)?, fields.next()?);
    (source.split(' ').next()? == "cgroup2" && root == "/").then(|| PathBuf::from(point))
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case(
        "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
        Some("/sys/fs/cgroup/unified")
    )]
    #[test_case("30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw", Some("/sys/fs/cgroup"); "optional fields")]
    #[test_case("30 23 0:26 /part /mnt rw - cgroup2 cgroup2 rw", None; "a part only")]
    #[test_case("32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu", None; "version 1")]
    fn the_mount_is_found_in_mountinfo(line: &str, expected: Option<&str>) {
        assert_eq!(cgroup2_mount(line), expected.map(PathBuf::from));
    }
}
