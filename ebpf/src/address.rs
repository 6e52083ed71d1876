//! The only raw reads and writes of the address that a system call carries.

use aya_ebpf::{
    bindings::bpf_sock,
    programs::{SkBuffContext, SockAddrContext, SockContext, SockOpsContext},
};
use tidegate_ebpf_common::mapped;

const AF_INET: u32 = 2;

/// Where a call wants to go.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// In the shared 16-byte form.
    pub(crate) address: [u8; 16],
    /// In host order.
    pub(crate) port: u16,
}

pub(crate) fn v4(ctx: &SockAddrContext) -> Target {
    // SAFETY: the kernel passes a valid context; each field is read as the u32 that the verifier demands.
    let (ip, port) = unsafe { (field(&raw const (*ctx.sock_addr).user_ip4), port(ctx)) };
    Target { address: mapped(ip.to_ne_bytes()), port }
}

pub(crate) fn v6(ctx: &SockAddrContext) -> Target {
    // SAFETY: as in `v4`; the indices are constants below 4.
    let words = unsafe {
        let word = (&raw const (*ctx.sock_addr).user_ip6).cast::<u32>();
        [field(word), field(word.add(1)), field(word.add(2)), field(word.add(3))]
    };
    Target { address: bytes(words), port: port(ctx) }
}

pub(crate) fn set_v4(ctx: &SockAddrContext, address: &[u8; 16], port: u16) {
    let [.., a, b, c, d] = *address;
    // SAFETY: the kernel passes a valid context, and both fields may be written as u32 in these hooks.
    unsafe {
        set_field(&raw mut (*ctx.sock_addr).user_ip4, u32::from_ne_bytes([a, b, c, d]));
    }
    set_port(ctx, port);
}

pub(crate) fn set_v6(ctx: &SockAddrContext, address: &[u8; 16], port: u16) {
    let [w0, w1, w2, w3] = words(address);
    // SAFETY: as in `set_v4`; the indices are constants below 4.
    unsafe {
        let word = (&raw mut (*ctx.sock_addr).user_ip6).cast::<u32>();
        set_field(word, w0);
        set_field(word.add(1), w1);
        set_field(word.add(2), w2);
        set_field(word.add(3), w3);
    }
    set_port(ctx, port);
}

/// The IP protocol of the socket.
pub(crate) fn protocol(ctx: &SockAddrContext) -> u32 {
    // SAFETY: as in `v4`.
    unsafe { field(&raw const (*ctx.sock_addr).protocol) }
}

/// The socket's type (`SOCK_STREAM` …).
pub(crate) fn socket_type(ctx: &SockAddrContext) -> u32 {
    // SAFETY: as in `v4`.
    unsafe { field(&raw const (*ctx.sock_addr).type_) }
}

/// The socket of the call.
pub(crate) fn socket(ctx: &SockAddrContext) -> *mut bpf_sock {
    // SAFETY: the kernel passes a valid context.
    unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk }
}

/// The type and protocol of a socket that is being made.
pub(crate) fn kind(ctx: &SockContext) -> (u32, u32) {
    // SAFETY: as in `v4`.
    unsafe { (field(&raw const (*ctx.sock).type_), field(&raw const (*ctx.sock).protocol)) }
}

/// The socket that sent a packet, or null.
pub(crate) fn socket_of(ctx: &SkBuffContext) -> *mut bpf_sock {
    // SAFETY: the kernel passes a valid context.
    unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk }
}

/// The state of a whole TCP socket, which must not be null.
pub(crate) fn state(socket: *mut bpf_sock) -> u32 {
    // SAFETY: the verifier knows the socket to be one; the field is read as the u32 that it demands.
    unsafe { field(&raw const (*socket).state) }
}

/// The IPv4 address of the socket's own end.
pub(crate) fn local_v4(ctx: &SockOpsContext) -> [u8; 16] {
    // SAFETY: the kernel passes a valid context; the field is read as the u32 that the verifier demands.
    let ip = unsafe { field(&raw const (*ctx.ops).local_ip4) };
    mapped(ip.to_ne_bytes())
}

/// The IPv6 address of the socket's own end.
pub(crate) fn local_v6(ctx: &SockOpsContext) -> [u8; 16] {
    // SAFETY: as in `local_v4`; the indices are constants below 4.
    bytes(unsafe {
        let word = (&raw const (*ctx.ops).local_ip6).cast::<u32>();
        [field(word), field(word.add(1)), field(word.add(2)), field(word.add(3))]
    })
}

/// The address and port of the other end of a connection.
pub(crate) fn remote(ctx: &SockOpsContext) -> Target {
    // SAFETY: as in `local_v6`.
    let (family, ip, words, port) = unsafe {
        let word = (&raw const (*ctx.ops).remote_ip6).cast::<u32>();
        (
            field(&raw const (*ctx.ops).family),
            field(&raw const (*ctx.ops).remote_ip4),
            [field(word), field(word.add(1)), field(word.add(2)), field(word.add(3))],
            field(&raw const (*ctx.ops).remote_port),
        )
    };
    let address = if family == AF_INET { mapped(ip.to_ne_bytes()) } else { bytes(words) };
    Target { address, port: u16::from_be((port >> 16) as u16) }
}

/// The socket of a connection's change of state, or null.
pub(crate) fn socket_of_connection(ctx: &SockOpsContext) -> *mut bpf_sock {
    // SAFETY: the kernel passes a valid context.
    unsafe { (*ctx.ops).__bindgen_anon_2.sk }
}

/// Four words in memory order as bytes.
fn bytes(words: [u32; 4]) -> [u8; 16] {
    let [w0, w1, w2, w3] = words;
    let ([a, b, c, d], [e, f, g, h]) = (w0.to_ne_bytes(), w1.to_ne_bytes());
    let ([i, j, k, l], [m, n, o, p]) = (w2.to_ne_bytes(), w3.to_ne_bytes());
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

fn words(bytes: &[u8; 16]) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *bytes;
    [
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
        u32::from_ne_bytes([i, j, k, l]),
        u32::from_ne_bytes([m, n, o, p]),
    ]
}

fn port(ctx: &SockAddrContext) -> u16 {
    // SAFETY: as in `v4`. The port is a big-endian u16 in the low half.
    let port = unsafe { field(&raw const (*ctx.sock_addr).user_port) };
    u16::from_be(port as u16)
}

fn set_port(ctx: &SockAddrContext, port: u16) {
    // SAFETY: as in `set_v4`.
    unsafe { set_field(&raw mut (*ctx.sock_addr).user_port, u32::from(port.to_be())) }
}

/// Reads one word of a context. Volatile, since the verifier refuses loads that the compiler merges.
///
/// # Safety
/// `field` must point to a readable word of the context that the kernel passed.
#[inline(always)]
unsafe fn field(field: *const u32) -> u32 {
    // SAFETY: the caller's duty.
    unsafe { field.read_volatile() }
}

/// Writes one word of a context; volatile as in [`field`].
///
/// # Safety
/// `field` must point to a word of the context that this hook may write.
#[inline(always)]
unsafe fn set_field(field: *mut u32, value: u32) {
    // SAFETY: the caller's duty.
    unsafe { field.write_volatile(value) }
}
