//! Podman's containers under `tidegate daemon`, on the machine's own systemd.

use anyhow::{Context as _, Result};
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    time::Duration,
};
use tidegate_tests::{
    agent::READ_ONLY,
    audit,
    cluster::manifests::{self, Place},
    containerd::image,
    programs,
    scene::Scene,
    systemd::Boot,
};

const LIMIT: Duration = Duration::from_secs(90);

/// Where Podman answers: in a directory of the node's that the manifest gives the agent.
const SOCKET: &str = "/run/containerd/podman.sock";
/// Whom it holds.
const GATED: &str =
    "[[workload]]\nname = \"gated\"\nmatch = [{ container = { labels = { app = \"bot\" } } }]\n";

/// Podman has a tree of its own, with libraries of its release, over which what it writes stays with the test.
const PREPARE: &str = r#"
mount -t tmpfs -o mode=755 none "$tree/var/lib"
mkdir -p "$scratch/podman/upper" "$scratch/podman/work" "$tree/opt/podman" "$tree/opt/containerd"
mount -t overlay overlay "$tree/opt/podman" \
    -o "lowerdir=$directory/podman-tree,upperdir=$scratch/podman/upper,workdir=$scratch/podman/work"
mount --bind "$directory/containerd-tree" "$tree/opt/containerd"
touch "$tree/usr/local/bin/tidegate"
mount --bind "$directory/tidegate" "$tree/usr/local/bin/tidegate"
"#;

/// Everything but programs and their settings is the machine's.
const ENTER: &str = r#"
set -eu
mkdir -p /run/podman /run/containerd /opt/podman/var/tmp /opt/podman/tmp
for place in /proc /sys /dev /run /var/lib /opt/containerd "$DIRECTORY"; do
    mkdir -p "/opt/podman$place"
    mount --rbind "$place" "/opt/podman$place"
done
export CONTAINERS_CONF="$DIRECTORY/containers.conf" CONTAINERS_STORAGE_CONF="$DIRECTORY/storage.conf"
podman() { chroot /opt/podman /usr/bin/podman "$@"; }
"#;

const CLIENTS: &str = r#"
run() {
    name=$1
    shift
    podman run --detach --name "$name" --network host --env PATH=/usr/bin:/bin "$@" --volume /usr:/usr:ro --volume /lib:/lib:ro \
        --volume /lib64:/lib64:ro --volume "$DIRECTORY/pod-hosts:/etc/hosts:ro" localhost/busybox:1 -c 'sleep 1000000'
}
# Until the agent has been told of them, nothing of anybody's passes.
until_it_says() {
    for attempt in $(seq 100); do
        said=$(podman exec "$1" curl --insecure --silent --max-time 10 --output /dev/null --write-out '%{http_code}' \
            --header 'Authorization: Bearer token' --request DELETE https://api.digitalocean.com/v2/droplets/1) || true
        [ "$said" != "$2" ] || return 0
        [ "$said" = 000 ] || break
        sleep 0.1
    done
    echo "$1: $said"
    exit 1
}
# What its image has of certificates is made to trust the gate while it runs.
until_it_trusts() {
    for attempt in $(seq 100); do
        said=$(podman exec "$1" python3 -c 'import urllib.request as r; print(r.urlopen(r.Request(
"https://api.digitalocean.com/v2/droplets", headers={"Authorization": "Bearer token"})).status)' 2>&1 | tail -1) || true
        [ "$said" != 200 ] || return 0
        sleep 0.1
    done
    echo "$1: $said"
    exit 1
}
podman load --quiet --input "$DIRECTORY/busybox.tar"
"#;

const CHECK: &str = r#"
systemctl start podman.service tidegate-cover.socket tidegate.service
run gated --label app=bot
run other
until_it_says gated 403
until_it_says other 404
until_it_trusts gated
# Nobody else is served, root or not.
said=$(python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect("/run/tidegate/cover.sock"); print(s.makefile().read())')
case "$said" in *"tidegate.service"*) ;; *) echo "the cover served another: $said"; exit 1 ;; esac
! podman exec other grep -q tidegate/containers /proc/self/mountinfo || { echo "other has our mounts"; exit 1; }
podman rm --force --time 0 gated other
for attempt in $(seq 100); do
    [ -n "$(ls /run/tidegate/containers)" ] || break
    sleep 0.1
done
[ -z "$(ls /run/tidegate/containers)" ] || { echo "copies are left"; exit 1; }
systemctl stop tidegate.service
echo done
"#;

/// The directories are the machine's, which the kubelet would make.
const CHECK_OF_PLAY: &str = r#"
mkdir -p /var/lib/tidegate /var/log/tidegate /run/tidegate /run/containerd /run/crio /run/nri /run/netns
systemctl start podman.service
podman load --quiet --input "$DIRECTORY/tidegate.tar"
podman kube play "$DIRECTORY/agents.yaml"
for attempt in $(seq 100); do
    ! curl --silent --fail http://127.0.0.1:9099/readyz || break
    sleep 0.1
done
curl --silent --show-error --fail http://127.0.0.1:9099/readyz
run gated --label app=bot
run other
until_it_says gated 403
until_it_says other 404
until_it_trusts gated
podman rm --force --time 0 gated other
cp /var/log/tidegate/audit.jsonl "$DIRECTORY/"
podman kube down "$DIRECTORY/agents.yaml"
echo done
"#;

const PODMAN: &str = "[Unit]\nDefaultDependencies=no\n[Service]\nEnvironment=CONTAINERS_CONF=DIRECTORY/containers.conf \
    CONTAINERS_STORAGE_CONF=DIRECTORY/storage.conf\n\
    ExecStart=/usr/sbin/chroot /opt/podman /usr/bin/podman system service --time=0 unix:///run/containerd/podman.sock\n\
    StandardError=append:DIRECTORY/podman.log\n";
/// With the limits of the unit as it is shipped, but for those of places, which would hide the test's own.
const DAEMON: &str = "[Unit]\nDefaultDependencies=no\n[Service]\nType=notify\n\
    Environment=TIDEGATE_COVER_SOCKET=/run/tidegate/cover.sock\n\
    ExecStart=/usr/local/bin/tidegate daemon --config DIRECTORY/tidegate.toml\nStandardError=append:DIRECTORY/daemon.log\n";

/// The units of what enters containers, as they are shipped.
const COVER: [(&str, &str); 2] = [
    ("tidegate-cover.socket", include_str!("../../deploy/systemd/tidegate-cover.socket")),
    ("tidegate-cover@.service", include_str!("../../deploy/systemd/tidegate-cover@.service")),
];

/// What the shipped unit takes away.
fn limits() -> String {
    const OF_PLACES: [&str; 4] = ["ProtectSystem=", "ReadWritePaths=", "ProtectHome=", "PrivateTmp="];
    let unit = include_str!("../../deploy/systemd/tidegate.service");
    let lines = unit.lines().skip_while(|line| !line.starts_with("CapabilityBoundingSet="));
    let lines = lines.take_while(|line| *line != "[Install]").filter(|line| !line.starts_with('#'));
    lines
        .filter(|line| !OF_PLACES.iter().any(|key| line.starts_with(key)))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Boots a machine with Podman, whose purpose is this script.
fn boot<'s>(scene: &'s Scene, check: &str) -> Result<Boot<'s>> {
    let directory = scene.directory();
    let shown = directory.to_str().context("the directory's name")?;
    let tree = programs::containerd()?;
    symlink(fs::canonicalize(&tree)?, directory.join("containerd-tree"))?;
    symlink(fs::canonicalize(programs::podman()?)?, directory.join("podman-tree"))?;
    symlink(programs::built("tidegate")?, directory.join("tidegate"))?;
    let archive = image::of_busybox(&directory.join("image"), &tree, "localhost/busybox:1", &["/bin/sh"])?;
    fs::rename(archive, directory.join("busybox.tar"))?;
    scene.world.write("pod-hosts", "127.0.0.1 localhost\n192.0.2.10 api.digitalocean.com\n")?;
    scene.world.write("plain_runc.py", include_str!("../programs/plain_runc.py"))?;
    let wrapper = format!(
        "#!/opt/containerd/bin/busybox sh\nTIDEGATE_TEST_RUNC=/opt/containerd/usr/sbin/runc \\\n\
         exec /opt/containerd/bin/busybox chroot /proc/1/root /usr/bin/python3 {shown}/plain_runc.py \"$@\"\n"
    );
    let wrapper = scene.world.write("plain-runc", wrapper)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    let engine = format!(
        "[engine]\ncgroup_manager = \"systemd\"\nevents_logger = \"file\"\nruntime = \"plain\"\n\
         [engine.runtimes]\nplain = [{wrapper:?}]\n\
         [containers]\npids_limit = 0\nlog_driver = \"k8s-file\"\ndefault_ulimits = []\n"
    );
    scene.world.write("containers.conf", engine)?;
    // The mounts of containers' roots have to be seen from without as well, where the runtime looks for them.
    let storage = format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{shown}/storage\"\nrunroot = \"/run/podman/storage\"\n\
         [storage.options.overlay]\nskip_mount_home = \"true\"\n"
    );
    scene.world.write("storage.conf", storage)?;
    let mut boot = Boot::new(scene, PREPARE, &format!("DIRECTORY={shown:?}\n{ENTER}{CLIENTS}{check}"))?;
    boot.unit("podman.service", PODMAN)?;
    for (name, unit) in COVER {
        let unit = unit.replacen("[Unit]\n", "[Unit]\nDefaultDependencies=no\n", 1);
        boot.unit(name, &unit.replace("/usr/bin/tidegate", "/usr/local/bin/tidegate"))?;
    }
    Ok(boot)
}

/// One deletion was refused, of the container with the label.
fn is_recorded(scene: &Scene) -> Result<()> {
    let records = audit::read(&scene.directory().join("audit.jsonl"))?;
    let refused = audit::only(&records, "a refused deletion", |record| record.reason() == "missing_scope")?;
    assert_eq!((refused.text("tidegate.workload"), refused.text("container.name")), ("gated", "gated"));
    Ok(())
}

#[test]
fn a_container_of_podmans_is_held_by_its_label_and_another_is_not() -> Result<()> {
    let scene = Scene::new()?;
    let shown = scene.directory().to_str().context("the directory's name")?;
    let mut boot = boot(&scene, CHECK)?;
    fs::create_dir(scene.directory().join("policies"))?;
    scene.world.write("policies/look.toml", READ_ONLY)?;
    let config = format!(
        "policy_dir = \"{shown}/policies\"\n{}policy = \"look\"\n\
         [capture]\ncgroup_root = \"/sys/fs/cgroup\"\nsticky_tags = false\n[containers]\nengine = {SOCKET:?}\n\
         [upstream]\nca_file = {:?}\n[audit]\npath = \"{shown}/audit.jsonl\"\n",
        GATED,
        scene.standin.ca_file()
    );
    scene.world.write("tidegate.toml", config)?;
    boot.unit("tidegate.service", &format!("{DAEMON}{}", limits()))?;
    boot.run(LIMIT)?;
    is_recorded(&scene)
}

/// Of what the manifest says, Podman does not do all: probes it would run in the container, by programs that are not there.
#[test]
fn the_agent_of_the_daemon_set_is_played_by_podman_and_holds_its_containers() -> Result<()> {
    let scene = Scene::new()?;
    let boot = boot(&scene, CHECK_OF_PLAY)?;
    let ca_file = format!("--ca-file={}", scene.standin.ca_file().display());
    let (archive, _) = tidegate_tests::image::make(scene.directory(), &[ca_file])?;
    fs::rename(archive, scene.directory().join("tidegate.tar"))?;
    let config = format!("[containers]\nengine = {SOCKET:?}\n{GATED}policy = \"read-only\"\n");
    let text = manifests::render(&scene.directory().join("manifests"), Place::Alone, &config)?;
    scene.world.write("agents.yaml", text)?;
    boot.run(LIMIT)?;
    is_recorded(&scene)
}
