//! Which sockets a subject gets: none of those whose packets would pass the connect hooks. The others remember it.

use crate::{address, event, flow, socket, subject, task};
use aya_ebpf::{EbpfContext, programs::SockContext};
use tidegate_ebpf_common::{Refusal, mapped};

const SOCK_RAW: u32 = 3;
/// Its later subflows are opened by a kernel worker, which is nobody's process. Programs fall back to TCP.
const IPPROTO_MPTCP: u32 = 262;

/// The socket must not be.
pub(crate) struct Refused;

pub(crate) fn create(ctx: &SockContext) -> Result<(), Refused> {
    let Some(subject) = subject::current() else {
        return Ok(());
    };
    task::mark(&subject.origin);
    let (kind, protocol) = address::kind(ctx);
    if kind != SOCK_RAW && protocol != IPPROTO_MPTCP {
        socket::made_by(ctx.as_ptr(), &subject);
        return Ok(());
    }
    let flow = flow::describe_socket(mapped([0; 4]), 0, &subject);
    event::refused(ctx, &flow, Refusal::Protocol, protocol);
    Err(Refused)
}
