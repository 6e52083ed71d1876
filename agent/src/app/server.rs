//! Accepts at the listeners, and gives each connection to whoever it is for.

use super::{counts::Counts, refusals::Refusals};
use crate::{
    capture::{
        canary::Canary,
        listener::{Listener, SharedFlows},
    },
    session::gate::Gate,
};
use std::{
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

/// How long accept rests when the process has no descriptor to give.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// One task for each listener, which answers the connections that are open at the drain.
pub(super) type Sessions = Arc<Mutex<Vec<JoinHandle<JoinSet<()>>>>>;

/// What accepted connections are given to.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) flows: SharedFlows,
    pub(super) gate: Arc<Gate>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) canary: Option<Arc<Canary>>,
    pub(super) counts: Arc<Counts>,
    pub(super) drain: watch::Receiver<bool>,
    pub(super) sessions: Sessions,
}

impl Server {
    /// Serves a listener, until the drain or until the other end of `open` is dropped; its connections then go on.
    pub(super) fn serve(&self, listener: Listener, open: Option<watch::Receiver<()>>) {
        let serving = tokio::spawn(self.clone().accept(listener, open));
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|listener| !listener.is_finished());
        sessions.push(serving);
    }

    /// Closes what is idle of a network namespace, whose sockets would keep it.
    pub(super) fn forget(&self, netns_cookie: u64) {
        self.gate.forget(netns_cookie);
    }

    async fn accept(mut self, listener: Listener, mut open: Option<watch::Receiver<()>>) -> JoinSet<()> {
        let mut listener = Some(listener);
        let mut sessions = JoinSet::new();
        loop {
            let accepted = async {
                match &listener {
                    Some(listener) => listener.accept(&self.flows).await,
                    None => pending().await,
                }
            };
            let closed = async {
                match &mut open {
                    Some(open) => while open.changed().await.is_ok() {},
                    None => pending().await,
                }
            };
            let accepted = tokio::select! {
                accepted = accepted => accepted,
                Some(_ended) = sessions.join_next() => {
                    if listener.is_none() && sessions.is_empty() {
                        return sessions;
                    }
                    continue;
                }
                () = closed => {
                    (listener, open) = (None, None);
                    if sessions.is_empty() {
                        return sessions;
                    }
                    continue;
                }
                _ = self.drain.wait_for(|draining| *draining) => return sessions,
            };
            match accepted {
                Ok(Ok(captured)) => match &self.canary {
                    Some(canary) if canary.is_own(&captured.flow) => {
                        let canary = Arc::clone(canary);
                        sessions.spawn(async move { canary.answer(captured).await });
                    }
                    Some(_) | None => {
                        let (gate, open) = (Arc::clone(&self.gate), self.counts.opened());
                        sessions.spawn(async move {
                            gate.pass(captured).await;
                            drop(open);
                        });
                    }
                },
                Ok(Err(no_flow)) => self.refusals.no_flow(no_flow.peer),
                Err(error) => {
                    tracing::error!(%error, "cannot accept; connections wait");
                    sleep(ACCEPT_REST).await;
                }
            }
        }
    }
}
