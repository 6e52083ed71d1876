use super::*;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use test_case::test_case;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
    sync::watch,
};

fn inspected(name: &str, pid: u32) -> Value {
    json!({
        "Id": name, "Name": format!("/{name}"), "State": {"Pid": pid, "Running": pid != 0},
        "Config": {"Image": "r.example/a:1", "Labels": {"com.example.gated": "yes"}},
        "HostConfig": {"NetworkMode": "bridge"}, "NetworkSettings": {"SandboxKey": "/run/docker/netns/1"},
    })
}

/// An engine in which these containers run; a change of `events` is one.
async fn engine(listener: UnixListener, running: Arc<Mutex<Vec<Value>>>, events: watch::Receiver<u32>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (running, mut events) = (Arc::clone(&running), events.clone());
        tokio::spawn(async move {
            let mut head = vec![0; 2048];
            let length = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..length]).into_owned();
            let path = head.split(' ').nth(1).unwrap().to_owned();
            if path.starts_with("/events") {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
                while events.changed().await.is_ok() {
                    stream.write_all(b"2\r\n{}\r\n").await.unwrap();
                }
                return;
            }
            let body = {
                let running = running.lock().unwrap();
                if path == "/containers/json" {
                    Some(Value::from(running.clone()))
                } else {
                    let id = path.trim_start_matches("/containers/").trim_end_matches("/json");
                    running.iter().find(|one| one["Id"] == id && one["State"]["Pid"] != 1).cloned()
                }
            };
            let (status, body) = match body {
                Some(body) => ("200 OK", body.to_string()),
                None => ("404 Not Found", String::from("{}")),
            };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
    }
}

#[tokio::test]
async fn what_an_engine_runs_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let own = std::process::id();
    // The second has ended, and the third ends between the list and the look at it.
    let running = vec![inspected("web", own), inspected("done", 0), inspected("racing", 1)];
    let running = Arc::new(Mutex::new(running));
    let (changed, events) = watch::channel(0);
    let serving = tokio::spawn(engine(UnixListener::bind(&socket).unwrap(), Arc::clone(&running), events));
    let registry = Arc::new(Registry::default());
    let mut notices = registry.subscribe();
    let following = tokio::spawn({
        let registry = Arc::clone(&registry);
        async move { Engine::new(socket).follow(&registry).await }
    });
    notices.recv().await.unwrap().done();
    let [member] = <[_; 1]>::try_from(registry.containers()).unwrap();
    let container = member.container.as_ref().unwrap();
    assert_eq!((&*container.name, container.image.as_deref()), ("web", Some("r.example/a:1")));
    assert_eq!(container.labels.get("com.example.gated").map(String::as_str), Some("yes"));
    assert_eq!(*member.network(), Network::Own("/run/docker/netns/1".into()));
    assert_eq!(container.cgroup, cgroup_of(own));
    running.lock().unwrap().clear();
    changed.send_replace(1);
    notices.recv().await.unwrap().done();
    assert!(registry.containers().is_empty());
    serving.abort();
    following.abort();
}

#[test_case(json!({"NetworkMode": "host"}), json!({"SandboxKey": "/run/docker/netns/default"}), Network::Host; "host")]
#[test_case(json!({"NetworkMode": "container:x"}), json!({"SandboxKey": ""}), Network::Unknown; "another's")]
#[test_case(json!({}), json!({"SandboxKey": "/run/netns/a"}), Network::Own("/run/netns/a".into()); "its own")]
fn a_containers_network_is_told(host: Value, settings: Value, expected: Network) {
    let mut told = inspected("a", 7);
    told["HostConfig"] = host;
    told["NetworkSettings"] = settings;
    let told: Inspected = serde_json::from_value(told).unwrap();
    assert_eq!(told.container().unwrap().network, expected);
}
