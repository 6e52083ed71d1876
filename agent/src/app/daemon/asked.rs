//! What signals ask of the daemon.

use crate::app::reload::Bell;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{io, sync::Arc, thread};
use tokio::sync::Notify;

/// What signals ask for.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) reload: Bell,
    pub(super) stop: Arc<Notify>,
}

impl Asked {
    pub(super) fn listen() -> io::Result<Self> {
        let asked = Self { reload: Bell::default(), stop: Arc::default() };
        let told = asked.clone();
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                if signal == SIGHUP { told.reload.ring() } else { told.stop.notify_one() }
            }
        })?;
        Ok(asked)
    }
}
