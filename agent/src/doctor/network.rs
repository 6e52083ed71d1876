//! The network: which families lead anywhere, and whether the agent can listen.

use super::{Check, read, told};
use crate::{
    capture::{self, listener, netns, own_sockets::OwnSockets},
    config,
};
use std::net::SocketAddr;

pub(super) fn examine(config: &config::Capture) -> Vec<Check> {
    let avoid: Vec<u16> = config.tls_ports.iter().chain(&config.plain_ports).copied().collect();
    let mut checks = routes(netns::has_global_route(false), netns::has_global_route(true)).to_vec();
    checks.push(listeners(listen(&avoid)));
    checks.push(mptcp(read("/proc/sys/net/mptcp/enabled").as_deref()));
    checks
}

fn routes(v4: bool, v6: bool) -> [Check; 2] {
    [("route_ipv4", v4, "IPv4", "IPv6"), ("route_ipv6", v6, "IPv6", "IPv4")].map(
        |(name, there, this, other)| match (there, v4 || v6) {
            (true, _) => Check::ok(name, format!("leads out: connects over {this} are captured")),
            (false, true) => Check::ok(
                name,
                format!(
                    "none: connects over {this} to captured ports fail at once, and programs take {other}"
                ),
            ),
            (false, false) => Check::failed(
                name,
                "none, for either family: nothing beyond this machine can be reached",
                "add a default route to this network namespace",
            ),
        },
    )
}

/// Binds what `run` binds, and lets it go.
fn listen(avoid: &[u16]) -> Result<Vec<SocketAddr>, capture::Error> {
    let io = |source| capture::Error::Io { action: "make an event loop".to_owned(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(io)?;
    // Listeners belong to the runtime that is entered.
    let _entered = runtime.enter();
    let bound = listener::bind(&OwnSockets::default(), avoid, [false; 2], |_, _| None)?;
    Ok(bound.iter().map(|listener| listener.address).collect())
}

fn listeners(result: Result<Vec<SocketAddr>, capture::Error>) -> Check {
    const NAME: &str = "listener_port";
    match result {
        Ok(addresses) if addresses.is_empty() => {
            Check::failed(NAME, "not tried without a route", "add a default route to this network namespace")
        }
        Ok(addresses) => {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            Check::ok(NAME, format!("free: {}", addresses.join(", ")))
        }
        Err(error) => Check::failed(
            NAME,
            told(&error),
            "run as root with CAP_NET_BIND_SERVICE, and see that `lo` is up and has its addresses",
        ),
    }
}

/// A subject's MPTCP connect would make further connects from a kernel worker, with nobody's identity.
fn mptcp(setting: Option<&str>) -> Check {
    let seen = match setting {
        Some("1") => "enabled: refused on captured ports, where programs take TCP",
        Some(_) => "disabled",
        None => "this kernel has none",
    };
    Check::ok("mptcp", seen)
}

#[cfg(test)]
mod tests {
    use super::{
        super::Status::{self, Failed, Ok},
        *,
    };
    use std::io;
    use test_case::test_case;

    #[test_case(true, true, [Ok, Ok]; "both")]
    #[test_case(true, false, [Ok, Ok]; "ipv4 only")]
    #[test_case(false, true, [Ok, Ok]; "ipv6 only")]
    #[test_case(false, false, [Failed, Failed]; "neither")]
    fn one_family_suffices(v4: bool, v6: bool, expected: [Status; 2]) {
        assert_eq!(routes(v4, v6).map(|check| check.status), expected);
    }

    #[test]
    fn a_missing_family_is_told_with_what_it_means() {
        let [v4, v6] = routes(true, false);
        assert_eq!(v4.seen, "leads out: connects over IPv4 are captured");
        assert_eq!(
            v6.seen,
            "none: connects over IPv6 to captured ports fail at once, and programs take IPv4"
        );
    }

    #[test_case(Result::Ok(vec!["127.0.0.1:1023".parse().unwrap()]), Ok, "free: 127.0.0.1:1023"; "bound")]
    #[test_case(Result::Ok(vec![]), Failed, "not tried without a route"; "no route")]
    #[test_case(
        Err(capture::Error::Io { action: "listen".to_owned(), source: io::Error::from_raw_os_error(13) }),
        Failed, "cannot listen: Permission denied (os error 13)"; "refused"
    )]
    fn listening_is_judged(result: Result<Vec<SocketAddr>, capture::Error>, status: Status, seen: &str) {
        let check = listeners(result);
        assert_eq!((check.status, check.seen.as_str()), (status, seen));
    }

    #[test_case(Some("1"), "enabled: refused on captured ports, where programs take TCP"; "enabled")]
    #[test_case(Some("0"), "disabled"; "disabled")]
    #[test_case(None, "this kernel has none"; "none")]
    fn mptcp_is_told(setting: Option<&str>, expected: &str) {
        assert_eq!(mptcp(setting).seen, expected);
    }
}
