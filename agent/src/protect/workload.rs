//! Which workload a unit is, by the configuration alone: what a connection of its would be decided as.

use super::{Error, unit_file::Unit};
use crate::config::{Config, Match, Workload};
use std::path::Path;

/// The workloads whose policies hold for the whole of the unit, by the same rules as for a connection: the outermost
/// cgroup counts, a user beside it, and nothing that only a part of its programs fits.
fn governing<'a>(config: &'a Config, unit: &Unit, cgroup: &str) -> Vec<&'a Workload> {
    let mut found: Vec<(&Workload, Vec<Option<usize>>)> = Vec::new();
    for workload in &config.workloads {
        let fits: Vec<Option<usize>> =
            workload.matches.iter().filter_map(|one| depth(one, unit, cgroup)).collect();
        // Whether the unit's user is in a group is told when it runs.
        let excepts = |one: &Match| one.group.is_some() || depth(one, unit, cgroup).is_some();
        let is_excepted = workload.except.iter().any(excepts);
        if !fits.is_empty() && !is_excepted {
            found.push((workload, fits));
        }
    }
    let outermost = found.iter().flat_map(|(_, fits)| fits).flatten().min().copied();
    found.retain(|(_, fits)| fits.iter().any(|fit| fit.is_none() || *fit == outermost));
    found.into_iter().map(|(workload, _)| workload).collect()
}

/// How deep the cgroup is by which the table fits; `Some(None)` where it does by the user alone.
fn depth(one: &Match, unit: &Unit, cgroup: &str) -> Option<Option<usize>> {
    let user = unit.user.as_deref().unwrap_or("root");
    let is_user = one.user.as_deref().is_none_or(|wanted| {
        let plain = |name: &str| if name == "0" { "root".to_owned() } else { name.to_owned() };
        plain(wanted) == plain(user)
    });
    if one.exe.is_some() || one.group.is_some() || !is_user {
        return None;
    }
    match &one.cgroup {
        Some(pattern) => Some(Some(pattern.outermost(Path::new(cgroup))?)),
        None => Some(None),
    }
}

/// The workloads of the unit, among them the one that was asked for.
pub(super) fn of<'a>(
    config: &'a Config,
    path: &Path,
    unit: &Unit,
    asked: Option<&str>,
) -> Result<Vec<&'a Workload>, Error> {
    if unit.slice.contains('%') {
        return Err(Error::Slice { unit: unit.name.clone(), slice: unit.slice.clone() });
    }
    let cgroup = unit.name.cgroup(&unit.slice);
    let found = governing(config, unit, &cgroup);
    let table = format!("{{ unit = \"{}\" }}", unit.name.to_string().replace('\\', "\\\\"));
    let config_path = path.to_owned();
    match asked {
        None if found.is_empty() => {
            Err(Error::NoWorkload { unit: unit.name.clone(), config: config_path, cgroup, table })
        }
        Some(name) if !found.iter().any(|workload| workload.name == name) => {
            let others: Vec<&str> = found.iter().map(|workload| workload.name.as_str()).collect();
            let instead = match others.as_slice() {
                [] => String::new(),
                names => format!(" (it is `{}`'s now)", names.join("`, `")),
            };
            let (unit, workload) = (unit.name.clone(), name.to_owned());
            Err(Error::OtherWorkload { unit, workload, config: config_path, table, instead })
        }
        Some(_) | None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::file, protect::unit_name::UnitName, toml_file::Source};
    use std::collections::BTreeMap;
    use test_case::test_case;

    fn unit(name: &str, user: Option<&str>) -> Unit {
        let name = UnitName::parse(name).unwrap();
        Unit {
            slice: name.default_slice(),
            name,
            user: user.map(str::to_owned),
            own_root: None,
            command: Vec::new(),
            working_directory: None,
            home: None,
            environment: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    fn config(tables: &str) -> Config {
        let source = Source { path: "tidegate.toml".into(), text: tables.to_owned() };
        file::parse(&source).unwrap()
    }

    fn workload(name: &str, rest: &str) -> String {
        format!("[[workload]]\nname = \"{name}\"\npolicy = \"p\"\n{rest}\n")
    }

    fn names(tables: &str, unit: &Unit, asked: Option<&str>) -> Result<Vec<String>, String> {
        let config = config(tables);
        let found =
            of(&config, Path::new("tidegate.toml"), unit, asked).map_err(|error| error.to_string())?;
        Ok(found.into_iter().map(|workload| workload.name.clone()).collect())
    }

    #[test_case("match = [{ cgroup = \"/system.slice/web.service\" }]", true; "its cgroup")]
    #[test_case("match = [{ unit = \"web.service\" }]", true; "its name")]
    #[test_case("match = [{ any = true }]", true; "everybody")]
    #[test_case("match = [{ group = \"web\" }]", false; "perhaps its group")]
    #[test_case("match = [{ cgroup = \"/system.slice/*\" }]", true; "a glob")]
    #[test_case("match = [{ slice = \"system.slice\" }]", true; "its slice")]
    #[test_case("match = [{ cgroup = \"/system.slice/web.service/job-*\" }]", false; "only below it")]
    #[test_case("match = [{ cgroup = \"/system.slice/other.service\" }]", false; "another unit")]
    #[test_case("match = [{ user = \"web\" }]", true; "its user")]
    #[test_case("match = [{ user = \"root\" }]", false; "another user")]
    #[test_case("match = [{ cgroup = \"/system.slice/**\", user = \"web\" }]", true; "both")]
    #[test_case("match = [{ cgroup = \"/system.slice/**\", exe = \"/bin/web\" }]", false; "only one of its programs")]
    #[test_case("match = [{ cgroup = \"/system.slice/**\" }]\nexcept = [{ cgroup = \"/system.slice/web.service\" }]", false; "excepted")]
    #[test_case("match = [{ cgroup = \"/system.slice/**\" }]\nexcept = [{ cgroup = \"/system.slice/x.service\" }]", true; "another is excepted")]
    #[test_case("", false; "for commands alone")]
    fn a_workload_is_the_units_when_all_of_it_is(rest: &str, expected: bool) {
        let tables = workload("w", rest);
        let found = names(&tables, &unit("web", Some("web")), None);
        assert_eq!(found.is_ok(), expected, "{found:?}");
    }

    #[test]
    fn the_outermost_cgroup_counts_and_a_user_beside_it() {
        let tables = workload("inner", "match = [{ cgroup = \"/system.slice/web.service\" }]")
            + &workload("outer", "match = [{ slice = \"system.slice\" }]")
            + &workload("root", "match = [{ user = \"0\" }]");
        assert_eq!(names(&tables, &unit("web", None), None).unwrap(), ["outer", "root"]);
        assert_eq!(names(&tables, &unit("web", None), Some("root")).unwrap(), ["outer", "root"]);
        let told = names(&tables, &unit("web", None), Some("inner")).unwrap_err();
        assert!(told.contains("`outer`, `root`'s now"), "{told}");
    }

    #[test]
    fn what_is_missing_is_told_as_it_is_to_be_written() {
        let told = names("", &unit("my-job@", None), None).unwrap_err();
        let line = told.lines().find(|line| line.starts_with("match")).unwrap();
        assert_eq!(line, r#"match = [{ unit = "my-job@.service" }]"#);
        let tables = workload("w", line);
        assert_eq!(names(&tables, &unit("my-job@", None), Some("w")).unwrap(), ["w"]);
        assert_eq!(names(&tables, &unit("my-job@7", None), Some("w")).unwrap(), ["w"]);
    }

    #[test]
    fn a_slice_that_is_known_only_later_is_told() {
        let unit = Unit { slice: "job-%i.slice".to_owned(), ..unit("web", None) };
        assert!(names("", &unit, None).unwrap_err().contains("job-%i.slice"));
    }
}
