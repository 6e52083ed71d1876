//! Which cgroups a glob means: `*` and `?` within a name, `**` for any number of names.

mod set;

pub use set::{CgroupPatternSet, Meaning};
use std::{
    fmt,
    path::{Component, Path},
};

/// A glob over paths below the cgroup2 mount.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CgroupPattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    /// Any number of names, also none.
    AnyNumber,
    /// One name, by a glob.
    Name(String),
    /// One name as it stands here.
    Literal(String),
    /// Any number of slices of systemd's, also none.
    Slices,
    /// A unit of systemd's, by a glob over its name.
    Unit(String),
}

/// A text that is no glob over cgroups.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// It does not begin at the mount.
    #[error("`{0}` must begin with `/`, the cgroup2 mount")]
    Relative(String),
    /// It means every process of the machine.
    #[error("`/` is every process of the machine; write `/**` for all cgroups below it")]
    Root,
    /// Two slashes, or one at the end.
    #[error("`{0}` has an empty name; write single slashes, and none at the end")]
    EmptyName(String),
    /// `.` or `..`.
    #[error("`{0}` leads through `{1}`; write the path without")]
    Dots(String, String),
    /// `**` with something else in one name.
    #[error("`{0}` has `**` within a name; it stands between slashes, for any number of names")]
    PartOfName(String),
    /// A unit's name is none.
    #[error("`{0}` is not a unit with processes; write its whole name, such as `{1}`, or use `slice`")]
    Unit(String, String),
    /// A slice's name is none.
    #[error("`{0}` is not a slice's name; write for example `ci.slice`, without `/`, `*` or `?`")]
    Slice(String),
}

impl CgroupPattern {
    /// Parses a glob.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let names = text.strip_prefix('/').ok_or_else(|| InvalidPattern::Relative(text.to_owned()))?;
        if names.is_empty() {
            return Err(InvalidPattern::Root);
        }
        let mut parts = Vec::new();
        for name in names.split('/') {
            parts.push(match name {
                "" => return Err(InvalidPattern::EmptyName(text.to_owned())),
                "." | ".." => return Err(InvalidPattern::Dots(text.to_owned(), name.to_owned())),
                "**" => Part::AnyNumber,
                _ if name.contains("**") => return Err(InvalidPattern::PartOfName(text.to_owned())),
                _ => Part::Name(name.to_owned()),
            });
        }
        // What is below is meant, and not the cgroup itself.
        if parts.last() == Some(&Part::AnyNumber) {
            parts.push(Part::Name("*".to_owned()));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The cgroup of this path, whatever its names hold.
    pub fn literal(path: &Path) -> Self {
        let parts = names(path).map(|name| Part::Literal(name.into_owned())).collect();
        Self { text: path.display().to_string(), parts }
    }

    /// The cgroup of a systemd slice: `a-b.slice` lies in `a.slice`.
    ///
    /// # Errors
    /// When this is not the name of a slice below the root slice.
    pub fn slice(name: &str) -> Result<Self, InvalidPattern> {
        let invalid = || InvalidPattern::Slice(name.to_owned());
        let stem = name.strip_suffix(".slice").ok_or_else(invalid)?;
        let is_name = !stem.contains(['/', '*', '?']) && stem.split('-').all(|part| !part.is_empty());
        if !is_name {
            return Err(invalid());
        }
        let ends = stem.match_indices('-').map(|(end, _)| end).chain([stem.len()]);
        let path: String = ends.map(|end| format!("/{}.slice", stem.get(..end).unwrap_or(stem))).collect();
        Self::parse(&path)
    }

    /// The cgroup of a unit of the system's manager, in whatever slice: a glob over names, or a template (`a@.service`),
    /// which means all of its instances. A user's own manager can have units of the same name; they are not meant.
    ///
    /// # Errors
    /// When this is not the name of a unit that has processes.
    pub fn unit(name: &str) -> Result<Self, InvalidPattern> {
        Self::of_unit(name, Vec::new())
    }

    /// The cgroup of a unit of users' own managers.
    ///
    /// # Errors
    /// As [`Self::unit`].
    pub fn user_unit(name: &str) -> Result<Self, InvalidPattern> {
        let manager = ["user.slice", "user-*.slice", "user@*.service"];
        Self::of_unit(name, manager.map(|name| Part::Name(name.to_owned())).into())
    }

    fn of_unit(name: &str, mut parts: Vec<Part>) -> Result<Self, InvalidPattern> {
        let invalid = || InvalidPattern::Unit(name.to_owned(), format!("{name}.service"));
        let (stem, kind) = name.rsplit_once('.').ok_or_else(invalid)?;
        let is_unit = ["service", "scope", "socket", "mount", "swap"].contains(&kind);
        if !is_unit || stem.is_empty() || name.contains('/') || stem.contains("**") {
            return Err(InvalidPattern::Unit(name.to_owned(), "gitlab-runner.service".to_owned()));
        }
        let glob = stem.strip_suffix('@').map_or_else(|| name.to_owned(), |stem| format!("{stem}@*.{kind}"));
        let beginning = if parts.is_empty() { "unit" } else { "user unit" };
        parts.extend([Part::Slices, Part::Unit(glob)]);
        Ok(Self { text: format!("{beginning} {name}"), parts })
    }

    /// How many names of the path lead to the outermost cgroup that is meant, if one on the way is.
    pub fn outermost(&self, path: &Path) -> Option<usize> {
        let mut states = self.begin();
        for (index, name) in names(path).enumerate() {
            states = self.step(&states, &name);
            if states.last() == Some(&true) {
                return Some(index + 1);
            }
        }
        None
    }

    /// The cgroup that is not meant though everything below it is, where one name leads to it: of `/a/**`, `/a`.
    pub fn spared(&self) -> Option<&Path> {
        let path = self.text.strip_suffix("/**").filter(|path| !path.is_empty())?;
        (!path.contains(['*', '?'])).then(|| Path::new(path))
    }

    /// Whether a cgroup below this path can be meant.
    pub fn may_mean_below(&self, path: &Path) -> bool {
        let states = names(path).fold(self.begin(), |states, name| self.step(&states, &name));
        states.iter().take(self.parts.len()).any(|state| *state)
    }

    /// For each part, and for the end, whether it may come next.
    fn begin(&self) -> Vec<bool> {
        let mut states = vec![false; self.parts.len() + 1];
        self.enter(&mut states, 0);
        states
    }

    fn step(&self, states: &[bool], name: &str) -> Vec<bool> {
        let mut next = vec![false; states.len()];
        for (index, part) in
            self.parts.iter().enumerate().filter(|(index, _)| states.get(*index) == Some(&true))
        {
            if part.takes(name) {
                self.enter(&mut next, if part.repeats() { index } else { index + 1 });
            }
        }
        next
    }

    fn enter(&self, states: &mut [bool], mut index: usize) {
        loop {
            if let Some(state) = states.get_mut(index) {
                *state = true;
            }
            if !self.parts.get(index).is_some_and(Part::repeats) {
                return;
            }
            index += 1;
        }
    }
}

impl Part {
    /// Whether it means any number of names.
    fn repeats(&self) -> bool {
        matches!(self, Self::AnyNumber | Self::Slices)
    }

    /// Whether it means this name.
    fn takes(&self, name: &str) -> bool {
        match self {
            Self::AnyNumber => true,
            Self::Name(glob) => fits(glob, name),
            Self::Literal(own) => own == name,
            Self::Slices => name.ends_with(".slice"),
            Self::Unit(glob) => fits(glob, unescaped(name)),
        }
    }
}

/// A unit's name. systemd puts `_` before what would be a file of the kernel's.
fn unescaped(name: &str) -> &str {
    name.strip_prefix('_').unwrap_or(name)
}

impl fmt::Display for CgroupPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn names(path: &Path) -> impl Iterator<Item = std::borrow::Cow<'_, str>> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_string_lossy()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
    })
}

/// Whether the glob fits all of the name. A `*` that has taken too little takes one character more, which is enough
/// to try for the last one.
pub(super) fn fits(glob: &str, name: &str) -> bool {
    let (mut glob, mut name) = (glob.chars(), name.chars());
    let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let before = name.clone();
        match (glob.next(), name.next()) {
            (Some('*'), _) => {
                retry = Some((glob.clone(), before.clone()));
                name = before;
            }
            (Some('?'), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            (None, None) => return true,
            (Some(_) | None, _) => {
                let Some((after, mut rest)) = retry.take() else { return false };
                if rest.next().is_none() {
                    return false;
                }
                (glob, name) = (after.clone(), rest.clone());
                retry = Some((after, rest));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use test_case::test_case;

    #[test_case("/a/b", "/a/b", Some(2); "exact")]
    #[test_case("/a/b", "/a/b/c", Some(2); "below")]
    #[test_case("/a/b", "/a", None; "above")]
    #[test_case("/a/b", "/a/bc", None; "longer name")]
    #[test_case("/a/b", "/", None; "root")]
    #[test_case("/a/*", "/a/b/c", Some(2); "a name")]
    #[test_case("/a/*", "/a", None; "no name")]
    #[test_case("/a/**", "/a", None; "everything below is not itself")]
    #[test_case("/a/**", "/a/b/c", Some(2); "everything below")]
    #[test_case("/**", "/x", Some(1); "all")]
    #[test_case("/**", "/", None; "all but the root")]
    #[test_case("/a/**/j", "/a/j", Some(2); "none between")]
    #[test_case("/a/**/j", "/a/b/c/j/k", Some(4); "some between")]
    #[test_case("/a/**/j", "/a/b/c", None; "not there")]
    #[test_case("/**/**/j", "/x/j", Some(2); "twice any number")]
    #[test_case("/a/job-?", "/a/job-1", Some(2); "one character")]
    #[test_case("/a/job-?", "/a/job-12", None; "two characters")]
    #[test_case("/a/job-?", "/a/job-", None; "no character")]
    #[test_case("/a/*-*.scope", "/a/x-y-z.scope", Some(2); "stars")]
    #[test_case("/a/*ab", "/a/aab", Some(2); "star that takes more")]
    #[test_case("/a/[x]", "/a/[x]", Some(2); "brackets are themselves")]
    fn the_outermost_cgroup_is_found(pattern: &str, path: &str, expected: Option<usize>) {
        assert_eq!(CgroupPattern::parse(pattern).unwrap().outermost(Path::new(path)), expected);
    }

    #[test_case("/a/b", "/", true; "above")]
    #[test_case("/a/b", "/a", true; "right above")]
    #[test_case("/a/b", "/a/b", false; "itself")]
    #[test_case("/a/b", "/c", false; "beside")]
    #[test_case("/a/*/j", "/a/x", true; "through a star")]
    #[test_case("/a/**", "/a/x/y", true; "below everything")]
    #[test_case("/**/j", "/x/y", true; "anywhere")]
    fn where_a_match_may_appear_is_known(pattern: &str, path: &str, expected: bool) {
        assert_eq!(CgroupPattern::parse(pattern).unwrap().may_mean_below(Path::new(path)), expected);
    }

    #[test_case("ci.slice", Some("/ci.slice"); "one")]
    #[test_case("a-b-c.slice", Some("/a.slice/a-b.slice/a-b-c.slice"); "nested")]
    #[test_case("-.slice", None; "the root slice")]
    #[test_case("a--b.slice", None; "empty part")]
    #[test_case("ci", None; "no slice")]
    #[test_case("*.slice", None; "glob")]
    #[test_case("a/b.slice", None; "path")]
    #[test_case(".slice", None; "no name")]
    fn a_slice_has_one_place(name: &str, expected: Option<&str>) {
        let pattern = CgroupPattern::slice(name).ok();
        assert_eq!(pattern.as_ref().map(ToString::to_string).as_deref(), expected);
    }

    #[test_case("runner.service", "/system.slice/runner.service", Some(2); "in its slice")]
    #[test_case("runner.service", "/runner.service", Some(1); "in none")]
    #[test_case("runner.service", "/ci.slice/ci-big.slice/runner.service/job", Some(3); "below it")]
    #[test_case("runner.service", "/system.slice/other.service/runner.service", None; "made by another")]
    #[test_case("runner.service", "/user.slice/user-7.slice/user@7.service/a.slice/runner.service", None; "of a user")]
    #[test_case("ci@.service", "/system.slice/system-ci.slice/ci@7.service", Some(3); "of a template")]
    #[test_case("ci@.service", "/system.slice/ci.service", None; "no instance")]
    #[test_case("ci-*.service", "/system.slice/ci-a.service", Some(2); "glob")]
    #[test_case("cpu.service", "/system.slice/_cpu.service", Some(2); "escaped")]
    fn a_unit_is_found_in_any_slice(unit: &str, path: &str, expected: Option<usize>) {
        assert_eq!(CgroupPattern::unit(unit).unwrap().outermost(Path::new(path)), expected);
    }

    #[test_case("/user.slice/user-7.slice/user@7.service/app.slice/a.service", Some(5); "in a slice")]
    #[test_case("/user.slice/user-7.slice/user@7.service/a.service/x", Some(4); "in none")]
    #[test_case("/system.slice/a.service", None; "of the system")]
    #[test_case("/user.slice/user-7.slice/session-1.scope/a.service", None; "in a session")]
    fn a_users_unit_is_found_below_the_users_manager(path: &str, expected: Option<usize>) {
        let pattern = CgroupPattern::user_unit("a.service").unwrap();
        assert_eq!(pattern.outermost(Path::new(path)), expected);
        assert_eq!(pattern.to_string(), "user unit a.service");
    }

    #[test_case("runner"; "no kind")]
    #[test_case("ci.slice"; "a slice")]
    #[test_case("ci.timer"; "a unit without processes")]
    #[test_case(".service"; "no name")]
    #[test_case("a/b.service"; "a path")]
    fn what_has_no_processes_is_no_unit(name: &str) {
        assert!(CgroupPattern::unit(name).is_err());
    }

    #[test]
    fn a_unit_may_appear_below_slices_alone() {
        let pattern = CgroupPattern::unit("a.service").unwrap();
        let may = |path: &str| pattern.may_mean_below(Path::new(path));
        assert!(may("/") && may("/system.slice") && may("/a.slice/a-b.slice"));
        assert!(!may("/system.slice/b.service") && !may("/init.scope"));
    }

    #[test_case("/a/b/**", Some("/a/b"); "everything below")]
    #[test_case("/a/b", None; "itself")]
    #[test_case("/a/*/**", None; "many")]
    #[test_case("/**", None; "the root")]
    fn what_only_holds_those_meant_is_spared(pattern: &str, expected: Option<&str>) {
        assert_eq!(CgroupPattern::parse(pattern).unwrap().spared(), expected.map(Path::new));
    }

    #[test_case("a"; "relative")]
    #[test_case(""; "empty")]
    #[test_case("/"; "root")]
    #[test_case("/a/"; "slash at the end")]
    #[test_case("//a"; "two slashes")]
    #[test_case("/a/../b"; "parent")]
    #[test_case("/./a"; "here")]
    #[test_case("/a**"; "part of a name")]
    #[test_case("/a/***"; "three stars")]
    fn what_is_no_pattern_is_refused(text: &str) {
        assert!(CgroupPattern::parse(text).is_err());
    }

    proptest! {
        #[test]
        fn a_name_without_stars_fits_itself_and_any_pattern_ends(glob in "[ab*?]{0,12}", name in "[ab]{0,24}") {
            let _ = fits(&glob, &name);
            prop_assert!(fits(&name, &name));
            prop_assert!(fits("*", &name));
        }
    }
}
