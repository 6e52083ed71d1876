//! The tables of a workload's `match` and `except`.

use super::{CgroupPattern, ContainerPattern, Match, PodPattern};
use crate::toml_file::Findings;
use serde::Deserialize;
use toml::Spanned;

/// One table: all of its keys must fit.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MatchTable {
    unit: Option<String>,
    user_unit: Option<String>,
    slice: Option<String>,
    cgroup: Option<String>,
    user: Option<String>,
    group: Option<String>,
    exe: Option<String>,
    any: Option<bool>,
    pod: Option<PodPattern>,
    container: Option<ContainerPattern>,
}

/// Reads a list of tables, and notes what is wrong. An empty table, string or list must never come to fit everything.
pub(super) fn read(
    key: &str,
    tables: &Spanned<Vec<Spanned<MatchTable>>>,
    findings: &mut Findings<'_>,
) -> Vec<Match> {
    if tables.as_ref().is_empty() {
        findings
            .add(tables.span(), format!("`{key} = []` matches nothing; name something, or remove the key"));
    }
    let mut matches = Vec::new();
    for table in tables.as_ref() {
        match table.as_ref().read() {
            Ok(Match { any: true, .. }) if key == "except" => {
                findings.add(table.span(), "`any` in `except` leaves nobody; remove the workload instead");
            }
            // A process can run any file, and would go free by it.
            Ok(Match { exe: Some(_), .. }) if key == "except" => findings.add(
                table.span(),
                "`exe` in `except` would let go whoever runs that file; narrow `match` instead, or leave it out",
            ),
            Ok(found) => matches.push(found),
            Err(message) => findings.add(table.span(), message),
        }
    }
    matches
}

impl MatchTable {
    fn read(&self) -> Result<Match, String> {
        if let Some(message) = self.problem() {
            return Err(message);
        }
        if let Some((key, _)) = self.of_containers().iter().find(|(_, is_given)| *is_given)
            && !cfg!(feature = "kubernetes")
        {
            return Err(format!(
                "`{key}` is not supported by this build, which lacks the feature `kubernetes`; write `unit`, `cgroup`, \
                 `slice` or `user`"
            ));
        }
        let cgroups = [
            ("unit", self.unit.as_deref().map(CgroupPattern::unit)),
            ("user_unit", self.user_unit.as_deref().map(CgroupPattern::user_unit)),
            ("slice", self.slice.as_deref().map(CgroupPattern::slice)),
            ("cgroup", self.cgroup.as_deref().map(CgroupPattern::parse)),
        ];
        let mut cgroups = cgroups.into_iter().filter_map(|(key, cgroup)| Some((key, cgroup?)));
        let cgroup = cgroups.next();
        if let (Some((one, _)), Some((other, _))) = (&cgroup, cgroups.next()) {
            return Err(format!("`{one}` and `{other}` both name cgroups; write one of them"));
        }
        if let (Some((one, _)), Some((other, _))) =
            (&cgroup, self.of_containers().iter().find(|(_, is_given)| *is_given))
        {
            return Err(format!("`{one}` and `{other}` both name cgroups; write one of them"));
        }
        let cgroup = cgroup.map(|(_, cgroup)| cgroup);
        Ok(Match {
            cgroup: cgroup.transpose().map_err(|error| error.to_string())?,
            user: self.user.clone(),
            group: self.group.clone(),
            any: self.any == Some(true),
            exe: self.exe.as_ref().map(Into::into),
            pod: self.pod.clone(),
            container: self.container.clone(),
        })
    }

    fn of_containers(&self) -> [(&'static str, bool); 2] {
        [("pod", self.pod.is_some()), ("container", self.container.is_some())]
    }

    fn problem(&self) -> Option<String> {
        let words = self.words();
        if let Some((key, _)) = words.iter().find(|(_, value)| value.is_empty()) {
            return Some(format!("`{key}` is empty"));
        }
        let groups = [
            ("pod", self.pod.as_ref().map(PodPattern::is_empty)),
            ("container", self.container.as_ref().map(ContainerPattern::is_empty)),
        ];
        if let Some((key, _)) = groups.iter().find(|(_, empty)| *empty == Some(true)) {
            return Some(format!("`{key}` names nothing; give at least one of its keys a value"));
        }
        if let Some((key, value)) =
            words.iter().find(|(key, value)| matches!(*key, "cgroup" | "exe") && !value.starts_with('/'))
        {
            return Some(format!("`{key} = \"{value}\"` must begin with `/`"));
        }
        let keys = words.len() + groups.iter().filter(|(_, group)| group.is_some()).count();
        match (self.any, keys, self.exe.is_some()) {
            (Some(false), ..) => Some("`any = false` matches nothing; remove it".to_owned()),
            (Some(true), 0, _) => None,
            (Some(true), ..) => Some("`any` stands alone; remove it, or the other keys".to_owned()),
            (None, 0, _) => Some("an empty table matches nothing; write `any = true` for everything".to_owned()),
            (None, 1, true) => Some(
                "`exe` alone is no identity, since any program can be started under any name; add a key such as \
                 `unit` or `user`"
                    .to_owned(),
            ),
            (None, ..) => None,
        }
    }

    fn words(&self) -> Vec<(&'static str, &str)> {
        let keys = [
            ("unit", &self.unit),
            ("user_unit", &self.user_unit),
            ("slice", &self.slice),
            ("cgroup", &self.cgroup),
            ("user", &self.user),
            ("group", &self.group),
            ("exe", &self.exe),
        ];
        keys.into_iter().filter_map(|(key, value)| value.as_deref().map(|value| (key, value))).collect()
    }
}
