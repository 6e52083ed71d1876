//! What is measured: one turn of one peer.

use crate::{
    Metrics,
    load::{h2load::Load, handshakes, idle},
    peer::{Carried, Peer, Running, Target},
    place::{Answer, Place},
    usage::Usage,
    word,
};
use anyhow::{Context as _, Result};
use clap::ValueEnum;
use std::time::Duration;
use tidegate_tests::{
    netns::addresses::{API_NAME, OTHER_NAME},
    process::wait_until,
};

/// How long records may take to be written.
const RECORDED: Duration = Duration::from_secs(5);

/// A way to use a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// 1 KiB over 32 connections of HTTP/1.1 that are kept.
    Http1,
    /// 1 KiB over 4 connections of HTTP/2 with 32 streams each.
    Http2,
    /// A connection for each request of 1 KiB, with a full handshake.
    ConnectFull,
    /// The same with resumed sessions.
    ConnectResumed,
    /// 1 MiB.
    #[value(name = "body-1mib")]
    Body1Mib,
    /// 100 MiB.
    #[value(name = "body-100mib")]
    Body100Mib,
    /// Connections that do nothing.
    Idle,
    /// 100 MiB of a host that is not protected.
    PassthroughBulk,
    /// A connection for each request to a host that is not protected.
    PassthroughConnect,
}

/// How long and how much.
pub(crate) struct Sizes {
    time: Duration,
    warms: Duration,
    large_bodies: u64,
    pub(crate) idle: usize,
}

impl Sizes {
    pub(crate) fn time(&self) -> Duration {
        self.time
    }

    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            let time = Duration::from_millis(1_000);
            return Self { time, warms: time / 5, large_bodies: 4, idle: 500 };
        }
        // A proxy may have a connection upstream for each, and a process has 20,000 descriptors on common machines.
        let time = Duration::from_secs(4);
        Self { time, warms: time / 5, large_bodies: 32, idle: 9_900 }
    }
}

impl Scenario {
    pub(crate) fn name(self) -> String {
        word(&self)
    }

    /// Whether a peer has a turn in it.
    pub(crate) fn has(self, peer: Peer) -> bool {
        match self {
            Self::Http1 => true,
            Self::Http2 => {
                peer.speaks_http2() && !matches!(peer, Peer::TidegatePolicies | Peer::TidegateUnrecorded)
            }
            // Within a tunnel it resumes none.
            Self::ConnectResumed if peer == Peer::Squid => false,
            Self::ConnectFull | Self::ConnectResumed | Self::Body1Mib | Self::Body100Mib => {
                !matches!(peer, Peer::TidegatePolicies | Peer::TidegateUnrecorded)
            }
            // squid needs two descriptors for each of them, and has not as many.
            Self::Idle => !matches!(
                peer,
                Peer::Direct | Peer::TidegatePolicies | Peer::TidegateUnrecorded | Peer::Squid
            ),
            Self::PassthroughBulk | Self::PassthroughConnect => {
                matches!(peer, Peer::Direct | Peer::Haproxy | Peer::Tidegate)
            }
        }
    }

    fn carried(self) -> Carried {
        match self {
            Self::Http2 => Carried::Http2,
            Self::PassthroughBulk | Self::PassthroughConnect => Carried::Bytes,
            Self::Http1
            | Self::ConnectFull
            | Self::ConnectResumed
            | Self::Body1Mib
            | Self::Body100Mib
            | Self::Idle => Carried::Http1,
        }
    }

    /// One turn: starts the peer, warms it up, measures it, and ends it.
    pub(crate) fn measure(self, peer: Peer, place: &Place, sizes: &Sizes) -> Result<Metrics> {
        let running = peer.start(place, self.carried())?;
        let measured = Turn { running: &running, peer, place, sizes }.measure(self);
        let stopped = running.stop(place);
        let metrics = measured?;
        stopped?;
        Ok(metrics)
    }

    fn load(self) -> Load {
        let load =
            |answer, connections| Load { host: API_NAME, answer, http2: false, connections, streams: 1 };
        match self {
            Self::Http2 => Load { http2: true, connections: 4, streams: 32, ..load(Answer::Kib, 4) },
            Self::Body1Mib => load(Answer::Mib, 8),
            Self::Body100Mib => load(Answer::HundredMib, 2),
            Self::PassthroughBulk => Load { host: OTHER_NAME, ..load(Answer::HundredMib, 2) },
            Self::Http1
            | Self::ConnectFull
            | Self::ConnectResumed
            | Self::Idle
            | Self::PassthroughConnect => load(Answer::Kib, 32),
        }
    }
}

/// One peer's turn.
pub(crate) struct Turn<'a> {
    pub(crate) running: &'a Running,
    pub(crate) peer: Peer,
    pub(crate) place: &'a Place,
    pub(crate) sizes: &'a Sizes,
}

impl Turn<'_> {
    fn measure(&self, scenario: Scenario) -> Result<Metrics> {
        let (time, load) = (self.sizes.time, scenario.load());
        match scenario {
            Scenario::Http1 | Scenario::Http2 => {
                let mut metrics = self.requests_for(load, time)?;
                self.latency(load, &mut metrics)?;
                Ok(metrics)
            }
            Scenario::Body1Mib => self.requests_for(load, time),
            Scenario::Body100Mib | Scenario::PassthroughBulk => self.requests(load, self.sizes.large_bodies),
            Scenario::ConnectFull => self.connections(API_NAME, false),
            Scenario::ConnectResumed => self.connections(API_NAME, true),
            Scenario::PassthroughConnect => self.connections(OTHER_NAME, false),
            Scenario::Idle => self.idle(),
        }
    }

    fn usage(&self) -> Result<Usage> {
        Usage::of(self.place.proxy())
    }

    /// As many requests as the peer can in about this time.
    pub(crate) fn requests_for(&self, load: Load, time: Duration) -> Result<Metrics> {
        let (target, place) = (&self.running.target, self.place);
        let requests = load.requests_in(place, target, time).context("warming up")?;
        self.requests(load, requests)
    }

    /// So many requests, as fast as the peer can.
    fn requests(&self, load: Load, requests: u64) -> Result<Metrics> {
        let (target, place) = (&self.running.target, self.place);
        let (before, recorded) = (self.usage()?, self.running.records()?);
        let done = load.run(place, target, requests)?;
        let after = self.usage()?;
        let requests = done.requests as f64;
        // A peer that no request came through would be a very fast one.
        if let (true, Some(before)) = (load.host == API_NAME, recorded) {
            self.check_records(before, done.requests)?;
        }
        let cpu = after.cpu.saturating_sub(before.cpu);
        let mut metrics = Metrics::from([("requests_per_second", requests / done.seconds)]);
        if self.peer != Peer::Direct {
            metrics.insert("cpu_us_per_request", micros(cpu) / requests);
            metrics.insert("resident_kib", after.resident_kib as f64);
            // Nothing is measured where a proxy waits: then the load's core is the narrow one.
            metrics.insert("core_share", cpu.as_secs_f64() / done.seconds);
        }
        Ok(metrics)
    }

    /// A connection that was passed on is recorded when it has ended, and reads a moment after they were answered.
    fn check_records(&self, before: u64, requests: u64) -> Result<()> {
        let mut recorded = 0;
        wait_until("a record of every request", RECORDED, || {
            recorded = self.running.records()?.unwrap_or_default() - before;
            Ok(recorded >= requests)
        })
        .with_context(|| format!("{requests} requests, but {recorded} records"))
    }

    /// What a tenth of that rate waits, beside what it waits without a proxy.
    fn latency(&self, load: Load, metrics: &mut Metrics) -> Result<()> {
        let peak = metrics.get("requests_per_second").copied().unwrap_or_default();
        let load = Load { connections: 4, streams: 8.min(load.streams), ..load };
        // Slow peers would otherwise have too few requests to tell.
        let rate = (peak / 10.0).max(100.0);
        let time = self.sizes.time;
        let through = load.pace(self.place, &self.running.target, rate, time)?;
        metrics.insert("paced_requests", through.requests as f64);
        metrics.insert("p50_us", through.p50_us);
        metrics.insert("p99_us", through.p99_us);
        if self.peer != Peer::Direct {
            let direct = load.pace(self.place, &Target::direct(self.place), rate, time)?;
            metrics.insert("p50_added_us", through.p50_us - direct.p50_us);
            metrics.insert("p99_added_us", through.p99_us - direct.p99_us);
        }
        Ok(())
    }

    /// A connection for each request.
    fn connections(&self, host: &'static str, resume: bool) -> Result<Metrics> {
        let (target, place) = (&self.running.target, self.place);
        handshakes::measure(place, target, host, resume, self.sizes.warms).context("warming up")?;
        let (before, recorded) = (self.usage()?, self.running.records()?);
        let made = handshakes::measure(place, target, host, resume, self.sizes.time)?;
        let after = self.usage()?;
        if let Some(before) = recorded {
            self.check_records(before, made.connections)?;
        }
        let connections = made.connections as f64;
        let mut metrics = Metrics::from([("requests_per_second", connections / made.seconds)]);
        if self.peer != Peer::Direct {
            let cpu = after.cpu.saturating_sub(before.cpu);
            metrics.insert("cpu_us_per_request", micros(cpu) / connections);
            metrics.insert("resident_kib", after.resident_kib as f64);
            metrics.insert("core_share", cpu.as_secs_f64() / made.seconds);
        }
        Ok(metrics)
    }

    /// What a connection that does nothing takes of memory.
    fn idle(&self) -> Result<Metrics> {
        self.idle_of(self.sizes.idle)
    }

    pub(crate) fn idle_of(&self, connections: usize) -> Result<Metrics> {
        // What the first ones take stays.
        drop(idle::start(self.place, &self.running.target, API_NAME, 10)?);
        let before = self.usage()?;
        let client = idle::start(self.place, &self.running.target, API_NAME, connections)?;
        let after = self.usage()?;
        drop(client);
        let more = after.resident_kib.saturating_sub(before.resident_kib) as f64;
        Ok(Metrics::from([
            ("connections", connections as f64),
            ("kib_per_connection", more / connections as f64),
            ("resident_kib", after.resident_kib as f64),
        ]))
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
