//! The verdicts of the connect and sendmsg hooks, for both families.

use crate::{
    address::{self, Target},
    event, flow,
    listener::{self, Listener},
    port, subject,
};
use aya_ebpf::programs::SockAddrContext;
use aya_log_ebpf::debug;
use tidegate_ebpf_common::{FLOW_DIRECT, Flow, ListenerKey, Refusal};

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const IPPROTO_TCP: u32 = 6;

/// What a hook does with a call.
pub(crate) enum Verdict {
    /// None of tidegate's business.
    NotCaptured,
    /// The call goes to the listener.
    Redirect(Listener),
    /// EPERM.
    Refused,
}

/// A datagram was refused: EPERM.
pub(crate) struct Refused;

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
    if !port::captured(target.port) && !port::is_forward_proxy(&target) {
        // The socket may have been redirected by an earlier connect that failed.
        flow::release(ctx);
        return Verdict::NotCaptured;
    }

    let flow = flow::describe(&target, &key, cgroup_id);
    let protocol = address::protocol(ctx);
    if address::socket_type(ctx) != SOCK_STREAM || protocol != IPPROTO_TCP {
        return refuse(ctx, &flow, Refusal::Protocol, protocol);
    }
    let Some(listener) = listener else {
        return refuse(ctx, &flow, Refusal::NoListener, protocol);
    };
    if flow::remember(ctx, &flow).is_err() {
        return refuse(ctx, &flow, Refusal::FlowTableFull, protocol);
    }
    debug!(ctx, "redirected port {} of process {}", target.port, flow.tgid);
    Verdict::Redirect(listener)
}

/// A datagram with an address: QUIC is refused, so that clients fall back to TCP.
pub(crate) fn send(ctx: &SockAddrContext, target: Target) -> Result<(), Refused> {
    if !port::captured(target.port) {
        return Ok(());
    }
    let Some(cgroup_id) = subject::current() else {
        return Ok(());
    };
    let flow = flow::describe(&target, &listener::key(ctx, &target), cgroup_id);
    event::refused(ctx, &flow, Refusal::Datagram, address::protocol(ctx));
    Err(Refused)
}

/// A connect to the listener itself, by whomever. It is marked, so that the join takes away a flow that an
/// earlier socket may have left under the same key: nobody gets another's identity.
fn direct(ctx: &SockAddrContext, target: &Target, key: &ListenerKey) -> Verdict {
    let mut flow = flow::describe(target, key, 0);
    flow.flags = FLOW_DIRECT;
    match flow::remember(ctx, &flow) {
        Ok(()) => Verdict::NotCaptured,
        Err(flow::Full) => refuse(ctx, &flow, Refusal::FlowTableFull, address::protocol(ctx)),
    }
}

fn refuse(ctx: &SockAddrContext, flow: &Flow, refusal: Refusal, protocol: u32) -> Verdict {
    event::refused(ctx, flow, refusal, protocol);
    Verdict::Refused
}
