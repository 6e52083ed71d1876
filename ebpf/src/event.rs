//! Refusals, reported to the agent for its records.

use aya_ebpf::{
    EbpfContext,
    macros::map,
    maps::{PerCpuArray, RingBuf},
};
use aya_log_ebpf::debug;
use tidegate_ebpf_common::{Event, Flow, Refusal};

#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

pub(crate) fn refused(ctx: &impl EbpfContext, flow: &Flow, refusal: Refusal, protocol: u32) {
    // Written in place: a second copy of the flow would not fit the 512 bytes of stack.
    if let Some(mut entry) = EVENTS.reserve::<Event>(0) {
        entry.write(Event { flow: *flow, refusal: refusal as u32, protocol });
        entry.submit(0);
    } else if let Some(lost) = LOST.get_ptr_mut(0) {
        // SAFETY: the entry is this processor's own and lives as long as the program.
        unsafe { *lost = (*lost).wrapping_add(1) };
    }
    debug!(ctx, "refused port {} for process {}: {}", flow.port, flow.tgid, refusal.as_str());
}
