//! The configuration, and the log that it names.

use super::{Check, told};
use crate::{
    config::{self, Config, file},
    toml_file,
};
use rustix::fs::{Access, access};
use std::{io, os::unix::fs::PermissionsExt, path::Path};

/// Loads the configuration that is named, or else the installed one; the other checks go by the default where it
/// cannot be used.
pub(super) fn load(named: Option<&Path>) -> (Config, Check) {
    const NAME: &str = "configuration";
    let path = named.unwrap_or(Path::new(file::DEFAULT_PATH));
    match file::load(path) {
        Ok(config) => {
            let check = Check::ok(NAME, format!("{} is valid", path.display()));
            (config, check)
        }
        Err(toml_file::Error::Open { source, .. })
            if named.is_none() && source.kind() == io::ErrorKind::NotFound =>
        {
            (Config::default(), Check::ok(NAME, format!("no {}: the defaults hold", path.display())))
        }
        Err(error) => {
            let advice = format!("correct it; `tidegate check {}` tells each problem", path.display());
            (Config::default(), Check::failed(NAME, told(&error), advice))
        }
    }
}

/// Whether the log can be opened for appending, without making it.
pub(super) fn audit(config: &config::Audit) -> Check {
    const NAME: &str = "audit_log";
    let path = config.path.as_path();
    if path == Path::new("-") {
        return Check::ok(NAME, "standard error");
    }
    let advice = "run as root, or name another file with audit.path; without it every write is refused";
    // What is missing is made, in the nearest directory that is there.
    let Some(nearest) = path.ancestors().find(|ancestor| ancestor.exists()) else {
        return Check::failed(NAME, format!("no part of {} exists", path.display()), advice);
    };
    let is_world_writable = |path: &Path| {
        path.metadata().is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o002 != 0)
    };
    let wanted = if nearest.is_dir() { Access::WRITE_OK | Access::EXEC_OK } else { Access::WRITE_OK };
    match access(nearest, wanted) {
        Ok(()) if is_world_writable(path) => {
            Check::failed(NAME, format!("everybody can write {}", path.display()), "chmod o-w it")
        }
        Ok(()) if nearest == path && path.is_dir() => {
            Check::failed(NAME, format!("{} is a directory", path.display()), "name a file with audit.path")
        }
        Ok(()) if nearest != path && !nearest.is_dir() => {
            Check::failed(NAME, format!("{} is no directory", nearest.display()), advice)
        }
        Ok(()) => Check::ok(NAME, path.display().to_string()),
        Err(errno) => Check::failed(
            NAME,
            format!("cannot write {}: {}", nearest.display(), io::Error::from(errno)),
            advice,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::Status::{self, Failed, Ok},
        *,
    };
    use std::fs;
    use test_case::test_case;

    #[test_case("capture.cgroup_root = \"/c\"\n", Ok, "tidegate.toml is valid"; "valid")]
    #[test_case("hots = []\n", Failed, "unknown key `hots`"; "misspelt")]
    fn the_configuration_is_read(text: &str, status: Status, seen: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tidegate.toml");
        fs::write(&path, text).unwrap();
        let (config, check) = load(Some(&path));
        assert_eq!(check.status, status, "{}", check.seen);
        assert!(check.seen.contains(seen), "{}", check.seen);
        assert_eq!(config.capture.cgroup_root.is_some(), status == Ok);
    }

    #[test]
    fn a_configuration_that_is_named_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(Some(&dir.path().join("none.toml"))).1.status, Failed);
    }

    #[test_case("log", Ok; "a file")]
    #[test_case("a/b/log", Ok; "directories to make")]
    #[test_case("log/x", Failed; "below a file")]
    #[test_case("", Failed; "a directory")]
    #[test_case("open", Failed; "writable for everybody")]
    #[test_case("-", Ok; "standard error")]
    fn the_log_is_examined_and_not_made(name: &str, expected: Status) {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode) in [("log", 0o600), ("open", 0o666)] {
            fs::write(dir.path().join(name), "").unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = if name == "-" { name.into() } else { dir.path().join(name) };
        let check = audit(&config::Audit { path, ..Config::default().audit });
        assert_eq!(check.status, expected, "{}", check.seen);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
