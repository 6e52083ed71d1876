//! Takes the taint off the node once the agent beside this is ready, and looks for it again.

use super::{
    Error, Inquiry,
    news::{Resting, spread, told},
};
use crate::cluster::taint::{KEY, removal};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{
    Method, Request, StatusCode,
    header::{CONTENT_TYPE, HOST},
};
use http_body_util::Empty;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GetParams, GroupVersionKind},
};
use serde_json::Value;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

/// How soon the agent is asked again whether it is ready, which costs nobody else anything.
const SOON: Duration = Duration::from_secs(2);
/// How soon the node is looked at again that had not the taint, a minute on average: it has it again where it is registered
/// anew.
const LATER: Duration = Duration::from_secs(80);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Others may change the node's taints at the same time, but not so often in a row.
const CONTRADICTIONS: u32 = 3;

/// Why it cannot be taken off, whenever that changes; none where it could be.
pub(super) type Faults = Pin<Box<dyn Stream<Item = Option<String>> + Send>>;

/// Looks after the taint for as long as it is asked, where that is wanted.
pub(super) fn follow(client: &Client, inquiry: &Inquiry) -> Result<Faults, Error> {
    if !inquiry.removes_taint {
        return Ok(Box::pin(stream::pending()));
    }
    let remover = Remover {
        nodes: Api::all_with(
            client.clone(),
            &ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Node")),
        ),
        node: inquiry.node.clone(),
        agent: inquiry.config.health.listen.map(near).ok_or(Error::NoHealth)?,
        has_waited: false,
        contradictions: 0,
        resting: Resting::default(),
        rest: Duration::ZERO,
        fault: None,
    };
    Ok(Box::pin(stream::unfold(remover, |mut remover| async move {
        let fault = remover.next_fault().await;
        Some((fault, remover))
    })))
}

/// Where an address is reached that may be every one of the machine's.
fn near(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}

struct Remover {
    nodes: Api<DynamicObject>,
    node: String,
    /// Where the agent says whether it is ready.
    agent: SocketAddr,
    has_waited: bool,
    /// How often in a row the API server has refused since others changed the node.
    contradictions: u32,
    resting: Resting,
    rest: Duration,
    fault: Option<String>,
}

/// What a look has come to.
enum Seen {
    /// The agent is not ready.
    NotReady,
    /// The taint is not there, or not any more.
    Gone,
    /// Others have changed the node meanwhile.
    Changed(String),
}

impl Remover {
    async fn next_fault(&mut self) -> Option<String> {
        loop {
            sleep(spread(self.rest)).await;
            let seen = self.look().await;
            let fault = match seen {
                Ok(Seen::NotReady) => {
                    if !self.has_waited {
                        tracing::info!(agent = %self.agent, "the taint stays until the agent is ready");
                    }
                    (self.has_waited, self.rest) = (true, SOON);
                    continue;
                }
                Ok(Seen::Gone) => {
                    (self.contradictions, self.resting, self.rest) = (0, Resting::default(), LATER);
                    None
                }
                Ok(Seen::Changed(why)) => {
                    self.contradictions += 1;
                    self.rest = self.resting.next().unwrap_or(LATER);
                    if self.contradictions < CONTRADICTIONS {
                        tracing::debug!(why, "others have changed the node's taints; looked at again");
                        continue;
                    }
                    Some(format!("the API server refuses it again and again: {why}"))
                }
                Err(why) => {
                    self.rest = self.resting.next().unwrap_or(LATER);
                    Some(why)
                }
            };
            if fault == self.fault {
                continue;
            }
            match &fault {
                Some(why) => {
                    tracing::warn!(
                        node = self.node,
                        taint = KEY,
                        why,
                        "cannot be taken off; tried again for good"
                    );
                }
                None => tracing::info!(
                    node = self.node,
                    taint = KEY,
                    "nothing keeps it from being taken off any more"
                ),
            }
            self.fault.clone_from(&fault);
            return fault;
        }
    }

    async fn look(&self) -> Result<Seen, String> {
        if !is_ready(self.agent).await {
            return Ok(Seen::NotReady);
        }
        // From the server's memory, unless that is what was behind: a patch by it removes nothing else in any case.
        let newest = if self.contradictions == 0 { GetParams::any() } else { GetParams::default() };
        let node = match timeout(PATIENCE, self.nodes.get_with(&self.node, &newest)).await {
            Ok(Ok(node)) => node,
            Ok(Err(error)) => return Err(why(&error)),
            Err(_) => return Err("the API server does not answer in time".to_owned()),
        };
        let taints = node.data.pointer("/spec/taints").and_then(Value::as_array);
        let Some(patch) = taints.and_then(|taints| removal(taints)) else { return Ok(Seen::Gone) };
        let uri = format!("{}/{}?fieldManager=tidegate", self.nodes.resource_url(), self.node);
        let request = Request::builder().method(Method::PATCH).uri(uri);
        let request = request.header(CONTENT_TYPE, "application/json-patch+json");
        let request = request.body(patch.to_string().into_bytes()).map_err(|error| told(&error))?;
        let client = self.nodes.clone().into_client();
        match timeout(PATIENCE, client.request::<Value>(request)).await {
            Ok(Ok(_)) => {
                tracing::info!(node = self.node, taint = KEY, "taken off: the agent is ready");
                Ok(Seen::Gone)
            }
            // The one is said of a node that was changed in that moment, the other of a comparison that fails.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 409 | 422) => {
                Ok(Seen::Changed(status.message.clone()))
            }
            Ok(Err(error)) => Err(why(&error)),
            Err(_) => Err("the API server does not answer in time".to_owned()),
        }
    }
}

fn why(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else { return told(error) };
    if status.code != 403 {
        return status.message.clone();
    }
    format!(
        "{}; grant it by the ClusterRole tidegate-node-taint (deploy/kubernetes/components/node-taint, or \
         `nodeTaint.enabled` of the chart)",
        status.message
    )
}

/// Whether the agent says of itself that every part of it is well.
async fn is_ready(agent: SocketAddr) -> bool {
    let asking = async {
        let stream = TcpStream::connect(agent).await.ok()?;
        let (mut open, connection) = handshake(TokioIo::new(stream)).await.ok()?;
        // It ends with the one that asks, and what goes wrong with it is told to that one.
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::get("/readyz").header(HOST, agent.to_string());
        let answer = open.send_request(request.body(Empty::<Bytes>::new()).ok()?).await.ok()?;
        Some(answer.status() == StatusCode::OK)
    };
    timeout(PATIENCE, asking).await.ok().flatten() == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Health, Part, http::serve};
    use std::sync::Arc;
    use test_case::test_case;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn an_agent_is_ready_once_every_part_is_well() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let health = Arc::new(Health::new(&[Part::Canary]));
        let serving = tokio::spawn(serve(listener, Arc::clone(&health), Arc::new(String::new)));
        assert!(!is_ready(address).await);
        health.report(Part::Canary, Ok(()));
        assert!(is_ready(address).await);
        serving.abort();
        assert!(serving.await.unwrap_err().is_cancelled());
        assert!(!is_ready(address).await, "nobody is there");
    }

    #[test_case("127.0.0.1:9099", "127.0.0.1:9099")]
    #[test_case("0.0.0.0:9100", "127.0.0.1:9100")]
    #[test_case("[::]:9100", "[::1]:9100")]
    #[test_case("192.0.2.1:9100", "192.0.2.1:9100")]
    fn the_agent_is_asked_where_this_machine_reaches_it(listen: &str, expected: &str) {
        assert_eq!(near(listen.parse().unwrap()), expected.parse().unwrap());
    }

    #[test]
    fn who_may_not_is_told_what_to_do() {
        let refused = |code, message: &str| {
            let status =
                serde_json::from_value(serde_json::json!({ "code": code, "message": message })).unwrap();
            why(&kube::Error::Api(Box::new(status)))
        };
        let told = refused(403, "nodes \"a\" is forbidden");
        assert!(told.starts_with("nodes \"a\" is forbidden; grant it by"), "{told}");
        assert_eq!(refused(404, "nodes \"a\" not found"), "nodes \"a\" not found");
    }
}
