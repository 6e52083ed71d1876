//! `upstream.proxy`: the agent's own connections go through it, and through nothing else.

use super::{
    upstream::Speaks,
    world::{Setting, World, body, empty},
};
use std::io::Write as _;
use std::{
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use test_case::{test_case, test_matrix};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

const CREDENTIALS: &str = "Proxy-Authorization: Basic bWU6c2VjcmV0";

/// A forward proxy on loopback that remembers the heads of the requests.
#[derive(Clone)]
struct Proxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Opens tunnels to the port that is asked for, at the upstream's address, where the head has this line; else
    /// answers with `refusal`.
    async fn start(wanted: &'static str, refusal: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), heads: Arc::default() };
        let heads = proxy.heads.clone();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let heads = heads.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(client.read_u8().await.unwrap());
                    }
                    let head = String::from_utf8(head).unwrap();
                    heads.lock().unwrap().push(head.clone());
                    if !head.lines().any(|line| line == wanted) {
                        client.write_all(refusal.as_bytes()).await.unwrap();
                        return;
                    }
                    let authority = head.split(' ').nth(1).unwrap();
                    let port: u16 = authority.rsplit_once(':').unwrap().1.parse().unwrap();
                    let mut upstream = TcpStream::connect(("127.0.0.2", port)).await.unwrap();
                    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut upstream).await;
                });
            }
        });
        proxy
    }
}

fn credentials(folder: &TempDir, text: &str) -> std::path::PathBuf {
    let path = folder.path().join("credentials");
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    path
}

/// The upstream is where only the proxy looks for it.
fn setting(proxy: &Proxy, credentials: Option<std::path::PathBuf>, speaks: Speaks) -> Setting {
    let proxy = Some(proxy.address.to_string());
    Setting { upstream_ip: "127.0.0.2", own_proxy: proxy, credentials, speaks, ..Setting::default() }
}

#[test_matrix([false, true], [Speaks::Http1, Speaks::Http2])]
#[tokio::test]
async fn requests_go_through_the_proxy_with_the_agents_credentials(is_http2: bool, speaks: Speaks) {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(CREDENTIALS, "").await;
    let world = World::start(setting(&proxy, Some(credentials(&folder, "me:secret\n")), speaks)).await;
    let mut client = world.client(is_http2).await;
    for _ in 0..3 {
        let request = client.request("GET", "/v2/account").body(empty()).unwrap();
        assert_eq!(client.ask(request).await.status(), 200);
    }
    let heads = proxy.heads.lock().unwrap().clone();
    assert_eq!(heads.len(), 1, "one tunnel serves all: {heads:?}");
    let port = world.connection.destination.port();
    assert!(heads[0].starts_with(&format!("CONNECT api.digitalocean.com:{port} HTTP/1.1\r\n")), "{heads:?}");
    let seen = world.upstream.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|seen| !seen.headers.contains_key("proxy-authorization")));
    let records = world.records(3).await;
    assert_eq!(records[0]["destination.address"], "127.0.0.1", "where the program meant to go");
    assert!(!format!("{records:?}").contains("bWU6c2VjcmV0"));
}

#[test_case("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n", "proxy_refused"; "no credentials")]
#[test_case("HTTP/1.1 503 Service Unavailable\r\n\r\n", "proxy_refused"; "cannot")]
#[test_case("220 mail.example ESMTP\r\n\r\n", "upstream_failed"; "not a proxy")]
#[test_case("HTTP/1.1 200 OK\r\n\r\nsurprise", "upstream_failed"; "speaks first")]
#[test_case("", "upstream_failed"; "hangs up")]
#[tokio::test]
async fn a_proxy_that_opens_no_tunnel_ends_it(refusal: &'static str, reason: &str) {
    let proxy = Proxy::start(CREDENTIALS, refusal).await;
    let world = World::start(setting(&proxy, None, Speaks::Http1)).await;
    let mut client = world.client(false).await;
    let request = client.request("POST", "/v2/domains").body(body(b"{}")).unwrap();
    let answer = client.ask(request).await;
    assert_eq!(answer.status(), 502);
    assert_eq!(world.records(2).await[1]["tidegate.reason"], reason);
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test]
async fn a_proxy_out_of_reach_is_never_gone_round() {
    // The upstream listens where the program wants to go, so that only the setting stands between them.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let setting = Setting { own_proxy: Some(gone.to_string()), ..Setting::default() };
    let world = World::start(setting).await;
    let mut client = world.client(false).await;
    let answer = client.ask(client.request("GET", "/v2/account").body(empty()).unwrap()).await;
    assert_eq!(answer.status(), 502);
    assert_eq!(world.records(1).await[0]["tidegate.reason"], "upstream_unreachable");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test]
async fn what_stands_behind_the_proxy_must_prove_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(CREDENTIALS, "").await;
    let file = credentials(&folder, "me:secret");
    let setting = Setting { certified: "evil.example", ..setting(&proxy, Some(file), Speaks::Http1) };
    let world = World::start(setting).await;
    let mut client = world.client(false).await;
    let answer = client.ask(client.request("GET", "/v2/account").body(empty()).unwrap()).await;
    assert_eq!(answer.status(), 502);
    assert_eq!(world.records(1).await[0]["tidegate.reason"], "upstream_not_host");
}
