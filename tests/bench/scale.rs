//! How tidegate's costs grow with what it has to keep: each curve should be flat, or nearly.

use crate::{
    Metrics, Selection,
    load::{h2load::Load, idle},
    peer::{Peer, Running, Setup},
    place::{Answer, Place},
    scenario::{Sizes, Turn},
    tell,
    usage::{TICK, Usage},
};
use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};
use tidegate::run::limits::OpenFiles;
use tidegate_tests::netns::addresses::API_NAME;

/// The curves: what there is more and more of, and how many. A process has 20,000 descriptors on common machines, and
/// clients, gate and load need some besides.
const CURVES: [(&str, Curve, &[usize]); 4] = [
    ("workloads", Curve::Workloads, &[1, 10, 100, 1_000, 10_000]),
    ("policies", Curve::Policies, &[1, 10, 100, 1_000]),
    ("connections", Curve::Connections, &[1, 100, 1_000, 10_000, 19_800]),
    ("audit-mib", Curve::AuditMib, &[1, 10, 100, 1_000]),
];

/// Whoever takes no processor time for so long has settled.
const IDLE: Duration = Duration::from_millis(300);
/// Nobody takes longer to.
const SETTLES: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
enum Curve {
    /// Cgroups that are workloads, each with its own table.
    Workloads,
    /// Policies of 50 rules.
    Policies,
    /// That do nothing, beside those that are measured.
    Connections,
    /// That the audit log has when tidegate starts.
    AuditMib,
}

pub(crate) fn measure(selection: &Selection) -> Result<()> {
    OpenFiles::raise().context("raising the limit on open files")?;
    let place = Place::new(None)?;
    let sizes = Sizes::new(selection.quick);
    for (name, curve, counts) in CURVES {
        for round in 0..selection.rounds {
            // The largest would take longer than all others together.
            let taken = if selection.quick { 3 } else { counts.len() };
            for &count in counts.iter().take(taken) {
                let result = curve.point(count, &place, &sizes);
                tell(&(name.to_owned(), Peer::Tidegate.name(), round), Some(count), result)?;
            }
        }
    }
    place.close()
}

impl Curve {
    fn point(self, count: usize, place: &Place, sizes: &Sizes) -> Result<Metrics> {
        let others = Others::new(place, if matches!(self, Self::Workloads) { count } else { 0 })?;
        let setup = match self {
            Self::Workloads => Setup { workloads: count, ..Setup::default() },
            Self::Policies => Setup { policies: count, ..Setup::default() },
            Self::Connections => Setup::default(),
            Self::AuditMib => Setup { audit: Some(audit(place, count)?), ..Setup::default() },
        };
        let begun = Instant::now();
        let mut running = Running::agent(place, &setup)?;
        running.wait_for_answer(place, false)?;
        let starts = begun.elapsed();
        let settles = settle(place)?.duration_since(begun);
        let turn = Turn { running: &running, peer: Peer::Tidegate, place, sizes };
        let measured = self.measured(&turn, count);
        let stopped = running.stop(place);
        others.remove()?;
        let mut metrics = measured?;
        stopped?;
        metrics.insert("start_ms", starts.as_secs_f64() * 1e3);
        metrics.insert("settled_ms", settles.as_secs_f64() * 1e3);
        Ok(metrics)
    }

    fn measured(self, turn: &Turn<'_>, count: usize) -> Result<Metrics> {
        let load = Load { host: API_NAME, answer: Answer::Kib, http2: false, connections: 32, streams: 1 };
        let idle = match self {
            Self::Connections => Some(idle::start(turn.place, &turn.running.target, API_NAME, count)?),
            Self::Workloads | Self::Policies | Self::AuditMib => None,
        };
        let metrics = turn.requests_for(load, turn.sizes.time())?;
        drop(idle);
        Ok(metrics)
    }
}

/// Waits until what tidegate does at its start beside serving is done, which would count as the requests' cost, and tells
/// when that was.
fn settle(place: &Place) -> Result<Instant> {
    let begun = Instant::now();
    let (mut settled, mut before) = (begun, Usage::of(place.proxy())?.cpu);
    while settled.elapsed() < IDLE {
        ensure!(begun.elapsed() < SETTLES, "tidegate is still busy with its start after {SETTLES:?}");
        thread::sleep(TICK);
        let now = Usage::of(place.proxy())?.cpu;
        if now > before {
            (settled, before) = (Instant::now(), now);
        }
    }
    Ok(settled)
}

/// The cgroups of other workloads.
struct Others(Vec<PathBuf>);

impl Others {
    fn new(place: &Place, count: usize) -> Result<Self> {
        let parent = place.gate().path().join("others");
        let mut made = Self(Vec::new());
        if count > 0 {
            let children = (0..count).map(|number| parent.join(number.to_string()));
            for path in std::iter::once(parent.clone()).chain(children) {
                fs::create_dir(&path).with_context(|| format!("making the cgroup {}", path.display()))?;
                made.0.push(path);
            }
        }
        Ok(made)
    }

    fn remove(mut self) -> Result<()> {
        for path in std::mem::take(&mut self.0).iter().rev() {
            fs::remove_dir(path).with_context(|| format!("removing the cgroup {}", path.display()))?;
        }
        Ok(())
    }
}

/// A turn that failed leaves none for the next one.
impl Drop for Others {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _is_gone = fs::remove_dir(path);
        }
    }
}

/// An audit log of this size, as tidegate wrote it itself: one record again and again would not verify.
fn audit(place: &Place, mib: usize) -> Result<PathBuf> {
    let path = place.directory().join("grown.jsonl");
    let running = Running::agent(place, &Setup { audit: Some(path.clone()), ..Setup::default() })?;
    let load = Load { host: API_NAME, answer: Answer::Kib, http2: false, connections: 32, streams: 1 };
    let mut grown = Ok(());
    while grown.is_ok() && fs::metadata(&path).map_or(0, |facts| facts.len()) < (mib as u64) << 20 {
        grown = load.run(place, &running.target, 2_000).map(|_| ());
    }
    running.stop_keeping_records(place)?;
    grown?;
    Ok(path)
}
