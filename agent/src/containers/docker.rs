//! Containers of Docker and of Podman, as their engines list them on their sockets. They are in no pod that Kubernetes
//! knows, and nobody asks before they start: they are found once they run.

use super::{
    member::{Container, Network},
    registry::Registry,
};
use crate::config::pods::Labels;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header::HOST};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1::handshake};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    net::UnixStream,
    time::{sleep, timeout},
};

/// Where the engines have their sockets: Docker, Podman.
pub const SOCKETS: [&str; 2] = ["/run/docker.sock", "/run/podman/podman.sock"];

/// How long a call may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked for what events have left out, or after a failure.
const SLOW_POLL: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);
/// How long after an event it is looked, so that one look serves several.
const REST: Duration = Duration::from_millis(50);
/// What all that runs on a machine comes to is far less.
const MAX_ANSWER: usize = 32 << 20;

/// Why the engine does not tell.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("cannot connect to the container engine at `{}`", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It does not speak HTTP, or broke off.
    #[error("the container engine broke off")]
    Http(#[from] hyper::Error),
    /// The call cannot be written.
    #[error("`{0}` cannot be asked for")]
    Call(String, #[source] http::Error),
    /// The answer is too long, or broke off.
    #[error("the answer to `{0}` cannot be read")]
    Body(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// It refuses.
    #[error("the container engine answers `{0}` with status {1}")]
    Status(String, StatusCode),
    /// It is something else.
    #[error("the answer to `{0}` is not what an engine says")]
    Json(String, #[source] serde_json::Error),
    /// It took too long.
    #[error("`{0}` was not answered in time")]
    Late(String),
}

/// An engine.
#[derive(Debug)]
pub struct Engine {
    socket: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    name: String,
    config: Config,
    state: State,
    host_config: Option<HostConfig>,
    network_settings: Option<NetworkSettings>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    image: Option<String>,
    labels: Option<Labels>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    #[serde(default)]
    pid: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    network_mode: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    sandbox_key: Option<String>,
}

impl Engine {
    /// At this socket.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Keeps the registry, of which this is the only source, like the engine's list, until the future is dropped.
    pub async fn follow(&self, registry: &Registry) {
        loop {
            if let Err(error) = self.look_and_wait(registry).await {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, "the container engine does not tell what runs");
            }
            sleep(RETRY).await;
        }
    }

    async fn look_and_wait(&self, registry: &Registry) -> Result<(), Error> {
        // Before the first look, so that nothing happens between the two unnoticed.
        let mut events =
            self.get("/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D").await?.into_body();
        loop {
            registry.replace(Vec::new(), self.look().await?).await;
            match timeout(SLOW_POLL, events.frame()).await {
                Ok(Some(frame)) => {
                    frame?;
                    sleep(REST).await;
                }
                Ok(None) => return Ok(()),
                Err(_) => {}
            }
        }
    }

    /// The containers that run.
    ///
    /// # Errors
    /// When the engine does not tell.
    pub async fn look(&self) -> Result<Vec<Container>, Error> {
        let mut containers = Vec::new();
        for Listed { id } in self.read::<Vec<Listed>>("/containers/json").await? {
            match self.read::<Inspected>(&format!("/containers/{id}/json")).await {
                Ok(inspected) => containers.extend(inspected.container()),
                // It has ended by now.
                Err(Error::Status(_, StatusCode::NOT_FOUND)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(containers)
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let body = self.get(path).await?.into_body();
        let read = timeout(LIMIT, Limited::new(body, MAX_ANSWER).collect()).await;
        let read = read.map_err(|_| Error::Late(path.to_owned()))?;
        let bytes = read.map_err(|error| Error::Body(path.to_owned(), error))?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| Error::Json(path.to_owned(), error))
    }

    async fn get(&self, path: &str) -> Result<Response<Incoming>, Error> {
        let failed = |source| Error::Connect { path: self.socket.clone(), source };
        let stream = UnixStream::connect(&self.socket).await.map_err(failed)?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the container engine ended");
            }
        });
        let request = Request::get(path).header(HOST, "localhost").body(Empty::<Bytes>::new());
        let request = request.map_err(|error| Error::Call(path.to_owned(), error))?;
        let response = timeout(LIMIT, sender.send_request(request)).await;
        let response = response.map_err(|_| Error::Late(path.to_owned()))??;
        let status = response.status();
        if status.is_success() { Ok(response) } else { Err(Error::Status(path.to_owned(), status)) }
    }
}

impl Inspected {
    /// None where it does not run.
    fn container(self) -> Option<Container> {
        let pid = Some(self.state.pid).filter(|pid| *pid != 0)?;
        let mode = self.host_config.and_then(|config| config.network_mode);
        let place = self.network_settings.and_then(|settings| settings.sandbox_key);
        let network = match (mode.as_deref(), place.filter(|place| !place.is_empty())) {
            (Some("host"), _) => Network::Host,
            (_, Some(place)) => Network::Own(place.into()),
            (_, None) => Network::Unknown,
        };
        Some(Container {
            id: self.id,
            pod: None,
            name: self.name.trim_start_matches('/').to_owned(),
            image: self.config.image.filter(|image| !image.is_empty()),
            labels: self.config.labels.unwrap_or_default(),
            annotations: Labels::new(),
            cgroup: cgroup_of(pid),
            pid: Some(pid),
            network,
            made_with: None,
        })
    }
}

/// The engines tell their drivers' settings, and the kernel tells what came of them.
fn cgroup_of(pid: u32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    // The root is everybody's.
    Some(path).filter(|path| *path != "/" && !path.contains("/..")).map(|path| Path::new(path).to_owned())
}

#[cfg(test)]
mod tests;
