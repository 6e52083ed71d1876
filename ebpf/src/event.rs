//! Refusals, reported to the agent for its records.

use aya_ebpf::{macros::map, maps::RingBuf, programs::SockAddrContext};
use aya_log_ebpf::{error, warn};
use tidegate_ebpf_common::{Event, Flow, Refusal};

#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

pub(crate) fn refused(ctx: &SockAddrContext, flow: Flow, refusal: Refusal, protocol: u32) {
    let event = Event { flow, refusal: refusal as u32, protocol };
    if EVENTS.output::<Event>(&event, 0).is_err() {
        error!(ctx, "event ring full: a refusal of process {} has no record", flow.tgid);
    }
    warn!(ctx, "refused port {} for process {}: {}", flow.port, flow.tgid, refusal.as_str());
}
