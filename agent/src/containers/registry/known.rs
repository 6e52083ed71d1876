//! What is known of pods and containers, and of whose a cgroup is.

use super::{
    super::{
        member::{Container, Member, Pod},
        rules::Rules,
    },
    News, Notice, Told,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::mpsc;

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) rules: Arc<Rules>,
    pub(super) pods: BTreeMap<String, Arc<Pod>>,
    pub(super) containers: BTreeMap<String, Arc<Container>>,
    pub(super) cgroups: HashMap<PathBuf, Owner>,
    /// What the API server has told, where it is asked.
    pub(super) told: Option<Told>,
    /// The pods of which nothing was left in the kernel.
    pub(super) suspects: BTreeSet<String>,
    pub(super) subscriber: Option<mpsc::UnboundedSender<Notice>>,
}

/// Whose a cgroup is, by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Pod(String),
    Container(String),
}

impl Known {
    pub(super) fn owner(&self, cgroup: &Path) -> Option<&Owner> {
        cgroup.ancestors().find_map(|path| self.cgroups.get(path))
    }

    pub(super) fn owned(&self, owner: &Owner) -> Option<Member> {
        match owner {
            Owner::Pod(id) => {
                self.pods.get(id).map(|pod| Member { pod: Some(Arc::clone(pod)), container: None })
            }
            Owner::Container(id) => self.containers.get(id).map(|container| self.member(container)),
        }
    }

    pub(super) fn member(&self, container: &Arc<Container>) -> Member {
        let pod = container.pod.as_ref().and_then(|id| self.pods.get(id)).cloned();
        Member { pod, container: Some(Arc::clone(container)) }
    }

    /// Whether its sandbox, which had a process, and all of its containers are gone. What never had a cgroup may yet get one.
    pub(super) fn has_ended(&self, pod: &Pod, is_there: impl Fn(&Path) -> bool) -> bool {
        let is_gone = |path: &Option<PathBuf>| path.as_deref().is_some_and(|path| !is_there(path));
        let mut inside =
            self.containers.values().filter(|container| container.pod.as_deref() == Some(&*pod.id));
        pod.pid.is_some()
            && is_gone(&pod.sandbox_cgroup)
            && inside.all(|container| container.pid.is_some() && is_gone(&container.cgroup))
    }

    /// Answers the pod where that is news.
    pub(super) fn enter_pod(&mut self, mut pod: Pod) -> Option<Arc<Pod>> {
        self.told.iter().for_each(|told| told.apply(&mut pod));
        if let Some(known) = self.pods.get(&pod.id) {
            pod.complete(known);
            if **known == pod {
                return None;
            }
        }
        self.forget(&Owner::Pod(pod.id.clone()));
        let paths = [&pod.cgroup, &pod.sandbox_cgroup];
        let owner = Owner::Pod(pod.id.clone());
        self.cgroups.extend(paths.into_iter().flatten().map(|path| (path.clone(), owner.clone())));
        let pod = Arc::new(pod);
        self.pods.insert(pod.id.clone(), Arc::clone(&pod));
        Some(pod)
    }

    /// Answers whether that is news, too.
    pub(super) fn enter_container(&mut self, mut container: Container) -> (Member, bool) {
        if let Some(known) = self.containers.get(&container.id) {
            container.complete(known);
            if **known == container {
                return (self.member(&Arc::clone(known)), false);
            }
        }
        let owner = Owner::Container(container.id.clone());
        self.forget(&owner);
        self.cgroups.extend(container.cgroup.clone().map(|path| (path, owner)));
        let container = Arc::new(container);
        self.containers.insert(container.id.clone(), Arc::clone(&container));
        (self.member(&container), true)
    }

    pub(super) fn remove_pod(&mut self, id: &str) -> Vec<News> {
        let inside: Vec<String> = self
            .containers
            .values()
            .filter(|container| container.pod.as_deref() == Some(id))
            .map(|container| container.id.clone())
            .collect();
        let mut news: Vec<News> =
            inside.iter().filter_map(|id| self.remove_container(id)).map(News::ContainerGone).collect();
        self.forget(&Owner::Pod(id.to_owned()));
        news.extend(self.pods.remove(id).map(News::PodGone));
        news
    }

    pub(super) fn remove_container(&mut self, id: &str) -> Option<Member> {
        self.forget(&Owner::Container(id.to_owned()));
        self.containers.remove(id).map(|container| self.member(&container))
    }

    fn forget(&mut self, owner: &Owner) {
        let paths: Vec<PathBuf> = match owner {
            Owner::Pod(id) => self
                .pods
                .get(id)
                .map(|pod| [&pod.cgroup, &pod.sandbox_cgroup].into_iter().flatten().cloned().collect()),
            Owner::Container(id) => {
                self.containers.get(id).map(|container| container.cgroup.iter().cloned().collect())
            }
        }
        .unwrap_or_default();
        for path in paths {
            // Another may have come to own it.
            if self.cgroups.get(&path) == Some(owner) {
                self.cgroups.remove(&path);
            }
        }
    }
}
