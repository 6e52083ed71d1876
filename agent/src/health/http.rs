//! Health over HTTP, for those who watch machines: `/healthz` while the event loop turns, `/readyz` while every part
//! is well, `/metrics` in the text format of OpenMetrics, which Prometheus reads.

use super::Health;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

/// For a connection, with all its requests.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections at once; more wait.
const MAX_CONNECTIONS: usize = 16;

/// How long accept rests when the process has no descriptor to give.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Writes the metrics as they are now.
pub type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves, for as long as the agent runs.
pub async fn serve(listener: TcpListener, health: Arc<Health>, metrics: Metrics) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (health, metrics) = (Arc::clone(&health), Arc::clone(&metrics));
                tokio::spawn(async move {
                    // What is wrong with a connection is the client's business.
                    let _ = timeout(PATIENCE, converse(stream, health, metrics)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept on the health endpoint");
                sleep(ACCEPT_REST).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, health: Arc<Health>, metrics: Metrics) {
    let service = service_fn(|request| {
        let answer = answer(&request, &health, &metrics);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut server = http1::Builder::new();
    let connection = server.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let _ = connection.await;
}

/// What is answered.
#[derive(Serialize)]
struct Body {
    ok: bool,
    /// The parts that are not well, each with what is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

fn answer(request: &Request<Incoming>, health: &Health, metrics: &Metrics) -> Response<Full<Bytes>> {
    if matches!(request.method(), &Method::GET | &Method::HEAD) && request.uri().path() == "/metrics" {
        return response(StatusCode::OK, OPENMETRICS, metrics().into());
    }
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/healthz") => told(health.is_alive(), Vec::new()),
        (&Method::GET | &Method::HEAD, "/readyz") => {
            let problems = health.problems();
            let lines = problems.iter().map(|problem| format!("{}: {}", problem.part.as_str(), problem.why));
            told(problems.is_empty(), lines.collect())
        }
        (&Method::GET | &Method::HEAD, _) => {
            (StatusCode::NOT_FOUND, Body { ok: false, problems: Vec::new() })
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, Body { ok: false, problems: Vec::new() }),
    };
    response(status, "application/json", serde_json::to_vec(&body).unwrap_or_default().into())
}

fn response(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

fn told(ok: bool, problems: Vec<String>) -> (StatusCode, Body) {
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Body { ok, problems })
}

#[cfg(test)]
mod tests {
    use super::{super::Part, *};
    use test_case::test_case;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(health: Arc<Health>, request: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let serving = tokio::spawn(serve(listener, health, Arc::new(|| "# EOF\n".to_owned())));
        let request = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).await.unwrap();
        serving.abort();
        told
    }

    #[test_case("GET /healthz", Ok(()), "200 OK", "{\"ok\":true}"; "alive")]
    #[test_case("GET /healthz", Err("lost".into()), "200 OK", "{\"ok\":true}"; "alive, though unwell")]
    #[test_case("GET /readyz", Ok(()), "200 OK", "{\"ok\":true}"; "ready")]
    #[test_case("GET /readyz?verbose", Ok(()), "200 OK", "{\"ok\":true}"; "query")]
    #[test_case("GET /readyz", Err("lost".into()), "503 Service Unavailable", "{\"ok\":false,\"problems\":[\"canary: lost\"]}"; "not ready")]
    #[test_case("HEAD /readyz", Err("lost".into()), "503 Service Unavailable", ""; "head")]
    #[test_case("GET /metrics", Ok(()), "200 OK", "# EOF\n"; "metrics")]
    #[test_case("POST /metrics", Ok(()), "405 Method Not Allowed", "{\"ok\":false}"; "metrics by another method")]
    #[test_case("GET /", Ok(()), "404 Not Found", "{\"ok\":false}"; "another path")]
    #[test_case("POST /readyz", Ok(()), "405 Method Not Allowed", "{\"ok\":false}"; "another method")]
    #[tokio::test]
    async fn health_is_told(request: &str, canary: Result<(), String>, status: &str, body: &str) {
        let health = Arc::new(Health::new(&[Part::Canary]));
        health.report(Part::Canary, canary);
        let told = ask(health, request).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {status}\r\n")) && told.ends_with(body), "{told}");
        assert_eq!(told.split("\r\n\r\n").nth(1), Some(body), "{told}");
    }

    #[tokio::test]
    async fn an_agent_is_not_ready_before_anything_was_checked() {
        let told = ask(Arc::new(Health::new(&[Part::Canary])), "GET /readyz").await;
        assert!(told.contains("503") && told.contains("canary: not checked yet"), "{told}");
    }
}
