//! How this machine's containers are known, where the configuration is about them: what of it is weaker without NRI.

use super::Check;
use crate::{
    config::Config,
    containers::{cri, docker, rules::Rules},
};
use rustix::io::Errno;
use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
};

pub(super) fn examine(config: &Config) -> Option<Check> {
    if Rules::of(&config.workloads).is_empty() && !config.kubernetes.watch {
        return None;
    }
    let settings = &config.containers;
    let nri = listens(&settings.nri);
    let others = [(&settings.cri, cri::SOCKETS), (&settings.engine, docker::SOCKETS)];
    let others = others.into_iter().flat_map(|(given, usual)| match given {
        Some(socket) => vec![socket.clone()],
        None => usual.iter().map(PathBuf::from).collect(),
    });
    let others: Vec<PathBuf> = others.filter(|socket| listens(socket).is_ok()).collect();
    Some(judge(&settings.nri, nri, &others))
}

/// Whether there is somebody, without a connection: a runtime would take that for a plugin, and wait for it to speak. To a
/// socket of another kind the kernel connects nobody, and says which of the two is missing.
fn listens(socket: &Path) -> io::Result<()> {
    match UnixDatagram::unbound()?.connect(socket) {
        Err(error) if error.raw_os_error() == Some(Errno::PROTOTYPE.raw_os_error()) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err(io::Error::other("it is a socket of datagrams")),
    }
}

fn judge(nri: &Path, answers: io::Result<()>, others: &[PathBuf]) -> Check {
    const NAME: &str = "containers";
    let names = others.iter().map(|socket| socket.display().to_string()).collect::<Vec<_>>().join(", ");
    let Err(error) = answers else {
        return Check::ok(NAME, format!("known before they start, from NRI at {}", nri.display()));
    };
    let missing = format!("nobody answers for NRI at {} ({error})", nri.display());
    let advice = "switch NRI on (containerd: `disable = false` below [plugins.'io.containerd.nri.v1.nri']; CRI-O: enable_nri), \
                  and name its socket by `nri` below [containers] where it is elsewhere";
    if others.is_empty() {
        let seen = format!("{missing}, nor does another runtime: containers get no connection through");
        return Check::warning(NAME, seen, advice);
    }
    let seen = format!(
        "{missing}: containers are known only once they run, from {names}. Between a container's start and the moment \
         at which the local CA lies in its stores, its requests to the API are refused; a program that has read its store by \
         then, as Java does at its first connection, is to be started again; and Node, which has roots of its own, takes \
         NODE_EXTRA_CA_CERTS in the pod's spec, since nobody can give a running process a variable"
    );
    Check::warning(NAME, seen, advice)
}

#[cfg(test)]
mod tests {
    use super::{
        super::Status::{Ok as Fine, Warning},
        *,
    };
    use test_case::test_case;

    const NRI: &str = "/run/nri.sock";

    fn absent() -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    #[test]
    fn who_listens_is_found_and_not_connected_to() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("socket");
        assert!(listens(&path).is_err());
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        listens(&path).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(listener);
        assert!(listens(&path).is_err(), "the file is left, and nobody behind it");
    }

    #[test]
    fn with_nri_all_is_well() {
        assert_eq!(judge(Path::new(NRI), Ok(()), &[]).status, Fine);
    }

    #[test_case(&["/run/containerd.sock"], &["from /run/containerd.sock", "NODE_EXTRA_CA_CERTS", "refused", "started again"]; "the runtime alone")]
    #[test_case(&[], &["get no connection through"]; "nobody at all")]
    fn without_it_what_is_weaker_is_told(others: &[&str], expected: &[&str]) {
        let others: Vec<PathBuf> = others.iter().map(PathBuf::from).collect();
        let check = judge(Path::new(NRI), absent(), &others);
        assert_eq!(check.status, Warning);
        assert!(
            check.seen.contains(NRI) && expected.iter().all(|word| check.seen.contains(word)),
            "{}",
            check.seen
        );
        assert!(check.advice.is_some_and(|advice| advice.contains("disable = false")));
    }

    #[test]
    fn a_configuration_that_is_not_about_containers_has_no_such_check() {
        assert_eq!(examine(&Config::default()), None);
    }
}
