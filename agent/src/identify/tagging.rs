//! Keeps the kernel's list of cgroups like the tree of cgroups: which are subjects, and which are nobody's.
//!
//! A cgroup that a pattern means is a subject. A directory below which one may appear is a parent: whatever appears
//! below a parent is a subject for the kernel until it is entered here, and what is nobody's is resolved.

mod news;
mod tree;

use super::{
    cgroups::Cgroups,
    members::{self, Members},
};
use crate::{
    capture::{
        self,
        maps::{Sticky, Subjects},
        standing::{self, Mismatch},
    },
    config::CgroupPatternSet,
};
use news::{Changed, News};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tidegate_ebpf_common::{NO_UID, Origin, SUBJECT};
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender},
        oneshot,
    },
    time::{MissedTickBehavior, interval, sleep},
};
use tree::{Entry, Standing, Tree};

/// How often the whole tree is looked at when nothing has told of a change.
const POLL: Duration = Duration::from_secs(30);

/// How long the tree rests after it was looked at because a connection came from an unknown cgroup.
const REST: Duration = Duration::from_millis(200);

/// How long the kernel is told that a cgroup was nobody's after its end: what its last processes have sent may still be
/// on its way, and be sent again.
const LINGER: Duration = Duration::from_secs(120);
/// As many of these at most, so that they leave room for those that are there.
const MAX_LINGERING: usize = 16_384;

/// What the kernel is told of.
pub struct Kernel {
    /// The list of subjects.
    pub subjects: Subjects,
    /// The threads that stay subjects, where they are followed.
    pub sticky: Option<Sticky>,
}

/// Looks after the cgroups below one directory.
pub struct Tagger {
    cgroups: Arc<Cgroups>,
    patterns: Arc<CgroupPatternSet>,
    members: Option<Arc<dyn Members>>,
    own: PathBuf,
    kernel: Kernel,
    tree: Tree,
    /// Those that were nobody's, by when they ended.
    lingering: VecDeque<(Instant, u64)>,
    news: News,
    tagged: UnboundedSender<PathBuf>,
    asked: UnboundedReceiver<Reconsider>,
}

/// More is known of a cgroup, by its path from the mount's root; answered when the kernel has been told.
#[derive(Debug)]
pub struct Reconsider {
    /// The cgroup.
    pub cgroup: PathBuf,
    /// Dropped when it is done.
    pub done: oneshot::Sender<()>,
}

/// What is a subject.
pub struct Meant {
    /// The cgroups that these mean.
    pub patterns: Arc<CgroupPatternSet>,
    /// Those of the pods and containers that this knows to be claimed.
    pub members: Option<Arc<dyn Members>>,
    /// One of the agent's own.
    pub own: PathBuf,
}

impl Tagger {
    /// Enters every cgroup that is there, and takes out what an earlier agent has left. What is a subject stays one
    /// throughout. `tagged` is told of each that becomes one, and through `asked` single ones are looked at again.
    ///
    /// # Errors
    /// When changes of the tree cannot be watched, or the list cannot be read.
    pub fn start(
        cgroups: Arc<Cgroups>,
        Meant { patterns, members, own }: Meant,
        kernel: Kernel,
        tagged: UnboundedSender<PathBuf>,
        asked: UnboundedReceiver<Reconsider>,
    ) -> Result<Self, capture::Error> {
        let news = News::start().map_err(|source| capture::Error::Io {
            action: "watch the tree of cgroups".to_owned(),
            source,
        })?;
        let mut tagger = Self {
            cgroups,
            patterns,
            members,
            own,
            kernel,
            tree: Tree::default(),
            lingering: VecDeque::new(),
            news,
            tagged,
            asked,
        };
        tagger.enter(tagger.cgroups.top().to_owned());
        if tagger.tree.get(&tagger.own).is_none() {
            tagger.enter(tagger.own.clone());
        }
        let ids: HashSet<u64> = tagger.tree.ids().collect();
        for (id, standing) in tagger.kernel.subjects.cgroups()? {
            if !ids.contains(&id) {
                tagger.end(id, standing & SUBJECT != 0, Instant::now())?;
            }
        }
        Ok(tagger)
    }

    /// Whether the kernel has in its lists what is in the tree, and the first of these users' ranges.
    ///
    /// # Errors
    /// Says who is not listed.
    pub fn compare(&self, users: &[RangeInclusive<u32>]) -> Result<(), Mismatch> {
        let users: Vec<u32> = users.iter().map(|range| *range.start()).collect();
        standing::compare(&self.tree.subjects(), &users, &self.kernel.subjects)
    }

    /// Follows the tree, for as long as the agent runs, and tells now and then whether the kernel does, too.
    pub async fn keep_tagging(
        mut self,
        users: Vec<RangeInclusive<u32>>,
        compared: impl Fn(Result<(), Mismatch>) + Send,
    ) {
        let mut polls = interval(POLL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let cgroups = Arc::clone(&self.cgroups);
        loop {
            tokio::select! {
                biased;
                changed = self.news.changed() => self.look_again(changed),
                Some(Reconsider { cgroup, done }) = self.asked.recv() => {
                    self.reconsider(&cgroup);
                    drop(done);
                }
                () = cgroups.asked() => {
                    self.look_at_all();
                    sleep(REST).await;
                }
                _ = polls.tick() => {
                    self.look_at_all();
                    self.forget_ended(Instant::now());
                    compared(self.compare(&users));
                }
            }
        }
    }

    fn look_again(&mut self, changed: Changed) {
        match changed {
            Changed::Directories(directories) => directories.iter().for_each(|path| self.refresh(path)),
            Changed::Anything => self.look_at_all(),
        }
    }

    fn look_at_all(&mut self) {
        for path in self.tree.watched() {
            self.refresh(&path);
        }
    }

    /// Compares a directory with what is known of it.
    fn refresh(&mut self, directory: &Path) {
        // What is below a subject is one anyhow.
        if self.tree.get(directory).is_some_and(|entry| entry.standing == Standing::Subject) {
            return;
        }
        let there = children(directory);
        let known = self.tree.children(directory);
        for (path, id) in &known {
            if there.get(path) != Some(id) {
                self.leave(path);
            }
        }
        for (path, id) in there {
            if known.get(&path) != Some(&id) {
                self.enter(path);
            }
        }
    }

    /// Looks at one cgroup again, of which more is known by now; and at those above, which may be new as well.
    fn reconsider(&mut self, cgroup: &Path) {
        let path = self.cgroups.mount().join(cgroup.strip_prefix("/").unwrap_or(cgroup));
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.reverse();
        for directory in above {
            if self.tree.get(directory).is_some() {
                self.refresh(directory);
            }
        }
        let Some(Entry { standing, .. }) = self.tree.get(&path).copied() else { return };
        let now = self.standing(&path);
        if standing != now {
            let before = self.tree.remove(&path);
            if now == Standing::Subject {
                self.enter(path.clone());
            }
            // Whoever is forgotten counts as a subject until it is entered again.
            for (below, Entry { id, .. }) in before {
                if now != Standing::Subject || below != path {
                    let told = self.kernel.subjects.forget(id);
                    self.told(&below, told);
                }
            }
            if now != Standing::Subject {
                self.enter(path);
            }
        }
    }

    /// Enters a cgroup and all below it. What is below is resolved before a parent is one.
    fn enter(&mut self, path: PathBuf) {
        // Gone again: its removal is in the queue behind this.
        let Some(id) = id_of(&path) else { return };
        let standing = self.standing(&path);
        self.cgroups.keep(id, path.clone());
        if standing != Standing::Subject {
            self.news.watch(&path);
        }
        self.tree.insert(path.clone(), Entry { id, standing });
        let told = match standing {
            Standing::Subject => self.tag(&path, id),
            Standing::Nobody => self.kernel.subjects.resolve(id),
            Standing::Parent | Standing::Unknown => Ok(()),
        };
        self.told(&path, told);
        if matches!(standing, Standing::Subject | Standing::Unknown) {
            return;
        }
        children(&path).into_keys().for_each(|child| self.enter(child));
        if standing == Standing::Parent {
            let told = self.kernel.subjects.watch(&path).map(drop);
            self.told(&path, told);
        }
    }

    fn standing(&self, path: &Path) -> Standing {
        let name = self.cgroups.name(path);
        if path == self.own || self.patterns.means(&name) {
            return Standing::Subject;
        }
        let is_above = match self.members.as_ref().map(|members| members.standing(&name)) {
            Some(members::Standing::Claimed) => return Standing::Subject,
            Some(members::Standing::Unknown) => return Standing::Unknown,
            Some(members::Standing::Above) => true,
            Some(members::Standing::Free | members::Standing::Elsewhere) | None => false,
        };
        if is_above || self.patterns.may_mean_below(&name) { Standing::Parent } else { Standing::Nobody }
    }

    fn tag(&mut self, path: &Path, id: u64) -> Result<(), capture::Error> {
        self.kernel.subjects.add(path)?;
        if let Some(sticky) = &mut self.kernel.sticky {
            let origin = Origin { cgroup_id: id, ..Origin { uid: NO_UID, ..Origin::NONE } };
            for thread in threads(path) {
                sticky.add(thread, origin)?;
            }
        }
        tracing::info!(cgroup = %self.cgroups.name(path).display(), "a cgroup is a subject");
        // Nobody listens any more when the agent ends.
        let _is_heard = self.tagged.send(path.to_owned());
        Ok(())
    }

    fn leave(&mut self, path: &Path) {
        let now = Instant::now();
        for (path, Entry { id, standing }) in self.tree.remove(path) {
            self.cgroups.removed(id, now);
            let told = self.end(id, standing == Standing::Subject, now);
            self.told(&path, told);
        }
    }

    fn end(&mut self, id: u64, was_subject: bool, now: Instant) -> Result<(), capture::Error> {
        if was_subject {
            return self.kernel.subjects.forget(id);
        }
        self.lingering.push_back((now, id));
        if self.lingering.len() > MAX_LINGERING {
            return self.forget_first();
        }
        Ok(())
    }

    fn forget_first(&mut self) -> Result<(), capture::Error> {
        self.lingering.pop_front().map_or(Ok(()), |(_, id)| self.kernel.subjects.forget(id))
    }

    fn forget_ended(&mut self, now: Instant) {
        while self.lingering.front().is_some_and(|(ended, _)| now.duration_since(*ended) > LINGER) {
            if let Err(error) = self.forget_first() {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "the kernel's list of cgroups is not up to date");
            }
        }
    }

    fn told(&self, path: &Path, told: Result<(), capture::Error>) {
        if let Err(error) = told {
            let error: &dyn std::error::Error = &error;
            let cgroup = self.cgroups.name(path);
            tracing::error!(cgroup = %cgroup.display(), error, "the kernel's list of cgroups is not up to date");
        }
    }
}

fn id_of(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

/// The cgroups right below, with their ids; none where the directory is gone.
fn children(directory: &Path) -> HashMap<PathBuf, u64> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    below.filter_map(|entry| Some((entry.path(), id_of(&entry.path())?))).collect()
}

/// The threads in a cgroup and below.
fn threads(cgroup: &Path) -> Vec<u32> {
    let text = fs::read_to_string(cgroup.join("cgroup.threads")).unwrap_or_default();
    let mut found: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    children(cgroup).into_keys().for_each(|child| found.extend(threads(&child)));
    found
}
