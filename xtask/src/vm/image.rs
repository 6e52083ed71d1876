//! The disk that every kernel boots from: programs of this machine with the libraries that they need, and what is
//! to be tested. NVMe and ext4 are built into Debian's cloud kernels, so that it needs no initramfs.

use super::kernels::Unpacked;
use crate::command;
use anyhow::{Context as _, Result, ensure};
use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Component, Path, PathBuf},
    process::Command,
};

/// The environment's PATH in the machine.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const INIT: &str = include_str!("init.sh");

/// Without these nothing runs.
const NEEDED: [&str; 11] =
    ["sh", "bash", "ip", "unshare", "nsenter", "mount", "umount", "curl", "openssl", "python3", "node"];

/// What busybox would do in its own way; what is not here and not there is missed by the test that wants it.
const HELPFUL: [&str; 50] = [
    "[", "awk", "basename", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "dirname", "echo", "env",
    "false", "find", "flock", "getent", "grep", "head", "id", "kill", "ln", "ls", "mkdir", "mktemp", "mv",
    "nohup", "od", "printf", "prlimit", "ps", "readlink", "rm", "rmdir", "sed", "seq", "setpriv", "setsid",
    "sleep", "sort", "stat", "strace", "su", "tail", "tee", "test", "timeout", "touch", "tr", "xargs",
];

/// Files and directories of the machine that programs look into.
const SURROUNDINGS: [&str; 12] = [
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/etc/pam.d",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/openssl.cnf",
    "/usr/lib/locale/C.utf8",
    "/usr/lib/ssl/openssl.cnf",
    "/usr/share/ca-certificates",
];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
                      nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\n";

/// Parts of Python's library that nothing here uses, and that are the larger half of it.
const NOT_OF_PYTHON: [&str; 8] =
    ["test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "dist-packages"];

/// What the kernel has as modules and the tests or the agent need.
const MODULES: [&str; 7] = ["inet_diag", "tcp_diag", "udp_diag", "tls", "veth", "dummy", "overlay"];

/// The tree that becomes the disk.
pub(crate) struct Image {
    root: PathBuf,
    /// What was added and may need libraries.
    programs: BTreeSet<PathBuf>,
}

impl Image {
    /// A new tree with the machine's programs, in place of what is there.
    pub(crate) fn new(root: &Path) -> Result<Self> {
        if root.exists() {
            fs::remove_dir_all(root).with_context(|| format!("cannot remove {}", root.display()))?;
        }
        let mut image = Self { root: root.to_owned(), programs: BTreeSet::new() };
        for directory in ["dev", "proc", "sys", "run", "tmp", "root", "usr", "etc", "var/lib", "var/tmp"] {
            fs::create_dir_all(root.join(directory))?;
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            match fs::read_link(Path::new("/").join(link)) {
                Ok(target) => {
                    fs::create_dir_all(root.join("usr").join(link))?;
                    symlink(target, root.join(link))?;
                }
                Err(_) => fs::create_dir_all(root.join(link))?,
            }
        }
        symlink("/proc/self/mounts", root.join("etc/mtab"))?;
        image.write("etc/passwd", PASSWD)?;
        image.write("etc/group", GROUP)?;
        image.write("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")?;
        image.write("init", INIT)?;
        fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
        let busybox = on_path("busybox").context("no busybox")?;
        fs::copy(busybox, root.join("busybox")).context("copying busybox")?;
        for name in NEEDED {
            let program = on_path(name).with_context(|| format!("no `{name}` in {PATH}"))?;
            image.add(&program)?;
        }
        for name in HELPFUL {
            if let Some(program) = on_path(name) {
                image.add(&program)?;
            }
        }
        for path in SURROUNDINGS.iter().map(Path::new).filter(|path| path.exists()) {
            image.add_tree(path, &[])?;
        }
        image.add_python(&on_path("python3").context("no python3")?)?;
        Ok(image)
    }

    /// Writes a file.
    pub(crate) fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.root.join(path.trim_start_matches('/'));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Copies a file of this machine to the same place, with the links on its way.
    pub(crate) fn add(&mut self, path: &Path) -> Result<()> {
        let mut path = straight(path)?;
        // A chain of links is kept as it is: some programs look at the name that they were started by.
        while let Ok(target) = fs::read_link(&path) {
            let place = self.place(&path)?;
            if fs::symlink_metadata(&place).is_err() {
                symlink(&target, &place).with_context(|| format!("linking {}", place.display()))?;
            }
            path = straight(&path.parent().unwrap_or(Path::new("/")).join(target))?;
        }
        let place = self.place(&path)?;
        if !place.exists() {
            let facts = fs::metadata(&path).with_context(|| format!("looking at {}", path.display()))?;
            fs::copy(&path, &place).with_context(|| format!("copying {}", path.display()))?;
            // Python takes a compiled file only where its source has the time that it remembers.
            fs::File::options().append(true).open(&place)?.set_modified(facts.modified()?)?;
            if facts.permissions().mode() & 0o111 != 0 || path.to_string_lossy().contains(".so") {
                self.programs.insert(path);
            }
        }
        Ok(())
    }

    /// Copies a directory of this machine to the same place, without entries of these names.
    pub(crate) fn add_tree(&mut self, path: &Path, without: &[&str]) -> Result<()> {
        if !fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?.is_dir() {
            return self.add(path);
        }
        for entry in fs::read_dir(path).with_context(|| format!("reading {}", path.display()))? {
            let entry = entry?;
            if without.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                self.add_tree(&entry.path(), without)?;
            } else if entry.path().exists() {
                self.add(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Adds an interpreter with its library: also one that is a virtual environment's.
    pub(crate) fn add_python(&mut self, program: &Path) -> Result<()> {
        const ASK: &str =
            "import sys, sysconfig; print(sys._base_executable, sysconfig.get_paths()['stdlib'], sep='\\n')";
        let answer = command::output(Command::new(program).args(["-c", ASK]))?;
        let (executable, library) =
            answer.trim().split_once('\n').context("Python does not tell its paths")?;
        self.add(program)?;
        self.add(Path::new(executable))?;
        let without: Vec<&str> = NOT_OF_PYTHON.iter().chain(&["site-packages"]).copied().collect();
        self.add_tree(Path::new(library), &without)
    }

    /// Adds the modules of a kernel, in the order of their names.
    pub(crate) fn add_modules(&self, kernel: &Unpacked) -> Result<()> {
        let directory = self.root.join("modules").join(&kernel.release);
        fs::create_dir_all(&directory)?;
        for (number, file) in kernel.modules(&MODULES)?.iter().enumerate() {
            let name = file.file_name().context("a module's file has a name")?.to_string_lossy();
            let plain = directory.join(format!("{number:02}-{}", name.trim_end_matches(".xz")));
            if name.ends_with(".xz") {
                let module = Command::new("xz").arg("-dc").arg(file).output().context("starting xz")?;
                ensure!(module.status.success(), "cannot unpack {}", file.display());
                fs::File::create(plain)?.write_all(&module.stdout)?;
            } else {
                fs::copy(file, plain).with_context(|| format!("copying {}", file.display()))?;
            }
        }
        Ok(())
    }

    /// Adds the libraries, and makes the disk.
    pub(crate) fn finish(mut self, disk: &Path) -> Result<()> {
        while !self.programs.is_empty() {
            let programs = std::mem::take(&mut self.programs);
            let output = Command::new("ldd").args(&programs).output().context("starting ldd")?;
            for library in libraries(&String::from_utf8_lossy(&output.stdout)) {
                self.add(Path::new(library))?;
            }
        }
        let used = command::output(Command::new("du").args(["-s", "--block-size=M"]).arg(&self.root))?;
        let used: u64 = used.split('M').next().unwrap_or_default().parse().context("what du says")?;
        let size = format!("{}M", used * 5 / 4 + 400);
        let mut mke2fs = Command::new("mke2fs");
        mke2fs
            .args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d"])
            .arg(&self.root)
            .arg(disk)
            .arg(size);
        mke2fs.env("PATH", format!("{}:{PATH}", std::env::var("PATH").unwrap_or_default()));
        command::run(&mut mke2fs)
    }

    fn place(&self, path: &Path) -> Result<PathBuf> {
        let place = self.root.join(path.strip_prefix("/").unwrap_or(path));
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(place)
    }
}

/// A path whose directories are no links, with its last part as it is.
fn straight(path: &Path) -> Result<PathBuf> {
    let parent = path.parent().context("a file has a directory")?;
    let name = path.components().next_back().filter(|part| matches!(part, Component::Normal(_)));
    let parent = fs::canonicalize(parent).with_context(|| format!("looking for {}", parent.display()))?;
    Ok(parent.join(name.context("a file has a name")?))
}

fn on_path(name: &str) -> Option<PathBuf> {
    PATH.split(':').map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

/// The files that ldd names.
fn libraries(ldd: &str) -> BTreeSet<&str> {
    ldd.lines()
        // A line that is not indented names the program itself.
        .filter(|line| line.starts_with(char::is_whitespace))
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::libraries;

    #[test]
    fn libraries_are_found_in_what_ldd_says() {
        let text = "/usr/bin/curl:\n\tlinux-vdso.so.1 (0x00007f)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\tlibgone.so => not found\n\
                    /busybox:\n\tnot a dynamic executable\n";
        let expected = ["/lib/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(libraries(text).into_iter().collect::<Vec<_>>(), expected);
    }
}
