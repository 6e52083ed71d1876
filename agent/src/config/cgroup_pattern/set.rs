//! Many globs over cgroups, asked at once.
//!
//! They are one automaton: those that begin alike share their beginning, and a name without `*` and `?` is looked up
//! instead of compared. What a path costs grows with the globs that its names are compared with, and not with the fixed names.

use super::{CgroupPattern, Part, names, unescaped};
use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

/// Patterns by their numbers: the first that was given is 0.
#[derive(Clone, Debug)]
pub struct CgroupPatternSet {
    /// The first is where all begin; each other one is where one edge leads.
    nodes: Vec<Node>,
}

/// What may come next behind one beginning.
#[derive(Clone, Debug, Default)]
struct Node {
    /// `**`, or systemd's slices: names that lead here again.
    repeats: Option<Part>,
    fixed: HashMap<String, usize>,
    units: HashMap<String, usize>,
    globs: HashMap<Part, usize>,
    /// `**` and slices, which may also be none.
    skipped: HashMap<Part, usize>,
    /// The patterns that are complete here.
    complete: Vec<usize>,
}

/// That a pattern means a cgroup on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Meaning {
    /// The pattern's number.
    pub pattern: usize,
    /// How many names of the path lead to the outermost cgroup that it means.
    pub depth: usize,
}

impl CgroupPatternSet {
    /// All of these.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a CgroupPattern>) -> Self {
        let mut set = Self { nodes: vec![Node::default()] };
        for (number, pattern) in patterns.into_iter().enumerate() {
            let end = pattern.parts.iter().fold(0, |from, part| set.edge(from, part));
            if let Some(node) = set.nodes.get_mut(end) {
                node.complete.push(number);
            }
        }
        set
    }

    /// Whether one of them means the cgroup, or one above it.
    pub fn means(&self, path: &Path) -> bool {
        self.walk(path).any(|states| self.at(&states).any(|node| !node.complete.is_empty()))
    }

    /// Those that mean the cgroup, or one above it, in their order.
    pub fn meaning(&self, path: &Path) -> Vec<Meaning> {
        let mut found = Vec::new();
        // What leads there again names a cgroup further inside.
        let mut seen = HashSet::new();
        for (index, states) in self.walk(path).enumerate() {
            for state in states {
                let complete = self.nodes.get(state).map_or(&[][..], |node| &node.complete);
                if !complete.is_empty() && seen.insert(state) {
                    found.extend(complete.iter().map(|&pattern| Meaning { pattern, depth: index + 1 }));
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// Whether one of them can mean a cgroup below this path.
    pub fn may_mean_below(&self, path: &Path) -> bool {
        let states = self.walk(path).last().unwrap_or_else(|| self.begin());
        self.at(&states).any(Node::goes_on)
    }

    /// Where the part leads from there.
    fn edge(&mut self, from: usize, part: &Part) -> usize {
        let new = self.nodes.len();
        let Some(node) = self.nodes.get_mut(from) else { return new };
        let to = match part {
            Part::Literal(name) => *node.fixed.entry(name.clone()).or_insert(new),
            Part::Name(name) if is_fixed(name) => *node.fixed.entry(name.clone()).or_insert(new),
            Part::Unit(name) if is_fixed(name) => *node.units.entry(name.clone()).or_insert(new),
            Part::Name(_) | Part::Unit(_) => *node.globs.entry(part.clone()).or_insert(new),
            Part::AnyNumber | Part::Slices => *node.skipped.entry(part.clone()).or_insert(new),
        };
        if to == new {
            self.nodes.push(Node { repeats: part.repeats().then(|| part.clone()), ..Node::default() });
        }
        to
    }

    /// The states behind each name of the path.
    fn walk<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = Vec<usize>> + 'a {
        names(path).scan(self.begin(), |states, name| {
            *states = self.step(states, &name);
            Some(states.clone())
        })
    }

    fn at<'a>(&'a self, states: &'a [usize]) -> impl Iterator<Item = &'a Node> {
        states.iter().filter_map(|state| self.nodes.get(*state))
    }

    fn begin(&self) -> Vec<usize> {
        self.entered(vec![0])
    }

    fn step(&self, states: &[usize], name: &str) -> Vec<usize> {
        let mut next = Vec::new();
        for &state in states {
            let Some(node) = self.nodes.get(state) else { continue };
            if node.repeats.as_ref().is_some_and(|part| part.takes(name)) {
                next.push(state);
            }
            next.extend(node.fixed.get(name));
            next.extend(node.units.get(unescaped(name)));
            next.extend(node.globs.iter().filter(|(part, _)| part.takes(name)).map(|(_, to)| *to));
        }
        self.entered(next)
    }

    /// These states and those that no name needs to lead to.
    fn entered(&self, mut states: Vec<usize>) -> Vec<usize> {
        let mut index = 0;
        while let Some(node) = states.get(index).and_then(|state| self.nodes.get(*state)) {
            states.extend(node.skipped.values());
            index += 1;
        }
        // Two `**` in a row lead to the second of them in two ways.
        states.sort_unstable();
        states.dedup();
        states
    }
}

impl Node {
    fn goes_on(&self) -> bool {
        let is_end = self.fixed.is_empty() && self.units.is_empty() && self.globs.is_empty();
        !is_end || !self.skipped.is_empty()
    }
}

fn is_fixed(glob: &str) -> bool {
    !glob.contains(['*', '?'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*, sample::select};
    use test_case::test_case;

    fn set(patterns: &[&str]) -> CgroupPatternSet {
        let patterns: Vec<_> = patterns.iter().map(|text| CgroupPattern::parse(text).unwrap()).collect();
        CgroupPatternSet::new(&patterns)
    }

    #[test_case("/a/b/c", &[(0, 1), (1, 2), (3, 2), (4, 2)]; "the outermost of each, in their order")]
    #[test_case("/a", &[(0, 1)]; "itself")]
    #[test_case("/x/c", &[(2, 2)]; "anywhere")]
    #[test_case("/x", &[]; "none")]
    #[test_case("/", &[]; "the root")]
    fn all_that_mean_a_cgroup_are_told(path: &str, expected: &[(usize, usize)]) {
        let set = set(&["/a", "/a/**", "/x/**/c", "/a/b", "/a/?"]);
        let found = set.meaning(Path::new(path));
        let found: Vec<_> = found.iter().map(|meaning| (meaning.pattern, meaning.depth)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn none_means_nothing() {
        let none = set(&[]);
        assert!(!none.means(Path::new("/a")) && !none.may_mean_below(Path::new("/")));
    }

    #[test]
    fn patterns_for_other_cgroups_are_not_looked_at() {
        let patterns: Vec<_> = (0..1_000)
            .flat_map(|number| {
                [
                    CgroupPattern::parse(&format!("/jobs/{number}")),
                    CgroupPattern::unit(&format!("{number}.service")),
                ]
            })
            .collect::<Result<_, _>>()
            .unwrap();
        let set = CgroupPatternSet::new(&patterns);
        let states = set.walk(Path::new("/jobs/7/below")).map(|states| states.len()).max();
        assert!(states <= Some(2), "{states:?}");
        assert_eq!(set.meaning(Path::new("/jobs/7")), [Meaning { pattern: 14, depth: 2 }]);
        assert_eq!(set.meaning(Path::new("/system.slice/_7.service")), [Meaning { pattern: 15, depth: 2 }]);
    }

    /// Of few names, so that they meet.
    fn patterns() -> impl Strategy<Value = CgroupPattern> {
        let part = select(vec!["a", "b", "a.slice", "*", "?", "a*", "**", "**", "c.service", "_c.service"]);
        let glob =
            vec(part, 1..5).prop_map(|parts| CgroupPattern::parse(&format!("/{}", parts.join("/"))).unwrap());
        let unit = select(vec!["c.service", "c@.service", "*.service", "_c.service"]);
        let units = (unit, any::<bool>()).prop_map(|(name, is_users)| {
            if is_users { CgroupPattern::user_unit(name) } else { CgroupPattern::unit(name) }.unwrap()
        });
        let name = select(vec!["a", "*", "c.service"]);
        let literal = vec(name, 1..4)
            .prop_map(|names| CgroupPattern::literal(Path::new(&format!("/{}", names.join("/")))));
        prop_oneof![3 => glob, 2 => units, 1 => literal]
    }

    fn paths() -> impl Strategy<Value = String> {
        let users = "user.slice/user-1.slice/user@1.service";
        let name =
            select(vec!["a", "b", "aa", "a.slice", "c.service", "_c.service", "c@1.service", "*", users]);
        vec(name, 0..6).prop_map(|names| format!("/{}", names.join("/")))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn many_say_what_each_of_them_says(patterns in vec(patterns(), 0..6), path in paths()) {
            let (set, path) = (CgroupPatternSet::new(&patterns), Path::new(&path));
            let single = patterns.iter().enumerate().filter_map(|(pattern, one)| {
                one.outermost(path).map(|depth| Meaning { pattern, depth })
            });
            let single: Vec<_> = single.collect();
            prop_assert_eq!(set.means(path), !single.is_empty());
            prop_assert_eq!(set.meaning(path), single);
            let is_below = patterns.iter().any(|one| one.may_mean_below(path));
            prop_assert_eq!(set.may_mean_below(path), is_below);
        }
    }
}
