//! What the kernel side refused, as it happens.

use super::{Error, OriginalDestination, destination, maps, readable};
use crate::reason::Reason;
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray, RingBuf},
};
use tidegate_ebpf_common::{
    Event, Flow, Origin, Refusal,
    maps::{EVENTS, LOST},
};
use tokio::io::unix::AsyncFd;

/// A refusal of the kernel side.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// The attempt.
    pub flow: Flow,
    /// Where it meant to go.
    pub destination: OriginalDestination,
    /// Why.
    pub reason: Reason,
    /// The IP protocol.
    pub protocol: u32,
}

/// As many are read in one go: a flood must not keep the other tasks of its thread waiting.
const BATCH: usize = 256;

/// The ring buffer of refusals.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
    lost: PerCpuArray<MapData, u64>,
}

impl Events {
    pub(super) fn take(programs: &mut Ebpf) -> Result<Self, Error> {
        let ring = RingBuf::try_from(maps::take(programs, EVENTS)?).map_err(maps::used(EVENTS))?;
        let ring = readable::watch(ring)
            .map_err(|source| Error::Io { action: "watch the event ring".to_owned(), source })?;
        let lost = PerCpuArray::try_from(maps::take(programs, LOST)?).map_err(maps::used(LOST))?;
        Ok(Self { ring, lost })
    }

    /// Waits for refusals and hands each to `each`.
    ///
    /// # Errors
    /// When the ring cannot be watched any more.
    pub async fn next(&mut self, mut each: impl FnMut(Refused)) -> std::io::Result<()> {
        let mut guard = self.ring.readable_mut().await?;
        for _ in 0..BATCH {
            let Some(item) = guard.get_inner_mut().next() else {
                guard.clear_ready();
                return Ok(());
            };
            tell(&item, &mut each);
        }
        guard.retain_ready();
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Hands on what is there, when no more can come.
    pub fn drain(&mut self, mut each: impl FnMut(Refused)) {
        let ring = self.ring.get_mut();
        while let Some(item) = ring.next() {
            tell(&item, &mut each);
        }
    }

    /// How many refusals the ring had no room for, since the programs were loaded.
    pub fn lost(&self) -> u64 {
        match self.lost.get(&0, 0) {
            Ok(counts) => counts.iter().sum(),
            Err(error) => {
                tracing::error!(%error, "cannot read how many refusals were lost");
                0
            }
        }
    }
}

fn tell(item: &[u8], each: &mut impl FnMut(Refused)) {
    match parse(item) {
        Some(refused) => each(refused),
        None => tracing::error!(bytes = item.len(), "event of unknown form from the kernel side"),
    }
}

fn parse(bytes: &[u8]) -> Option<Refused> {
    let event = decode(bytes)?;
    let reason = match Refusal::try_from(event.refusal).ok()? {
        Refusal::NoListener => Reason::NoListener,
        Refusal::FlowTableFull => Reason::FlowTableFull,
        Refusal::Datagram => Reason::QuicRefused,
        Refusal::Protocol => Reason::ProtocolRefused,
        Refusal::Protected => Reason::AddressRefused,
        Refusal::Backstop => Reason::NotThroughProxy,
        Refusal::ListenerPort => Reason::ListenerPort,
    };
    Some(Refused {
        flow: event.flow,
        destination: destination(&event.flow),
        reason,
        protocol: event.protocol,
    })
}

/// Reads the fields one by one in their `repr(C)` order, so that no byte needs to be trusted as a value.
fn decode(bytes: &[u8]) -> Option<Event> {
    let mut rest = bytes;
    let flow = Flow {
        address: take(&mut rest)?,
        netns_cookie: u64::from_ne_bytes(take(&mut rest)?),
        cgroup_id: u64::from_ne_bytes(take(&mut rest)?),
        time_ns: u64::from_ne_bytes(take(&mut rest)?),
        pid: u32::from_ne_bytes(take(&mut rest)?),
        tgid: u32::from_ne_bytes(take(&mut rest)?),
        uid: u32::from_ne_bytes(take(&mut rest)?),
        gid: u32::from_ne_bytes(take(&mut rest)?),
        port: u16::from_ne_bytes(take(&mut rest)?),
        listener_family: u16::from_ne_bytes(take(&mut rest)?),
        flags: u32::from_ne_bytes(take(&mut rest)?),
        origin: Origin {
            cgroup_id: u64::from_ne_bytes(take(&mut rest)?),
            uid: u32::from_ne_bytes(take(&mut rest)?),
            executables: u32::from_ne_bytes(take(&mut rest)?),
        },
        comm: take(&mut rest)?,
    };
    let (refusal, protocol) = (u32::from_ne_bytes(take(&mut rest)?), u32::from_ne_bytes(take(&mut rest)?));
    rest.is_empty().then_some(Event { flow, refusal, protocol })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}
