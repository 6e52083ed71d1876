//! Refusals, reported to the agent for its records.

use aya_ebpf::{macros::map, maps::RingBuf, programs::SockAddrContext};
use aya_log_ebpf::{error, warn};
use tidegate_ebpf_common::{Event, Flow, Refusal};

#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

pub(crate) fn refused(ctx: &SockAddrContext, flow: &Flow, refusal: Refusal, protocol: u32) {
    // Written in place: a second copy of the flow would not fit the 512 bytes of stack.
    if let Some(mut entry) = EVENTS.reserve::<Event>(0) {
        entry.write(Event { flow: *flow, refusal: refusal as u32, protocol });
        entry.submit(0);
    } else {
        error!(ctx, "event ring full: a refusal of process {} has no record", flow.tgid);
    }
    warn!(ctx, "refused port {} for process {}: {}", flow.port, flow.tgid, refusal.as_str());
}
