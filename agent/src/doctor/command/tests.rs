use super::{super::Status, *};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};
use test_case::test_case;

/// The directories that programs are looked for in, without those of whoever runs the tests.
fn system() -> Vec<PathBuf> {
    ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from).to_vec()
}

fn find(command: &str, path: &[PathBuf]) -> Result<Found, Missing> {
    let words: Vec<OsString> = words::split(command).unwrap().into_iter().map(OsString::from).collect();
    program::find(&words, path)
}

fn checks(command: &str, path: &[PathBuf]) -> Vec<Check> {
    match find(command, path) {
        Ok(found) => judge(&found),
        Err(missing) => absent(&missing),
    }
}

fn script(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test_case("curl https://api", "OpenSSL", Status::Ok, "yes, by mount"; "curl")]
#[test_case("/usr/bin/openssl s_client", "OpenSSL", Status::Ok, "yes, by mount"; "openssl")]
#[test_case("wget -q", "GnuTLS", Status::Ok, "yes, by mount"; "wget")]
#[test_case("/usr/bin/git fetch", "GnuTLS", Status::Ok, "yes, by mount"; "git by its helper")]
#[test_case("/usr/bin/python3 app.py", "Python", Status::Ok, "yes, by mount"; "python")]
#[test_case("java -jar app.jar", "Java", Status::Ok, "yes, by mount"; "java")]
#[test_case("perl -e 1", "Perl", Status::Ok, "yes, by mount"; "perl")]
#[test_case("node app.js", "Node", Status::Ok, "yes, by variable NODE_EXTRA_CA_CERTS"; "node")]
#[test_case("env A=b timeout 5 node app.js", "Node", Status::Ok, "yes, by variable NODE_EXTRA_CA_CERTS"; "node in wrappers")]
#[test_case("timeout -k 9 5 node app.js", "Node", Status::Ok, "yes, by variable NODE_EXTRA_CA_CERTS"; "node behind an option")]
#[test_case("env -u X -i node app.js", "Node", Status::Failed, "its environment is cleared"; "node without environment")]
fn programs_of_this_machine_are_foretold(command: &str, runtime: &str, status: Status, trust: &str) {
    let checks = checks(command, &system());
    assert_eq!(checks[0].status, Status::Ok, "{checks:?}");
    assert_eq!(checks[1].seen, runtime, "{checks:?}");
    assert_eq!(checks[2].status, status, "{checks:?}");
    assert!(checks[2].seen.contains(trust), "{checks:?}");
}

#[test]
fn scripts_lead_to_what_interprets_them() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let inner = script(at, "inner", "#!/usr/bin/env -S node --no-warnings\n");
    script(at, "outer", &format!("#!{}\n", inner.display()));
    let mut path = system();
    path.insert(0, at.to_owned());
    let found = find("outer", &path).unwrap();
    assert_eq!(found.path, Path::new("/usr/bin/node").canonicalize().unwrap());
    assert!(found.told().contains(&format!("through {}/outer, {}", at.display(), inner.display())));
    assert_eq!((found.environment, found.shell), (Environment::Kept, None));
}

#[test_case("#!/bin/bash\nnode app.js\n", "bash"; "bash")]
#[test_case("#!/usr/bin/env bash\n", "bash"; "bash by env")]
#[test_case("#!/bin/sh -e\n", "dash"; "what sh links to")]
fn of_a_shell_script_nothing_is_foretold(text: &str, shell: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = script(directory.path(), "job", text);
    let checks = checks(path.to_str().unwrap(), &system());
    assert_eq!(checks[1].status, Status::Warning);
    let shell = if shell == "dash" { Path::new("/bin/sh").canonicalize().unwrap() } else { shell.into() };
    let shell = shell.file_name().unwrap().to_string_lossy();
    assert_eq!(checks[1].seen, format!("a script of {shell}: what it starts decides"));
    assert_eq!(checks[2].status, Status::Warning);
}

#[test_case("", "no command"; "nothing")]
#[test_case("no-such-program -x", "no program `no-such-program`"; "not in PATH")]
#[test_case("/etc/passwd", "no program `/etc/passwd`"; "not executable")]
#[test_case("/usr", "no program `/usr`"; "a directory")]
fn what_is_no_command_fails(command: &str, seen: &str) {
    let checks = checks(command, &system());
    assert_eq!((checks[0].status, checks[0].seen.as_str()), (Status::Failed, seen));
    assert!(checks.iter().all(|check| check.status == Status::Failed), "{checks:?}");
}

#[test]
fn scripts_in_a_circle_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("job");
    script(directory.path(), "job", &format!("#!{}\n", path.display()));
    assert!(matches!(find(path.to_str().unwrap(), &[]), Err(Missing::Circle(_))));
}

#[test]
fn every_outcome_has_the_same_names() {
    let names = |command: &str| {
        let checks = checks(command, &system());
        checks.into_iter().map(|check| check.name).collect::<Vec<_>>()
    };
    for command in ["curl", "sh -c true", "", "/usr/bin/env"] {
        assert_eq!(names(command), [PROGRAM, RUNTIME, TRUST], "{command}");
    }
}
