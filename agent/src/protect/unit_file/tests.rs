use super::*;
use std::os::unix::fs::symlink;
use tempfile::TempDir;
use test_case::test_case;

/// A tree with these files; a content that begins with `->` is a link's target.
fn tree(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = folder.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match content.strip_prefix("->") {
            Some(target) => symlink(target, path).unwrap(),
            None => fs::write(path, content).unwrap(),
        }
    }
    folder
}

fn read(folder: &TempDir, name: &str) -> Result<Unit, Error> {
    Unit::read(&Root::open(folder.path()).unwrap(), &UnitName::parse(name).unwrap())
}

fn environment(text: &str) -> Vec<(String, String)> {
    let folder = tree(&[
        ("/lib/systemd/system/a.service", text),
        ("/etc/a.env", "A=file\nB='x y' \nC=\"q\\\"\"\nbad name=1\n"),
    ]);
    read(&folder, "a").unwrap().environment.into_iter().collect()
}

#[test_case("[Service]\nEnvironment=A=1 \"B=2 3\"", &[("A", "1"), ("B", "2 3")]; "words")]
#[test_case("[Service]\nEnvironment=A=1\nEnvironment=A=2", &[("A", "2")]; "the last counts")]
#[test_case("[Service]\nEnvironment=A=1\nEnvironment=\nEnvironment=B=2", &[("B", "2")]; "an empty one begins anew")]
#[test_case("[Service]\nEnvironment=A=1 \\\n# a comment\n  B=2", &[("A", "1"), ("B", "2")]; "continued over a comment")]
#[test_case("[Unit]\nEnvironment=A=1\n[Service]\n", &[]; "another section")]
#[test_case("[Service]\nEnvironment = A=100%%\n", &[("A", "100%")]; "blanks and a doubled percent")]
#[test_case("[Service]\nEnvironmentFile=/etc/a.env\nEnvironment=A=1", &[("A", "file"), ("B", "x y"), ("C", "q\"")]; "a file comes after all")]
#[test_case("[Service]\nEnvironmentFile=/etc/a.env\nEnvironmentFile=", &[]; "no file after all")]
#[test_case("[Service]\nEnvironmentFile=-/etc/none\n", &[]; "a file that may be missing")]
#[test_case("# Written by tidegate protect: x\n[Service]\nEnvironment=A=1", &[]; "our own does not count")]
fn variables_are_what_systemd_makes_of_them(text: &str, expected: &[(&str, &str)]) {
    let expected: Vec<_> =
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(environment(text), expected);
}

#[test]
fn what_cannot_be_known_is_told() {
    let text = "[Service]\nEnvironmentFile=/etc/none\nEnvironmentFile=/etc/%i.env\nEnvironment=\"A=1\n";
    let unit = read(&tree(&[("/lib/systemd/system/a.service", text)]), "a").unwrap();
    assert_eq!(unit.warnings.len(), 3, "{:?}", unit.warnings);
}

#[test]
fn drop_ins_count_in_the_order_of_their_names_and_the_nearer_hides_the_other() {
    let set = |value: &str| format!("[Service]\nEnvironment=A={value} {value}=1\n");
    let folder = tree(&[
        ("/usr/lib/systemd/system/a-b@.service", &set("unit")),
        ("/usr/lib/systemd/system/service.d/30-all.conf", &set("all")),
        ("/usr/lib/systemd/system/a-.service.d/20-prefix.conf", &set("prefix")),
        ("/etc/systemd/system/a-b@.service.d/40-template.conf", &set("template")),
        ("/etc/systemd/system/a-b@x.service.d/10-instance.conf", &set("instance")),
        ("/usr/lib/systemd/system/a-b@x.service.d/40-template.conf", &set("hidden")),
        ("/etc/systemd/system/a-b@x.service.d/30-all.conf", "->/dev/null"),
        ("/etc/systemd/system/a-b@x.service.d/35-not.txt", &set("text")),
        ("/etc/systemd/system/a-b@y.service.d/90-other.conf", &set("other")),
    ]);
    let unit = read(&folder, "a-b@x").unwrap();
    let names: Vec<&str> = unit.environment.keys().map(String::as_str).collect();
    // By the same name the drop-in of the instance comes before the template's.
    assert_eq!(names, ["A", "hidden", "instance", "prefix", "unit"]);
    assert_eq!(unit.environment["A"], "hidden");
    assert_eq!(unit.slice, "system-a\\x2db.slice");
}

#[test]
fn settings_are_read_from_what_makes_the_unit() {
    let text = "[Service]\nSlice=ci.slice\nUser=bot\nWorkingDirectory=~\nRootDirectory=/\nExecStartPre=-/bin/true\n\
                ExecStart=/old\nExecStart=\nExecStart=-/opt/run \"a b\" c\n";
    let folder = tree(&[
        ("/etc/systemd/system/a.service", text),
        ("/lib/systemd/system/a.service", "[Service]\nUser=other\n"),
        ("/etc/passwd", "root:x:0:0::/root:/bin/sh\nbot:x:7:7::/home/bot:/bin/sh\n"),
    ]);
    let unit = read(&folder, "a").unwrap();
    assert_eq!((unit.slice.as_str(), unit.user.as_deref()), ("ci.slice", Some("bot")));
    assert_eq!(unit.home.as_deref(), Some(Path::new("/home/bot")));
    assert_eq!(unit.working_directory, unit.home);
    assert_eq!(unit.command, ["/opt/run", "a b", "c", "/bin/true"].map(OsString::from));
    assert_eq!(unit.own_root, None);
}

#[test_case("RootDirectory=/srv/x", Some("RootDirectory=/srv/x"); "a directory")]
#[test_case("RootImage=/srv/x.raw\nRootImage=", None; "taken back")]
fn a_root_of_its_own_is_seen(line: &str, expected: Option<&str>) {
    let folder = tree(&[("/lib/systemd/system/a.service", &format!("[Service]\n{line}\n"))]);
    assert_eq!(read(&folder, "a").unwrap().own_root.as_deref(), expected);
}

#[test]
fn another_name_leads_to_the_unit() {
    let folder = tree(&[
        ("/lib/systemd/system/ssh.service", "[Service]\nUser=x\n"),
        ("/etc/systemd/system/sshd.service", "->/lib/systemd/system/ssh.service"),
        ("/lib/systemd/system/job@.service", "[Service]\n"),
    ]);
    assert_eq!(read(&folder, "sshd").unwrap().name.as_str(), "ssh.service");
    assert_eq!(read(&folder, "job@1").unwrap().name.as_str(), "job@1.service");
    assert_eq!(read(&folder, "job@").unwrap().name.as_str(), "job@.service");
}

#[test]
fn what_cannot_start_is_told() {
    let folder = tree(&[
        ("/lib/systemd/system/a.service", "[Service]\n"),
        ("/etc/systemd/system/a.service", "->/dev/null"),
        ("/lib/systemd/system/b.service/x", ""),
    ]);
    assert!(matches!(read(&folder, "a"), Err(Error::Masked { .. })));
    for name in ["b", "c", "c@1"] {
        assert!(matches!(read(&folder, name), Err(Error::NoUnit { .. })), "{name}");
    }
}
