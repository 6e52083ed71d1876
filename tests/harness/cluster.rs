//! A real Kubernetes API server with its database, in a world: nobody else reaches it, and it ends with the world.

pub mod agents;
pub mod manifests;
pub mod node;

use crate::{
    netns::World,
    process::{Finished, Process, wait_until},
    programs,
};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How long it may take to begin, and for one command.
const LIMIT: Duration = Duration::from_secs(150);

/// Where the API server listens.
const ADDRESS: &str = "127.0.0.1";
const PORT: &str = "6443";
const DATABASE: &str = "http://127.0.0.1:2379";
/// Of the one who may do everything.
const ADMINISTRATOR: &str = "the-administrators-token";

/// An API server, until it is dropped. Fields drop in this order.
#[derive(Debug)]
pub struct Cluster<'w> {
    others: Vec<Process>,
    /// None while it is ended.
    server: Mutex<Option<Process>>,
    line: Vec<String>,
    database: Mutex<Process>,
    world: &'w World,
    directory: PathBuf,
}

impl<'w> Cluster<'w> {
    /// One that is ready, with authorization by RBAC. Nothing runs pods, or looks after objects.
    ///
    /// # Errors
    /// When it was not made, or does not start.
    pub fn start(world: &'w World) -> Result<Self> {
        let programs = programs::kubernetes()?;
        let directory = world.directory().join("cluster");
        fs::create_dir(&directory)?;
        let place = |name: &str| directory.join(name).display().to_string();
        let database = [
            programs.join("usr/bin/etcd").display().to_string(),
            format!("--data-dir={}", place("etcd")),
            format!("--listen-client-urls={DATABASE}"),
            format!("--advertise-client-urls={DATABASE}"),
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
            // What is lost with the machine is lost with the test.
            "--unsafe-no-fsync".to_owned(),
        ];
        let database = Process::start(world.command(&database).stdin(Stdio::null()), world.directory())?;
        let key = place("accounts.key");
        let genrsa = ["openssl", "genrsa", "-out", &key, "2048"];
        let made = Process::run(&mut world.command(&genrsa), world.directory(), LIMIT)?;
        ensure!(made.status.success(), "{made:?}");
        let tokens = format!("{ADMINISTRATOR},administrator,administrator,system:masters\n");
        fs::write(directory.join("tokens.csv"), tokens)?;
        let line = vec![
            programs.join("bin/kube-apiserver").display().to_string(),
            format!("--etcd-servers={DATABASE}"),
            format!("--cert-dir={}", place("certificates")),
            format!("--bind-address={ADDRESS}"),
            format!("--secure-port={PORT}"),
            // Loopback is not to be advertised, and every address of the world is its own.
            "--advertise-address=198.18.0.1".to_owned(),
            format!("--token-auth-file={}", place("tokens.csv")),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--service-cluster-ip-range=198.19.0.0/20".to_owned(),
            format!("--service-account-key-file={key}"),
            format!("--service-account-signing-key-file={key}"),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
        ];
        let cluster = Self {
            others: Vec::new(),
            server: Mutex::default(),
            line,
            database: Mutex::new(database),
            world,
            directory,
        };
        cluster.begin_server()?;
        fs::write(cluster.kubeconfig(), cluster.configuration(ADMINISTRATOR))?;
        Ok(cluster)
    }

    /// Starts what places pods on nodes, and looks after DaemonSets, accounts and namespaces.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn manage(&mut self) -> Result<()> {
        let programs = programs::kubernetes()?;
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig().display());
        let key = self.directory.join("accounts.key");
        let key = format!("--service-account-private-key-file={}", key.display());
        let common = ["--leader-elect=false", "--port=0", "--secure-port=0", &kubeconfig];
        let roots = format!("--root-ca-file={}", self.ca_file().display());
        let controllers =
            ["--controllers=daemonset,serviceaccount,namespace,root-ca-cert-publisher", &key, &roots];
        for (name, own) in [("kube-controller-manager", &controllers[..]), ("kube-scheduler", &[])] {
            let program = programs.join("bin").join(name).display().to_string();
            let line = [&[program.as_str()], &common[..], own].concat();
            let mut command = self.world.command(&line);
            self.others.push(Process::start(command.stdin(Stdio::null()), self.world.directory())?);
        }
        wait_until("the namespace's account", LIMIT, || {
            Ok(self.ask(&["get", "serviceaccount", "default"])?.status.success())
        })
    }

    /// Starts the API server, again after [`Self::end_server`], and waits until it is ready.
    ///
    /// # Errors
    /// When it does not come to answer.
    pub fn begin_server(&self) -> Result<()> {
        let mut command = self.world.command(&self.line);
        *held(&self.server) = Some(Process::start(command.stdin(Stdio::null()), self.world.directory())?);
        self.wait_until_ready()
    }

    /// Kills the API server; the database goes on.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn end_server(&self) -> Result<()> {
        let Some(server) = held(&self.server).take() else { return Ok(()) };
        server.signal(nix::sys::signal::Signal::SIGKILL)?;
        server.finish(LIMIT).map(drop)
    }

    /// The API server's process.
    ///
    /// # Errors
    /// When it is ended.
    pub fn server_id(&self) -> Result<u32> {
        held(&self.server).as_ref().map(Process::id).context("the API server is ended")
    }

    fn wait_until_ready(&self) -> Result<()> {
        let ask = ["curl", "--silent", "--max-time", "2", "--cacert"].map(str::to_owned);
        let header = ["--header".to_owned(), format!("Authorization: Bearer {ADMINISTRATOR}")];
        let rest = [self.ca_file().display().to_string(), format!("{}/readyz", self.url())];
        let ask = [&ask[..], &rest, &header].concat();
        let ready = wait_until("the API server to be ready", LIMIT, || {
            let (mut database, mut server) = (held(&self.database), held(&self.server));
            let server = server.iter_mut().map(|server| ("kube-apiserver", server));
            for (name, process) in std::iter::once(("etcd", &mut *database)).chain(server) {
                let ended = process.ended()?;
                ensure!(ended.is_none(), "{name} ended: {ended:?}");
            }
            let told = Process::run(&mut self.world.command(&ask), self.world.directory(), LIMIT)?;
            std::thread::sleep(Duration::from_millis(50));
            Ok(told.text() == "ok")
        });
        ready.with_context(|| {
            format!(
                "{}\n{}",
                last_lines(&held(&self.database)),
                held(&self.server).as_ref().map(last_lines).unwrap_or_default()
            )
        })
    }

    /// The world that it is in.
    pub fn world(&self) -> &'w World {
        self.world
    }

    /// The API server's address, for programs of the world.
    pub fn url(&self) -> String {
        format!("https://{ADDRESS}:{PORT}")
    }

    /// What the API server's certificate is verified with.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.join("certificates/apiserver.crt")
    }

    /// The file by which kubectl and its like are who may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    /// What such a file holds for whoever has this token.
    pub fn configuration(&self, token: &str) -> String {
        let (url, ca_file) = (self.url(), self.ca_file());
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: {url:?}, certificate-authority: {ca_file:?}}}}}]\n\
             users: [{{name: test, user: {{token: {token:?}}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n"
        )
    }

    /// A token of a service account's, which need not be anybody's.
    ///
    /// # Errors
    /// When there is no such account.
    pub fn token(&self, namespace: &str, account: &str) -> Result<String> {
        let token = self.tell(&["--namespace", namespace, "create", "token", account])?;
        Ok(token.trim().to_owned())
    }

    /// kubectl, as who may do everything.
    ///
    /// # Errors
    /// When it was not made.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<Command> {
        let program = kubectl()?.display().to_string();
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig().display());
        let line = [&[program.as_str(), &kubeconfig], arguments].concat();
        let mut command = self.world.command(&line);
        // This server knows only what was before them.
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false");
        Ok(command)
    }

    /// Runs kubectl to its end, however that is.
    ///
    /// # Errors
    /// When it was not made, or takes too long.
    pub fn ask(&self, arguments: &[&str]) -> Result<Finished> {
        Process::run(&mut self.kubectl(arguments)?, self.world.directory(), LIMIT)
    }

    /// Runs kubectl, and answers what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn tell(&self, arguments: &[&str]) -> Result<String> {
        let finished = self.ask(arguments)?;
        ensure!(finished.status.success(), "kubectl {}: {}", arguments.join(" "), finished.stderr);
        Ok(finished.text())
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// When the server refuses one.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile_in(&self.directory)?;
        fs::write(file.path(), manifests)?;
        self.apply_file(file.path())
    }

    /// As [`Cluster::apply`], of a file.
    ///
    /// # Errors
    /// As [`Cluster::apply`].
    pub fn apply_file(&self, path: &Path) -> Result<String> {
        // A kubectl of today leaves the comparison with the schema to the server, and this one does not know how.
        self.tell(&["apply", "--validate=false", "--filename", &path.display().to_string()])
    }

    /// An object, or a list of some.
    ///
    /// # Errors
    /// When there is none.
    pub fn object(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.tell(&[&["get", "--output=json"], arguments].concat())?;
        Ok(serde_json::from_str(&text)?)
    }
}

fn kubectl() -> Result<PathBuf> {
    Ok(programs::runtimes()?.join("kubernetes/kubectl"))
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The end of what a process has written, for a test that fails.
fn last_lines(process: &Process) -> String {
    let text = process.stderr().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(15)).copied().collect::<Vec<_>>().join("\n")
}
