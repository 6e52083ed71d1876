//! Which sockets a subject gets: none of those whose packets would pass the connect hooks.

use crate::{address, event, flow, subject};
use aya_ebpf::programs::SockContext;
use tidegate_ebpf_common::{Refusal, mapped};

const SOCK_RAW: u32 = 3;
/// Its later subflows are opened by a kernel worker, which is nobody's process. Programs fall back to TCP.
const IPPROTO_MPTCP: u32 = 262;

/// The socket must not be.
pub(crate) struct Refused;

pub(crate) fn create(ctx: &SockContext) -> Result<(), Refused> {
    let (kind, protocol) = address::kind(ctx);
    if kind != SOCK_RAW && protocol != IPPROTO_MPTCP {
        return Ok(());
    }
    let Some(cgroup_id) = subject::current() else {
        return Ok(());
    };
    let flow = flow::describe_socket(mapped([0; 4]), 0, cgroup_id);
    event::refused(ctx, &flow, Refusal::Protocol, protocol);
    Err(Refused)
}
