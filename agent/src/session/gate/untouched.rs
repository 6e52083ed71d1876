//! Connections that are no workload's: a cgroup that nobody had resolved yet turned out to be nobody's.

use super::{Ending, Gate, Passage};
use crate::{
    identify::{Principal, Subject},
    reason::Reason,
    session::copy::copy_both,
};
use std::{
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Instant, SystemTime},
};
use tokio::{net::TcpStream, time::timeout};

impl Gate {
    /// Passes it on, unread and unrecorded, to where it was meant to go.
    pub(super) async fn untouched(
        &self,
        subject: &Subject,
        mut client: TcpStream,
        netns_cookie: u64,
        destination: SocketAddr,
    ) {
        tracing::debug!(?subject, %destination, "nobody's connection, passed on untouched");
        let accepted_at = Instant::now();
        let connecting = self.services.own_sockets.connect_from(netns_cookie, destination);
        let mut upstream = match timeout(self.upstream.connect_timeout, connecting).await {
            Ok(Ok(upstream)) => upstream,
            Ok(Err(error)) => return tracing::debug!(%destination, %error, "nobody's connection ends"),
            Err(_) => return tracing::debug!(%destination, "nobody's connection got no answer"),
        };
        let _best_effort = upstream.set_nodelay(true);
        let mut recalls = self.services.recalls.clone();
        // Whoever comes to govern the pod governs its next connection: what is in this one nobody can see.
        let recalled = async {
            if recalls.wait_for(|recalls| recalls.include(subject, accepted_at)).await.is_err() {
                pending().await
            }
        };
        tokio::select! {
            copied = copy_both(&mut client, &mut upstream) => if let Err(error) = copied {
                tracing::debug!(%destination, %error, "nobody's connection broke off");
            },
            () = recalled => tracing::debug!(%destination, "nobody's connection ends, since somebody's pod it is now"),
        }
    }

    /// Records one that is closed, since nobody can tell any more whose it is.
    pub(super) fn unidentified(&self, subject: Arc<Subject>, destination: SocketAddr) {
        let passage = Passage {
            principal: Principal { name: "".into(), workloads: Arc::new([]), subject },
            witness: Mutex::default(),
            destination,
            netns_cookie: 0,
            accepted_at: Instant::now(),
            accepted: SystemTime::now(),
        };
        self.record(&passage, Ending::closed(Reason::Unidentified));
    }
}
