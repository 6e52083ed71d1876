//! A client that keeps connections that do nothing.

use super::tls::Client;
use crate::{
    peer::Target,
    place::{Answer, Place},
};
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    time::Duration,
};
use tidegate_tests::process::Process;
use tokio::{net::TcpStream, runtime::Builder, task::JoinSet};
use tokio_rustls::client::TlsStream;

/// How many are being made at once.
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
    connections: usize,
}

/// Connects, makes one request each, says so, and stays until its standard input ends.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    tidegate::run::limits::OpenFiles::raise()?;
    let client =
        Client::new(&arguments.ca_file, false, arguments.address, &arguments.host, Answer::Kib.path())?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let kept = runtime.block_on(async {
        let mut kept: Vec<TlsStream<TcpStream>> = Vec::with_capacity(arguments.connections);
        while kept.len() < arguments.connections {
            let wanted = AT_ONCE.min(arguments.connections - kept.len());
            let mut workers: JoinSet<_> = (0..wanted).map(|_| connected(client.clone())).collect();
            while let Some(stream) = workers.join_next().await {
                kept.push(stream?.with_context(|| format!("connection {}", kept.len()))?);
            }
        }
        anyhow::Ok(kept)
    })?;
    for stream in &kept {
        // Tickets may lie there to be read, but no end.
        let peeked = runtime.block_on(async {
            let waits = Duration::from_micros(1);
            tokio::time::timeout(waits, stream.get_ref().0.peek(&mut [0])).await
        });
        ensure!(!matches!(peeked, Ok(Ok(0) | Err(_))), "the peer closed a connection that did nothing");
    }
    writeln!(io::stdout(), "ready")?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

async fn connected(client: Client) -> Result<TlsStream<TcpStream>> {
    let mut stream = client.connect().await?;
    client.ask(&mut stream, true).await?;
    Ok(stream)
}

/// Starts the client against a peer; the connections last until it is dropped.
pub(crate) fn start(place: &Place, target: &Target, host: &str, connections: usize) -> Result<Process> {
    let (address, count) = (target.reached(host).to_string(), connections.to_string());
    let ca_file = target.ca_file.display().to_string();
    let line =
        ["idle", "--address", &address, "--host", host, "--ca-file", &ca_file, "--connections", &count];
    let mut process =
        Process::start(place.own(target.role, &line)?.stdin(Stdio::piped()), place.directory())?;
    process.wait_for_output("ready", Duration::from_secs(400))?;
    Ok(process)
}
