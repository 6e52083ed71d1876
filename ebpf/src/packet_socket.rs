//! Packet sockets of subjects, where the kernel runs BPF LSM programs: their packets pass every cgroup hook.

use crate::{event, flow, subject};
use aya_ebpf::programs::LsmContext;
use tidegate_ebpf_common::{Refusal, mapped};

const AF_PACKET: i32 = 17;
const AF_XDP: i32 = 44;
const EPERM: i32 = 1;

/// `socket_create(family, type, protocol, kern)`, and what the hooks before it answered.
pub(crate) fn create(ctx: &LsmContext) -> i32 {
    let (family, protocol, answer) = (ctx.arg::<i32>(0), ctx.arg::<i32>(2), ctx.arg::<i32>(4));
    if answer != 0 || (family != AF_PACKET && family != AF_XDP) {
        return answer;
    }
    let Some(subject) = subject::current() else {
        return 0;
    };
    let flow = flow::describe_socket(mapped([0; 4]), 0, &subject);
    event::refused(ctx, &flow, Refusal::Protocol, protocol as u32);
    -EPERM
}
