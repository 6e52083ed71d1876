//! What is known of the cgroups.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    path::{Path, PathBuf},
};

/// What a cgroup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// A subject, with all below it.
    Subject,
    /// Nobody's, but a subject may appear below it.
    Parent,
    /// Nobody's.
    Nobody,
    /// A container's of which nobody has told anything yet: a subject for the kernel, which knows it not.
    Unknown,
}

/// One cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) standing: Standing,
}

/// The cgroups that were entered: a directory comes before what is below it.
#[derive(Debug, Default)]
pub(super) struct Tree(BTreeMap<PathBuf, Entry>);

impl Tree {
    pub(super) fn get(&self, path: &Path) -> Option<&Entry> {
        self.0.get(path)
    }

    pub(super) fn insert(&mut self, path: PathBuf, entry: Entry) {
        self.0.insert(path, entry);
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        self.0.values().map(|entry| entry.id)
    }

    /// The subjects among them.
    pub(super) fn subjects(&self) -> Vec<PathBuf> {
        let subjects = self.0.iter().filter(|(_, entry)| entry.standing == Standing::Subject);
        subjects.map(|(path, _)| path.clone()).collect()
    }

    /// Those whose children count: below a subject nothing does.
    pub(super) fn watched(&self) -> Vec<PathBuf> {
        let watched = self.0.iter().filter(|(_, entry)| entry.standing != Standing::Subject);
        watched.map(|(path, _)| path.clone()).collect()
    }

    /// Those right below, with their ids.
    pub(super) fn children(&self, directory: &Path) -> HashMap<PathBuf, u64> {
        let children = self.below(directory).filter(|(path, _)| path.parent() == Some(directory));
        children.map(|(path, entry)| (path.clone(), entry.id)).collect()
    }

    /// Removes a cgroup with all below it.
    pub(super) fn remove(&mut self, path: &Path) -> Vec<(PathBuf, Entry)> {
        let paths: Vec<PathBuf> = self.below(path).map(|(path, _)| path.clone()).collect();
        let paths = std::iter::once(path.to_owned()).chain(paths);
        paths.filter_map(|path| self.0.remove_entry(&path)).collect()
    }

    /// Paths are ordered by their components, so that what is below a directory follows it.
    fn below<'a>(&'a self, directory: &'a Path) -> impl Iterator<Item = (&'a PathBuf, &'a Entry)> {
        let after = (Bound::Excluded(directory), Bound::Unbounded);
        self.0.range::<Path, _>(after).take_while(move |(path, _)| path.starts_with(directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_is_found_and_nothing_beside() {
        let mut tree = Tree::default();
        for (id, path) in ["/c", "/c/a", "/c/a/x", "/c/a-b", "/c/a.b/y", "/c/b"].iter().enumerate() {
            tree.insert(path.into(), Entry { id: id as u64, standing: Standing::Nobody });
        }
        let children = tree.children(Path::new("/c"));
        assert_eq!(children.len(), 3);
        assert_eq!(children.get(Path::new("/c/a-b")), Some(&3));
        let removed: Vec<u64> =
            tree.remove(Path::new("/c/a")).into_iter().map(|(_, entry)| entry.id).collect();
        assert_eq!(removed, [1, 2]);
        assert_eq!(tree.ids().collect::<Vec<_>>(), [0, 3, 4, 5]);
        assert_eq!(tree.remove(Path::new("/none")), []);
    }

    #[test]
    fn below_a_subject_nothing_is_watched() {
        let mut tree = Tree::default();
        tree.insert("/c".into(), Entry { id: 1, standing: Standing::Parent });
        tree.insert("/c/a".into(), Entry { id: 2, standing: Standing::Subject });
        tree.insert("/c/b".into(), Entry { id: 3, standing: Standing::Nobody });
        assert_eq!(tree.subjects(), [Path::new("/c/a")]);
        assert_eq!(tree.watched(), [Path::new("/c"), Path::new("/c/b")]);
    }
}
