//! `tidegate-bench`: measures tidegate and its peers side by side, for `cargo xtask bench`, and writes every sample to
//! standard output as a line of JSON. Everything happens in a private world, on loopback.
//!
//! Its other subcommands are what it starts: a proxy that does nothing, a tunnel, and clients.

mod load;
mod peer;
mod place;
mod policies;
#[path = "../../agent/benches/decide/policy_text.rs"]
mod policy_text;
mod scale;
mod scenario;
mod usage;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, ValueEnum as _};
use load::{handshakes, idle};
use peer::{Peer, bare, tunnel};
use place::Place;
use scenario::{Scenario, Sizes};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::PathBuf,
};
use tidegate::run::limits::OpenFiles;

#[derive(Parser)]
enum Task {
    /// Measure every peer in every scenario.
    Measure(Selection),
    /// Measure how tidegate's costs grow.
    Scale(Selection),
    /// A proxy that does nothing: hyper and rustls alone.
    Bare(bare::Arguments),
    /// Passes connections on through an HTTP proxy.
    Tunnel(tunnel::Arguments),
    /// A client that connects anew for each request.
    Handshakes(handshakes::Arguments),
    /// A client that keeps connections that do nothing.
    Idle(idle::Arguments),
}

/// What to measure, and how long.
#[derive(Args)]
pub(crate) struct Selection {
    /// How often each peer has its turn.
    #[arg(long)]
    rounds: u32,
    /// Only these; all without it.
    #[arg(long)]
    scenario: Vec<Scenario>,
    /// Only these; all without it.
    #[arg(long)]
    peer: Vec<Peer>,
    /// Seconds and counts a tenth of the usual.
    #[arg(long)]
    quick: bool,
    /// mitmproxy's program.
    #[arg(long)]
    mitmdump: Option<PathBuf>,
}

/// What one turn of one peer gave; the names end with their unit.
pub(crate) type Metrics = BTreeMap<&'static str, f64>;

#[derive(Serialize)]
struct Sample<'a> {
    scenario: &'a str,
    peer: &'a str,
    round: u32,
    /// On the curves: how many of what the scenario is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    metrics: Metrics,
}

fn main() -> Result<()> {
    match Task::parse() {
        Task::Measure(selection) => measure(&selection),
        Task::Scale(selection) => scale::measure(&selection),
        Task::Bare(arguments) => bare::run(&arguments),
        Task::Tunnel(arguments) => tunnel::run(&arguments),
        Task::Handshakes(arguments) => handshakes::run(&arguments),
        Task::Idle(arguments) => idle::run(&arguments),
    }
}

fn measure(selection: &Selection) -> Result<()> {
    OpenFiles::raise().context("raising the limit on open files")?;
    let place = Place::new(selection.mitmdump.clone())?;
    let sizes = Sizes::new(selection.quick);
    let scenarios =
        if selection.scenario.is_empty() { Scenario::value_variants() } else { &selection.scenario };
    let peers = if selection.peer.is_empty() { Peer::value_variants() } else { &selection.peer };
    for &scenario in scenarios {
        for round in 0..selection.rounds {
            for &peer in peers.iter().filter(|peer| scenario.has(**peer)) {
                // One peer that fails must not cost what was measured of the others.
                let result = scenario.measure(peer, &place, &sizes);
                tell(&(scenario.name(), peer.name(), round), None, result)?;
            }
        }
    }
    place.close()
}

/// Writes a sample, of a failure too.
pub(crate) fn tell(
    turn: &(String, String, u32),
    count: Option<usize>,
    result: Result<Metrics>,
) -> Result<()> {
    let problem = result.as_ref().err().map(|problem| format!("{problem:#}"));
    let (scenario, peer, round) = turn;
    let metrics = result.unwrap_or_default();
    let sample = Sample { scenario, peer, round: *round, count, problem, metrics };
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(&sample)?)?;
    Ok(out.flush()?)
}

/// How a value is written on the command line.
pub(crate) fn word(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
