//! A collector of the tests' own: takes OTLP over HTTP/1.1 as the protocol says, remembers what came, and misbehaves
//! when it is told to.

use anyhow::{Context as _, Result, ensure};
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, KeyValue, any_value},
    logs::v1::LogRecord,
    resource::v1::Resource,
    trace::v1::Span,
};
use prost::Message as _;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How it treats a request.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    Take,
    /// Reads it, and says nothing.
    Hang,
    /// Answers with this status line's end, headers and body.
    Answer(&'static str, Vec<u8>),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) is_taken: bool,
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    received: Vec<Received>,
    streams: Vec<TcpStream>,
}

#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    stopped: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Receiver {
    pub(crate) fn start(behaviour: Behaviour) -> Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), behaviour, None)
    }

    pub(crate) fn start_at(
        address: SocketAddr,
        behaviour: Behaviour,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Self> {
        let listener = TcpListener::bind(address).context("binding the receiver")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let state = State { behaviour, received: Vec::new(), streams: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let stopped = Arc::new(AtomicBool::new(false));
        let (accepted, stop) = (Arc::clone(&state), Arc::clone(&stopped));
        let accept = move || {
            while !stop.load(Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => begin(stream, &accepted, tls.clone()),
                    Err(_) => thread::sleep(Duration::from_millis(2)),
                }
            }
        };
        Ok(Self { address, state, stopped, accepting: Some(thread::spawn(accept)) })
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        lock(&self.state).behaviour = behaviour;
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        lock(&self.state).received.clone()
    }

    /// The log records that it has taken, with whose they are.
    pub(crate) fn logs(&self) -> Result<Vec<(Resource, LogRecord)>> {
        let mut logs = Vec::new();
        for received in self.received().iter().filter(|one| one.is_taken && one.path.ends_with("/v1/logs")) {
            for of_resource in ExportLogsServiceRequest::decode(&*received.body)?.resource_logs {
                let resource = of_resource.resource.context("logs of nobody")?;
                let records = of_resource.scope_logs.into_iter().flat_map(|scope| scope.log_records);
                logs.extend(records.map(|record| (resource.clone(), record)));
            }
        }
        Ok(logs)
    }

    /// The spans that it has taken.
    pub(crate) fn spans(&self) -> Result<Vec<Span>> {
        let mut spans = Vec::new();
        for received in self.received().iter().filter(|one| one.is_taken && one.path.ends_with("/v1/traces"))
        {
            for of_resource in ExportTraceServiceRequest::decode(&*received.body)?.resource_spans {
                ensure!(of_resource.resource.is_some(), "spans of nobody");
                spans.extend(of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
        Ok(spans)
    }
}

impl Drop for Receiver {
    /// Nobody is there any more, on no connection.
    fn drop(&mut self) {
        self.stopped.store(true, Relaxed);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for stream in &lock(&self.state).streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// The text of an attribute; its other types as they are shown.
pub(crate) fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(shown(found.value.as_ref()?))
}

pub(crate) fn shown(value: &AnyValue) -> String {
    match &value.value {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => format!("int {number}"),
        Some(any_value::Value::ArrayValue(list)) => {
            let words: Vec<String> = list.values.iter().map(shown).collect();
            format!("[{}]", words.join(", "))
        }
        other => format!("{other:?}"),
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn begin(stream: TcpStream, state: &Arc<Mutex<State>>, tls: Option<Arc<ServerConfig>>) {
    let _ = stream.set_nonblocking(false);
    if let Ok(copy) = stream.try_clone() {
        lock(state).streams.push(copy);
    }
    let state = Arc::clone(state);
    // Ends with the connection.
    thread::spawn(move || -> Result<()> {
        match tls {
            None => converse(stream, &state),
            Some(config) => converse(StreamOwned::new(ServerConnection::new(config)?, stream), &state),
        }
    });
}

fn converse(mut stream: impl Read + Write, state: &Mutex<State>) -> Result<()> {
    loop {
        let head = read_head(&mut stream)?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.context("no length")?.trim().parse()?];
        stream.read_exact(&mut body)?;
        let path = head.split(' ').nth(1).context("no path")?.to_owned();
        ensure!(head.starts_with("post "), "{head}");
        let behaviour = {
            let mut state = lock(state);
            let is_taken = match &state.behaviour {
                Behaviour::Take => true,
                Behaviour::Hang => false,
                Behaviour::Answer(status, _) => status.starts_with("200"),
            };
            let behaviour = state.behaviour.clone();
            state.received.push(Received { path, head, body, is_taken });
            behaviour
        };
        let (status, answer) = match behaviour {
            Behaviour::Take => ("200 OK", Vec::new()),
            Behaviour::Hang => continue,
            Behaviour::Answer(status, body) => (status, body),
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", answer.len());
        stream.write_all(&[head.as_bytes(), &answer].concat())?;
        stream.flush()?;
    }
}

fn read_head(stream: &mut impl Read) -> Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_exact(&mut byte) {
            Ok(()) => head.extend(byte),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(String::from_utf8(head)?.to_ascii_lowercase())
}
