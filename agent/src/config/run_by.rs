//! `run_by`: who may run commands as a workload, without root.

use std::fmt;

/// One of those who may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunBy {
    /// A user, by name or number.
    User(String),
    /// Whoever is in a group, by name or number.
    Group(String),
}

/// Beside letters and digits, what names of users and groups are made of.
const MARKS: &[u8] = b"-_.$@";
const MAX_NAME_BYTES: usize = 64;

impl RunBy {
    /// Parses `user:NAME`, `group:NAME`, or the name of a user alone.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':').unwrap_or(("user", text));
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || MARKS.contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_allowed) {
            return None;
        }
        match kind {
            "user" => Some(Self::User(name.to_owned())),
            "group" => Some(Self::Group(name.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for RunBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user:{name}"),
            Self::Group(name) => write!(f, "group:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("alice", Some(RunBy::User("alice".into())); "a user")]
    #[test_case("user:alice", Some(RunBy::User("alice".into())); "a user, said to be one")]
    #[test_case("user:1000", Some(RunBy::User("1000".into())); "a number")]
    #[test_case("group:ci", Some(RunBy::Group("ci".into())); "a group")]
    #[test_case("", None; "nothing")]
    #[test_case("group:", None; "a group without a name")]
    #[test_case("unit:x.service", None; "another kind")]
    #[test_case("alice bob", None; "two")]
    #[test_case("*", None; "a glob")]
    #[test_case("group:a:b", None; "two colons")]
    fn users_and_groups_are_told_apart(text: &str, expected: Option<RunBy>) {
        let found = RunBy::parse(text);
        assert_eq!(found, expected);
        assert!(found.is_none_or(|found| RunBy::parse(&found.to_string()) == Some(found)));
    }
}
