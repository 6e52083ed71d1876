use super::*;
use proptest::prelude::*;
use std::net::TcpListener;
use test_case::test_case;

/// An answer about a socket that is connected to this address, with a cgroup behind another attribute.
fn answer(family: u8, address: &[u8], port: u16) -> Vec<u8> {
    let mut bytes = vec![family, 1, 0, 0];
    bytes.extend(40_000_u16.to_be_bytes());
    bytes.extend(port.to_be_bytes());
    bytes.extend([1; 16]);
    bytes.extend(address);
    bytes.resize(4 + 4 + 32, 0);
    bytes.extend([0; 4]);
    bytes.extend(77_u64.to_ne_bytes());
    bytes.extend([0; 12]);
    bytes.extend(1000_u32.to_ne_bytes());
    bytes.extend(4242_u32.to_ne_bytes());
    // One odd byte, which is padded.
    bytes.extend([5, 0, 8, 0, 9, 0, 0, 0]);
    bytes.extend([12, 0, 21, 0]);
    bytes.extend(4711_u64.to_ne_bytes());
    bytes
}

const V4_BYTES: [u8; 4] = [192, 0, 2, 7];

#[test_case(V4, &V4_BYTES, "192.0.2.7:443"; "ipv4")]
#[test_case(V6, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], "[2001:db8::7]:443"; "ipv6")]
#[test_case(V6, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7], "192.0.2.7:443"; "mapped")]
fn a_socket_is_read(family: u8, address: &[u8], remote: &str) {
    let socket = parse(TCP, &answer(family, address, 443)).unwrap();
    assert_eq!(socket.remote, remote.parse().unwrap());
    assert_eq!((socket.uid, socket.inode, socket.cookie, socket.cgroup_id), (1000, 4242, 77, Some(4711)));
    assert_eq!((socket.family, socket.protocol), (family, TCP));
}

#[test]
fn an_answer_that_is_cut_short_names_no_cgroup_and_then_no_socket() {
    let whole = answer(V4, &V4_BYTES, 443);
    for length in 0..whole.len() {
        let socket = parse(TCP, &whole[..length]);
        assert_eq!(socket.is_some(), length >= 72, "{length}");
        assert_eq!(socket.and_then(|socket| socket.cgroup_id), None, "{length}");
    }
    assert_eq!(parse(TCP, &answer(3, &V4_BYTES, 443)), None);
}

#[test_case(&[], true; "no code")]
#[test_case(&0_i32.to_ne_bytes(), true; "acknowledged")]
#[test_case(&(-95_i32).to_ne_bytes(), false; "refused")]
fn the_end_of_an_answer_tells_its_result(payload: &[u8], is_ok: bool) {
    let result = ended(payload);
    assert_eq!(result.is_ok(), is_ok);
    assert_eq!(result.err().and_then(|error| error.raw_os_error()), (!is_ok).then_some(95));
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        parse(TCP, &bytes);
        attribute(&bytes, CGROUP_ID);
        for message in Messages(&bytes).take(100) {
            prop_assert!(message.payload.len() < bytes.len());
        }
    }

    #[test]
    fn messages_end_however_long_they_say_they_are(length in 0_u32..40) {
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.resize(32, 0);
        prop_assert!(Messages(&bytes).take(100).count() < 100);
    }
}

/// Reading needs no privileges, and what is read is this process's own.
#[test]
fn the_kernel_tells_of_a_connection_with_its_cgroup() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let client = std::net::TcpStream::connect(address).unwrap();
    let found = Diag::open().unwrap().connected(TCP).unwrap();
    let own = rustix::net::sockopt::socket_cookie(&client).unwrap();
    let [socket] = found.iter().filter(|socket| socket.remote == address).collect::<Vec<_>>()[..] else {
        panic!("{found:?}");
    };
    assert_eq!((socket.cookie, socket.uid), (own, rustix::process::geteuid().as_raw()));
    assert!(socket.cgroup_id.is_some() && socket.inode != 0, "{socket:?}");
}
