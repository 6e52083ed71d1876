//! Ties a redirected socket's cookie to the address and port that the kernel chose for it, before its SYN
//! leaves, so that the flow is there whenever the agent accepts; and tells accepted sockets from those.

use crate::{
    address, flow, socket,
    verdict::{Kind, Verdict, judge},
};
use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
        BPF_SOCK_OPS_TCP_CONNECT_CB,
    },
    programs::SockOpsContext,
};
use aya_log_ebpf::error;
use tidegate_ebpf_common::{FLOW_DIRECT, Flow, FlowKey};

const TCP_SYN_SENT: u32 = 2;
const TCP_CLOSE: u32 = 7;

pub(crate) fn change(ctx: &SockOpsContext) {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => join(ctx),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => accept(ctx),
        BPF_SOCK_OPS_STATE_CB => end(ctx),
        _ => {}
    }
}

fn join(ctx: &SockOpsContext) {
    let Some(flow) = flow::by_cookie(flow::cookie(ctx)) else {
        return;
    };
    let key = key(ctx, &flow);
    if flow.flags & FLOW_DIRECT != 0 {
        flow::unpublish(&key);
    } else if flow::publish(&key, &flow).is_err() {
        // This hook cannot refuse; the agent closes the connection, since it finds no flow.
        error!(ctx, "flow table full: a connection of process {} will be closed", flow.tgid);
    } else {
        // Where the kernel cannot tell of its end, the agent's sweep removes the flow.
        let _ = ctx.set_cb_flags(ctx.cb_flags() as i32 | BPF_SOCK_OPS_STATE_CB_FLAG as i32);
    }
}

/// A redirected connect that failed, as all do while the agent is gone: nobody will accept it.
fn end(ctx: &SockOpsContext) {
    if (ctx.arg(0), ctx.arg(1)) != (TCP_SYN_SENT, TCP_CLOSE) {
        return;
    }
    if let Some(flow) = flow::by_cookie(flow::cookie(ctx)) {
        flow::unpublish(&key(ctx, &flow));
    }
}

/// A server's answers may go to a captured port, where its client happens to have that.
fn accept(ctx: &SockOpsContext) {
    if matches!(judge(Kind::Stream, &address::remote(ctx)), Verdict::Pass) {
        return;
    }
    let accepted = address::socket_of_connection(ctx);
    if !accepted.is_null() {
        // SAFETY: the connection's own socket, not null.
        unsafe { socket::accepted(accepted) };
    }
}

/// The client's end as the accepting side will see it: IPv4 for a mapped address.
fn key(ctx: &SockOpsContext, flow: &Flow) -> FlowKey {
    // Both are read before the choice, since the verifier refuses a context pointer that depends on it.
    let (v4, v6) = (address::local_v4(ctx), address::local_v6(ctx));
    // The namespace is the connect's: kernels before 5.14 do not tell it to this hook.
    FlowKey {
        netns_cookie: flow.netns_cookie,
        address: if flow.listener_family == 4 { v4 } else { v6 },
        port: ctx.local_port(),
        reserved: 0,
    }
}
