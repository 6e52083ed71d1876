//! Datagrams of connected sockets: their connect passed, so the packet is where QUIC is refused.

use crate::{address, event, port, subject};
use aya_ebpf::{
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_sk_fullsock},
    programs::SkBuffContext,
};
use tidegate_ebpf_common::{Flow, Refusal};

const IPPROTO_UDP: u32 = 17;

/// The packet must not leave.
pub(crate) struct Refused;

pub(crate) fn egress(ctx: &SkBuffContext) -> Result<(), Refused> {
    // SAFETY: the kernel passes a valid context.
    let socket = unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk };
    if socket.is_null() {
        return Ok(());
    }
    // SAFETY: the socket is the packet's own, and not null.
    let socket = unsafe { bpf_sk_fullsock(socket) };
    // SAFETY: the helper answers null or a socket that lives as long as the packet.
    let Some(socket) = (unsafe { socket.as_ref() }) else {
        return Ok(());
    };
    let (address, port) = address::connected_to(socket);
    if socket.protocol != IPPROTO_UDP || !port::captured(port) {
        return Ok(());
    }
    let Some(cgroup_id) = subject::of_packet(ctx) else {
        return Ok(());
    };
    // A packet can leave long after its process spoke, so that nobody is named here.
    let flow = Flow {
        address,
        netns_cookie: 0,
        cgroup_id,
        // SAFETY: takes no pointer.
        time_ns: unsafe { bpf_ktime_get_boot_ns() },
        pid: 0,
        tgid: 0,
        uid: 0,
        gid: 0,
        port,
        listener_family: 0,
        flags: 0,
        comm: [0; 16],
    };
    event::refused(ctx, &flow, Refusal::Datagram, IPPROTO_UDP);
    Err(Refused)
}
