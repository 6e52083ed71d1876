//! The backstop's judgement of single packets, by running its program on them (BPF_PROG_TEST_RUN): nothing is
//! attached and nothing is sent. The kernel lends each packet a socket of this process's cgroup.

use aya::{
    Ebpf, EbpfLoader,
    maps::HashMap,
    programs::{CgroupSkb, TestRun, TestRunOptions},
};
use std::{
    net::{IpAddr, Ipv6Addr},
    os::unix::fs::MetadataExt,
};
use test_case::test_case;
use tidegate::capture::program::OBJECT;
use tidegate_ebpf_common::{SUBJECT, mapped, maps};
use tidegate_tests::cgroup::mount_point;

const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;
const ICMP: u8 = 1;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Captured: port 443. Protected: 192.0.2.7.
struct Backstop(Ebpf);

impl Backstop {
    fn for_subjects(is_subject: bool) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests need root: run them with sudo");
        let mut object = EbpfLoader::new().load(OBJECT).unwrap();
        let mut ports: HashMap<_, u32, u32> =
            HashMap::try_from(object.map_mut(maps::CAPTURED_PORTS).unwrap()).unwrap();
        ports.insert(443, 1, 0).unwrap();
        let mut protected: HashMap<_, [u8; 16], u32> =
            HashMap::try_from(object.map_mut(maps::PROTECTED).unwrap()).unwrap();
        protected.insert(mapped([192, 0, 2, 7]), 1, 0).unwrap();
        if is_subject {
            let mut cgroups: HashMap<_, u64, u32> =
                HashMap::try_from(object.map_mut(maps::CGROUPS).unwrap()).unwrap();
            cgroups.insert(own_cgroup(), SUBJECT, 0).unwrap();
        }
        let program: &mut CgroupSkb = object.program_mut("egress").unwrap().try_into().unwrap();
        program.load().unwrap();
        Self(object)
    }

    fn passes(&self, packet: &[u8]) -> bool {
        let program: &CgroupSkb = self.0.program("egress").unwrap().try_into().unwrap();
        let ethertype: [u8; 2] =
            if packet.first().is_some_and(|first| first >> 4 == 6) { [0x86, 0xdd] } else { [8, 0] };
        let frame = [&[0; 12][..], &ethertype, packet].concat();
        let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::new() };
        program.test_run(options).unwrap().return_value == 1
    }
}

fn own_cgroup() -> u64 {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    std::fs::metadata(mount_point().unwrap().join(path)).unwrap().ino()
}

/// Source and destination port and, for TCP, the rest of its header.
fn transport(protocol: u8, port: u16, flags: u8) -> Vec<u8> {
    let mut bytes = [40_000_u16.to_be_bytes(), port.to_be_bytes()].concat();
    bytes.resize(if protocol == TCP { 20 } else { 8 }, 0);
    if protocol == TCP {
        bytes[12] = 0x50;
        bytes[13] = flags;
    }
    bytes
}

fn v4(to: [u8; 4], protocol: u8, options: usize, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let header = 20 + 4 * options;
    let mut packet = vec![0; header];
    packet[0] = 0x40 | u8::try_from(header / 4).unwrap();
    packet[2..4].copy_from_slice(&u16::try_from(header + payload.len()).unwrap().to_be_bytes());
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet[8] = 64;
    packet[9] = protocol;
    packet[12..16].copy_from_slice(&[198, 51, 100, 1]);
    packet[16..20].copy_from_slice(&to);
    [&packet, payload].concat()
}

/// `extensions`: numbers and lengths in bytes of the headers before the transport's.
fn v6(to: &str, extensions: &[(u8, usize)], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut chain = Vec::new();
    for (index, (_, length)) in extensions.iter().enumerate() {
        let next = extensions.get(index + 1).map_or(protocol, |(number, _)| *number);
        let mut header = vec![0; *length];
        header[0] = next;
        header[1] = u8::try_from(length / 8 - 1).unwrap();
        chain.extend(header);
    }
    let mut packet = vec![0; 40];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&u16::try_from(chain.len() + payload.len()).unwrap().to_be_bytes());
    packet[6] = extensions.first().map_or(protocol, |(number, _)| *number);
    packet[7] = 64;
    packet[24..40].copy_from_slice(&to.parse::<Ipv6Addr>().unwrap().octets());
    [packet, chain, payload.to_vec()].concat()
}

fn tcp4(to: [u8; 4], port: u16, flags: u8) -> Vec<u8> {
    v4(to, TCP, 0, 0, &transport(TCP, port, flags))
}

const ELSEWHERE: [u8; 4] = [192, 0, 2, 8];
const PROTECTED: [u8; 4] = [192, 0, 2, 7];
const V6: &str = "2001:db8::8";

#[test_case(tcp4(ELSEWHERE, 443, SYN), false; "a syn")]
#[test_case(tcp4(ELSEWHERE, 443, ACK), false; "data of a connection from before")]
#[test_case(tcp4(ELSEWHERE, 444, SYN), true; "a port that is not captured")]
#[test_case(tcp4(PROTECTED, 444, ACK), false; "any port of a protected address")]
#[test_case(v4(ELSEWHERE, TCP, 1, 0, &transport(TCP, 443, SYN)), false; "one ip option")]
#[test_case(v4(ELSEWHERE, TCP, 10, 0, &transport(TCP, 443, SYN)), false; "all ip options")]
#[test_case(v4(ELSEWHERE, TCP, 10, 0, &transport(TCP, 444, SYN)), true; "all ip options and another port")]
#[test_case(v4(ELSEWHERE, UDP, 0, 0x2000, &transport(UDP, 443, 0)), false; "a first fragment")]
#[test_case(v4(ELSEWHERE, UDP, 0, 0x2001, &transport(UDP, 443, 0)), true; "a later fragment, useless without its first")]
#[test_case(v4(ELSEWHERE, UDP, 0, 0, &transport(UDP, 443, 0)), false; "udp")]
#[test_case(v4(ELSEWHERE, UDP, 0, 0, &transport(UDP, 53, 0)), true; "dns")]
#[test_case(v4(ELSEWHERE, UDP_LITE, 0, 0, &transport(UDP, 443, 0)), false; "udp-lite")]
#[test_case(v4(ELSEWHERE, SCTP, 0, 0, &transport(SCTP, 443, 0)), false; "sctp")]
#[test_case(v4(ELSEWHERE, DCCP, 0, 0, &transport(DCCP, 443, 0)), false; "dccp")]
#[test_case(v4(ELSEWHERE, ICMP, 0, 0, &[8; 8]), true; "an echo request")]
#[test_case(v4(PROTECTED, ICMP, 0, 0, &[8; 8]), false; "an echo request to a protected address")]
#[test_case(v4(PROTECTED, 253, 0, 0, &[0; 8]), false; "a protocol without ports to a protected address")]
#[test_case(v6(V6, &[], TCP, &transport(TCP, 443, SYN)), false; "ipv6")]
#[test_case(v6(V6, &[], TCP, &transport(TCP, 444, SYN)), true; "ipv6 and another port")]
#[test_case(v6(V6, &[(0, 8)], TCP, &transport(TCP, 443, SYN)), false; "hop by hop options")]
#[test_case(v6(V6, &[(43, 24)], UDP, &transport(UDP, 443, 0)), false; "a routing header")]
#[test_case(v6(V6, &[(44, 8)], UDP, &transport(UDP, 443, 0)), false; "a fragment header")]
#[test_case(v6(V6, &[(0, 8), (60, 16), (43, 8), (44, 8), (60, 8)], TCP, &transport(TCP, 443, SYN)), false; "a chain of headers")]
#[test_case(v6("64:ff9b::192.0.2.7", &[], TCP, &transport(TCP, 444, SYN)), false; "a protected address behind nat64")]
fn a_subjects_packet_is_judged_by_where_it_goes(packet: Vec<u8>, passes: bool) {
    assert_eq!(Backstop::for_subjects(true).passes(&packet), passes);
    assert!(Backstop::for_subjects(false).passes(&packet), "nobody else's packet is held back");
}

#[test]
fn packets_that_end_early_harm_nothing() {
    let backstop = Backstop::for_subjects(true);
    for whole in [tcp4(PROTECTED, 443, SYN), v6(V6, &[(0, 8), (43, 24)], TCP, &transport(TCP, 443, SYN))] {
        // The kernel wants no less than a header of the family.
        let least = if whole[0] >> 4 == 4 { 20 } else { 40 };
        for length in least..whole.len() {
            let _either = backstop.passes(&whole[..length]);
        }
        assert!(!backstop.passes(&whole));
    }
}

#[test]
fn an_address_is_protected_in_every_form() {
    let backstop = Backstop::for_subjects(true);
    let address = IpAddr::from(PROTECTED);
    assert!(!backstop.passes(&v6(&format!("::ffff:{address}"), &[], UDP, &transport(UDP, 5000, 0))));
}
