//! The backstop: what a packet says of its destination, whatever its socket was connected to.
//!
//! A socket's own destination can change between a call and the packet (a corked datagram leaves after the next
//! connect), so only the packet is believed.

use crate::{
    address::{self, Target},
    event, flow, socket, subject,
    verdict::{Kind, Verdict, judge},
};
use aya_ebpf::{
    EbpfContext, bindings::bpf_sock, helpers::generated::bpf_sk_fullsock, programs::SkBuffContext,
};
use tidegate_ebpf_common::{Refusal, mapped};

const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const IPPROTO_DCCP: u8 = 33;
const IPPROTO_SCTP: u8 = 132;
const IPPROTO_UDPLITE: u8 = 136;

/// The kernel's state of a socket that waits for connections.
const TCP_LISTEN: u32 = 10;

const IPV6_HOP_BY_HOP: u8 = 0;
const IPV6_ROUTING: u8 = 43;
const IPV6_FRAGMENT: u8 = 44;
const IPV6_DESTINATION: u8 = 60;
/// More extension headers than any program sends.
const MAX_EXTENSIONS: usize = 8;

/// The packet must not leave.
pub(crate) struct Refused;

/// Where a packet goes.
struct Heading {
    address: [u8; 16],
    protocol: u8,
    /// Where the transport header begins.
    transport: usize,
}

pub(crate) fn egress(ctx: &SkBuffContext) -> Result<(), Refused> {
    let Some(heading) = heading(ctx) else { return Ok(()) };
    let (kind, port) = match heading.protocol {
        // All of these begin with source and destination port.
        IPPROTO_TCP => (Kind::Stream, ctx.load::<[u8; 2]>(heading.transport + 2)),
        IPPROTO_UDP | IPPROTO_UDPLITE => (Kind::Datagram, ctx.load(heading.transport + 2)),
        IPPROTO_DCCP | IPPROTO_SCTP => (Kind::Other, ctx.load(heading.transport + 2)),
        _ => (Kind::Other, Ok([0, 0])),
    };
    let target = Target { address: heading.address, port: u16::from_be_bytes(port.unwrap_or_default()) };
    let refusal = match judge(kind, &target) {
        Verdict::Pass => return Ok(()),
        // The proxy's part of a connection goes to the listener.
        Verdict::Capture => Refusal::Backstop,
        Verdict::Refuse(refusal) => refusal,
    };
    let Some(socket) = whole_socket(ctx) else { return Ok(()) };
    let Some(subject) = subject::of_packet(ctx, socket) else {
        return Ok(());
    };
    if (kind == Kind::Stream && answers(socket)) || socket::is_exempt(ctx.as_ptr()) {
        return Ok(());
    }
    // A packet can leave long after its process spoke, so that nobody is named here.
    let flow = flow::anonymous(target.address, target.port, &subject);
    event::refused(ctx, &flow, refusal, u32::from(heading.protocol));
    Err(Refused)
}

/// Whether the packet belongs to a connection that the other end opened. The first answer, with SYN and ACK, comes
/// from the listening socket itself.
fn answers(socket: *mut bpf_sock) -> bool {
    address::state(socket) == TCP_LISTEN || socket::is_accepted(socket)
}

fn heading(ctx: &SkBuffContext) -> Option<Heading> {
    let first: u8 = ctx.load(0).ok()?;
    match first >> 4 {
        4 => {
            let fragment = u16::from_be_bytes(ctx.load(6).ok()?);
            // Only the first fragment has a transport header, and none is whole without it.
            if fragment & 0x1fff != 0 {
                return None;
            }
            let address = mapped(ctx.load(16).ok()?);
            Some(Heading { address, protocol: ctx.load(9).ok()?, transport: usize::from(first & 0xf) * 4 })
        }
        6 => heading_v6(ctx),
        _ => None,
    }
}

/// Extension headers are skipped: a routing header needs no privilege.
fn heading_v6(ctx: &SkBuffContext) -> Option<Heading> {
    let address = ctx.load(24).ok()?;
    let mut protocol: u8 = ctx.load(6).ok()?;
    let mut transport = 40;
    for _ in 0..MAX_EXTENSIONS {
        let [next, length]: [u8; 2] = match protocol {
            IPV6_HOP_BY_HOP | IPV6_ROUTING | IPV6_FRAGMENT | IPV6_DESTINATION => ctx.load(transport).ok()?,
            _ => break,
        };
        transport += if protocol == IPV6_FRAGMENT { 8 } else { (usize::from(length) + 1) * 8 };
        protocol = next;
    }
    Some(Heading { address, protocol, transport })
}

/// The socket that sent the packet, where it is a whole one, so that its owner is known.
fn whole_socket(ctx: &SkBuffContext) -> Option<*mut bpf_sock> {
    let socket = address::socket_of(ctx);
    if socket.is_null() {
        return None;
    }
    // SAFETY: the socket is the packet's own, and not null.
    let whole = unsafe { bpf_sk_fullsock(socket) };
    (!whole.is_null()).then_some(whole)
}
