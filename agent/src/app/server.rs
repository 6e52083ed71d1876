//! Accepts at the listeners, and brings each connection to the door.

use super::{door::Door, refusals::Refusals};
use crate::capture::{
    canary::Canary,
    listener::{Listener, SharedFlows},
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

/// What accepted connections are given to.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) flows: SharedFlows,
    pub(super) door: Arc<Door>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) canary: Option<Arc<Canary>>,
    pub(super) drain: watch::Receiver<bool>,
    pub(super) accepting: Accepting,
}

/// One task for each listener, which it answers with if it is to stay open.
pub(super) type Accepting = Arc<Mutex<Vec<JoinHandle<Option<Listener>>>>>;

impl Server {
    /// Serves a listener, until the drain or until the other end of `open` is dropped; its connections then go on.
    pub(super) fn serve(&self, listener: Listener, open: Option<watch::Receiver<()>>) {
        let serving = tokio::spawn(self.clone().accept(listener, open));
        let mut accepting = self.accepting.lock().unwrap_or_else(PoisonError::into_inner);
        accepting.retain(|listener| !listener.is_finished());
        accepting.push(serving);
    }

    /// Closes what is idle of a network namespace, whose sockets would keep it.
    pub(super) fn forget(&self, netns_cookie: u64) {
        self.door.forget(netns_cookie);
    }

    async fn accept(mut self, listener: Listener, mut open: Option<watch::Receiver<()>>) -> Option<Listener> {
        // Their connections are on their way to the door when there are no more to come.
        let mut passing = JoinSet::new();
        let kept = loop {
            while passing.try_join_next().is_some() {}
            let closed = async {
                match &mut open {
                    Some(open) => while open.changed().await.is_ok() {},
                    None => pending().await,
                }
            };
            let accepted = tokio::select! {
                accepted = listener.accept(&self.flows) => accepted,
                () = closed => break None,
                _ = self.drain.wait_for(|draining| *draining) => break Some(()),
            };
            match accepted {
                Ok(Ok(captured)) => match &self.canary {
                    Some(canary) if canary.is_own(&captured.flow) => {
                        let canary = Arc::clone(canary);
                        tokio::spawn(async move { canary.answer(captured).await });
                    }
                    Some(_) | None => {
                        let door = Arc::clone(&self.door);
                        let drain = self.drain.clone();
                        passing.spawn(async move { door.pass(captured, &drain).await });
                    }
                },
                Ok(Err(no_flow)) => self.refusals.no_flow(no_flow.peer),
                Err(error) => {
                    tracing::error!(%error, "cannot accept; connections wait");
                    sleep(ACCEPT_REST).await;
                }
            }
        };
        let kept = kept.map(|()| listener);
        while passing.join_next().await.is_some() {}
        kept
    }
}
