//! `[[limit]]` tables as they are written.

use super::{
    ModeWord, Reader,
    constraint::{Narrowing, ResourcesTable},
};
use crate::{
    decide::{
        Effect,
        limit::{Limit, Quota, Rate, Share},
        policy::Mode,
    },
    spanned::Spanned,
};
use serde::Deserialize;

/// One table.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct LimitTable {
    /// The scopes whose requests it counts.
    scopes: Option<Spanned<Vec<Spanned<String>>>>,
    /// The operations that it counts.
    operations: Option<Spanned<Vec<Spanned<String>>>>,
    /// The resources whose requests it counts: for each kind, ids, names, slugs or globs.
    resources: Option<Spanned<ResourcesTable>>,
    /// A condition in CEL on the requests that it counts.
    when: Option<Spanned<String>>,
    /// How many in what time, such as `20/hour`.
    rate: Option<Spanned<String>>,
    /// How much of the token's requests, such as `20%`.
    share: Option<Spanned<String>>,
    /// Why; refusals show it.
    reason: Option<Spanned<String>>,
    /// Its own mode, where that differs from the policy's.
    mode: Option<Spanned<ModeWord>>,
}

impl Reader<'_> {
    pub(super) fn limits(&mut self, tables: &[Spanned<LimitTable>]) -> Vec<Limit> {
        let mut shares = tables.iter().filter_map(|table| table.as_ref().share.as_ref());
        shares.next();
        for share in shares {
            self.findings
                .add(share.span(), "another `[[limit]]` has a `share` already; keep the smaller one");
        }
        tables.iter().filter_map(|table| self.limit(table)).collect()
    }

    fn limit(&mut self, spanned: &Spanned<LimitTable>) -> Option<Limit> {
        let table = spanned.as_ref();
        let lists = [("scopes", &table.scopes), ("operations", &table.operations)];
        let lists = lists.map(|(key, list)| {
            let empty = list.as_ref().is_some_and(|list| list.as_ref().is_empty());
            (key, list.as_ref().map(Spanned::span), empty)
        });
        let others = [
            ("resources", table.resources.as_ref().map(Spanned::span), false),
            ("when", table.when.as_ref().map(Spanned::span), false),
        ];
        for (key, span, empty) in lists.into_iter().chain(others) {
            let Some(span) = span else { continue };
            if table.share.is_some() {
                let message = format!("a `share` is of all the workload's requests; remove `{key}`");
                self.findings.add(span, message);
            } else if empty {
                self.findings.add(span, format!("`{key} = []` fits nothing; name some, or remove the key"));
            }
        }
        let words = table.scopes.as_ref().map(Spanned::as_ref).map_or(&[][..], Vec::as_slice);
        let scopes = self.grants(words);
        // With a word missing, whether the operations need any of them cannot be told.
        let known = (scopes.len() == words.len()).then_some(&scopes[..]);
        let keys = Narrowing {
            of: "limit",
            operations: table.operations.as_ref(),
            resources: table.resources.as_ref(),
            when: table.when.as_ref(),
        };
        let constraint = self.constraint(&keys, known, Effect::Deny);
        let mode = table.mode.as_ref().map(|mode| Mode::from(*mode.as_ref()));
        let reason = table.reason.as_ref().and_then(|text| self.line(text));
        let quota = self.quota(spanned)?;
        Some(Limit::new(scopes, constraint, quota).with(mode, reason))
    }

    fn quota(&mut self, spanned: &Spanned<LimitTable>) -> Option<Quota> {
        let table = spanned.as_ref();
        let read = match (&table.rate, &table.share) {
            (Some(rate), None) => {
                Rate::parse(rate.as_ref()).map(Quota::Rate).map_err(|error| (rate.span(), error.to_string()))
            }
            (None, Some(share)) => Share::parse(share.as_ref())
                .map(Quota::Share)
                .map_err(|error| (share.span(), error.to_string())),
            (Some(_), Some(share)) => {
                let message = "a limit has `rate` or `share`; write two limits for both";
                Err((share.span(), message.to_owned()))
            }
            (None, None) => {
                let message = "a limit needs `rate`, such as `\"20/hour\"`, or `share`, such as `\"20%\"`";
                Err((spanned.span(), message.to_owned()))
            }
        };
        read.map_err(|(span, message)| self.findings.add(span, message)).ok()
    }
}

#[cfg(test)]
mod tests;
