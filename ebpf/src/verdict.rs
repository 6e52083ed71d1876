//! The one verdict for all hooks: what becomes of what a subject sends to a destination.

use crate::{address::Target, port, settings};
use aya_ebpf::{macros::map, maps::HashMap};
use tidegate_ebpf_common::{Refusal, without_nat64};

/// The addresses of protected hosts, by the agent's own resolution.
#[map]
static PROTECTED: HashMap<[u8; 16], u32> = HashMap::with_max_entries(4096, 0);

/// What a subject sends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// TCP, which the proxy can take over.
    Stream,
    /// Datagrams: UDP and UDP-Lite.
    Datagram,
    /// Anything else that knows ports.
    Other,
}

/// What becomes of it.
pub(crate) enum Verdict {
    /// None of tidegate's business.
    Pass,
    /// It belongs to the proxy.
    Capture,
    /// It must not leave.
    Refuse(Refusal),
}

pub(crate) fn judge(kind: Kind, target: &Target) -> Verdict {
    let is_protected = is_protected(&target.address);
    let is_captured = port::captured(target.port) && (is_protected || !settings::targeted());
    match kind {
        Kind::Stream if is_captured || port::is_forward_proxy(target) => Verdict::Capture,
        Kind::Datagram if is_captured => Verdict::Refuse(Refusal::Datagram),
        Kind::Other if is_captured => Verdict::Refuse(Refusal::Protocol),
        Kind::Stream | Kind::Datagram | Kind::Other if is_protected => Verdict::Refuse(Refusal::Protected),
        Kind::Stream | Kind::Datagram | Kind::Other => Verdict::Pass,
    }
}

/// A function of its own in the program, so that its key does not add to the hook's stack.
#[inline(never)]
pub(crate) fn is_protected(address: &[u8; 16]) -> bool {
    PROTECTED.get_ptr(without_nat64(*address)).is_some()
}
