//! A network namespace that is not the agent's own: what the agent opens in there stays in there.

use super::learn::namespace_of;
use rustix::{
    fs::{FsWord, fstatfs},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    thread,
};

/// The number of the namespaces' filesystem in linux/magic.h.
const NSFS_MAGIC: FsWord = 0x6e73_6673;

/// What tells one namespace from another for as long as either is there.
pub type Identity = (u64, u64);

/// A network namespace, which stays as long as this does.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    identity: Identity,
}

impl Namespace {
    /// The one that a file such as `/proc/PID/ns/net` or `/run/netns/NAME` stands for.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn at(path: &Path) -> io::Result<Self> {
        Self::of_file(File::open(path)?)
    }

    /// A process's.
    ///
    /// # Errors
    /// When the process has ended, or may not be looked at.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Self::at(&link(pid))
    }

    /// A socket's.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn of_socket(socket: &impl AsFd) -> io::Result<Self> {
        Self::of_file(namespace_of(socket)?)
    }

    fn of_file(file: File) -> io::Result<Self> {
        if fstatfs(&file)?.f_type != NSFS_MAGIC {
            // What a runtime mounts on it is not seen in every mount namespace.
            return Err(io::Error::other("it is the file of no namespace here"));
        }
        let facts = file.metadata()?;
        Ok(Self { identity: (facts.dev(), facts.ino()), file })
    }

    /// What tells it from others.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Does something in there: what it opens is of that namespace for good. It blocks as long as that takes.
    ///
    /// # Errors
    /// When the namespace cannot be entered, and as what is done.
    pub fn within<T: Send>(&self, action: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        // A thread of its own, since the namespace is the thread's and the caller's must stay as it is.
        thread::scope(|scope| {
            let inside = thread::Builder::new().name("namespace".to_owned()).spawn_scoped(scope, || {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
                action()
            })?;
            inside.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))
        })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The network namespace that a process lives in.
///
/// # Errors
/// When the process has ended, or may not be looked at.
pub fn identity_of(pid: u32) -> io::Result<Identity> {
    let facts = fs::metadata(link(pid))?;
    Ok((facts.dev(), facts.ino()))
}

fn link(pid: u32) -> PathBuf {
    format!("/proc/{pid}/ns/net").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::netns;
    use nix::sched::{CloneFlags, unshare};
    use std::net::{Ipv4Addr, UdpSocket};

    fn socket() -> io::Result<UdpSocket> {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
    }

    #[test]
    fn what_is_opened_within_is_of_the_namespace_and_the_caller_stays() {
        assert!(nix::unistd::geteuid().is_root(), "this test needs root: run it with sudo");
        let own = identity_of(std::process::id()).unwrap();
        let elsewhere = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            Namespace::at(Path::new("/proc/thread-self/ns/net")).unwrap()
        });
        let other = elsewhere.join().unwrap();
        assert_ne!(other.identity(), own);
        let inside = other.within(socket).unwrap();
        assert_eq!(Namespace::of_socket(&inside).unwrap().identity(), other.identity());
        assert_ne!(netns::cookie(&inside).unwrap(), netns::cookie(&socket().unwrap()).unwrap());
        assert_eq!(Namespace::of_socket(&socket().unwrap()).unwrap().identity(), own);
        assert_eq!(Namespace::of_process(std::process::id()).unwrap().identity(), own);
    }

    #[test]
    fn a_file_that_stands_for_none_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Namespace::at(file.path()).unwrap_err();
        assert_eq!(error.to_string(), "it is the file of no namespace here");
    }

    #[test]
    fn a_process_that_is_gone_has_none() {
        // No process has this id: it is above every possible pid_max.
        assert!(Namespace::of_process(1 << 23).is_err() && identity_of(1 << 23).is_err());
    }
}
