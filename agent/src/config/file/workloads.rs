//! `[[workload]]` as it is written.

use super::{Reader, Words};
use crate::config::{
    Match, RunBy, Workload,
    matching::{self, MatchTable},
};
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkloadTable {
    name: Spanned<String>,
    policy: Spanned<String>,
    #[serde(rename = "match")]
    matches: Option<Spanned<Vec<Spanned<MatchTable>>>>,
    except: Option<Spanned<Vec<Spanned<MatchTable>>>>,
    run_by: Option<Spanned<Words>>,
}

impl Reader<'_> {
    pub(super) fn workloads(&mut self, tables: &[WorkloadTable]) -> Vec<Workload> {
        let mut names = BTreeSet::new();
        for table in tables {
            let (name, policy) = (table.name.as_ref(), table.policy.as_ref());
            if !is_name(name, b"-_.") {
                let message =
                    format!("`{name}` cannot name a workload; use 1 to 64 letters, digits, `-`, `_`, `.`");
                self.findings.add(table.name.span(), message);
            }
            if !names.insert(name) {
                self.findings.add(table.name.span(), format!("workload `{name}` is defined twice"));
            }
            if !is_name(policy, b"-_") {
                let message = format!("`{policy}` is not a policy's name; write it without path and `.toml`");
                self.findings.add(table.policy.span(), message);
            }
        }
        let workloads: Vec<Workload> = tables.iter().map(|table| self.workload(table)).collect();
        self.distinct(tables, &workloads);
        workloads
    }

    fn workload(&mut self, table: &WorkloadTable) -> Workload {
        let run_by = self.run_by(table.run_by.as_ref());
        let findings = &mut self.findings;
        let mut read = |key, list: Option<&Spanned<_>>| {
            list.map(|list| matching::read(key, list, findings)).unwrap_or_default()
        };
        Workload {
            name: table.name.as_ref().clone(),
            policy: table.policy.as_ref().clone(),
            matches: read("match", table.matches.as_ref()),
            except: read("except", table.except.as_ref()),
            run_by,
        }
    }

    /// What two workloads both match for sure would be governed by both policies, which nobody can have meant.
    fn distinct(&mut self, tables: &[WorkloadTable], workloads: &[Workload]) {
        let mut known: HashMap<&Match, usize> = HashMap::new();
        for (index, (table, workload)) in tables.iter().zip(workloads).enumerate() {
            let earlier = workload.matches.iter().filter_map(|one| known.get(one)).min();
            let other = earlier.and_then(|number| workloads.get(*number));
            if let (Some(other), Some(list)) = (other, &table.matches) {
                let message = format!(
                    "`{}` and `{}` match the same; one of them must be told apart by another key",
                    other.name, workload.name
                );
                self.findings.add(list.span(), message);
            }
            for one in &workload.matches {
                known.entry(one).or_insert(index);
            }
        }
    }

    fn run_by(&mut self, words: Option<&Spanned<Words>>) -> Vec<RunBy> {
        let Some(words) = words else { return Vec::new() };
        if words.as_ref().is_empty() {
            self.findings.add(words.span(), "`run_by = []` lets nobody; name users, or remove the key");
        }
        let mut found = Vec::new();
        for word in words.as_ref() {
            match RunBy::parse(word.as_ref()) {
                Some(one) => found.push(one),
                None => {
                    let message =
                        format!("`{}` names nobody; write `user:NAME` or `group:NAME`", word.as_ref());
                    self.findings.add(word.span(), message);
                }
            }
        }
        found
    }
}

fn is_name(text: &str, marks: &[u8]) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || marks.contains(&byte);
    !text.is_empty() && text.len() <= 64 && text.bytes().all(is_allowed)
}
