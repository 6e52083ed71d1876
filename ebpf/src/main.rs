//! The hooks: one function each, which maps an outcome to the kernel's return code.
#![no_std]
#![no_main]

mod address;
mod connect;
mod create;
mod egress;
mod event;
mod flow;
mod join;
mod listener;
mod port;
mod subject;

use aya_ebpf::{
    macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr, sock_ops},
    programs::{SkBuffContext, SockAddrContext, SockContext, SockOpsContext},
};
use connect::{Refused, Verdict};

/// The kernel answers EPERM.
const REFUSE: i32 = 0;
/// The call goes on, with the address as it stands in the context.
const PROCEED: i32 = 1;

/// TCP and UDP connects of IPv4 sockets.
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    match connect::connect(&ctx, address::v4(&ctx)) {
        Verdict::NotCaptured => PROCEED,
        Verdict::Redirect(listener) => {
            address::set_v4(&ctx, &listener.address, listener.port);
            PROCEED
        }
        Verdict::Refused => REFUSE,
    }
}

/// TCP and UDP connects of IPv6 sockets, which may carry IPv4-mapped addresses: connect4 never sees those.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    match connect::connect(&ctx, address::v6(&ctx)) {
        Verdict::NotCaptured => PROCEED,
        Verdict::Redirect(listener) => {
            address::set_v6(&ctx, &listener.address, listener.port);
            PROCEED
        }
        Verdict::Refused => REFUSE,
    }
}

/// Datagrams of unconnected IPv4 sockets.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    answer(connect::send(&ctx, address::v4(&ctx)))
}

/// Datagrams of unconnected IPv6 sockets.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    answer(connect::send(&ctx, address::v6(&ctx)))
}

/// Sockets that are being made.
#[cgroup_sock(sock_create)]
pub fn create(ctx: SockContext) -> i32 {
    if create::create(&ctx).is_ok() { PROCEED } else { REFUSE }
}

/// Packets, however their socket came about.
#[cgroup_skb(egress)]
pub fn egress(ctx: SkBuffContext) -> i32 {
    if egress::egress(&ctx).is_ok() { PROCEED } else { REFUSE }
}

/// The program sees the IPv4 address that it asked for.
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    if let Some(flow) = flow::original(&ctx) {
        address::set_v4(&ctx, &flow.address, flow.port);
    }
    PROCEED
}

/// The program sees the IPv6 address that it asked for.
#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    if let Some(flow) = flow::original(&ctx) {
        address::set_v6(&ctx, &flow.address, flow.port);
    }
    PROCEED
}

/// Joins a redirected socket with the address and port that the kernel chose for it.
#[sock_ops]
pub fn join(ctx: SockOpsContext) -> u32 {
    join::join(&ctx);
    1
}

/// Forgets what a closed socket asked for.
#[cgroup_sock(sock_release)]
pub fn release(ctx: SockContext) -> i32 {
    flow::release(&ctx);
    PROCEED
}

fn answer(sent: Result<(), Refused>) -> i32 {
    if sent.is_ok() { PROCEED } else { REFUSE }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
