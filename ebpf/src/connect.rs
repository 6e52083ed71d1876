//! The connect, sendmsg and bind hooks, for both families.

use crate::{
    address::{self, Target},
    event, flow,
    listener::{self, Listener},
    socket,
    subject::{self, Subject},
    verdict::{Kind, Verdict, judge},
};
use aya_ebpf::{EbpfContext, programs::SockAddrContext};
use aya_log_ebpf::debug;
use tidegate_ebpf_common::{FLOW_DIRECT, Flow, ListenerKey, Origin, Refusal};

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const IPPROTO_TCP: u32 = 6;

/// What a hook does with a connect.
pub(crate) enum Outcome {
    /// It goes on as it is.
    Proceed,
    /// It goes to the listener.
    Redirect(Listener),
    /// EPERM.
    Refused,
}

/// The call was refused: EPERM.
pub(crate) struct Refused;

/// A connect. UDP passes: it sends nothing, and resolvers connect to sort addresses.
pub(crate) fn connect(ctx: &SockAddrContext, target: Target) -> Outcome {
    if address::socket_type(ctx) == SOCK_DGRAM {
        return Outcome::Proceed;
    }
    let key = listener::key(ctx, &target);
    let listener = listener::lookup(&key);
    if let Some(listener) = listener
        && listener.port == target.port
    {
        return direct(ctx, &target, &key);
    }
    let Some(subject) = caller(ctx) else {
        return Outcome::Proceed;
    };
    let protocol = address::protocol(ctx);
    let is_tcp = address::socket_type(ctx) == SOCK_STREAM && protocol == IPPROTO_TCP;
    let refusal = match judge(if is_tcp { Kind::Stream } else { Kind::Other }, &target) {
        Verdict::Pass => {
            // The socket may have been redirected by an earlier connect that failed.
            flow::release(ctx);
            return Outcome::Proceed;
        }
        Verdict::Refuse(refusal) => Some(refusal),
        Verdict::Capture => None,
    };
    let flow = flow::describe(&target, &key, &subject);
    if let Some(refusal) = refusal {
        return refuse(ctx, &flow, refusal, protocol);
    }
    let Some(listener) = listener else {
        return refuse(ctx, &flow, Refusal::NoListener, protocol);
    };
    if flow::remember(ctx, &flow).is_err() {
        return refuse(ctx, &flow, Refusal::FlowTableFull, protocol);
    }
    debug!(ctx, "redirected port {} of process {}", target.port, flow.tgid);
    Outcome::Redirect(listener)
}

/// A datagram with an address: QUIC is refused, so that clients fall back to TCP.
pub(crate) fn send(ctx: &SockAddrContext, target: Target) -> Result<(), Refused> {
    // Hardly any datagram is judged, so that its sender is looked for only then.
    let Verdict::Refuse(refusal) = judge(Kind::Datagram, &target) else {
        return Ok(());
    };
    let Some(subject) = caller(ctx) else {
        return Ok(());
    };
    let flow = flow::describe(&target, &listener::key(ctx, &target), &subject);
    event::refused(ctx, &flow, refusal, address::protocol(ctx));
    Err(Refused)
}

/// A socket that takes an address: the listener's port is no subject's, not even while the agent is gone, since
/// other subjects are sent there.
pub(crate) fn bind(ctx: &SockAddrContext, own: Target) -> Result<(), Refused> {
    let key = listener::key(ctx, &own);
    if !listener::is_port(&key, own.port) {
        return Ok(());
    }
    let Some(subject) = caller(ctx) else {
        return Ok(());
    };
    let flow = flow::describe(&own, &key, &subject);
    event::refused(ctx, &flow, Refusal::ListenerPort, address::protocol(ctx));
    Err(Refused)
}

/// The subject that calls, unless the socket is the agent's own.
fn caller(ctx: &SockAddrContext) -> Option<Subject> {
    let subject = subject::of_call(address::socket(ctx))?;
    (!socket::is_exempt(ctx.as_ptr())).then_some(subject)
}

/// A connect to the listener itself, by whomever. It is marked, so that the join takes away a flow that an
/// earlier socket may have left under the same key: nobody gets another's identity.
fn direct(ctx: &SockAddrContext, target: &Target, key: &ListenerKey) -> Outcome {
    let nobody = Subject { cgroup_id: 0, origin: Origin::NONE };
    let mut flow = flow::describe(target, key, &nobody);
    flow.flags = FLOW_DIRECT;
    match flow::remember(ctx, &flow) {
        Ok(()) => Outcome::Proceed,
        Err(flow::Full) => refuse(ctx, &flow, Refusal::FlowTableFull, address::protocol(ctx)),
    }
}

fn refuse(ctx: &SockAddrContext, flow: &Flow, refusal: Refusal, protocol: u32) -> Outcome {
    event::refused(ctx, flow, refusal, protocol);
    Outcome::Refused
}
