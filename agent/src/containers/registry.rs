//! The pods and containers that are there, by their cgroups.
//!
//! Sources (NRI, CRI) write, one at a time. Whoever tags cgroups and opens listeners subscribes, and a source that can
//! hold the runtime back waits until the subscriber has done what a notice asks for.

mod known;
mod told;

pub use told::{Told, ToldPod};

use super::{
    member::{Container, Member, Pod},
    rules::{Claim, Rules},
};
use known::Known;
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{mpsc, oneshot};

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A pod's network and cgroup are there; or more is known of them.
    Pod(Arc<Pod>),
    /// A container's cgroup is there, and nothing of it runs yet; or more is known of it.
    Container(Member),
    /// A pod's processes have ended: its network is not to be held any longer.
    PodStopped(Arc<Pod>),
    /// A container's processes have ended.
    ContainerStopped(Member),
    /// A pod is gone, and what was in it.
    PodGone(Arc<Pod>),
    /// A container is gone.
    ContainerGone(Member),
}

/// What has happened, and who waits until it was seen to. Dropping it answers, too.
#[derive(Debug)]
pub struct Notice {
    /// What has happened.
    pub news: News,
    seen: Option<oneshot::Sender<()>>,
}

impl Notice {
    /// Lets whoever waits go on.
    pub fn done(mut self) {
        if let Some(seen) = self.seen.take() {
            // Nobody waits any longer where the time was up.
            let _ = seen.send(());
        }
    }
}

/// What is there.
#[derive(Debug, Default)]
pub struct Registry {
    known: RwLock<Known>,
    changes: AtomicU64,
}

impl Registry {
    /// An empty one.
    pub fn new(rules: Rules) -> Self {
        let registry = Self::default();
        registry.write().rules = Arc::new(rules);
        registry
    }

    /// Tells of everything that is there, and of all that happens from here on. There is one subscriber, the last.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Notice> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut known = self.write();
        let pods = known.pods.values().map(|pod| News::Pod(Arc::clone(pod)));
        let containers = known.containers.values().map(|container| News::Container(known.member(container)));
        for news in pods.chain(containers) {
            // The receiver is here.
            let _ = sender.send(Notice { news, seen: None });
        }
        known.subscriber = Some(sender);
        receiver
    }

    /// Whose the cgroup is, or the nearest one above it that has an owner; the path is from the mount's root.
    pub fn find(&self, cgroup: &Path) -> Option<Member> {
        let known = self.read();
        known.owner(cgroup).and_then(|owner| known.owned(owner))
    }

    /// Whose this very cgroup is.
    pub(super) fn find_exactly(&self, cgroup: &Path) -> Option<Member> {
        let known = self.read();
        known.cgroups.get(cgroup).and_then(|owner| known.owned(owner))
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.read().rules)
    }

    /// The workloads that claim whoever owns the cgroup.
    pub fn claims(&self, cgroup: &Path) -> Vec<Claim> {
        self.find(cgroup).map(|member| self.claims_of(&member)).unwrap_or_default()
    }

    /// The workloads that claim this member.
    pub fn claims_of(&self, member: &Member) -> Vec<Claim> {
        self.rules().claims(member)
    }

    /// The pods that are there.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        self.read().pods.values().cloned().collect()
    }

    /// The containers that are there.
    pub fn containers(&self) -> Vec<Member> {
        let known = self.read();
        known.containers.values().map(|container| known.member(container)).collect()
    }

    /// The pod of this id.
    pub fn pod(&self, id: &str) -> Option<Arc<Pod>> {
        self.read().pods.get(id).cloned()
    }

    /// The container of this id.
    pub fn container(&self, id: &str) -> Option<Member> {
        let known = self.read();
        known.containers.get(id).map(|container| known.member(container))
    }

    /// Enters a pod. Where it is there already, what the other source has told and this one does not know stays.
    pub async fn enter_pod(&self, pod: Pod) {
        let news = self.write().enter_pod(pod).map(News::Pod);
        settle(news.map(|news| self.tell(news))).await;
    }

    /// Enters a container, and tells of it where it is about to start or runs.
    pub async fn enter_container(&self, container: Container, is_there: bool) -> Member {
        let (member, is_news) = self.write().enter_container(container);
        let waiting = (is_there && is_news).then(|| self.tell(News::Container(member.clone())));
        settle(waiting).await;
        member
    }

    /// Tells that a container is about to start.
    pub async fn starts(&self, member: Member) {
        self.tell(News::Container(member)).await.unwrap_or_default();
    }

    /// Tells that a pod's processes have ended.
    pub async fn pod_stopped(&self, id: &str) {
        let waiting = self.pod(id).map(|pod| self.tell(News::PodStopped(pod)));
        settle(waiting).await;
    }

    /// Tells that a container's processes have ended.
    pub async fn container_stopped(&self, id: &str) {
        let waiting = self.container(id).map(|member| self.tell(News::ContainerStopped(member)));
        settle(waiting).await;
    }

    /// Takes a pod out, with its containers.
    pub async fn remove_pod(&self, id: &str) {
        let gone = self.write().remove_pod(id);
        self.tell_all(gone).await;
    }

    /// Takes a container out.
    pub async fn remove_container(&self, id: &str) {
        let gone = self.write().remove_container(id);
        self.tell_all(gone.map(News::ContainerGone).into_iter().collect()).await;
    }

    /// Makes these all that is there.
    pub async fn replace(&self, pods: Vec<Pod>, containers: Vec<Container>) {
        let mut news = Vec::new();
        {
            let mut known = self.write();
            let here: BTreeSet<&str> = containers.iter().map(|container| &*container.id).collect();
            let gone: Vec<String> =
                known.containers.keys().filter(|id| !here.contains(id.as_str())).cloned().collect();
            news.extend(gone.iter().filter_map(|id| known.remove_container(id)).map(News::ContainerGone));
            let here: BTreeSet<&str> = pods.iter().map(|pod| &*pod.id).collect();
            let gone: Vec<String> =
                known.pods.keys().filter(|id| !here.contains(id.as_str())).cloned().collect();
            news.extend(gone.iter().flat_map(|id| known.remove_pod(id)));
            news.extend(pods.into_iter().filter_map(|pod| known.enter_pod(pod)).map(News::Pod));
            for container in containers {
                let (member, is_news) = known.enter_container(container);
                news.extend(is_news.then_some(News::Container(member)));
            }
        }
        self.tell_all(news).await;
    }

    /// Takes out the pods of which nothing was left in the kernel the last time either, so that the runtime has had its
    /// time to tell. containerd does not tell of the end of a pod that is older than itself, as after a restart;
    /// `is_there` says whether there is a cgroup at a path from the mount's root.
    pub async fn sweep(&self, is_there: impl Fn(&Path) -> bool) {
        let ended: Vec<String> = {
            let mut known = self.write();
            let now = known.pods.values().filter(|pod| known.has_ended(pod, &is_there));
            let now: BTreeSet<String> = now.map(|pod| pod.id.clone()).collect();
            let before = std::mem::replace(&mut known.suspects, now);
            before.intersection(&known.suspects).cloned().collect()
        };
        for id in ended {
            tracing::debug!(pod = id, "has ended, and nobody has told");
            self.remove_pod(&id).await;
        }
    }

    /// Takes over what is known of these beyond what is entered, of those that are.
    pub async fn complete(&self, pods: Vec<Pod>, containers: Vec<Container>) {
        let mut news = Vec::new();
        {
            let mut known = self.write();
            for told in pods {
                let Some(entered) = known.pods.get(&told.id).cloned() else { continue };
                let mut pod = Pod::clone(&entered);
                pod.complete(&told);
                news.extend(known.enter_pod(pod).map(News::Pod));
            }
            for told in containers {
                let Some(entered) = known.containers.get(&told.id).cloned() else { continue };
                let mut container = Container::clone(&entered);
                container.complete(&told);
                let (member, is_news) = known.enter_container(container);
                news.extend(is_news.then_some(News::Container(member)));
            }
        }
        self.tell_all(news).await;
    }

    async fn tell_all(&self, news: Vec<News>) {
        let waiting: Vec<_> = news.into_iter().map(|news| self.tell(news)).collect();
        settle(waiting).await;
    }

    /// Tells the subscriber; the receiver ends when it was seen to, or there is no subscriber.
    fn tell(&self, news: News) -> oneshot::Receiver<()> {
        let (seen, waiting) = oneshot::channel();
        if let Some(subscriber) = &self.read().subscriber {
            let _ = subscriber.send(Notice { news, seen: Some(seen) });
        }
        waiting
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.write_after(|| ())
    }

    /// Whoever sees the number of this change sees what `first` has done.
    fn write_after(&self, first: impl FnOnce()) -> RwLockWriteGuard<'_, Known> {
        let known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        first();
        self.changes.fetch_add(1, Ordering::SeqCst);
        known
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }
}

async fn settle(waiting: impl IntoIterator<Item = oneshot::Receiver<()>>) {
    for one in waiting {
        // An error is a notice that was dropped, or nobody to tell.
        let _ = one.await;
    }
}

#[cfg(test)]
mod tests;
