//! `[[limit]]` tables as they are written.

use super::{ModeWord, Reader, can_touch};
use crate::decide::{
    Effect,
    grant::Grant,
    limit::{Limit, Quota, Rate, Share},
    policy::{Constraint, Mode},
};
use serde::Deserialize;
use toml::Spanned;

/// One table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitTable {
    scopes: Option<Spanned<Vec<Spanned<String>>>>,
    operations: Option<Spanned<Vec<Spanned<String>>>>,
    rate: Option<Spanned<String>>,
    share: Option<Spanned<String>>,
    reason: Option<Spanned<String>>,
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
        for (key, list) in [("scopes", &table.scopes), ("operations", &table.operations)] {
            let Some(list) = list else { continue };
            if table.share.is_some() {
                let message = format!("a `share` is of all the workload's requests; remove `{key}`");
                self.findings.add(list.span(), message);
            } else if list.as_ref().is_empty() {
                let message = format!("`{key} = []` fits nothing; name some, or remove the key");
                self.findings.add(list.span(), message);
            }
        }
        let words = table.scopes.as_ref().map(Spanned::as_ref).map_or(&[][..], Vec::as_slice);
        let scopes = self.grants(words);
        let constraint = self.constraint_of_limit(table, &scopes, scopes.len() == words.len());
        let mode = table.mode.as_ref().map(|mode| Mode::from(*mode.as_ref()));
        let reason = table.reason.as_ref().and_then(|text| self.line(text));
        let quota = self.quota(spanned)?;
        Some(Limit::new(scopes, constraint, quota).with(mode, reason))
    }

    /// What narrows the limit. With a scope unknown, whether the operations need any cannot be told.
    fn constraint_of_limit(
        &mut self,
        table: &LimitTable,
        scopes: &[Grant],
        scopes_are_known: bool,
    ) -> Constraint {
        let names = table.operations.as_ref().map(Spanned::as_ref);
        for name in names.into_iter().flatten() {
            let Some(operation) = self.operation(name) else { continue };
            let touches = |grant| can_touch(grant, operation, Effect::Deny);
            if scopes_are_known && !scopes.is_empty() && !scopes.iter().any(touches) {
                let message = format!("operation `{}` needs none of the limit's scopes", operation.name);
                self.findings.add(name.span(), message);
            }
        }
        let operations = names.map(|names| names.iter().map(|name| name.as_ref().clone()).collect());
        Constraint { operations, ..Constraint::default() }
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
