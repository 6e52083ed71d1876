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
mod packet_socket;
mod port;
mod settings;
mod socket;
mod subject;
mod task;
mod verdict;

use aya_ebpf::{
    macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr, lsm, raw_tracepoint, sock_ops},
    programs::{
        LsmContext, RawTracePointContext, SkBuffContext, SockAddrContext, SockContext, SockOpsContext,
    },
};
use connect::Outcome;

/// The kernel answers EPERM.
const REFUSE: i32 = 0;
/// The call goes on, with the address as it stands in the context.
const PROCEED: i32 = 1;

/// TCP and UDP connects of IPv4 sockets.
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    match connect::connect(&ctx, address::v4(&ctx)) {
        Outcome::Proceed => PROCEED,
        Outcome::Redirect(listener) => {
            address::set_v4(&ctx, &listener.address, listener.port);
            PROCEED
        }
        Outcome::Refused => REFUSE,
    }
}

/// TCP and UDP connects of IPv6 sockets, which may carry IPv4-mapped addresses: connect4 never sees those.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    match connect::connect(&ctx, address::v6(&ctx)) {
        Outcome::Proceed => PROCEED,
        Outcome::Redirect(listener) => {
            address::set_v6(&ctx, &listener.address, listener.port);
            PROCEED
        }
        Outcome::Refused => REFUSE,
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
    answer(create::create(&ctx))
}

/// Packets, however their socket came about.
#[cgroup_skb(egress)]
pub fn egress(ctx: SkBuffContext) -> i32 {
    answer(egress::egress(&ctx))
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

/// IPv4 sockets that take an address of their own.
#[cgroup_sock_addr(bind4)]
pub fn bind4(ctx: SockAddrContext) -> i32 {
    answer(connect::bind(&ctx, address::v4(&ctx)))
}

/// IPv6 sockets that take an address of their own.
#[cgroup_sock_addr(bind6)]
pub fn bind6(ctx: SockAddrContext) -> i32 {
    answer(connect::bind(&ctx, address::v6(&ctx)))
}

/// Joins a redirected socket with the address and port that the kernel chose for it.
#[sock_ops]
pub fn join(ctx: SockOpsContext) -> u32 {
    join::change(&ctx);
    1
}

/// Forgets what a closed socket asked for.
#[cgroup_sock(sock_release)]
pub fn release(ctx: SockContext) -> i32 {
    flow::release(&ctx);
    socket::forget(flow::cookie(&ctx));
    PROCEED
}

/// Packet sockets, which no other hook sees.
#[lsm(hook = "socket_create")]
pub fn packet_socket(ctx: LsmContext) -> i32 {
    packet_socket::create(&ctx)
}

/// A thread or process begins.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn task_fork(ctx: RawTracePointContext) -> i32 {
    task::fork(&ctx);
    0
}

/// A process runs a program.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn task_exec(ctx: RawTracePointContext) -> i32 {
    task::exec(&ctx);
    0
}

/// A process enters a cgroup.
#[raw_tracepoint(tracepoint = "cgroup_attach_task")]
pub fn task_attach(ctx: RawTracePointContext) -> i32 {
    task::attach(&ctx);
    0
}

/// A thread is gone for good.
#[raw_tracepoint(tracepoint = "sched_process_free")]
pub fn task_free(ctx: RawTracePointContext) -> i32 {
    task::free(&ctx);
    0
}

fn answer<E>(judged: Result<(), E>) -> i32 {
    if judged.is_ok() { PROCEED } else { REFUSE }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
