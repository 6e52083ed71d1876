use super::*;
use crate::{
    config::file,
    containers::{
        injection::Mount,
        registry::{News, Registry},
        rules::Rules,
    },
    toml_file::Source,
};
use std::path::Path;
use tokio::{task::JoinHandle, time::sleep};

const RULES: &str =
    "[[workload]]\nname = \"ci\"\npolicy = \"p\"\nmatch = [{ pod = { namespace = \"ci\" } }]\n";

fn plugin(directory: &Path) -> Arc<Plugin> {
    let source = Source::from_bytes(Path::new("t.toml"), RULES.as_bytes().to_vec()).unwrap();
    let registry = Registry::new(Rules::of(&file::parse(&source).unwrap().workloads));
    let adjust =
        |member: &crate::containers::Member, _: &_| match member.container.as_ref().unwrap().name.as_str() {
            "bad" => Err("no place".to_owned()),
            "slow" => {
                std::thread::sleep(Duration::from_millis(400));
                Ok(Adjustment::default())
            }
            _ => Ok(Adjustment {
                environment: vec![("SSL_CERT_FILE".into(), "/t/b.pem".into())],
                mounts: vec![Mount { destination: "/t".into(), source: "/s".into(), is_bind: true }],
                warnings: Vec::new(),
            }),
        };
    Arc::new(Plugin::new(directory.join("nri.sock"), directory.into(), Arc::new(registry), Arc::new(adjust)))
}

/// The runtime's side of a connection.
struct Runtime {
    stream: UnixStream,
    frames: Frames,
    calls: u32,
}

impl Runtime {
    /// One that a session of the plugin's is connected to, and that has read its introduction.
    async fn new(plugin: &Arc<Plugin>) -> (Self, JoinHandle<Error>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let plugin = Arc::clone(plugin);
        let session = tokio::spawn(async move {
            let Err(error) = Session::new(&plugin, theirs).serve().await;
            error
        });
        let mut runtime = Self { stream: ours, frames: Frames::default(), calls: 1 };
        let (channel, introduction) = runtime.receive().await;
        assert_eq!((channel, introduction.kind, introduction.stream), (Channel::Runtime, Kind::Request, 1));
        let request = Request::decode(introduction.payload).unwrap();
        assert_eq!((&*request.service, &*request.method), (RUNTIME_SERVICE, "RegisterPlugin"));
        let named = nri::RegisterPluginRequest::decode(request.payload).unwrap();
        assert_eq!((&*named.plugin_name, &*named.plugin_idx), ("tidegate", "90"));
        (runtime, session)
    }

    async fn receive(&mut self) -> (Channel, Message) {
        let mut buffer = [0; 512];
        loop {
            if let Some(found) = self.frames.next().unwrap() {
                return found;
            }
            let length = self.stream.read(&mut buffer).await.unwrap();
            assert_ne!(length, 0, "the plugin closed the connection");
            self.frames.push(&buffer[..length]);
        }
    }

    async fn welcome(&mut self) {
        let message = Message { stream: 1, kind: Kind::Response, payload: Bytes::new() };
        self.stream.write_all(&encode(Channel::Runtime, &message).unwrap()).await.unwrap();
    }

    async fn call(&mut self, method: &str, message: &impl prost::Message) -> Response {
        self.calls += 2;
        let request = Request {
            service: PLUGIN_SERVICE.into(),
            method: method.into(),
            payload: message.encode_to_vec().into(),
            timeout_nano: 0,
        };
        let payload = request.encode_to_vec().into();
        let message = Message { stream: self.calls, kind: Kind::Request, payload };
        self.stream.write_all(&encode(Channel::Plugin, &message).unwrap()).await.unwrap();
        let (channel, answer) = self.receive().await;
        assert_eq!((channel, answer.stream, answer.kind), (Channel::Plugin, self.calls, Kind::Response));
        Response::decode(answer.payload).unwrap()
    }

    async fn configure(&mut self) {
        let request = nri::ConfigureRequest {
            runtime_name: "containerd".into(),
            runtime_version: "2.1".into(),
            request_timeout: 200,
            ..Default::default()
        };
        let answer = self.call("Configure", &request).await;
        let events = nri::ConfigureResponse::decode(answer.payload).unwrap().events;
        assert_eq!(events, crate::containers::nri::events::mask());
    }

    async fn synchronize(&mut self, pods: Vec<nri::PodSandbox>, containers: Vec<nri::Container>, more: bool) {
        let answer = self.call("Synchronize", &nri::SynchronizeRequest { pods, containers, more }).await;
        assert_eq!(nri::SynchronizeResponse::decode(answer.payload).unwrap().more, more);
    }
}

fn pod(id: &str, namespace: &str) -> nri::PodSandbox {
    nri::PodSandbox {
        id: id.into(),
        namespace: namespace.into(),
        linux: Some(nri::LinuxPodSandbox { cgroup_parent: format!("/kubepods/{id}"), ..Default::default() }),
        ..Default::default()
    }
}

fn container(id: &str, pod: &str, name: &str) -> nri::Container {
    nri::Container {
        id: id.into(),
        pod_sandbox_id: pod.into(),
        name: name.into(),
        linux: Some(nri::LinuxContainer { cgroups_path: format!("/kubepods/{pod}/{id}") }),
        ..Default::default()
    }
}

fn change(
    event: nri::Event,
    pod: &nri::PodSandbox,
    container: Option<&nri::Container>,
) -> nri::StateChangeEvent {
    nri::StateChangeEvent { event: event.into(), pod: Some(pod.clone()), container: container.cloned() }
}

#[tokio::test]
async fn a_life_of_a_pod_passes_through_the_registry() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = plugin(directory.path());
    let registry = Arc::clone(&plugin.registry);
    let (mut runtime, session) = Runtime::new(&plugin).await;
    runtime.configure().await;
    runtime.synchronize(vec![pod("old", "ci")], Vec::new(), true).await;
    assert!(registry.pods().is_empty(), "there is more to come");
    runtime.synchronize(Vec::new(), vec![container("c0", "old", "main")], false).await;
    runtime.welcome().await;
    assert_eq!((registry.pods().len(), registry.containers().len()), (1, 1));
    assert_eq!(*plugin.state.borrow(), State::Synchronized { runtime: "containerd 2.1".into() });

    let (new, made) = (pod("new", "ci"), container("c1", "new", "main"));
    runtime.call("StateChange", &change(nri::Event::RunPodSandbox, &new, None)).await;
    let request = nri::CreateContainerRequest { pod: Some(new.clone()), container: Some(made.clone()) };
    let answer = runtime.call("CreateContainer", &request).await;
    let adjust = nri::CreateContainerResponse::decode(answer.payload).unwrap().adjust.unwrap();
    assert_eq!((adjust.env[0].key.as_str(), adjust.env[0].value.as_str()), ("SSL_CERT_FILE", "/t/b.pem"));
    assert_eq!((adjust.mounts[0].destination.as_str(), adjust.mounts[0].source.as_str()), ("/t", "/s"));
    assert!(adjust.mounts[0].options.contains(&"ro".to_owned()));
    let member = registry.find(Path::new("/kubepods/new/c1/x")).unwrap();
    assert_eq!(member.container.unwrap().name, "main");
    runtime.call("StateChange", &change(nri::Event::RemovePodSandbox, &new, None)).await;
    assert_eq!((registry.pods().len(), registry.containers().len()), (1, 1));

    runtime.call("Shutdown", &nri::StateChangeEvent::default()).await;
    assert!(matches!(session.await.unwrap(), Error::Shutdown));
}

#[tokio::test]
async fn a_container_starts_only_when_it_was_seen_to() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = plugin(directory.path());
    let mut notices = plugin.registry.subscribe();
    let (mut runtime, _session) = Runtime::new(&plugin).await;
    runtime.configure().await;
    runtime.synchronize(Vec::new(), Vec::new(), false).await;
    runtime.welcome().await;
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let notice = notices.recv().await.unwrap();
            sleep(Duration::from_millis(40)).await;
            seen.push(match notice.news {
                News::Pod(_) => "pod",
                News::Container(_) => "container",
                News::PodStopped(_)
                | News::ContainerStopped(_)
                | News::PodGone(_)
                | News::ContainerGone(_) => "other",
            });
            notice.done();
        }
        seen
    });
    let (pod, made) = (pod("p", "ci"), container("c", "p", "main"));
    let begun = tokio::time::Instant::now();
    runtime.call("StateChange", &change(nri::Event::RunPodSandbox, &pod, None)).await;
    assert!(begun.elapsed() >= Duration::from_millis(40));
    runtime.call("StateChange", &change(nri::Event::StartContainer, &pod, Some(&made))).await;
    assert!(begun.elapsed() >= Duration::from_millis(80));
    assert_eq!(seen.await.unwrap(), ["pod", "container"]);
}

#[tokio::test]
async fn nobody_waits_longer_than_the_runtime_does() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = plugin(directory.path());
    let notices = plugin.registry.subscribe();
    let (mut runtime, _session) = Runtime::new(&plugin).await;
    runtime.configure().await;
    let answer = runtime.call("StateChange", &change(nri::Event::RunPodSandbox, &pod("p", "ci"), None)).await;
    assert_eq!(answer.status, None);
    drop(notices);
    for (name, expected) in [("slow", "not enough time"), ("bad", "no place")] {
        let request = nri::CreateContainerRequest {
            pod: Some(pod("p", "ci")),
            container: Some(container(name, "p", name)),
        };
        let begun = tokio::time::Instant::now();
        let status = runtime.call("CreateContainer", &request).await.status.unwrap();
        assert!(status.code == UNKNOWN && status.message.contains(expected), "{status:?}");
        assert!(begun.elapsed() < Duration::from_millis(350));
    }
    let request = nri::CreateContainerRequest {
        pod: Some(pod("q", "other")),
        container: Some(container("d", "q", "bad")),
    };
    assert_eq!(
        runtime.call("CreateContainer", &request).await.status,
        None,
        "nobody's container is left alone"
    );
}

#[tokio::test]
async fn what_is_not_nri_ends_the_connection_alone() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = plugin(directory.path());
    let (mut runtime, session) = Runtime::new(&plugin).await;
    let answer = runtime.call("Nothing", &nri::StateChangeEvent::default()).await;
    assert_eq!(answer.status.unwrap().code, UNIMPLEMENTED);
    runtime.stream.write_all(&[9; 64]).await.unwrap();
    assert!(matches!(session.await.unwrap(), Error::Frame(_)));
    let (mut runtime, session) = Runtime::new(&plugin).await;
    let refusal = Response { status: Some(status(UNKNOWN, "no".into())), payload: Bytes::new() };
    let message = Message { stream: 1, kind: Kind::Response, payload: refusal.encode_to_vec().into() };
    runtime.stream.write_all(&encode(Channel::Runtime, &message).unwrap()).await.unwrap();
    assert!(matches!(session.await.unwrap(), Error::Refused(why) if why == "no"));
}

#[tokio::test]
async fn the_plugin_comes_back_with_the_runtime() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = plugin(directory.path());
    let serving = tokio::spawn({
        let plugin = Arc::clone(&plugin);
        async move { plugin.serve().await }
    });
    for _ in 0..2 {
        let listener = tokio::net::UnixListener::bind(&plugin.socket).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut runtime = Runtime { stream, frames: Frames::default(), calls: 1 };
        runtime.receive().await;
        runtime.configure().await;
        runtime.synchronize(vec![pod("p", "ci")], Vec::new(), false).await;
        runtime.welcome().await;
        assert!(matches!(*plugin.state.borrow(), State::Synchronized { .. }));
        drop((listener, runtime));
        std::fs::remove_file(&plugin.socket).unwrap();
        let mut state = plugin.state.subscribe();
        state.wait_for(|state| matches!(state, State::Apart(_))).await.unwrap();
        assert_eq!(plugin.registry.pods().len(), 1, "what runs goes on");
    }
    serving.abort();
}

proptest::proptest! {
    #[test]
    fn any_bytes_make_a_message_or_none(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..256)) {
        let _ = Request::decode(bytes.as_slice());
        let _ = nri::SynchronizeRequest::decode(bytes.as_slice()).map(|request| {
            let pods: Vec<Pod> = request.pods.into_iter().map(Pod::from).collect();
            let containers: Vec<Container> = request.containers.into_iter().map(Container::from).collect();
            (pods, containers)
        });
        let _ = nri::CreateContainerRequest::decode(bytes.as_slice())
            .map(|request| crate::containers::nri::events::spec(request.container.as_ref()));
    }
}
