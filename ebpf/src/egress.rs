//! The backstop: what a packet says of its destination, whatever its socket was connected to.
//!
//! A socket's own destination can change between a call and the packet (a corked datagram leaves after the next
//! connect), so only the packet is believed.

use crate::{address, event, flow, port, subject};
use aya_ebpf::{helpers::generated::bpf_sk_fullsock, programs::SkBuffContext};
use tidegate_ebpf_common::{Refusal, mapped};

const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const IPPROTO_DCCP: u8 = 33;
const IPPROTO_SCTP: u8 = 132;
const IPPROTO_UDPLITE: u8 = 136;

const IPV6_HOP_BY_HOP: u8 = 0;
const IPV6_ROUTING: u8 = 43;
const IPV6_FRAGMENT: u8 = 44;
const IPV6_DESTINATION: u8 = 60;
/// More extension headers than any program sends.
const MAX_EXTENSIONS: usize = 8;

const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

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
    // All of these begin with source and destination port.
    let refusal = match heading.protocol {
        IPPROTO_UDP | IPPROTO_UDPLITE => Refusal::Datagram,
        IPPROTO_TCP | IPPROTO_DCCP | IPPROTO_SCTP => Refusal::Protocol,
        _ => return Ok(()),
    };
    let Ok(port) = ctx.load::<[u8; 2]>(heading.transport + 2) else { return Ok(()) };
    let port = u16::from_be_bytes(port);
    if !port::captured(port) || (heading.protocol == IPPROTO_TCP && !opens(ctx, heading.transport)) {
        return Ok(());
    }
    if !has_socket(ctx) {
        return Ok(());
    }
    let Some(cgroup_id) = subject::of_packet(ctx) else {
        return Ok(());
    };
    // A packet can leave long after its process spoke, so that nobody is named here.
    let flow = flow::anonymous(heading.address, port, cgroup_id);
    event::refused(ctx, &flow, refusal, u32::from(heading.protocol));
    Err(Refused)
}

/// Whether a TCP packet opens a connection. The packets of others follow one that was let through, or belong to a
/// server of the subject whose client's own port is a captured one.
fn opens(ctx: &SkBuffContext, transport: usize) -> bool {
    ctx.load::<u8>(transport + 13).is_ok_and(|flags| flags & (TCP_SYN | TCP_ACK) == TCP_SYN)
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

/// Whether a whole socket sent the packet, so that its cgroup is known.
fn has_socket(ctx: &SkBuffContext) -> bool {
    let socket = address::socket_of(ctx);
    // SAFETY: the socket is the packet's own; the helper is called only where it is not null.
    !socket.is_null() && !unsafe { bpf_sk_fullsock(socket) }.is_null()
}
