//! The user that `--user` names.

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Why a user cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A database cannot be read.
    #[error("cannot read {database}")]
    Read {
        /// The file or command.
        database: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// There is no such user.
    #[error("no user `{0}` in /etc/passwd, nor does `getent passwd` know one")]
    Unknown(String),
    /// There is no such group.
    #[error("no group `{0}` in /etc/group, nor does `getent group` know one")]
    UnknownGroup(String),
}

/// A user and the groups it belongs to.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct User {
    name: String,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    home: PathBuf,
    shell: PathBuf,
}

impl User {
    /// Looks `name` up. The files come first and `getent` answers for directories such as LDAP, because a
    /// statically linked program cannot load the C library's own modules for them.
    ///
    /// # Errors
    /// There is no such user.
    pub fn lookup(name: &str) -> Result<Self, Error> {
        let passwd = read("/etc/passwd")?;
        if let Some(user) = Self::from_passwd(&passwd, name) {
            let groups = memberships(&read("/etc/group")?, name);
            return Ok(user.with_groups(groups));
        }
        let entry = getent(&["passwd", "--", name])?;
        let user = Self::from_passwd(&entry, name).ok_or_else(|| Error::Unknown(name.to_owned()))?;
        let line = getent(&["initgroups", "--", &user.name])?;
        let groups = line.split_whitespace().skip(1).filter_map(|group| group.parse().ok()).collect();
        Ok(user.with_groups(groups))
    }

    /// The id of the user with this name or number.
    ///
    /// # Errors
    /// There is no user of that name.
    pub fn id_of(user: &str) -> Result<u32, Error> {
        user.parse().or_else(|_| Self::lookup(user).map(|user| user.uid))
    }

    /// The user's id.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The name of the user with this id, if it has one.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn name_of(uid: u32) -> Result<Option<String>, Error> {
        let find = |text: &str| {
            text.lines().find_map(|line| {
                let mut fields = line.split(':');
                let name = fields.next()?;
                (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
            })
        };
        if let Some(name) = find(&read("/etc/passwd")?) {
            return Ok(Some(name));
        }
        Ok(find(&getent(&["passwd", "--", &uid.to_string()])?))
    }

    /// The groups it belongs to, its first one too.
    pub fn groups(&self) -> &[u32] {
        &self.groups
    }

    /// The home directory.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// What a login would set.
    pub fn variables(&self) -> [(&'static str, &std::ffi::OsStr); 4] {
        [
            ("HOME", self.home.as_os_str()),
            ("USER", self.name.as_ref()),
            ("LOGNAME", self.name.as_ref()),
            ("SHELL", self.shell.as_os_str()),
        ]
    }

    /// Makes the calling process this user's, for good.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn assume(&self) -> io::Result<()> {
        let groups: Vec<_> = self.groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        setgroups(&groups)?;
        setresgid(gid, gid, gid)?;
        Ok(setresuid(uid, uid, uid)?)
    }

    /// `NAME:PASSWORD:UID:GID:GECOS:HOME:SHELL`.
    fn from_passwd(text: &str, wanted: &str) -> Option<Self> {
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| *name == wanted)?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            let home = fields.nth(1).filter(|home| !home.is_empty()).unwrap_or("/");
            let shell = fields.next().filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh");
            let (home, shell) = (home.into(), shell.into());
            Some(Self { name: name.to_owned(), uid, gid, groups: Vec::new(), home, shell })
        })
    }

    fn with_groups(mut self, mut groups: Vec<u32>) -> Self {
        groups.push(self.gid);
        groups.sort_unstable();
        groups.dedup();
        self.groups = groups;
        self
    }
}

/// The names of a group's members, listed or by their own group, in order. The group is given by name or number; it may
/// be in a directory such as LDAP, whose members' own groups are not looked through.
///
/// # Errors
/// There is no such group.
pub(super) fn members(group: &str) -> Result<Vec<String>, Error> {
    let (gid, mut members) = entry(group)?;
    members.extend(of_own_group(&read("/etc/passwd")?, gid));
    members.sort();
    members.dedup();
    Ok(members)
}

/// The id of the group with this name or number.
///
/// # Errors
/// There is no group of that name.
pub fn group_id(group: &str) -> Result<u32, Error> {
    group.parse().or_else(|_| entry(group).map(|(id, _)| id))
}

/// The id of a group, and who is listed in it.
fn entry(group: &str) -> Result<(u32, Vec<String>), Error> {
    let found = match listed(&read("/etc/group")?, group) {
        Some(found) => Some(found),
        None => listed(&getent(&["group", "--", group])?, group),
    };
    found.ok_or_else(|| Error::UnknownGroup(group.to_owned()))
}

/// The id of a group by name or number, and who is listed in it.
fn listed(text: &str, wanted: &str) -> Option<(u32, Vec<String>)> {
    text.lines().find_map(|line| match line.split(':').collect::<Vec<_>>().as_slice() {
        [name, _, gid, members] if *name == wanted || *gid == wanted => {
            let members = members.split(',').filter(|member| !member.is_empty());
            Some((gid.parse().ok()?, members.map(str::to_owned).collect()))
        }
        _ => None,
    })
}

fn of_own_group(passwd: &str, gid: u32) -> Vec<String> {
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let is_member = |fields: &Vec<&str>| fields.get(3).is_some_and(|field| field.parse() == Ok(gid));
    fields.filter(is_member).filter_map(|fields| fields.first().map(|name| (*name).to_owned())).collect()
}

/// `GROUP:PASSWORD:GID:MEMBER,MEMBER`.
fn memberships(text: &str, name: &str) -> Vec<u32> {
    let lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines
        .filter_map(|fields| match fields.as_slice() {
            [_, _, gid, members] if members.split(',').any(|member| member == name) => gid.parse().ok(),
            _ => None,
        })
        .collect()
}

fn read(path: &'static str) -> Result<String, Error> {
    // Real names are in any encoding that was in use when they were written.
    let bytes = fs::read(path).map_err(|source| Error::Read { database: path, source })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn getent(arguments: &[&str]) -> Result<String, Error> {
    match Command::new("getent").args(arguments).output() {
        Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        // Where there is no getent, such as on Alpine, there is no other database than the files.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(Error::Read { database: "`getent`", source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &str = "root:x:0:\nci:x:7:build,deploy\nempty:x:8:\nbroken\n";

    #[test]
    fn a_groups_members_are_those_listed_and_those_whose_own_it_is() {
        assert_eq!(listed(GROUPS, "ci"), Some((7, vec!["build".to_owned(), "deploy".to_owned()])));
        assert_eq!(listed(GROUPS, "8"), Some((8, Vec::new())));
        assert_eq!(listed(GROUPS, "broken"), None);
        let passwd = "root:x:0:0:root:/root:/bin/sh\nrunner:x:1000:7:::\nother:x:1001:8:::\nbroken\n";
        assert_eq!(of_own_group(passwd, 7), ["runner"]);
    }
    use test_case::test_case;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\nbuild:x:1000:100:B,,,:/home/build:\nbroken:x:one:1::/:\n";

    #[test_case("root", Some((0, 0, "/root", "/bin/bash")))]
    #[test_case("build", Some((1000, 100, "/home/build", "/bin/sh")); "no shell")]
    #[test_case("broken", None; "no number")]
    #[test_case("buil", None; "prefix")]
    #[test_case("", None; "empty")]
    fn an_entry_is_found_by_its_whole_name(name: &str, expected: Option<(u32, u32, &str, &str)>) {
        let user = User::from_passwd(PASSWD, name);
        let found = user
            .as_ref()
            .map(|user| (user.uid, user.gid, user.home.to_str().unwrap(), user.shell.to_str().unwrap()));
        assert_eq!(found, expected);
    }

    #[test]
    fn groups_are_those_that_list_the_user_and_its_own() {
        let text = "a:x:5:build\nb:x:6:builder,x\nc:x:7:x,build,y\nd:x:8:\n";
        let user = User::from_passwd(PASSWD, "build").unwrap().with_groups(memberships(text, "build"));
        assert_eq!(user.groups, [5, 7, 100]);
    }

    #[test]
    fn an_unknown_user_is_an_error_that_names_it() {
        let error = User::lookup("no-such-user").unwrap_err();
        assert!(error.to_string().contains("`no-such-user`"), "{error}");
    }
}
