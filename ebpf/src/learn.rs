//! Tells the agent its network namespace's cookie on kernels that do not tell it themselves (before 5.14). It is
//! an object of its own, and attached only while the agent asks.
#![no_std]
#![no_main]

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    macros::{cgroup_sock_addr, map},
    maps::HashMap,
    programs::SockAddrContext,
};

/// Cookie of a socket that asks → cookie of its namespace.
#[map]
static LEARN: HashMap<u64, u64> = HashMap::with_max_entries(1, 0);

/// The connect of a socket that asks, which need not succeed.
#[cgroup_sock_addr(connect4)]
pub fn learn(ctx: SockAddrContext) -> i32 {
    // SAFETY: the kernel passes a valid context, which is what both helpers take in this hook.
    let (socket, netns) =
        unsafe { (bpf_get_socket_cookie(ctx.as_ptr()), bpf_get_netns_cookie(ctx.as_ptr())) };
    if let Some(answer) = LEARN.get_ptr_mut(socket) {
        // SAFETY: the entry is the asking socket's own, which does nothing else meanwhile, and is never removed.
        unsafe { *answer = netns };
    }
    1
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
