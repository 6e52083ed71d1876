//! What one process asks for and the other has the right to, over the pair of sockets between them.

use super::{answers::Rights, elsewhere::Elsewhere};
use crate::{
    capture::own_sockets::{Opener, OwnSockets},
    config::{self, Config},
    host::HostName,
    link::{Link, Message},
    record::{
        chain::Head,
        signer::{Signed, Signer},
        sink::place::{Identity, Own, Place},
    },
    terminate::ca::{Authority, Mint as _},
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::{
    fs,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, RwLock},
    time::SystemTime,
};
use tempfile::TempDir;
use tokio::runtime::Handle;

/// Both ends. The log and its key are in the directory.
struct Pair {
    _supervisor: Link,
    elsewhere: Arc<Elsewhere>,
    log: PathBuf,
    directory: TempDir,
}

fn host(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

fn pair() -> Pair {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("audit.jsonl");
    let audit = config::Audit { path: log.clone(), ..Config::default().audit };
    let signer = Signer::open(&directory.path().join("audit.key")).unwrap();
    let rights = Arc::new(Rights {
        own_sockets: OwnSockets::default(),
        resolve: Arc::new(|_| Box::pin(async { Ok(vec![IpAddr::from([192, 0, 2, 1])]) })),
        authority: RwLock::new(Arc::new(Authority::ephemeral(&[host("digitalocean.com")]).unwrap())),
        log: Own::new(&audit, Some(signer)),
        clients: Arc::default(),
        signed: Mutex::default(),
    });
    let (one, other) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let runtime = Handle::current();
    let answer = move |message: Message| {
        let rights = Arc::clone(&rights);
        runtime.spawn(async move { rights.answer(message).await });
    };
    let supervisor = Link::start(one, answer).unwrap();
    let link = Arc::new(Link::start(other, |_| {}).unwrap());
    let elsewhere = Arc::new(Elsewhere::new(link, log.clone()));
    Pair { _supervisor: supervisor, elsewhere, log, directory }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_are_for_the_authoritys_names_alone() {
    let pair = pair();
    let now = SystemTime::now();
    assert!(pair.elsewhere.mint(&host("api.digitalocean.com"), now).is_ok());
    let refused = pair.elsewhere.mint(&host("example.com"), now).unwrap_err().to_string();
    assert!(refused.contains("outside of the local CA's domains"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_sockets_come_from_the_other_end() {
    let pair = pair();
    assert_eq!(
        (pair.elsewhere.resolve())(host("example.com")).await.unwrap(),
        [IpAddr::from([192, 0, 2, 1])]
    );
    for is_v6 in [false, true] {
        let socket = Opener::open(&*pair.elsewhere, None, is_v6).await.unwrap();
        assert_eq!(socket.local_addr().unwrap().is_ipv6(), is_v6);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_signed_is_signed_in_another_way() {
    let pair = pair();
    let sign = |id: &str, sequence, byte| {
        let head = Head { id: id.to_owned(), sequence, hash: [byte; 32] };
        pair.elsewhere.sign(&Signed { head, opens: false }).is_some()
    };
    let asked =
        [sign("a", 1, 1), sign("a", 1_001, 2), sign("a", 1, 1), sign("b", 2_000, 3), sign("a", 2_001, 4)];
    assert_eq!(asked, [true, true, false, false, true]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_moved_away_is_missed_before_the_next_record() {
    let pair = pair();
    let open = || Identity::of(&Place::open(&*pair.elsewhere).unwrap().metadata().unwrap());
    let first = open();
    assert!(pair.elsewhere.has(first));
    fs::rename(&pair.log, pair.directory.path().join("audit.jsonl.1")).unwrap();
    assert!(!pair.elsewhere.has(first));
    let second = open();
    assert!(second != first && pair.elsewhere.has(second));
    assert!(pair.elsewhere.rotate(SystemTime::now()));
    assert!(!pair.elsewhere.has(second));
}
