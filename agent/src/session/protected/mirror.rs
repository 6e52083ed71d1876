//! Keeps the kernel's list of protected addresses like the agent's.

use super::ProtectedAddresses;
use crate::capture::{self, maps::Protected};
use std::{collections::BTreeSet, error::Error as StdError, net::IpAddr, sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long a change that the kernel refused waits for the next attempt.
const RETRY: Duration = Duration::from_secs(60);

/// Makes the kernel's list the agent's, again with every change, for as long as the agent runs. Before anything is a
/// subject, [`apply`] should have been called once.
pub async fn mirror(addresses: &ProtectedAddresses, kernel: &mut Protected) {
    let mut wanted = addresses.whole();
    loop {
        let now = Arc::clone(&wanted.borrow_and_update());
        let is_done = apply(kernel, &now);
        let change = wanted.changed();
        let is_over =
            if is_done { change.await.is_err() } else { matches!(timeout(RETRY, change).await, Ok(Err(_))) };
        if is_over {
            return;
        }
    }
}

/// Adds what is missing and removes what is too much; answers whether the lists agree. What could not be done is
/// in the log.
pub fn apply(kernel: &mut Protected, wanted: &BTreeSet<IpAddr>) -> bool {
    let listed: BTreeSet<IpAddr> = match kernel.addresses() {
        Ok(listed) => listed.into_iter().collect(),
        Err(error) => {
            let error = &error as &dyn StdError;
            tracing::error!(error, "the kernel's list of protected addresses cannot be read");
            return false;
        }
    };
    let mut agree = true;
    let mut done = |address: &IpAddr, result: Result<(), capture::Error>| {
        if let Err(error) = result {
            let error = &error as &dyn StdError;
            tracing::error!(%address, error, "the kernel's list of protected addresses is not up to date");
            agree = false;
        }
    };
    // What is to go goes first, and makes room.
    listed.difference(wanted).for_each(|address| done(address, kernel.forget(*address)));
    wanted.difference(&listed).for_each(|address| done(address, kernel.add(*address)));
    agree
}
