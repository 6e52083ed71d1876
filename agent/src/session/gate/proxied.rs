//! Connections to a forward proxy: a tunnel is judged like a connection to where it leads, and is open before
//! anything is terminated, so that a refusal of the proxy reaches the client as it is.

use super::{Ending, Far, Gate, Passage, Tunnel, refuse_plain};
use crate::{
    decide::Effect,
    forward::{Via, via},
    host::HostName,
    peek::{
        self, More, Peeked,
        proxy_request::{self, Connect, ProxyAnswer, ProxyRequest, Target},
        rewind::Rewind,
    },
    reason::Reason,
    record::Verdict,
    session::{
        route::Place,
        splice::Inspection,
        watch::{Alarm, HostWatch},
    },
};
use bytes::Bytes;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::TcpStream,
    time::timeout,
};

/// As much of a request's head as is read.
const MAX_HEAD: usize = 16 << 10;

/// What became of a request for a tunnel.
enum Opened {
    Tunnel(Rewind<TcpStream>),
    /// Not opened, as the client was told; with the stream if the proxy takes another request on it.
    Refused(Ending, Option<Rewind<TcpStream>>),
}

impl Gate {
    /// Takes requests until one opens a tunnel or is passed on.
    pub(super) async fn proxied(&self, passage: &Passage, mut client: Rewind<TcpStream>) -> Option<Ending> {
        let mut stream = None;
        let mut ending = Ending::closed(Reason::NoRequest);
        loop {
            let length = match next_head(&mut client, self.rules.peek_timeout).await {
                Ok(length) => length,
                Err(Reason::NoRequest) => return Some(ending),
                Err(reason) => return Some(Ending::closed(reason)),
            };
            let connect = match proxy_request::parse(client.buffered().get(..length).unwrap_or_default()) {
                Ok(ProxyRequest::Connect(connect)) => connect,
                Ok(ProxyRequest::Other) => return Some(self.relay(passage, client).await),
                Err(problem) => return Some(Ending::closed(Reason::MalformedRequest).detail(problem)),
            };
            let head = client.consume(length);
            let opened = self.open(passage, &mut client, stream.take(), &connect, &head).await;
            let named =
                |ending: Ending| Ending { host: ending.host.or_else(|| connect.name().cloned()), ..ending };
            match opened {
                Ok(Opened::Tunnel(stream)) => {
                    let ending = self.through(passage, client, stream, &connect, head).await;
                    return ending.map(named);
                }
                Ok(Opened::Refused(refused, kept @ Some(_))) => (ending, stream) = (named(refused), kept),
                Ok(Opened::Refused(ending, None)) | Err(ending) => return Some(named(ending)),
            }
        }
    }

    /// Passes on a connection whose first request is for the proxy itself to make.
    async fn relay(&self, passage: &Passage, client: Rewind<TcpStream>) -> Ending {
        let watch = || HostWatch::of_proxy(self.names.clone());
        match watch().feed(client.buffered()) {
            Some(Alarm::Host(host)) => refuse_plain(client, host).await,
            Some(Alarm::Tunnel) => Ending::closed(Reason::MethodRefused),
            None => {
                let (ip, port) = (passage.destination.ip(), passage.destination.port());
                let far = Far { ip: Some(ip), port, place: self.addresses.place(ip), tunnel: None };
                self.forward(passage, client, Reason::NotTls, Inspection::Http(watch()), far).await
            }
        }
    }

    /// Lets the proxy open the tunnel, on `stream` if there is one, and gives its answer to the client.
    async fn open(
        &self,
        passage: &Passage,
        client: &mut Rewind<TcpStream>,
        stream: Option<Rewind<TcpStream>>,
        connect: &Connect,
        head: &Bytes,
    ) -> Result<Opened, Ending> {
        // A proxy may go by the target or by the Host field.
        let is_protected = connect.name().is_some_and(|name| self.names.is_protected(name));
        if !is_protected && HostWatch::new(self.names.clone()).feed(head).is_some() {
            return Err(Ending::closed(Reason::AuthorityMismatch));
        }
        let mut stream = match stream {
            Some(stream) => stream,
            None => self.dial(passage).await?,
        };
        let patience = self.upstream.connect_timeout;
        let (answer, answer_head) =
            via::ask(&mut stream, head, patience).await.map_err(|error| failed(&error))?;
        let gone = |error: io::Error| Ending::closed(Reason::ClientGone).detail(error.to_string());
        client.write_all(&answer_head).await.map_err(gone)?;
        if answer.is_tunnel() {
            return Ok(Opened::Tunnel(stream));
        }
        let refused = Ending {
            effect: Effect::Allow,
            verdict: Verdict::Passed,
            status: Some(answer.status),
            ..Ending::closed(Reason::ProxyRefused)
        };
        let is_whole = timeout(patience, pass_body(&mut stream, client, answer)).await;
        let kept = matches!(is_whole, Ok(Ok(())) if !answer.closes).then_some(stream);
        Ok(Opened::Refused(refused, kept))
    }

    /// Judges what the client says in its tunnel, as if it had connected to where the tunnel leads.
    async fn through(
        &self,
        passage: &Passage,
        mut client: Rewind<TcpStream>,
        stream: Rewind<TcpStream>,
        connect: &Connect,
        head: Bytes,
    ) -> Option<Ending> {
        let peeked = peek::peek_on(&mut client, self.rules.peek_timeout).await;
        let (ip, place) = match &connect.target {
            Target::Address(ip) => (Some(*ip), self.addresses.place(*ip)),
            Target::Name(name) => (None, self.place_of(name, &peeked).await),
        };
        let via = Arc::new(Via::new(head, connect.port));
        let tunnel = Tunnel { stream, via, host: connect.name().cloned() };
        let far = Far { ip, port: connect.port, place, tunnel: Some(tunnel) };
        let ending = self.lead(passage, peeked, client, far).await?;
        let detail = ending.detail.clone().map(|detail| format!("; {detail}")).unwrap_or_default();
        Some(ending.detail(format!("in a tunnel to {connect}{detail}")))
    }

    /// What is known of where a name leads. A client that names its host in the clear is judged by that name, so
    /// that only the others cost a look-up.
    async fn place_of(&self, name: &HostName, peeked: &Peeked) -> Place {
        if self.names.is_protected(name) {
            return Place { protected: true, edge: true };
        }
        if let Peeked::Tls(hello) = peeked
            && hello.sni.is_some()
            && !hello.ech
        {
            return Place { protected: false, edge: false };
        }
        self.addresses.place_of(name).await
    }
}

/// Waits for the head of the client's next request; answers its length.
async fn next_head(client: &mut Rewind<TcpStream>, patience: Duration) -> Result<usize, Reason> {
    // Clients may keep a connection to their proxy ready for as long as they like: no server speaks first here.
    if peek::more(client, |bytes| !bytes.is_empty(), MAX_HEAD, Duration::MAX).await != More::Found {
        return Err(Reason::NoRequest);
    }
    let is_whole = |bytes: &[u8]| proxy_request::head_len(bytes).is_some();
    match peek::more(client, is_whole, MAX_HEAD, patience).await {
        More::Found => Ok(proxy_request::head_len(client.buffered()).unwrap_or_default()),
        More::TooLarge => Err(Reason::MalformedRequest),
        More::Timeout => Err(Reason::HeadTimeout),
        More::Closed => Err(Reason::NoRequest),
    }
}

/// Passes the body of the proxy's refusal on.
async fn pass_body(
    proxy: &mut Rewind<TcpStream>,
    client: &mut Rewind<TcpStream>,
    answer: ProxyAnswer,
) -> io::Result<()> {
    let length = answer.body_len.unwrap_or(u64::MAX);
    let copied = copy(&mut proxy.take(length), client).await?;
    client.flush().await?;
    match answer.body_len {
        Some(length) if copied < length => Err(io::ErrorKind::UnexpectedEof.into()),
        Some(_) | None => Ok(()),
    }
}

fn failed(error: &io::Error) -> Ending {
    let is_late = error.kind() == io::ErrorKind::TimedOut;
    let reason = if is_late { Reason::UpstreamTimeout } else { Reason::UpstreamFailed };
    Ending::closed(reason).detail(error.to_string())
}
