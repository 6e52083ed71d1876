use super::*;
use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    thread,
};
use test_case::test_case;

/// A listener as the agent's are, on a port that is free.
fn listener() -> TcpListener {
    let mut ports = (600..=1023).rev();
    ports.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).unwrap()
}

fn own_name(listener: &TcpListener) -> String {
    let cookie = crate::capture::netns::own_cookie().unwrap();
    handover::name_elsewhere(cookie, listener.local_addr().unwrap())
}

/// What one end says while the other one receives.
fn received(say: impl FnOnce(UnixStream) + Send) -> io::Result<Option<Vec<(String, OwnedFd)>>> {
    let (one, other) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || say(one));
        receive(&other)
    })
}

#[test]
fn what_waits_in_a_listener_is_accepted_by_whoever_is_given_it() {
    let listeners: Vec<TcpListener> = (0..100).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<SocketAddr> =
        listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    let waiting: Vec<TcpStream> =
        addresses.iter().map(|address| TcpStream::connect(address).unwrap()).collect();
    let given = received(|stream| {
        let named = listeners.iter().enumerate();
        send_all(&stream, named.map(|(number, listener)| (format!("l-{number}"), listener.as_fd()))).unwrap();
        drop(listeners);
    });
    for ((number, (name, descriptor)), waiting) in
        given.unwrap().unwrap().into_iter().enumerate().zip(waiting)
    {
        assert_eq!(name, format!("l-{number}"));
        let (_, peer) = TcpListener::from(descriptor).accept().unwrap();
        assert_eq!(peer, waiting.local_addr().unwrap());
    }
}

#[test]
fn nothing_to_give_is_whole_as_well() {
    let given = received(|stream| send_all(&stream, [].into_iter()).unwrap());
    assert!(given.unwrap().unwrap().is_empty());
}

#[test]
fn an_agent_that_ends_without_a_word_has_given_nothing() {
    assert!(received(drop).unwrap().is_none());
}

#[test_case("a\n"; "without an end")]
#[test_case("a\nend 1\n"; "a name without a socket")]
#[test_case("end 1\n"; "fewer than it says")]
#[test_case("end x\n"; "no number")]
#[test_case("\u{ff}\nend 1\n"; "no name")]
fn what_is_not_whole_is_refused(text: &str) {
    received(|mut stream| stream.write_all(text.as_bytes()).unwrap()).unwrap_err();
}

#[test]
fn one_that_stops_within_its_message_is_not_waited_for() {
    let given = received(|mut stream| {
        stream.write_all(b"a\n").unwrap();
        thread::sleep(PATIENCE * 2);
    });
    assert_eq!(given.unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn one_that_does_not_take_them_is_not_waited_for() {
    let (one, _other) = UnixStream::pair().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    send_all(&one, [("l".to_owned(), listener.as_fd())].into_iter()).unwrap_err();
}

#[test]
fn one_that_is_gone_is_told_nothing() {
    let (one, other) = UnixStream::pair().unwrap();
    drop(other);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    send_all(&one, [("l".to_owned(), listener.as_fd())].into_iter()).unwrap_err();
}

/// Root only, as the ports are.
#[tokio::test]
async fn only_what_is_a_listener_of_that_name_is_taken() {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root: run it with sudo");
    let (from, _other) = UnixStream::pair().unwrap();
    let good = listener();
    let (address, name) = (good.local_addr().unwrap(), own_name(&good));
    let again: OwnedFd = good.try_clone().unwrap().into();
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let named_elsewhere = own_name(&elsewhere);
    let connected = TcpStream::connect(address).unwrap();
    let mut inheritance = Inheritance {
        listeners: vec![
            ("another".to_owned(), listener().into()),
            (named_elsewhere, elsewhere.into()),
            (name.clone(), connected.into()),
            (name.clone(), from.try_clone().unwrap().into()),
            (name.clone(), good.into()),
            (name, again),
        ],
        from,
    };
    let taken: Vec<SocketAddr> = inheritance.listeners().iter().map(|listener| listener.address).collect();
    assert_eq!(taken, [address]);
}

#[tokio::test]
async fn the_end_of_whoever_has_given_is_waited_for() {
    let (from, mut other) = UnixStream::pair().unwrap();
    let ended = tokio::spawn(Inheritance { listeners: Vec::new(), from }.ended());
    // More than is asked for means nothing.
    other.write_all(b"more").unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!ended.is_finished());
    drop(other);
    tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap().unwrap();
}
