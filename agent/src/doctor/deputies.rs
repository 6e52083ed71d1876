//! Deputies: what a workload could ask to start a process, or to make a connection, that is no subject.
//!
//! Nothing in the kernel ties such a process to who asked for it, so this can only be told, workload by workload.

use super::{Check, read};
use crate::{config, run::user::User};
use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// How a deputy is asked, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Whoever may write to this socket; what it starts can run as anybody.
    Socket,
    /// Root alone: of others it asks for a password, or for a rule of polkit.
    Root,
    /// Everybody; what it starts runs as the same user, and so is a subject where the user is one.
    SameUser,
}

/// One, by what of it can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Deputy {
    name: &'static str,
    path: PathBuf,
    kind: Kind,
}

const KNOWN: [(&str, &str, Kind); 13] = [
    ("Docker", "/run/docker.sock", Kind::Socket),
    ("containerd", "/run/containerd/containerd.sock", Kind::Socket),
    ("CRI-O", "/run/crio/crio.sock", Kind::Socket),
    ("Podman", "/run/podman/podman.sock", Kind::Socket),
    ("BuildKit", "/run/buildkit/buildkitd.sock", Kind::Socket),
    ("libvirt", "/run/libvirt/libvirt-sock", Kind::Socket),
    ("LXD", "/var/snap/lxd/common/lxd/unix.socket", Kind::Socket),
    ("Incus", "/var/lib/incus/unix.socket", Kind::Socket),
    ("systemd", "/run/systemd/private", Kind::Socket),
    ("systemd through D-Bus", "/run/dbus/system_bus_socket", Kind::Root),
    ("cron", "/usr/bin/crontab", Kind::SameUser),
    ("at", "/usr/bin/at", Kind::SameUser),
    ("snapd", "/run/snapd.socket", Kind::Socket),
];

/// As whom a workload's processes run, as far as the configuration tells.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Who {
    uid: u32,
    groups: Vec<u32>,
    /// Whether its user's processes are subjects wherever they are.
    is_subject_by_user: bool,
}

const ROOT: Who = Who { uid: 0, groups: Vec::new(), is_subject_by_user: false };

pub(super) fn examine(workloads: &[config::Workload]) -> Vec<Check> {
    let present: Vec<Deputy> = KNOWN
        .iter()
        .filter(|(_, path, _)| Path::new(path).exists())
        .map(|(name, path, kind)| Deputy { name, path: path.into(), kind: *kind })
        .collect();
    let has_ssh = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| read(path))
        .any(|text| listens(&text, 22));
    workloads
        .iter()
        .filter(|workload| !workload.matches.is_empty())
        .map(|workload| {
            let name = format!("deputies_{}", workload.name);
            let who: Result<Vec<Who>, String> = workload.matches.iter().map(who).collect();
            match who {
                Ok(who) => judge(name, &asked(&who, &present, has_ssh)),
                Err(problem) => Check::warning(name, problem, "correct the workload's `match`"),
            }
        })
        .collect()
}

/// Without a user, a cgroup's processes could be anybody's. Of `any`, what is started for somebody is a subject, too.
fn who(table: &config::Match) -> Result<Who, String> {
    if table.any {
        return Ok(Who { is_subject_by_user: true, ..ROOT });
    }
    let Some(name) = &table.user else { return Ok(ROOT) };
    let is_subject_by_user = table.cgroup.is_none() && table.exe.is_none();
    if let Ok(uid) = name.parse() {
        return Ok(Who { uid, groups: Vec::new(), is_subject_by_user });
    }
    let user = User::lookup(name).map_err(|error| error.to_string())?;
    Ok(Who { uid: user.uid(), groups: user.groups().to_vec(), is_subject_by_user })
}

/// What at least one of these could ask, each once.
fn asked(who: &[Who], present: &[Deputy], has_ssh: bool) -> Vec<String> {
    let mut asked: Vec<String> = present
        .iter()
        .filter(|deputy| who.iter().any(|who| could_ask(who, deputy)))
        .map(|deputy| format!("{} ({})", deputy.name, deputy.path.display()))
        .collect();
    if who.iter().any(|who| !who.is_subject_by_user) {
        let buses = who.iter().map(|who| PathBuf::from(format!("/run/user/{}/bus", who.uid)));
        asked.extend(
            buses.filter(|bus| bus.exists()).map(|bus| format!("its user's systemd ({})", bus.display())),
        );
        if has_ssh {
            asked.push("ssh to this machine (port 22)".to_owned());
        }
    }
    asked.dedup();
    asked
}

fn could_ask(who: &Who, deputy: &Deputy) -> bool {
    match deputy.kind {
        Kind::Socket => who.uid == 0 || may_write(who, &deputy.path),
        Kind::Root => who.uid == 0,
        Kind::SameUser => !who.is_subject_by_user,
    }
}

/// By the mode of the file and of every directory above; lists of access beyond that are not looked at.
fn may_write(who: &Who, path: &Path) -> bool {
    const WRITE: u32 = 0o2;
    const SEARCH: u32 = 0o1;
    let Ok(path) = path.canonicalize() else { return false };
    let permits =
        |path: &Path, wanted| fs::metadata(path).is_ok_and(|facts| allowed(who, &facts) & wanted != 0);
    permits(&path, WRITE) && path.ancestors().skip(1).all(|directory| permits(directory, SEARCH))
}

/// The three bits of the mode that count for this user.
fn allowed(who: &Who, facts: &Metadata) -> u32 {
    let shift = if facts.uid() == who.uid {
        6
    } else if who.groups.contains(&facts.gid()) {
        3
    } else {
        0
    };
    facts.mode() >> shift & 0o7
}

fn judge(name: String, asked: &[String]) -> Check {
    if asked.is_empty() {
        return Check::ok(name, "nothing that was found here would act for it");
    }
    Check::warning(
        name,
        format!("it could ask {} to act for it, past its policy", asked.join(", ")),
        "take their sockets from it (InaccessiblePaths= in a unit, no such mount in a container), let it run as a \
         user that may not use them, or make what they start a workload too",
    )
}

/// Whether somebody listens on the port, by the form of `/proc/net/tcp`.
fn listens(table: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is_port = fields.next().is_some_and(|local| local.ends_with(&suffix));
        is_port && fields.nth(1) == Some(LISTEN)
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::Status::{Ok, Warning},
        *,
    };
    use std::os::unix::fs::PermissionsExt;
    use test_case::test_case;

    fn user(is_subject_by_user: bool) -> Who {
        Who { uid: 4711, groups: vec![4712], is_subject_by_user }
    }

    fn deputy(kind: Kind, path: &Path) -> Deputy {
        Deputy { name: "one", path: path.into(), kind }
    }

    #[test_case(Kind::Root, &ROOT, true; "root asks the system's bus")]
    #[test_case(Kind::Root, &user(false), false; "a user needs a password there")]
    #[test_case(Kind::SameUser, &ROOT, true; "root's cron")]
    #[test_case(Kind::SameUser, &user(false), true; "cron leaves a cgroup")]
    #[test_case(Kind::SameUser, &user(true), false; "cron does not leave a user")]
    #[test_case(Kind::Socket, &ROOT, true; "root opens every socket")]
    fn who_could_ask(kind: Kind, who: &Who, expected: bool) {
        assert_eq!(could_ask(who, &deputy(kind, Path::new("/nowhere"))), expected);
    }

    #[test_case(0o666, 0o755, true; "for everybody")]
    #[test_case(0o660, 0o755, false; "for its group")]
    #[test_case(0o444, 0o755, false; "not to be written")]
    #[test_case(0o666, 0o700, false; "in a directory of its own")]
    fn a_socket_is_judged_by_its_mode_and_place(mode: u32, directory: u32, expected: bool) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("socket");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(directory)).unwrap();
        let facts = fs::metadata(&path).unwrap();
        let stranger = Who { uid: facts.uid() + 1, groups: vec![facts.gid() + 1], is_subject_by_user: true };
        assert_eq!(could_ask(&stranger, &deputy(Kind::Socket, &path)), expected);
        let member = Who { groups: vec![facts.gid()], ..stranger };
        let by_group = mode & 0o020 != 0 && directory & 0o010 != 0;
        assert_eq!(could_ask(&member, &deputy(Kind::Socket, &path)), by_group);
    }

    #[test]
    fn ssh_leaves_a_cgroup_and_not_a_user() {
        assert_eq!(asked(&[user(false)], &[], true), ["ssh to this machine (port 22)"]);
        assert!(asked(&[user(true)], &[], true).is_empty());
    }

    #[test]
    fn what_could_be_asked_is_warned_of() {
        assert_eq!(judge("deputies_ci".into(), &[]).status, Ok);
        let check = judge("deputies_ci".into(), &["Docker (/run/docker.sock)".into(), "cron (/x)".into()]);
        assert_eq!(check.status, Warning);
        assert!(check.seen.contains("Docker (/run/docker.sock), cron (/x)"), "{}", check.seen);
    }

    #[test_case("0100007F:0016 00000000:0000 0A", true; "listening")]
    #[test_case("0100007F:0016 0100007F:9C40 01", false; "connected")]
    #[test_case("0100007F:1600 00000000:0000 0A", false; "another port")]
    #[test_case("00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A", true; "ipv6")]
    fn a_listener_is_found(entry: &str, expected: bool) {
        let table =
            format!("  sl  local_address rem_address   st tx_queue\n   0: {entry} 00000000:00000000 00:0\n");
        assert_eq!(listens(&table, 22), expected);
    }

    #[test]
    fn a_workload_without_a_match_has_none_and_an_unknown_user_is_told() {
        let table = |user: &str| config::Match { user: Some(user.into()), ..config::Match::default() };
        let workload = |matches| config::Workload {
            name: "ci".into(),
            policy: "p".into(),
            matches,
            except: Vec::new(),
            run_by: Vec::new(),
        };
        assert!(examine(&[workload(Vec::new())]).is_empty());
        let checks = examine(&[workload(vec![table("no-such-user")])]);
        assert!(
            matches!(&checks[..], [check] if check.name == "deputies_ci" && check.seen.contains("no-such-user")),
            "{checks:?}"
        );
        assert_eq!(
            who(&table("4711")),
            Result::Ok(Who { uid: 4711, groups: vec![], is_subject_by_user: true })
        );
        assert_eq!(who(&table("root")).unwrap().uid, 0);
    }
}
