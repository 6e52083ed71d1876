//! The one verdict function of the connect and sendmsg hooks.

use crate::{
    address::{self, Target},
    event, flow, listener, port, subject,
};
use aya_ebpf::programs::SockAddrContext;
use aya_log_ebpf::debug;
use tidegate_ebpf_common::{FLOW_DIRECT, Flow, Refusal};

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const IPPROTO_TCP: u32 = 6;

/// What a hook does with a call.
pub(crate) enum Verdict {
    /// None of tidegate's business.
    NotCaptured,
    /// The address now is the listener's.
    Redirected,
    /// EPERM.
    Refused,
}

/// A connect. UDP passes: it sends nothing, and resolvers connect to sort addresses.
pub(crate) fn connect(ctx: &SockAddrContext, target: Target) -> Verdict {
    if address::socket_type(ctx) == SOCK_DGRAM {
        return Verdict::NotCaptured;
    }
    let key = listener::key(ctx, &target);
    let listener = listener::lookup(&key);
    if let Some(listener) = listener
        && listener.port == target.port
    {
        return direct(ctx, &target, &key);
    }
    let Some(cgroup_id) = subject::current() else {
        return Verdict::NotCaptured;
    };
    if !port::captured(target.port) {
        // The socket may have been redirected by an earlier connect that failed.
        flow::release(ctx);
        return Verdict::NotCaptured;
    }

    let flow = flow::describe(&target, &key, cgroup_id);
    let protocol = address::protocol(ctx);
    if address::socket_type(ctx) != SOCK_STREAM || protocol != IPPROTO_TCP {
        return refuse(ctx, flow, Refusal::Protocol, protocol);
    }
    let Some(listener) = listener else {
        return refuse(ctx, flow, Refusal::NoListener, protocol);
    };
    if flow::remember(ctx, &flow).is_err() {
        return refuse(ctx, flow, Refusal::FlowTableFull, protocol);
    }
    if target.v6_socket {
        address::set_v6(ctx, &listener.address, listener.port);
    } else {
        address::set_v4(ctx, &listener.address, listener.port);
    }
    debug!(ctx, "redirected port {} of process {}", target.port, flow.tgid);
    Verdict::Redirected
}

/// A datagram with an address: QUIC is refused, so that clients fall back to TCP.
pub(crate) fn send(ctx: &SockAddrContext, target: Target) -> Verdict {
    if !port::captured(target.port) {
        return Verdict::NotCaptured;
    }
    let Some(cgroup_id) = subject::current() else {
        return Verdict::NotCaptured;
    };
    let key = listener::key(ctx, &target);
    let flow = flow::describe(&target, &key, cgroup_id);
    refuse(ctx, flow, Refusal::Datagram, address::protocol(ctx))
}

/// A connect to the listener itself, by whomever. It is marked, so that the join takes away a flow that an
/// earlier socket may have left under the same key: nobody gets another's identity.
fn direct(ctx: &SockAddrContext, target: &Target, key: &tidegate_ebpf_common::ListenerKey) -> Verdict {
    let mut flow = flow::describe(target, key, 0);
    flow.flags = FLOW_DIRECT;
    match flow::remember(ctx, &flow) {
        Ok(()) => Verdict::NotCaptured,
        Err(flow::Full) => refuse(ctx, flow, Refusal::FlowTableFull, address::protocol(ctx)),
    }
}

fn refuse(ctx: &SockAddrContext, flow: Flow, refusal: Refusal, protocol: u32) -> Verdict {
    event::refused(ctx, flow, refusal, protocol);
    Verdict::Refused
}
