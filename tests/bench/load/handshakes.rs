//! A client that connects anew for each request.

use super::tls::Client;
use crate::{
    peer::Target,
    place::{Answer, Place},
};
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rustls::HandshakeKind;
use serde::{Deserialize, Serialize};
use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};
use tidegate_tests::{netns::addresses::OTHER_NAME, process::Process};
use tokio::{runtime::Builder, task::JoinSet};

/// How many connections are being made at once.
const AT_ONCE: usize = 16;

/// What the client is told.
#[derive(Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    address: SocketAddr,
    #[arg(long)]
    host: String,
    #[arg(long)]
    ca_file: PathBuf,
    #[arg(long)]
    resume: bool,
    #[arg(long)]
    millis: u64,
}

/// What the client tells.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) connections: u64,
    pub(crate) resumed: u64,
    pub(crate) seconds: f64,
}

/// Connects for so long.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (host, path) = (&arguments.host, Answer::Kib.path());
    // Each worker has its own, since a client keeps fewer sessions than there are workers.
    let client = || Client::new(&arguments.ca_file, arguments.resume, arguments.address, host, path);
    let clients: Vec<Client> = (0..AT_ONCE).map(|_| client()).collect::<Result<_>>()?;
    let end = Instant::now() + Duration::from_millis(arguments.millis);
    let start = Instant::now();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut made = runtime.block_on(async {
        let mut workers: JoinSet<Result<Made>> =
            clients.into_iter().map(|client| connect_until(client, end)).collect();
        let mut made = Made::default();
        while let Some(worker) = workers.join_next().await {
            let Made { connections, resumed, .. } = worker??;
            made.connections += connections;
            made.resumed += resumed;
        }
        anyhow::Ok(made)
    })?;
    made.seconds = start.elapsed().as_secs_f64();
    writeln!(io::stdout(), "{}", serde_json::to_string(&made)?)?;
    Ok(())
}

async fn connect_until(client: Client, end: Instant) -> Result<Made> {
    let mut made = Made::default();
    while Instant::now() < end {
        let mut stream = client.connect().await?;
        client.ask(&mut stream, false).await?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        made.connections += 1;
        made.resumed += u64::from(resumed);
    }
    Ok(made)
}

/// Runs the client against a peer.
pub(crate) fn measure(
    place: &Place,
    target: &Target,
    host: &str,
    resume: bool,
    time: Duration,
) -> Result<Made> {
    let (address, millis) = (target.reached(host).to_string(), time.as_millis().to_string());
    // What is passed through shows its own certificate.
    let is_passed = host == OTHER_NAME;
    let ca_file = if is_passed { Target::direct(place).ca_file } else { target.ca_file.clone() };
    let ca_file = ca_file.display().to_string();
    let mut line =
        vec!["handshakes", "--address", &address, "--host", host, "--ca-file", &ca_file, "--millis", &millis];
    if resume {
        line.push("--resume");
    }
    let limit = time + Duration::from_secs(60);
    let mut command = place.own(target.role, &line)?;
    let finished = Process::run(&mut command, place.directory(), limit)?;
    let made: Made = serde_json::from_slice(&finished.stdout).with_context(|| format!("{finished:?}"))?;
    // The first of each worker has nothing to resume.
    let first = 4 * AT_ONCE as u64;
    let Made { connections, resumed, .. } = made;
    ensure!(!resume || resumed + first >= connections, "only {resumed} of {connections} handshakes resumed");
    ensure!(resume || resumed == 0, "{resumed} of {connections} handshakes resumed");
    Ok(made)
}
