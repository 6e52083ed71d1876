//! The one form of an address, by which both sides compare.

use std::net::IpAddr;
use tidegate_ebpf_common::without_nat64;

/// The IPv4 address that is wrapped in an IPv6 one, as mapped or by the well-known prefix of NAT64; else the
/// address itself.
pub fn plain(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::from(without_nat64(ip.octets())).to_canonical(),
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("192.0.2.1", "192.0.2.1"; "ipv4")]
    #[test_case("::ffff:192.0.2.1", "192.0.2.1"; "mapped")]
    #[test_case("64:ff9b::192.0.2.1", "192.0.2.1"; "nat64")]
    #[test_case("64:ff9b:1::192.0.2.1", "64:ff9b:1::192.0.2.1"; "another prefix")]
    #[test_case("2001:db8::1", "2001:db8::1"; "ipv6")]
    fn an_address_has_one_form(text: &str, expected: &str) {
        assert_eq!(plain(text.parse().unwrap()), expected.parse::<IpAddr>().unwrap());
    }
}
