//! Who is told how the daemon is, and by which way.

use super::{desk::Desk, metrics, upkeep};
use crate::{
    app::{Error, agent::Agent, handover::Manager},
    config::{Config, RUN_DIR},
    control::{self, Callers, Control},
    health::{Health, http},
    run::user,
};
use std::{path::Path, sync::Arc};
use tokio::net::TcpListener;

/// Tells how the daemon is: on the control socket, over HTTP where that is wanted, in the log and to the service
/// manager.
pub(super) async fn start(
    config: &Config,
    desk: Desk,
    health: &Arc<Health>,
    agent: &mut Agent,
    manager: &Arc<Manager>,
) -> Result<(), Error> {
    let path = Path::new(RUN_DIR).join(control::FILE_NAME);
    let callers = match desk.commands.is_empty() {
        true => Callers::Group(desk.group),
        false => Callers::Everybody,
    };
    let bound = Control::bind(&path, callers);
    let control = bound.map_err(|source| Error::File { action: "listen at", path, source })?;
    let desk = Arc::new(desk);
    agent.spawn(control.serve(Arc::clone(&desk)));
    if let Some(address) = config.health.listen {
        let bound = TcpListener::bind(address).await;
        let listener =
            bound.map_err(|source| Error::System { action: "listen at `health.listen`", source })?;
        agent.spawn(http::serve(listener, Arc::clone(health), metrics::of(desk, agent.servant.clone())));
    }
    agent.spawn(upkeep::keep_watching_log(agent.servant.clone(), Arc::clone(health)));
    agent.spawn(Arc::clone(health).keep_telling());
    agent.spawn(Arc::clone(health).keep_beating());
    let alive = Arc::clone(manager);
    let is_watching = manager.is_watching();
    let watch = health.watch_over(move || {
        if is_watching {
            alive.tell("WATCHDOG=1");
        }
    });
    watch.map_err(|source| Error::System { action: "start the watchdog's thread", source })
}

/// The group whose members may ask everything, where it exists.
pub(super) fn trusted_group() -> Option<u32> {
    let group = user::group_id(control::GROUP);
    group.inspect_err(|error| tracing::debug!(%error, "only root may ask for the status")).ok()
}
