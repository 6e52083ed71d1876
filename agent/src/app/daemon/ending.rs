//! The end of a daemon, and what it leaves to the next: with nobody who waits to follow, nobody listens until there is
//! one; otherwise that one goes on where this one stops.

use super::upkeep::Upkeep;
use crate::{
    app::{
        Error,
        agent::Agent,
        engine::{DRAIN, DRAIN_BESIDE},
        succession::{self, Inheritance, Succession},
    },
    config::RUN_DIR,
    record::unfinished,
};
use std::{io, os::unix::net::UnixStream, path::Path};
use tokio::task::spawn_blocking;

/// Ends the daemon: lets the one that waits go on at once, and requests that are under way end.
pub(super) async fn end(mut agent: Agent, upkeep: Upkeep, succession: &Succession) {
    let Some(follower) = succession.take() else {
        tracing::info!("ending; what is attached stays, and shuts the gate until the next start");
        return agent.stop(DRAIN).await;
    };
    match hand_over(&mut agent, follower).await {
        Ok((_follower, count)) => {
            tracing::info!(count, "ending; the agent that waited has the listeners, and goes on");
            // With its locks.
            drop(upkeep);
            agent.stop(DRAIN_BESIDE).await;
        }
        Err(error) => {
            tracing::error!(%error, "ending; the agent that waits has not taken the listeners: connects are refused until it listens");
            agent.stop(DRAIN).await;
        }
    }
}

/// Gives the listeners away once nothing is done any more that the other one does. The connection stays open until this
/// one has recorded everything.
async fn hand_over(agent: &mut Agent, follower: UnixStream) -> io::Result<(UnixStream, usize)> {
    let listeners = agent.close().await;
    agent.rest().await;
    let count = listeners.len();
    let given = spawn_blocking(move || succession::give(&follower, &listeners).map(|()| follower));
    Ok((given.await.map_err(io::Error::other)??, count))
}

/// Keeps count of the reads that have no record yet, and records what an earlier daemon left: at once, or when the one
/// that has handed over is gone, which counts its own until then.
pub(super) async fn count_unfinished(
    agent: &mut Agent,
    inheritance: Option<Inheritance>,
) -> Result<(), Error> {
    let path = Path::new(RUN_DIR).join("unfinished");
    let servant = agent.servant.clone();
    let count = async move {
        let counted = match unfinished::open(&path) {
            Ok(file) => servant.count_unfinished(file).await,
            Err(error) => Err(error),
        };
        counted.map_err(|source| Error::File { action: "count unfinished reads in", path, source })
    };
    let Some(inheritance) = inheritance else { return count.await };
    agent.spawn(async move {
        inheritance.ended().await;
        if let Err(error) = count.await {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, "reads without a record would not be noticed");
        }
    });
    Ok(())
}
