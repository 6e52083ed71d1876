use super::{
    known::{KEPT, Kept, MAX_ADDRESSES},
    *,
};
use std::{collections::VecDeque, fs, os::unix::fs::PermissionsExt, path::Path, sync::Mutex};
use test_case::test_case;

const HOST: &str = "api.digitalocean.com";

fn host() -> HostName {
    HostName::parse(HOST).unwrap()
}

fn parse(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A resolver with one answer after the other, and no answer after the last.
fn answers(turns: &[&[&str]]) -> Resolve {
    let turns: VecDeque<Vec<IpAddr>> =
        turns.iter().map(|turn| turn.iter().copied().map(parse).collect()).collect();
    let turns = Arc::new(Mutex::new(turns));
    Arc::new(move |_| {
        let turn = turns.lock().unwrap().pop_front();
        Box::pin(async move { turn.ok_or_else(|| std::io::Error::other("no answer")) })
    })
}

fn addresses(turns: &[&[&str]]) -> ProtectedAddresses {
    ProtectedAddresses::new(vec![host()], vec!["198.51.100.0/24".parse().unwrap()], answers(turns))
}

fn whole(addresses: &ProtectedAddresses) -> Vec<String> {
    addresses.whole().borrow().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn addresses_are_kept_when_a_name_moves_or_fails() {
    let addresses = addresses(&[&["192.0.2.1"], &["192.0.2.2"]]);
    for _ in 0..3 {
        addresses.learn().await;
    }
    // A name that leads nowhere from here.
    assert_eq!(addresses.place_of(&host()).await, Place { protected: false, edge: true });
    for (address, protected, edge) in [
        ("192.0.2.1", true, false),
        ("::ffff:192.0.2.2", true, false),
        ("64:ff9b::192.0.2.2", true, false),
        ("192.0.2.3", false, false),
        ("198.51.100.9", false, true),
        ("::ffff:198.51.100.9", false, true),
        ("64:ff9b::198.51.100.9", false, true),
    ] {
        assert_eq!(addresses.place(parse(address)), Place { protected, edge }, "{address}");
    }
}

/// The second host's name never resolves, and nobody waits for that.
#[tokio::test(start_paused = true)]
async fn what_was_learned_counts_whatever_takes_too_long() {
    let resolve: Resolve = Arc::new(|name: HostName| {
        Box::pin(async move {
            if name == host() { Ok(vec![parse("192.0.2.1")]) } else { std::future::pending().await }
        })
    });
    let hosts = vec![host(), HostName::parse("slow.digitalocean.com").unwrap()];
    let addresses = ProtectedAddresses::new(hosts, vec![], resolve);
    addresses.learn_first().await;
    assert_eq!(whole(&addresses), ["192.0.2.1"]);
    assert_eq!(**addresses.every().borrow(), BTreeSet::from([parse("192.0.2.1")]));
}

#[test_case("192.0.2.1", true; "ipv4")]
#[test_case("2001:db8::1", true; "ipv6")]
#[test_case("10.0.0.5", true; "private")]
#[test_case("fd00::5", true; "private ipv6")]
#[test_case("127.0.0.1", false; "loopback")]
#[test_case("::ffff:127.0.0.9", false; "loopback, mapped")]
#[test_case("::1", false; "loopback ipv6")]
#[test_case("0.0.0.0", false; "unspecified")]
#[test_case("0.0.0.7", false; "this network")]
#[test_case("::", false; "unspecified ipv6")]
#[test_case("169.254.169.254", false; "link")]
#[test_case("fe80::1", false; "link ipv6")]
#[test_case("224.0.0.1", false; "multicast")]
#[test_case("ff02::1", false; "multicast ipv6")]
#[test_case("255.255.255.255", false; "broadcast")]
#[tokio::test]
async fn an_answer_that_is_this_machine_is_protected_on_captured_ports_alone(answer: &str, is_whole: bool) {
    let addresses = addresses(&[&[answer]]);
    addresses.learn_first().await;
    assert!(addresses.place(parse(answer)).protected);
    assert_eq!(whole(&addresses).len(), usize::from(is_whole));
}

#[tokio::test]
async fn the_kernels_list_is_told_of_changes_alone() {
    let addresses = addresses(&[&["192.0.2.1", "127.0.0.1"], &["192.0.2.1"], &["64:ff9b::192.0.2.3"]]);
    let mut told = addresses.whole();
    assert!(told.borrow_and_update().is_empty());
    addresses.learn().await;
    assert!(told.has_changed().unwrap());
    assert_eq!(*told.borrow_and_update().as_ref(), BTreeSet::from([parse("192.0.2.1")]));
    addresses.learn().await;
    assert!(!told.has_changed().unwrap());
    addresses.learn().await;
    assert_eq!(*told.borrow_and_update().as_ref(), BTreeSet::from([parse("192.0.2.1"), parse("192.0.2.3")]));
}

#[tokio::test]
async fn what_is_known_outlives_the_agent() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("protected.json");
    let first = addresses(&[&["192.0.2.1", "127.0.0.1"]]).kept_in(file.clone());
    first.learn().await;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let second = addresses(&[]).kept_in(file.clone());
    assert_eq!(whole(&second), ["192.0.2.1"]);
    assert_eq!(second.all(), BTreeSet::from([parse("127.0.0.1"), parse("192.0.2.1")]));
    // What is no longer protected is not carried on.
    let other = HostName::parse("other.digitalocean.com").unwrap();
    let third = ProtectedAddresses::new(vec![other], Vec::new(), answers(&[])).kept_in(file);
    assert!(third.all().is_empty());
}

#[test_case(b""; "empty")]
#[test_case(b"{\"version\":1,\"addresses\":[{\"address\":\"192.0.2"; "cut short")]
#[test_case(b"{\"version\":2,\"addresses\":[]}"; "of another version")]
#[test_case(b"{\"version\":1,\"addresses\":[{\"address\":\"x\",\"hosts\":[],\"seen\":0,\"used\":0}]}"; "no address")]
#[test_case(&[b' '; (1 << 20) + 1]; "too large")]
#[tokio::test]
async fn a_file_that_cannot_be_used_is_replaced(content: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("protected.json");
    fs::write(&file, content).unwrap();
    let addresses = addresses(&[&["192.0.2.1"]]).kept_in(file.clone());
    assert!(addresses.all().is_empty());
    addresses.learn().await;
    assert_eq!(file::load(&file).unwrap().len(), 1);
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_changes_nothing_else() {
    let addresses = addresses(&[&["192.0.2.1"]]).kept_in(Path::new("/nowhere/protected.json").into());
    addresses.learn().await;
    assert_eq!(whole(&addresses), ["192.0.2.1"]);
}

fn kept(number: u32, seen: u64, used: u64) -> Kept {
    let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
    Kept { address, hosts: vec![HOST.to_owned()], seen, used }
}

const WEEK: u64 = KEPT.as_secs();

#[test_case(0, 0, WEEK, true; "seen a week ago")]
#[test_case(0, 0, WEEK + 1, false; "seen longer ago")]
#[test_case(0, 1, WEEK + 1, true; "connected to since")]
#[test_case(WEEK, 0, 0, true; "the clock was set back")]
fn an_address_is_kept_for_a_week_after_its_last_use(seen: u64, used: u64, now: u64, stays: bool) {
    let mut known = Known::restore(vec![kept(1, seen, used)], &[host()]);
    assert_eq!(known.expire(now).is_empty(), stays);
    assert_eq!(known.connected(parse("10.0.0.1"), now), stays);
}

#[test]
fn a_connection_renews_an_address() {
    let mut known = Known::restore(vec![kept(1, 0, 0), kept(2, 0, 0)], &[host()]);
    assert!(known.connected(parse("::ffff:10.0.0.1"), WEEK));
    assert_eq!(known.expire(WEEK + 1), [parse("10.0.0.2")]);
    assert_eq!(known.keep(), [kept(1, 0, WEEK)]);
}

#[test]
fn beyond_the_bound_the_oldest_go() {
    let all =
        (0..u32::try_from(MAX_ADDRESSES).unwrap() + 2).map(|number| kept(number, 1 + u64::from(number), 0));
    let mut known = Known::restore(all.collect(), &[host()]);
    let mut gone = known.expire(10);
    gone.sort();
    assert_eq!(gone, [parse("10.0.0.0"), parse("10.0.0.1")]);
    assert_eq!(known.keep().len(), MAX_ADDRESSES);
}

#[tokio::test]
async fn nothing_is_forgotten_while_a_name_does_not_resolve() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("protected.json");
    file::save(&file, vec![kept(1, 1, 0)]).unwrap();
    let unresolved = addresses(&[]).kept_in(file.clone());
    unresolved.learn().await;
    assert_eq!(whole(&unresolved), ["10.0.0.1"]);
    // It does now, to another address: the old one is long out of use.
    let resolved = addresses(&[&["192.0.2.1"]]).kept_in(file);
    resolved.learn().await;
    assert_eq!(whole(&resolved), ["192.0.2.1"]);
}
