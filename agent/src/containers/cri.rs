//! Pods and containers as the container runtime lists them on its CRI socket: the source where NRI is off, and beside it
//! of what NRI does not tell, such as images.

pub mod grpc;
mod info;

use super::{
    member::{Container, Network, Pod},
    messages::cri,
    registry::Registry,
};
use grpc::{Channel, Error};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

/// Where the runtimes have their sockets: containerd, CRI-O.
pub const SOCKETS: [&str; 2] = ["/run/containerd/containerd.sock", "/run/crio/crio.sock"];

const SERVICE: &str = "/runtime.v1.RuntimeService";

/// How long a call may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked where the runtime tells no events, and for what its events have left out where it does.
const POLL: Duration = Duration::from_secs(1);
const SLOW_POLL: Duration = Duration::from_secs(30);
/// How long after an event it is looked, so that one look serves several.
const REST: Duration = Duration::from_millis(50);

/// What the list is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// All that is there.
    Alone,
    /// More about what NRI has told.
    BesideNri,
}

/// A container runtime.
#[derive(Debug)]
pub struct Runtime {
    socket: PathBuf,
    channel: Mutex<Option<Channel>>,
    /// What was found out of each pod and container, which takes a call for each and does not change.
    details: Mutex<BTreeMap<String, info::Details>>,
}

impl Runtime {
    /// At this socket.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, channel: Mutex::default(), details: Mutex::default() }
    }

    /// Its name and version.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn version(&self) -> Result<String, Error> {
        let request = cri::VersionRequest { version: "v1".into() };
        let cri::VersionResponse { runtime_name, runtime_version } = self.call("Version", &request).await?;
        Ok(format!("{runtime_name} {runtime_version}"))
    }

    /// Keeps the registry like the runtime's lists, until the future is dropped.
    pub async fn follow(&self, registry: &Registry, role: Role) {
        loop {
            if let Err(error) = self.look_and_wait(registry, role).await {
                note(&error);
                *self.channel.lock().await = None;
                sleep(POLL).await;
            }
        }
    }

    async fn look_and_wait(&self, registry: &Registry, role: Role) -> Result<(), Error> {
        // Before the first look, so that nothing happens between the two unnoticed.
        let events =
            self.channel().await?.stream(&method("GetContainerEvents"), &cri::GetEventsRequest {}).await;
        let mut events = match events {
            Ok(events) => Some(events),
            Err(error) if error.is_unknown_call() => None,
            Err(error) => return Err(error),
        };
        loop {
            self.update(registry, role).await?;
            let Some(news) = &mut events else {
                sleep(POLL).await;
                continue;
            };
            match timeout(SLOW_POLL, news.next::<cri::ContainerEventResponse>()).await {
                Ok(Ok(Some(_))) => sleep(REST).await,
                Ok(Err(error)) if error.is_unknown_call() => events = None,
                Ok(Err(error)) => return Err(error),
                // The runtime ends the stream with itself.
                Ok(Ok(None)) => return Ok(()),
                Err(_) => {}
            }
        }
    }

    /// Looks once, and enters what there is.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn update(&self, registry: &Registry, role: Role) -> Result<(), Error> {
        let (pods, containers) = self.look().await?;
        match role {
            Role::Alone => registry.replace(pods, containers).await,
            Role::BesideNri => registry.complete(pods, containers).await,
        }
        Ok(())
    }

    /// The pods that are ready, and the containers that were made and have not ended.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn look(&self) -> Result<(Vec<Pod>, Vec<Container>), Error> {
        let listed: cri::ListPodSandboxResponse =
            self.call("ListPodSandbox", &cri::ListPodSandboxRequest {}).await?;
        let ready = listed.items.into_iter().filter(|pod| pod.state() == cri::PodSandboxState::SandboxReady);
        let mut details = BTreeMap::new();
        let mut pods = Vec::new();
        for listed in ready {
            let Some(found) = self.details_of_pod(&listed.id).await? else { continue };
            pods.push(pod(listed, &found, &mut details));
        }
        let listed: cri::ListContainersResponse =
            self.call("ListContainers", &cri::ListContainersRequest {}).await?;
        let mut containers = Vec::new();
        for listed in listed.containers {
            let is_here = matches!(
                listed.state(),
                cri::ContainerState::ContainerCreated | cri::ContainerState::ContainerRunning
            );
            if !is_here {
                continue;
            }
            let Some(found) = self.details_of_container(&listed.id).await? else { continue };
            containers.push(container(listed, &found, &mut details));
        }
        *self.details.lock().await = details;
        Ok((pods, containers))
    }

    /// None where it is gone by now.
    async fn details_of_pod(&self, id: &str) -> Result<Option<info::Details>, Error> {
        if let Some(known) = self.details.lock().await.get(id) {
            return Ok(Some(known.clone()));
        }
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: true };
        let answer = self.call::<cri::PodSandboxStatusResponse>("PodSandboxStatus", &request).await;
        Ok(gone(answer)?.map(|response| {
            let options = response.status.and_then(|status| status.linux?.namespaces?.options);
            let is_host = options.is_some_and(|options| options.network() == cri::NamespaceMode::Node);
            let mut details = info::Details::of(&response.info);
            if is_host {
                details.network = Network::Host;
            }
            details
        }))
    }

    async fn details_of_container(&self, id: &str) -> Result<Option<info::Details>, Error> {
        if let Some(known) = self.details.lock().await.get(id).filter(|known| known.pid.is_some()) {
            return Ok(Some(known.clone()));
        }
        let request = cri::ContainerStatusRequest { container_id: id.into(), verbose: true };
        let answer = self.call::<cri::ContainerStatusResponse>("ContainerStatus", &request).await;
        Ok(gone(answer)?.map(|response| {
            let image = response.status.and_then(|status| status.image).map(|image| image.image);
            let image = image.filter(|image| !image.is_empty());
            info::Details { image, ..info::Details::of(&response.info) }
        }))
    }

    async fn call<A: prost::Message + Default>(
        &self,
        name: &str,
        request: &impl prost::Message,
    ) -> Result<A, Error> {
        self.channel().await?.call(&method(name), request).await
    }

    async fn channel(&self) -> Result<Channel, Error> {
        let mut channel = self.channel.lock().await;
        if let Some(open) = channel.as_ref().filter(|channel| channel.is_open()) {
            return Ok(open.clone());
        }
        let opened = Channel::connect(&self.socket, LIMIT).await?;
        *channel = Some(opened.clone());
        Ok(opened)
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

fn note(error: &Error) {
    let error: &dyn std::error::Error = error;
    tracing::debug!(error, "the container runtime does not tell what runs");
}

fn method(name: &str) -> String {
    format!("{SERVICE}/{name}")
}

/// None where the runtime knows it no longer.
fn gone<A>(answer: Result<A, Error>) -> Result<Option<A>, Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::Status { code: 5, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn pod(listed: cri::PodSandbox, found: &info::Details, details: &mut BTreeMap<String, info::Details>) -> Pod {
    details.insert(listed.id.clone(), found.clone());
    let metadata = listed.metadata.unwrap_or_default();
    Pod {
        id: listed.id,
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        labels: listed.labels,
        annotations: listed.annotations,
        service_account: None,
        cgroup: found.parent.clone(),
        sandbox_cgroup: found.cgroup.clone(),
        network: found.network.clone(),
        pid: found.pid,
    }
}

fn container(
    listed: cri::Container,
    found: &info::Details,
    details: &mut BTreeMap<String, info::Details>,
) -> Container {
    details.insert(listed.id.clone(), found.clone());
    let asked = listed.image.map(|image| {
        if image.user_specified_image.is_empty() { image.image } else { image.user_specified_image }
    });
    // Runtimes list the image by its digest, which is no name.
    let asked = asked.filter(|image| !image.is_empty() && !image.starts_with("sha256:"));
    Container {
        id: listed.id,
        pod: Some(listed.pod_sandbox_id).filter(|id| !id.is_empty()),
        name: listed.metadata.unwrap_or_default().name,
        image: found.image.clone().filter(|image| !image.starts_with("sha256:")).or(asked),
        labels: listed.labels,
        annotations: listed.annotations,
        cgroup: found.cgroup.clone(),
        pid: found.pid,
        network: Network::Unknown,
        made_with: None,
    }
}
