//! One connection to the runtime, from the introduction to its end.

use super::{
    Error, Plugin, State,
    frames::{Channel, Frames, Kind, Message, encode},
};
use crate::containers::{
    injection::Adjustment,
    member::{Container, Pod},
    messages::{
        nri,
        ttrpc::{Request, Response, Status},
    },
};
use bytes::Bytes;
use prost::Message as _;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    task::spawn_blocking,
    time::timeout,
};

const PLUGIN_SERVICE: &str = "nri.pkg.api.v1alpha1.Plugin";
const RUNTIME_SERVICE: &str = "nri.pkg.api.v1alpha1.Runtime";

/// The status codes of gRPC, which ttrpc has, too.
const UNKNOWN: i32 = 2;
const UNIMPLEMENTED: i32 = 12;

/// How long the runtime may take to answer the introduction; its own limit is 5 s.
const INTRODUCTION: Duration = Duration::from_secs(10);
/// What runtimes give a plugin where they do not say.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// More pods and containers than this are no node's.
const MAX_MEMBERS: usize = 65_536;

/// A connection.
pub(super) struct Session<'a> {
    plugin: &'a Plugin,
    stream: UnixStream,
    frames: Frames,
    runtime: String,
    /// Within which a request is answered, so that the runtime's own limit is not reached.
    limit: Duration,
    /// What `Synchronize` has told so far, where it comes in several messages.
    told: (Vec<Pod>, Vec<Container>),
}

/// How a call of the runtime's is answered.
type Answer = Result<Vec<u8>, Status>;

impl<'a> Session<'a> {
    pub(super) fn new(plugin: &'a Plugin, stream: UnixStream) -> Self {
        Self {
            plugin,
            stream,
            frames: Frames::default(),
            runtime: String::new(),
            limit: within(REQUEST_TIMEOUT),
            told: Default::default(),
        }
    }

    /// Answers until the connection ends, with the reason.
    pub(super) async fn serve(mut self) -> Result<Infallible, Error> {
        self.introduce().await?;
        // The runtime answers only once the plugin is configured and synchronized, and calls for both before.
        let is_registered = async {
            while !self.step().await? {}
            Ok::<(), Error>(())
        };
        timeout(INTRODUCTION, is_registered).await.map_err(|_| Error::Silent)??;
        loop {
            self.step().await?;
        }
    }

    async fn introduce(&mut self) -> Result<(), Error> {
        let introduction = nri::RegisterPluginRequest {
            plugin_name: self.plugin.name.clone(),
            plugin_idx: self.plugin.index.clone(),
        };
        let request = Request {
            service: RUNTIME_SERVICE.into(),
            method: "RegisterPlugin".into(),
            payload: introduction.encode_to_vec().into(),
            timeout_nano: 0,
        };
        let payload = request.encode_to_vec().into();
        self.send(Channel::Runtime, Message { stream: 1, kind: Kind::Request, payload }).await
    }

    /// Sees to the next message; answers whether it was the runtime's welcome.
    async fn step(&mut self) -> Result<bool, Error> {
        let (channel, message) = self.receive().await?;
        match (channel, message.kind) {
            (Channel::Plugin, Kind::Request) => {
                let request = Request::decode(message.payload)?;
                let is_end = request.method == "Shutdown";
                let response = match self.answer(request).await? {
                    Ok(payload) => Response { status: None, payload: payload.into() },
                    Err(status) => Response { status: Some(status), payload: Bytes::new() },
                };
                let payload = response.encode_to_vec().into();
                let answer = Message { stream: message.stream, kind: Kind::Response, payload };
                self.send(Channel::Plugin, answer).await?;
                if is_end { Err(Error::Shutdown) } else { Ok(false) }
            }
            (Channel::Runtime, Kind::Response) => {
                let response = Response::decode(message.payload)?;
                match response.status.filter(|status| status.code != 0) {
                    Some(status) => Err(Error::Refused(status.message)),
                    None => Ok(true),
                }
            }
            // Nobody has asked for that.
            (Channel::Plugin, Kind::Response) | (Channel::Runtime, Kind::Request) => Ok(false),
        }
    }

    async fn receive(&mut self) -> Result<(Channel, Message), Error> {
        let mut buffer = vec![0; 16 << 10];
        loop {
            if let Some(found) = self.frames.next()? {
                return Ok(found);
            }
            match self.stream.read(&mut buffer).await? {
                0 => return Err(Error::Closed),
                length => self.frames.push(buffer.get(..length).unwrap_or_default()),
            }
        }
    }

    async fn send(&mut self, channel: Channel, message: Message) -> Result<(), Error> {
        self.stream.write_all(&encode(channel, &message)?).await?;
        Ok(())
    }

    async fn answer(&mut self, request: Request) -> Result<Answer, Error> {
        let Request { service, method, payload, .. } = request;
        if service != PLUGIN_SERVICE {
            return Ok(Err(status(UNIMPLEMENTED, format!("there is no service `{service}`"))));
        }
        Ok(match method.as_str() {
            "Configure" => Ok(self.configure(nri::ConfigureRequest::decode(payload)?)),
            "Synchronize" => Ok(self.synchronize(nri::SynchronizeRequest::decode(payload)?).await?),
            "StateChange" => {
                let event = nri::StateChangeEvent::decode(payload)?;
                self.in_time("state change", self.plugin.state_changed(event)).await;
                Ok(Vec::new())
            }
            "CreateContainer" => self.create(nri::CreateContainerRequest::decode(payload)?).await,
            "StopContainer" => {
                let nri::StopContainerRequest { container, .. } = nri::StopContainerRequest::decode(payload)?;
                let id = container.map(|container| container.id).unwrap_or_default();
                self.in_time("stop", self.plugin.registry.container_stopped(&id)).await;
                Ok(Vec::new())
            }
            "Shutdown" => Ok(Vec::new()),
            _ => Err(status(UNIMPLEMENTED, format!("there is no method `{method}`"))),
        })
    }

    fn configure(&mut self, request: nri::ConfigureRequest) -> Vec<u8> {
        let given = u64::try_from(request.request_timeout).ok().filter(|given| *given > 0);
        self.limit = within(given.map_or(REQUEST_TIMEOUT, Duration::from_millis));
        self.runtime = format!("{} {}", request.runtime_name, request.runtime_version);
        nri::ConfigureResponse { events: super::events::mask() }.encode_to_vec()
    }

    async fn synchronize(&mut self, request: nri::SynchronizeRequest) -> Result<Vec<u8>, Error> {
        let nri::SynchronizeRequest { pods, containers, more } = request;
        self.told.0.extend(pods.into_iter().map(Pod::from));
        self.told.1.extend(containers.into_iter().map(Container::from));
        if self.told.0.len() + self.told.1.len() > MAX_MEMBERS {
            return Err(Error::TooMany(MAX_MEMBERS));
        }
        if !more {
            let (pods, containers) = std::mem::take(&mut self.told);
            let (pod_count, container_count) = (pods.len(), containers.len());
            self.in_time("synchronization", self.plugin.registry.replace(pods, containers)).await;
            let runtime = self.runtime.clone();
            tracing::info!(runtime, pod_count, container_count, "follows the container runtime");
            self.plugin.state.send_replace(State::Synchronized { runtime });
        }
        Ok(nri::SynchronizeResponse { more }.encode_to_vec())
    }

    /// A container that cannot be prepared is not made.
    async fn create(&self, request: nri::CreateContainerRequest) -> Answer {
        let name = shown(&request);
        let prepared = match timeout(self.limit, self.prepare(request)).await {
            Ok(prepared) => prepared,
            Err(_) => Err("there was not enough time".to_owned()),
        };
        let adjustment = prepared
            .map_err(|problem| status(UNKNOWN, format!("tidegate cannot prepare `{name}`: {problem}")))?;
        for warning in &adjustment.warnings {
            tracing::warn!(container = name, "{warning}");
        }
        let adjust = Some(super::events::adjustment(adjustment));
        Ok(nri::CreateContainerResponse { adjust }.encode_to_vec())
    }

    async fn prepare(&self, request: nri::CreateContainerRequest) -> Result<Adjustment, String> {
        let spec = super::events::spec(request.container.as_ref());
        let member = self.plugin.container_is_made(request).await;
        let registry = &self.plugin.registry;
        // One that turns out to be claimed could not be given anything any more.
        if registry.claims_of(&member).is_empty() && !registry.awaits_of(&member) {
            return Ok(Adjustment::default());
        }
        let adjust = Arc::clone(&self.plugin.adjust);
        // Trust stores are read and written, which blocks.
        let adjusted = spawn_blocking(move || adjust(&member, &spec)).await;
        adjusted.unwrap_or_else(|_| Err("working out what it needs failed".to_owned()))
    }

    /// Waits for whoever sees to it, and not longer than the runtime waits for the answer.
    async fn in_time(&self, what: &str, waiting: impl Future<Output = ()>) {
        if timeout(self.limit, waiting).await.is_err() {
            tracing::error!(what, "was not seen to before the container runtime had to go on");
        }
    }
}

fn shown(request: &nri::CreateContainerRequest) -> String {
    let name = request.container.as_ref().map(|container| container.name.as_str()).unwrap_or_default();
    match &request.pod {
        Some(pod) => format!("{}/{}/{name}", pod.namespace, pod.name),
        None => name.to_owned(),
    }
}

fn status(code: i32, message: String) -> Status {
    Status { code, message }
}

/// Three quarters: the rest is for the way.
fn within(limit: Duration) -> Duration {
    limit * 3 / 4
}

#[cfg(test)]
mod tests;
