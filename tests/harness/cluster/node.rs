//! A node of a cluster: the machine's own systemd over a copy of its tree, with containerd and the kubelet as its services.
//! Its processes and cgroups are in namespaces of its own, its network is the world's.

use super::Cluster;
use crate::{
    containerd::image,
    process::wait_until,
    programs,
    scene::Scene,
    systemd::{self, Boot, Booted},
};
use anyhow::{Context as _, Result, ensure};
use std::{fs, path::Path, time::Duration};

/// How long it may take to boot, or to end.
const LIMIT: Duration = Duration::from_secs(90);

/// The node's address, at which the API server asks its kubelet.
const ADDRESS: &str = "198.18.0.1";

/// What is in its tree beside the machine's own.
const PREPARE: &str = r#"
mount -t tmpfs -o mode=755 none "$tree/var/lib"
mkdir -p "$tree/opt/kubernetes" "$tree/opt/runtime"
mount --bind "$directory/kubernetes" "$tree/opt/kubernetes"
# containerd keeps things of its own in /opt/containerd.
mount --bind "$directory/containerd-tree" "$tree/opt/runtime"
"#;

/// The kubelet wants settings of the kernel that are the whole machine's: it is shown files in their place. It finds pods'
/// cgroups by those of controllers, of which cgroup2 may have none here: what it would remove is removed for it.
const CHECK: &str = r#"
set -eu
show() {
    mkdir -p /run/settings
    file="/run/settings/$(echo "$1" | tr / _)"
    echo "$2" >"$file"
    mount --bind "$file" "/proc/sys/$1"
}
show vm/overcommit_memory 1
show vm/panic_on_oom 0
show kernel/panic 10
show kernel/panic_on_oops 1
show kernel/keys/root_maxkeys 1000000
show kernel/keys/root_maxbytes 25000000
systemctl start containerd.service
for image in "$DIRECTORY"/images/*.tar; do
    /opt/kubernetes/usr/bin/ctr --namespace k8s.io images import "$image"
done
systemctl start kubelet.service
touch "$DIRECTORY/node-is-up"
while [ ! -e "$DIRECTORY/node-may-end" ]; do
    find /sys/fs/cgroup/kubepods /sys/fs/cgroup/kubepods.slice -mindepth 2 -maxdepth 2 -type d -name '*pod*' \
        -not -newermt '-1 second' -exec rmdir {} + 2>/dev/null || true
    sleep 0.5
done
echo done
"#;

const CONTAINERD: &str = r"[Unit]
DefaultDependencies=no
[Service]
Type=notify
Delegate=yes
KillMode=process
Environment=PATH=/opt/kubernetes/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin TIDEGATE_TEST_RUNC=/opt/runtime/usr/sbin/runc
ExecStart=/opt/kubernetes/usr/bin/containerd --config DIRECTORY/containerd.toml
StandardOutput=append:DIRECTORY/containerd.log
StandardError=append:DIRECTORY/containerd.log
";

const KUBELET: &str = r"[Unit]
DefaultDependencies=no
[Service]
Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/opt/kubernetes/bin/kubelet --config=DIRECTORY/kubelet.yaml --kubeconfig=DIRECTORY/cluster/kubeconfig \
    --container-runtime=remote --container-runtime-endpoint=unix:///run/containerd/containerd.sock \
    --hostname-override=node --node-ip=ADDRESS --register-with-taints=TAINTS --v=0
StandardOutput=append:DIRECTORY/kubelet.log
StandardError=append:DIRECTORY/kubelet.log
";

/// What it looks at more often than it would by itself: objects that files are made of.
const KUBELET_CONFIG: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\ncgroupDriver: systemd\n\
    failSwapOn: false\nmaxOpenFiles: 500000\nmakeIPTablesUtilChains: false\nsyncFrequency: 2s\n\
    authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}\nauthorization: {mode: AlwaysAllow}\n\
    imageGCHighThresholdPercent: 100\nevictionHard: {memory.available: 10Mi, nodefs.available: 1%, imagefs.available: 1%}\n";

/// With NRI, which this containerd has switched off by itself.
const CONTAINERD_CONFIG: &str = r#"version = 2
root = "DIRECTORY/containerd/root"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/runtime/usr/lib/cni"
    conf_dir = "DIRECTORY/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = true
      BinaryName = "DIRECTORY/plain-runc"
[plugins."io.containerd.nri.v1.nri"]
  disable = false
"#;

const NETWORK: &str = r#"{"cniVersion":"1.0.0","name":"t","plugins":[{"type":"ptp","ipam":{"type":"host-local",
"ranges":[[{"subnet":"198.18.64.0/18"}]],"routes":[{"dst":"0.0.0.0/0"}],"dataDir":"/run/cni-ipam"}}]}"#;

/// A node that takes pods, until it is dropped.
#[derive(Debug)]
pub struct Node<'w> {
    booted: Booted<'w>,
    scene: &'w Scene,
}

impl<'w> Node<'w> {
    /// A node of this cluster, of the same world, with the images `localhost/busybox:1` and those of these archives. It is
    /// registered with these taints, as the kubelet's option has them.
    ///
    /// # Errors
    /// When something was not made, or it does not come up.
    pub fn join(cluster: &Cluster<'_>, scene: &'w Scene, images: &[&Path], taints: &str) -> Result<Self> {
        let directory = scene.directory();
        let shown = directory.to_str().context("the directory's name")?;
        let tree = programs::containerd()?;
        for (name, target) in [("kubernetes", programs::kubernetes()?), ("containerd-tree", tree.clone())] {
            std::os::unix::fs::symlink(fs::canonicalize(target)?, directory.join(name))?;
        }
        let archives = directory.join("images");
        for place in [&archives, &directory.join("cni"), &directory.join("containerd")] {
            fs::create_dir(place)?;
        }
        let own: [(&str, &[&str]); 2] = [("pause", &["/bin/sleep", "1000000"]), ("busybox", &["/bin/sh"])];
        for (name, entry) in own {
            let work = directory.join(format!("image-{name}"));
            let archive = image::of_busybox(&work, &tree, &format!("localhost/{name}:1"), entry)?;
            fs::rename(archive, archives.join(format!("{name}.tar")))?;
            fs::remove_dir_all(work)?;
        }
        for (number, archive) in images.iter().enumerate() {
            fs::copy(archive, archives.join(format!("further-{number}.tar")))?;
        }
        let wrapper = scene.world.write("plain-runc", include_str!("../../programs/plain_runc.py"))?;
        fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        scene.world.write("cni/10-t.conflist", NETWORK)?;
        scene.world.write("containerd.toml", CONTAINERD_CONFIG.replace("DIRECTORY", shown))?;
        scene.world.write("kubelet.yaml", KUBELET_CONFIG)?;
        let mut boot = Boot::new(scene, PREPARE, &format!("DIRECTORY={shown:?}\n{CHECK}"))?;
        boot.unit("containerd.service", CONTAINERD)?;
        let mut kubelet = KUBELET.replace("ADDRESS", ADDRESS).replace("TAINTS", taints);
        if taints.is_empty() {
            kubelet = kubelet.replace("--register-with-taints= ", "");
        }
        boot.unit("kubelet.service", &kubelet)?;
        let mut node = Self { booted: boot.begin()?, scene };
        node.wait(cluster).with_context(|| node.logs())?;
        Ok(node)
    }

    fn wait(&mut self, cluster: &Cluster<'_>) -> Result<()> {
        let is_up = self.scene.directory().join("node-is-up");
        wait_until("the node to be up", LIMIT, || {
            ensure!(!self.booted.has_ended()?, "the node ended");
            Ok(is_up.exists())
        })?;
        wait_until("the node to be one of the cluster's", LIMIT, || {
            Ok(cluster.ask(&["get", "node", "node"])?.status.success())
        })
    }

    /// The end of what its services have written.
    pub fn logs(&self) -> String {
        let logs = systemd::logs(self.scene.directory()).unwrap_or_default();
        let lines: Vec<&str> = logs.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(120)).copied().collect::<Vec<_>>().join("\n")
    }

    /// Ends it as a machine that is switched off.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end(self) -> Result<()> {
        self.scene.world.write("node-may-end", "")?;
        self.booted.finish(LIMIT)
    }
}
