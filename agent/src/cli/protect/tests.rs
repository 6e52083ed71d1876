use crate::cli::{Cli, dispatch};
use clap::Parser;
use std::fs;
use tempfile::TempDir;
use test_case::test_case;

/// A system with a unit `web` and a configuration in its usual place.
fn system(workloads: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in [
        ("lib/systemd/system/web.service", "[Service]\nExecStart=/bin/web\nEnvironment=DENO_CERT=/none\n"),
        ("etc/tidegate/tidegate.toml", workloads),
    ] {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

const WEB: &str =
    "[[workload]]\nname = \"web\"\npolicy = \"p\"\nmatch = [{ cgroup = \"/system.slice/web.service\" }]\n";

fn ask(folder: &TempDir, words: &str) -> Result<String, (String, u8)> {
    let root = folder.path().to_str().unwrap();
    let words = ["tidegate"].into_iter().chain(words.split_whitespace()).chain(["--root", root]);
    let mut out = Vec::new();
    dispatch(Cli::try_parse_from(words).unwrap(), &mut out)
        .map_err(|error| (error.to_string(), error.status()))?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn it_is_said_what_was_done_and_what_is_next() {
    let folder = system(WEB);
    let shown = ask(&folder, "protect web --dry-run").unwrap();
    let path = folder.path().join("etc/systemd/system/web.service.d/50-tidegate.conf");
    assert!(!path.exists());
    let told = ask(&folder, "protect web --workload web").unwrap();
    assert!(told.ends_with("from its next start on: systemctl restart web.service\n"), "{told}");
    let written = fs::read_to_string(&path).unwrap();
    assert_eq!(shown.split_once('\n').unwrap().1, written);
    assert!(ask(&folder, "protect web.service").unwrap().contains("up to date"));
    assert!(ask(&folder, "unprotect web").unwrap().contains("removed "));
    assert!(!path.parent().unwrap().exists());
}

#[test_case("protect ../web", 2, "no unit's name has"; "a path")]
#[test_case("protect web.socket", 2, "is no service"; "a socket")]
#[test_case("protect none", 1, "no unit `none.service`"; "no unit")]
#[test_case("protect web --workload other", 2, "does not hold `web.service` (it is `web`'s now)"; "another workload")]
#[test_case("protect web --config /none.toml", 2, "/none.toml"; "no configuration")]
#[test_case("unprotect web", 1, "is not protected"; "nothing to take away")]
#[test_case("unprotect a/b", 2, "no unit's name has"; "a path to take away")]
fn mistakes_are_told(words: &str, status: u8, expected: &str) {
    let (told, found) = ask(&system(WEB), words).unwrap_err();
    assert!(told.contains(expected), "{told}");
    assert_eq!(found, status);
}

#[test]
fn lines_that_are_missing_are_told_and_make_it_work() {
    let folder = system("");
    let (told, status) = ask(&folder, "protect web").unwrap_err();
    assert_eq!(status, 2);
    let (_, lines) = told.split_once('\n').unwrap();
    fs::write(folder.path().join("etc/tidegate/tidegate.toml"), lines).unwrap();
    assert!(ask(&folder, "protect web").is_ok());
}
