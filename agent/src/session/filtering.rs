//! An answer of which the policy does not show everything: read to its end, and shown without the parts.

use super::{
    judge::Stop,
    reply::{Cleared, chain},
};
use crate::{
    classify::Filter,
    forward::{
        Answer, Error,
        filter::{self, Coding, NotFilterable, Plan, Share, Shown},
        headers,
    },
    reason::Reason,
};
use http::{Method, StatusCode, response};
use http_body_util::BodyExt;
use hyper::body::Body;
use std::sync::Arc;

/// Takes the parts out of an answer, and what tells of them out of its head.
///
/// # Errors
/// When that cannot be done, so that nothing of the answer may be shown.
pub(super) async fn clear(
    filters: Vec<&'static Filter>,
    method: &Method,
    head: &mut response::Parts,
    answer: Answer,
    share: Share,
) -> Result<Cleared, Stop> {
    if filters.is_empty() {
        return Ok(Cleared::Whole(answer));
    }
    let stop = |error: &NotFilterable| stop(error, &filters, method, head.status);
    let coding = match filter::plan(method, head, answer.is_complete()).map_err(|error| stop(&error))? {
        Plan::Pass => return Ok(Cleared::Whole(answer)),
        Plan::Bare => {
            headers::to_filtered(&mut head.headers, None);
            return Ok(Cleared::Whole(answer));
        }
        Plan::Filter(coding) => coding,
    };
    let taken_out = Box::pin(take_out(filters.clone(), coding, answer, share)).await;
    let (shown, share) = taken_out.map_err(|error| stop(&error))?;
    headers::to_filtered(&mut head.headers, Some(shown.body.len()));
    Ok(Cleared::Parts(shown, share))
}

async fn take_out(
    filters: Vec<&'static Filter>,
    coding: Coding,
    mut answer: Answer,
    mut share: Share,
) -> Result<(Shown, Share), NotFilterable> {
    // What says that it is too long is not waited for.
    filter::check_length(answer.size_hint().lower())?;
    let mut body = Vec::new();
    while let Some(frame) = answer.frame().await {
        let frame = frame.map_err(NotFilterable::BrokenOff)?;
        let piece = frame.into_data().map_err(|_| NotFilterable::Trailers)?;
        filter::hold(&mut body, &piece, &mut share)?;
    }
    // The upstream's connection is free before the work begins, which may take a while.
    drop(answer);
    let work = move || {
        let shown = if body.is_empty() {
            Shown { body, removed: Vec::new() }
        } else {
            filter::show(&filters, coding, body, &mut share)?
        };
        Ok((shown, share))
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| NotFilterable::ShuttingDown(Arc::new(error)))?
}

/// The answer in the place of one that cannot be shown. The request itself has been carried out.
fn stop(error: &NotFilterable, filters: &[&Filter], method: &Method, status: StatusCode) -> Stop {
    let mut scopes: Vec<&str> = filters.iter().map(|filter| filter.requires.as_str()).collect();
    scopes.sort_unstable();
    scopes.dedup();
    let scopes = scopes.join(", ");
    let done =
        if status.is_success() && !method.is_safe() { "the request was carried out, but " } else { "" };
    let message = format!(
        "{done}the upstream's answer ({}) is withheld: its parts that take {scopes} cannot be removed, since {}",
        status.as_u16(),
        chain(error)
    );
    // An answer that stalls is given up in any case.
    let stalls = matches!(error, NotFilterable::BrokenOff(Error::SlowToAnswer { .. }));
    let reason = if stalls { Reason::UpstreamTimeout } else { Reason::Unfilterable };
    Stop { arrived: true, ..Stop::because(reason, &message) }
}
