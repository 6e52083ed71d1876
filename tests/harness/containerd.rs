//! A real containerd with CRI and NRI, in a world: its pods' cgroups are in the world's, its mounts and namespaces end
//! with it, and nothing is fetched: images are made by the test.

pub mod image;
mod messages;

use crate::{
    cgroup,
    netns::World,
    process::{Process, patience, wait_until},
    programs,
};
use anyhow::{Context as _, Result, bail};
use messages::{
    Container, ContainerMetadata, CreateContainer, CreateContainerAnswer, ExecSync, ExecSyncAnswer, Id,
    Image, KeyValue, Linux, Metadata, Mount, NamespaceOption, Nothing, RunPodSandbox, RunPodSandboxAnswer,
    Sandbox, Security,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tidegate::containers::cri::grpc::Channel;
use tokio::runtime::Runtime;

/// How long containerd may take to begin, and for one call.
const LIMIT: Duration = Duration::from_secs(30);

/// Holds the mounts that containerd makes, for as long as its containers run: among them cgroup2 alone, as on a machine of
/// today.
const HOLD: &str =
    "mount -t cgroup2 cgroup2 /sys/fs/cgroup && mkdir -p /run/netns && echo ready && exec sleep 1000000";

/// containerd, until it is dropped.
#[derive(Debug)]
pub struct Containerd<'w> {
    world: &'w World,
    directory: PathBuf,
    tree: PathBuf,
    runtime: Runtime,
    mounts: Process,
    process: Option<Process>,
    channel: Option<Channel>,
    /// The cgroup that all pods' are in, from the mount's root.
    pods: String,
}

/// A pod to be run.
#[derive(Clone, Debug, Default)]
pub struct Pod<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a [(&'a str, &'a str)],
    /// Whether it is in the world's network.
    pub is_host_network: bool,
}

/// A pod that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its sandbox's id.
    pub id: String,
    /// Its unique id.
    pub uid: String,
    /// The cgroup that its containers are in, from the mount's root.
    pub cgroup: String,
    config: Sandbox,
}

/// What a command in a container answered.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its exit status.
    pub status: i32,
    /// Its standard output, and its standard error behind it.
    pub text: String,
}

impl<'w> Containerd<'w> {
    /// One that is ready, with an image `localhost/busybox:1`.
    ///
    /// # Errors
    /// When it was not unpacked, or does not start.
    pub fn start(world: &'w World) -> Result<Self> {
        let tree = programs::containerd()?;
        let directory = world.directory().join("containerd");
        fs::create_dir(&directory)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        // Not a slice's name at the end, which would mean systemd's driver.
        let pods = format!("{}/kubepods", world.cgroup().name()?);
        let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", HOLD];
        let mut mounts = Process::start(world.command(&unshare).stdin(Stdio::null()), world.directory())?;
        mounts.wait_for_output("ready", LIMIT)?;
        let mut containerd =
            Self { world, directory, tree, runtime, mounts, process: None, channel: None, pods };
        containerd.configure()?;
        containerd.begin()?;
        image::import(&containerd, "localhost/pause:1", &["/bin/sleep", "1000000"], |_| Ok(()))?;
        image::import(&containerd, "localhost/busybox:1", &["/bin/sh"], |_| Ok(()))?;
        Ok(containerd)
    }

    fn configure(&self) -> Result<()> {
        let directory = self.directory.display();
        let cni = "{\"cniVersion\":\"1.0.0\",\"name\":\"t\",\"plugins\":[{\"type\":\"ptp\",\"ipam\":{\"type\":\"host-local\",\
            \"ranges\":[[{\"subnet\":\"198.18.64.0/18\"}]],\"routes\":[{\"dst\":\"0.0.0.0/0\"}],\"dataDir\":\"/run/cni-ipam\"}}]}";
        fs::create_dir(self.directory.join("cni"))?;
        fs::write(self.directory.join("cni/10-t.conflist"), cni)?;
        let wrapper = self.directory.join("plain-runc");
        fs::write(&wrapper, include_str!("../programs/plain_runc.py"))?;
        fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let config = format!(
            r#"version = 3
root = "{directory}/root"
state = "/run/containerd"
[grpc]
  address = "{directory}/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "localhost/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{tree}/usr/lib/cni"]
    conf_dir = "{directory}/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = "{directory}/plain-runc"
[plugins.'io.containerd.nri.v1.nri']
  disable = false
  socket_path = "{directory}/nri.sock"
"#,
            tree = self.tree.display(),
        );
        Ok(fs::write(self.directory.join("config.toml"), config)?)
    }

    /// Starts it, again after [`Self::end`]: what ran goes on.
    ///
    /// # Errors
    /// When it does not come to answer.
    pub fn begin(&mut self) -> Result<()> {
        let program = self.tree.join("usr/bin/containerd").display().to_string();
        let config = self.directory.join("config.toml").display().to_string();
        let target = format!("--target={}", self.mounts.id());
        let mut command =
            self.world.command(&["nsenter", &target, "--mount", "--", &program, "--config", &config]);
        let path = format!("{}/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin", self.tree.display());
        command
            .env("PATH", path)
            .env("TIDEGATE_TEST_RUNC", self.tree.join("usr/sbin/runc"))
            .stdin(Stdio::null());
        self.process = Some(Process::start(&mut command, self.world.directory())?);
        let socket = self.directory.join("containerd.sock");
        let mut answered = None;
        let waited = wait_until("containerd answers", LIMIT, || {
            let channel = self.runtime.block_on(async {
                let channel = Channel::connect(&socket, LIMIT * patience()).await.ok()?;
                let call = "/runtime.v1.RuntimeService/ListPodSandbox";
                channel.call::<Nothing>(call, &Nothing {}).await.ok().map(|_| channel)
            });
            answered = channel;
            Ok(answered.is_some())
        });
        waited.with_context(|| self.log())?;
        self.channel = answered;
        Ok(())
    }

    /// Ends it; the containers' shims go on.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end(&mut self) -> Result<()> {
        self.channel = None;
        let Some(process) = self.process.take() else { return Ok(()) };
        process.signal(nix::sys::signal::Signal::SIGTERM)?;
        process.finish(LIMIT).map(drop)
    }

    /// Where its CRI answers.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("containerd.sock")
    }

    /// Where its NRI answers.
    pub fn nri_socket(&self) -> PathBuf {
        self.directory.join("nri.sock")
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        let log = self.process.as_ref().map(|process| process.stderr().unwrap_or_default());
        let log = log.unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(40)).copied().collect::<Vec<_>>().join("\n")
    }

    /// Runs a pod without containers.
    ///
    /// # Errors
    /// When containerd refuses.
    pub fn run_pod(&self, pod: &Pod<'_>) -> Result<Running> {
        self.run_pod_as(pod, &format!("uid-{}-{}", pod.namespace, pod.name))
    }

    /// As [`Self::run_pod`], with the unique id that Kubernetes has given.
    ///
    /// # Errors
    /// When containerd refuses.
    pub fn run_pod_as(&self, pod: &Pod<'_>, uid: &str) -> Result<Running> {
        let uid = uid.to_owned();
        let cgroup = format!("{}/pod{uid}", self.pods);
        let mut labels: BTreeMap<String, String> =
            pod.labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        // As the kubelet sets them.
        labels.insert("io.kubernetes.pod.namespace".into(), pod.namespace.into());
        labels.insert("io.kubernetes.pod.name".into(), pod.name.into());
        labels.insert("io.kubernetes.pod.uid".into(), uid.clone());
        let network = if pod.is_host_network { 2 } else { 0 };
        let config = Sandbox {
            metadata: Some(Metadata {
                name: pod.name.into(),
                uid: uid.clone(),
                namespace: pod.namespace.into(),
                attempt: 0,
            }),
            labels,
            log_directory: self.directory.join("logs").display().to_string(),
            linux: Some(Linux {
                cgroup_parent: cgroup.clone(),
                security_context: Some(Security { namespace_options: Some(NamespaceOption { network }) }),
            }),
        };
        let request = RunPodSandbox { config: Some(config.clone()) };
        let RunPodSandboxAnswer { id } = self.call("RunPodSandbox", &request)?;
        Ok(Running { id, uid, cgroup, config })
    }

    /// Makes an image of this name: busybox, and what `fill` puts into its tree.
    ///
    /// # Errors
    /// When it cannot be made, or containerd does not want it.
    pub fn import(&self, name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        image::import(self, name, &["/bin/sh"], fill)
    }

    /// Makes a container of the image `localhost/busybox:1` and starts it; answers its id.
    ///
    /// # Errors
    /// When containerd refuses.
    pub fn run_container(
        &self,
        pod: &Running,
        name: &str,
        variables: &[(&str, &str)],
        mounts: &[(&str, &Path)],
    ) -> Result<String> {
        self.run_image(pod, name, ("localhost/busybox:1", ""), variables, mounts)
    }

    /// As [`Self::run_container`], of this image, with this script to run first.
    ///
    /// # Errors
    /// When containerd refuses.
    pub fn run_image(
        &self,
        pod: &Running,
        name: &str,
        (image, script): (&str, &str),
        variables: &[(&str, &str)],
        mounts: &[(&str, &Path)],
    ) -> Result<String> {
        let variables =
            variables.iter().map(|(key, value)| KeyValue { key: (*key).into(), value: (*value).into() });
        let mounts = mounts.iter().map(|(place, path)| Mount {
            container_path: (*place).into(),
            host_path: path.display().to_string(),
            readonly: true,
        });
        let config = Container {
            metadata: Some(ContainerMetadata { name: name.into() }),
            image: Some(Image { image: image.into() }),
            command: ["/bin/sh".into(), "-c".into(), format!("{script}\nsleep 1000000")].into(),
            envs: variables.collect(),
            mounts: mounts.collect(),
            labels: [("io.kubernetes.container.name".to_owned(), name.to_owned())].into(),
        };
        let request =
            CreateContainer { pod: pod.id.clone(), config: Some(config), sandbox: Some(pod.config.clone()) };
        let CreateContainerAnswer { id } = self.call("CreateContainer", &request)?;
        self.call::<Nothing>("StartContainer", &Id { id: id.clone() })?;
        Ok(id)
    }

    /// Runs a command in a container to its end.
    ///
    /// # Errors
    /// When containerd cannot.
    pub fn exec(&self, container: &str, script: &str) -> Result<Said> {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).into();
        let request = ExecSync { container: container.into(), command, timeout: 20 };
        let answer: ExecSyncAnswer = self.call("ExecSync", &request)?;
        let text = [answer.stdout, answer.stderr].concat();
        Ok(Said { status: answer.status, text: String::from_utf8_lossy(&text).into_owned() })
    }

    /// The processes of a container, as the machine numbers them.
    ///
    /// # Errors
    /// When its cgroup is not there.
    pub fn processes(&self, container: &str) -> Result<Vec<u32>> {
        let pods = cgroup::mount_point()?.join(self.pods.trim_start_matches('/'));
        let places =
            fs::read_dir(&pods)?.flatten().map(|pod| pod.path().join(container).join("cgroup.procs"));
        let text = places.filter_map(|place| fs::read_to_string(place).ok()).next();
        let text = text.with_context(|| format!("{container} has no cgroup below {}", pods.display()))?;
        Ok(text.lines().map(str::parse).collect::<Result<_, _>>()?)
    }

    /// Stops and removes a pod with its containers.
    ///
    /// # Errors
    /// When containerd cannot.
    pub fn remove_pod(&self, pod: &Running) -> Result<()> {
        self.call::<Nothing>("StopPodSandbox", &Id { id: pod.id.clone() })?;
        self.call::<Nothing>("RemovePodSandbox", &Id { id: pod.id.clone() }).map(drop)
    }

    /// Its own client, to its end.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> Result<()> {
        let program = self.tree.join("usr/bin/ctr").display().to_string();
        let socket = self.socket().display().to_string();
        let line = [&[program.as_str(), "--address", &socket, "--namespace", "k8s.io"], arguments].concat();
        let finished = Process::run(&mut self.world.command(&line), self.world.directory(), LIMIT)?;
        if finished.status.success() { Ok(()) } else { bail!("{arguments:?}: {finished:?}\n{}", self.log()) }
    }

    fn call<A: prost::Message + Default>(&self, name: &str, request: &impl prost::Message) -> Result<A> {
        let channel = self.channel.as_ref().context("containerd does not run")?;
        let path = format!("/runtime.v1.RuntimeService/{name}");
        self.runtime.block_on(channel.call(&path, request)).with_context(|| format!("{name}\n{}", self.log()))
    }
}
