//! The libraries that a program uses: those that it maps while it runs, or those that its file would pull in.

use super::elf::{Elf, Libraries};
use std::{
    collections::{BTreeSet, VecDeque},
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// As much of `/proc/PID/maps` as is read: some forty thousand mappings.
const MAX_MAPS: u64 = 4 << 20;
/// As many libraries as are opened for one program.
const MAX_LIBRARIES: usize = 128;

/// Where the loader looks when a program does not say.
const DIRECTORIES: [&str; 8] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/local/lib",
    "/usr/lib64",
    "/lib64",
    "/usr/lib",
];

/// Stands near the end of every process's mappings.
const STACK: &[u8] = b"[stack]";

/// The names of the files that a process maps; none where it is gone, or was going while it was asked.
pub fn mapped(pid: u32) -> Option<Vec<String>> {
    let mut text = Vec::new();
    let maps = File::open(format!("/proc/{pid}/maps")).ok()?;
    maps.take(MAX_MAPS).read_to_end(&mut text).ok()?;
    // Of a process that ends meanwhile the kernel tells the first mappings and no error.
    if !text.windows(STACK.len()).any(|window| window == STACK) {
        return None;
    }
    let names = names(&String::from_utf8_lossy(&text));
    (!names.is_empty()).then_some(names)
}

/// The last parts of the paths of a `maps`, each once.
fn names(maps: &str) -> Vec<String> {
    let paths = maps.lines().filter_map(|line| line.find('/').and_then(|at| line.get(at..)));
    let names: BTreeSet<&str> = paths.filter_map(|path| path.rsplit('/').next()).collect();
    names.into_iter().map(str::to_owned).collect()
}

/// The names of the libraries that the program at this path needs, and of those that they need in turn, the nearest
/// first.
pub fn linked(executable: &Path, libraries: &Libraries) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut open = VecDeque::from([(executable.to_owned(), libraries.clone())]);
    while let Some((user, Libraries { needed, search })) = open.pop_front() {
        for name in needed {
            if names.contains(&name) || names.len() >= MAX_LIBRARIES {
                continue;
            }
            if let Some((path, libraries)) = find(&name, &user, &search) {
                open.push_back((path, libraries));
            }
            names.push(name);
        }
    }
    names
}

fn find(name: &str, user: &Path, search: &[String]) -> Option<(PathBuf, Libraries)> {
    let origin = user.parent().unwrap_or(Path::new("/"));
    let own = search.iter().map(|directory| {
        PathBuf::from(directory.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", &origin.to_string_lossy()))
    });
    let candidates = own.chain(DIRECTORIES.iter().map(PathBuf::from)).map(|directory| directory.join(name));
    candidates.into_iter().find_map(|path| {
        let elf = Elf::read(&regular(&path).ok()?)?;
        Some((path.canonicalize().unwrap_or(path), elf.libraries))
    })
}

/// Opens a regular file, and nothing that an open could wait for or change.
pub fn regular(path: &Path) -> io::Result<File> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_mapped_files_are_read() {
        let maps = "\
55d0-55d1 r--p 00000000 fe:01 12   /usr/bin/python3.11
7f00-7f01 r-xp 00000000 fe:01 13   /usr/lib/x86_64-linux-gnu/libssl.so.3
7f01-7f02 r--p 00001000 fe:01 13   /usr/lib/x86_64-linux-gnu/libssl.so.3
7f02-7f03 r--p 00001000 fe:01 14   /opt/a b/libpython3.so (deleted)
7ffd-7ffe rw-p 00000000 00:00 0    [stack]
";
        assert_eq!(names(maps), ["libpython3.so (deleted)", "libssl.so.3", "python3.11"]);
    }

    #[test]
    fn a_living_process_tells_and_a_dead_one_does_not() {
        let own = mapped(std::process::id()).unwrap();
        assert!(own.iter().any(|name| name.starts_with("libc.so")), "{own:?}");
        // Above every possible pid_max.
        assert_eq!(mapped(1 << 23), None);
    }

    #[test]
    fn libraries_of_libraries_are_found() {
        let curl = Path::new("/usr/bin/curl");
        let elf = Elf::read(&regular(curl).unwrap()).unwrap();
        assert!(!elf.libraries.needed.iter().any(|name| name.starts_with("libssl.so")));
        let linked = linked(curl, &elf.libraries);
        assert!(linked.iter().any(|name| name.starts_with("libssl.so")), "{linked:?}");
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        assert!(regular(Path::new("/dev/zero")).is_err());
        assert!(regular(Path::new("/etc")).is_err());
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(regular(&fifo).is_err(), "and it has not waited for a writer");
    }
}
