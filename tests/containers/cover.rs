//! Stores that an image brings with it: the local CA gets into them in the container's own mounts.

use super::daemon::{GATED, LOOK, Node, PROGRAMS, decided};
use anyhow::{Context as _, Result, ensure};
use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Instant,
};
use tidegate_tests::{
    agent::LIMIT,
    certificates::Authority,
    containerd::{Pod, Running},
    process::{Process, wait_until},
    programs,
    scene::Scene,
};

const IMAGE: &str = "localhost/app:1";
const OTHER: Pod<'_> =
    Pod { namespace: "web", name: "front", labels: &[("app", "bot")], is_host_network: false };
/// Certificates that come with Python's packages, which no variable puts aside.
const CERTIFI: &str = "/opt/app/venv/lib/python3.11/site-packages/certifi/cacert.pem";
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Java's, where Debian's image has them.
const KEYSTORE: &str = "/etc/ssl/certs/java/cacerts";
const JAVA_SETTINGS: &str = "/etc/java-17-openjdk";
const JAVA: &str = "/usr/lib/jvm/java-17-openjdk-amd64/bin/java";
const URL: &str = "https://api.digitalocean.com/v2/droplets";

/// Goes by that file and nothing else.
pub(crate) fn look_by(file: &str) -> String {
    format!(
        "env -i PATH=/usr/bin python3 -c 'import ssl, urllib.request as r; \
         trusted = ssl.create_default_context(cafile=\"{file}\"); \
         asked = r.Request(\"{URL}\", headers={{\"Authorization\": \"Bearer token\"}}); \
         print(r.urlopen(asked, context=trusted).status, end=\"\")' 2>&1"
    )
}

fn look_in_java() -> String {
    format!("env -i PATH=/usr/bin {JAVA} -Xshare:off -cp /java Client {URL} 2>&1")
}

/// An application's image.
fn fill(root: &Path) -> Result<()> {
    let corporate = Authority::new("corporate")?.pem().to_owned();
    for file in [CERTIFI, BUNDLE] {
        let place = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(place.parent().context("a file's directory")?)?;
        fs::write(place, &corporate)?;
    }
    let keystore = root.join(KEYSTORE.trim_start_matches('/'));
    fs::create_dir_all(keystore.parent().context("a file's directory")?)?;
    fs::copy(KEYSTORE, keystore).context("this test needs Java's certificates: ca-certificates-java")?;
    Ok(())
}

fn start(node: &Node<'_>, pod: &Running, image: &str, script: &str) -> Result<String> {
    let java = programs::runtimes()?.join("java");
    let mut mounts: Vec<(&str, &Path)> = PROGRAMS.iter().map(|path| (*path, Path::new(*path))).collect();
    mounts.extend([("/etc/hosts", node.hosts.as_path()), ("/java", &java)]);
    mounts.push((JAVA_SETTINGS, Path::new(JAVA_SETTINGS)));
    let variables = [("PATH", "/usr/bin:/bin")];
    node.containerd.run_image(pod, "main", (image, script), &variables, &mounts)
}

fn mounts_of(node: &Node<'_>, container: &str) -> Result<String> {
    node.said(container, "cat /proc/self/mountinfo")
}

/// How many directories with copies the daemon keeps.
fn copies(scene: &Scene) -> Result<usize> {
    let directory = scene.world.root().join("run/tidegate/containers");
    Ok(fs::read_dir(directory)?.count())
}

#[test]
fn what_an_image_brings_is_covered_before_its_first_program_reads_it() -> Result<()> {
    let scene = Scene::new()?;
    let node = Node::new(&scene)?;
    node.containerd.import(IMAGE, fill)?;
    let (daemon, running) = node.begin()?;
    let pod = node.containerd.run_pod(&GATED)?;
    let first = format!("cat {CERTIFI} >/tmp/first; cat {KEYSTORE} >/tmp/keystore");
    let container = start(&node, &pod, IMAGE, &first)?;
    let log = || running.process.stderr();
    let same = node.said(
        &container,
        &format!("cmp {CERTIFI} /tmp/first && cmp {KEYSTORE} /tmp/keystore && echo same"),
    )?;
    ensure!(same == "same\n", "{same}\n{}", log()?);
    ensure!(node.said(&container, &look_by(CERTIFI))? == "200", "{}", log()?);
    let in_java = node.said(&container, &look_in_java())?;
    ensure!(in_java.contains(&format!("{URL} 200")), "{in_java}\n{}", log()?);
    // What it trusted before it trusts as ever.
    let count = node.said(&container, &format!("grep -c BEGIN {CERTIFI}"))?;
    ensure!(count.trim() == "2", "{count}");
    let changed = node.said(&container, &format!("echo >>{CERTIFI}"))?;
    ensure!(changed.contains("Read-only"), "{changed}");
    println!("{}", log()?);
    node.containerd.remove_pod(&pod)?;
    wait_until("the copies to go", LIMIT, || Ok(copies(&scene)? == 0))?;
    running.stop()?;
    assert_eq!(decided(&daemon.records()?), [("gated", "scopes_allowed"); 2]);
    Ok(())
}

#[test]
fn without_nri_what_an_image_brings_is_covered_soon_after_its_start_and_its_neighbours_is_not() -> Result<()>
{
    let scene = Scene::new()?;
    let node = Node::new(&scene)?;
    node.containerd.import(IMAGE, fill)?;
    let early_pod = node.containerd.run_pod(&Pod { name: "early", ..GATED })?;
    let early = start(&node, &early_pod, IMAGE, "")?;
    let other_pod = node.containerd.run_pod(&OTHER)?;
    let other = start(&node, &other_pod, IMAGE, "")?;
    let (before, read_before) = (mounts_of(&node, &other)?, node.said(&other, &format!("cat {CERTIFI}"))?);

    let daemon = node.daemon_at(Path::new("/nonexistent/nri.sock"))?;
    let running = daemon.start()?;
    let late_pod = node.containerd.run_pod(&Pod { name: "late", ..GATED })?;
    let late = start(&node, &late_pod, IMAGE, "")?;
    // What comes under a policy while it runs, and what starts under one.
    for container in [&early, &late] {
        let mut said = String::new();
        let covered = wait_until("the program to trust the gate", LIMIT, || {
            said = node.said(container, &look_by(CERTIFI))?;
            Ok(said == "200")
        });
        covered.with_context(|| format!("{said}\n{}", running.process.stderr().unwrap_or_default()))?;
        // By the image's own bundle, which is where curl looks.
        ensure!(node.said(container, LOOK)? == "200", "{}", running.process.stderr()?);
        let in_java = node.said(container, &look_in_java())?;
        ensure!(in_java.contains(&format!("{URL} 200")), "{in_java}");
        let twice = mounts_of(&node, container)?.matches(CERTIFI).count();
        ensure!(twice == 1, "covered {twice} times");
    }
    ensure!(mounts_of(&node, &other)? == before, "{before}\n{}", mounts_of(&node, &other)?);
    ensure!(node.said(&other, &format!("cat {CERTIFI}"))? == read_before);

    // The next daemon finds all of it done.
    running.stop()?;
    let running = daemon.start()?;
    let again = node.containerd.run_pod(&Pod { name: "again", ..GATED })?;
    let third = start(&node, &again, IMAGE, "")?;
    let covered =
        wait_until(
            "the next one to be covered",
            LIMIT,
            || Ok(node.said(&third, &look_by(CERTIFI))? == "200"),
        );
    covered.with_context(|| running.process.stderr().unwrap_or_default())?;
    ensure!(mounts_of(&node, &early)?.matches(CERTIFI).count() == 1, "{}", running.process.stderr()?);
    for pod in [&early_pod, &other_pod, &late_pod, &again] {
        node.containerd.remove_pod(pod)?;
    }
    wait_until("the copies to go", LIMIT, || Ok(copies(&scene)? == 0))?;
    running.stop()?;
    Ok(())
}

/// Certificates of the machine's, which no container may come to see.
const SECRET: &str = "# of the machine alone";

/// Everything that a store can be and should not.
fn fill_with_traps(root: &Path, machine: &Path) -> Result<()> {
    fill(root)?;
    let at = |path: &str| -> Result<PathBuf> {
        let place = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().context("a file's directory")?)?;
        Ok(place)
    };
    let link = |path: &str, target: &Path| -> Result<()> { Ok(symlink(target, at(path)?)?) };
    let up = Path::new("../../../../../../../..").join(machine.strip_prefix("/")?);
    link("/etc/ssl/cert.pem", machine)?;
    link("/etc/pki/tls/certs/ca-bundle.crt", &up)?;
    link("/etc/ssl/ca-bundle.pem", &Path::new("/proc/1/root").join(machine.strip_prefix("/")?))?;
    link("/var/lib/ca-certificates/ca-bundle.pem", Path::new("/proc/self/environ"))?;
    link("/etc/ca-certificates/extracted/tls-ca-bundle.pem", Path::new("/proc/kmsg"))?;
    link("/etc/pki/tls/cert.pem", Path::new("/proc/self/fd/0"))?;
    link("/opt/self", Path::new("self"))?;
    link("/opt/round", Path::new("/opt"))?;
    link("/usr/local/python-x", Path::new(".."))?;
    let fifo = at("/etc/pki/tls/certs/ca-bundle.trust.crt")?;
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU)?;
    let zero = at("/usr/local/ssl/cert.pem")?;
    let kind = nix::sys::stat::SFlag::S_IFCHR;
    nix::sys::stat::mknod(&zero, kind, nix::sys::stat::Mode::S_IRWXU, nix::sys::stat::makedev(1, 5))?;
    fs::write(at("/opt/huge/lib/python3.11/site-packages/certifi/cacert.pem")?, vec![b'-'; 17 << 20])?;
    for number in 0..300 {
        let path = format!("/opt/many-{number}/lib/python3.11/site-packages/certifi/cacert.pem");
        fs::copy(root.join(CERTIFI.trim_start_matches('/')), at(&path)?)?;
    }
    Ok(())
}

#[test]
fn an_image_full_of_traps_sees_nothing_of_the_machines_and_the_daemon_goes_on() -> Result<()> {
    let scene = Scene::new()?;
    let node = Node::new(&scene)?;
    let machine =
        scene.world.write("machine.pem", format!("{SECRET}\n{}", Authority::new("machine")?.pem()))?;
    let its_own = fs::read_to_string(&machine)?;
    node.containerd.import("localhost/traps:1", |root| fill_with_traps(root, &machine))?;
    node.containerd.import(IMAGE, fill)?;
    let daemon = node.daemon_at(Path::new("/nonexistent/nri.sock"))?;
    let running = daemon.start()?;
    let pod = node.containerd.run_pod(&Pod { name: "traps", ..GATED })?;
    let container =
        node.containerd.run_image(&pod, "main", ("localhost/traps:1", ""), &[("PATH", "/bin")], &[])?;
    let log = || running.process.stderr();
    wait_until("the trapped one to be seen to", LIMIT, || {
        Ok(log()?.contains("the local CA is in the stores"))
    })?;
    let found = node.said(&container, &format!("cat {CERTIFI}"))?;
    ensure!(found.matches("BEGIN").count() == 2, "the store that is one is covered: {found}\n{}", log()?);
    let shown = "while read device place rest; do [ -f $place ] && cat $place; done </proc/mounts";
    let shown = node.said(&container, shown)?;
    ensure!(shown.contains(found.trim()), "what lies over stores is among the files that are mounted");
    let line = its_own.lines().nth(3).context("a line of a certificate")?;
    ensure!(!shown.contains(SECRET) && !shown.contains(line), "{shown}");
    ensure!(log()?.contains("it has more stores than are covered"), "{}", log()?);

    let next = node.containerd.run_pod(&GATED)?;
    let honest = start(&node, &next, IMAGE, "")?;
    wait_until("another to be covered", LIMIT, || Ok(node.said(&honest, &look_by(CERTIFI))? == "200"))?;
    for pod in [&pod, &next] {
        node.containerd.remove_pod(pod)?;
    }
    wait_until("the copies to go", LIMIT, || Ok(copies(&scene)? == 0))?;
    running.stop()?;
    Ok(())
}

#[test]
fn what_lies_over_stores_follows_a_rotation_of_the_local_ca() -> Result<()> {
    let scene = Scene::new()?;
    let node = Node::new(&scene)?;
    node.containerd.import(IMAGE, fill)?;
    let (daemon, running) = node.begin()?;
    let pod = node.containerd.run_pod(&GATED)?;
    let container = start(&node, &pod, IMAGE, "")?;
    ensure!(node.said(&container, &look_by(CERTIFI))? == "200", "{}", running.process.stderr()?);
    let (tidegate, config) = (programs::built("tidegate")?, daemon.config().as_os_str());
    let words = ["ca", "rotate", "--now", "--config"].map(OsStr::new);
    let line: Vec<&OsStr> = [tidegate.as_os_str()].into_iter().chain(words).chain([config]).collect();
    let rotated = Process::run(&mut scene.world.command(&line), scene.directory(), LIMIT)?;
    ensure!(rotated.status.success(), "{rotated:?}");
    // Also by what the runtime has mounted when the container was made.
    for file in [CERTIFI, BUNDLE] {
        wait_until("the next CA to be trusted", LIMIT, || {
            Ok(node.said(&container, &format!("grep -c BEGIN {file}"))?.trim().parse::<usize>()? >= 3)
        })
        .with_context(|| format!("{file}\n{}", running.process.stderr().unwrap_or_default()))?;
        ensure!(node.said(&container, &look_by(file))? == "200", "{file}: {}", running.process.stderr()?);
    }
    node.containerd.remove_pod(&pod)?;
    wait_until("the copies to go", LIMIT, || Ok(copies(&scene)? == 0))?;
    running.stop()?;
    Ok(())
}

/// Mounts, where it is run, a file system over $1 by a descriptor 9 of /dev/fuse that nobody reads from.
const STUCK: &str = "import ctypes, os, sys, time; libc = ctypes.CDLL(None, use_errno=True); \
    mounted = libc.mount(b'stuck', sys.argv[1].encode(), b'fuse', 0, b'fd=9,rootmode=40000,user_id=0,group_id=0'); \
    print('mounted' if mounted == 0 else os.strerror(ctypes.get_errno()), flush=True); time.sleep(1000)";

#[test]
fn a_file_system_that_never_answers_holds_nobody_up() -> Result<()> {
    let scene = Scene::new()?;
    let node = Node::new(&scene)?;
    node.containerd.import(IMAGE, fill)?;
    let pod = node.containerd.run_pod(&Pod { name: "stuck", ..GATED })?;
    let stuck = start(&node, &pod, IMAGE, "")?;
    let pid = node.containerd.processes(&stuck)?.first().copied().context("a process")?;
    let mount =
        format!("exec 9<>/dev/fuse; exec nsenter --target {pid} --mount /usr/bin/python3 -c \"$1\" /opt/app");
    let line = ["bash", "-c", &mount, "stuck", STUCK];
    let mut server = Process::start(&mut scene.world.command(&line), scene.directory())?;
    server.wait_for_output("mounted", LIMIT)?;

    let daemon = node.daemon()?;
    let running = daemon.start()?;
    node.follows(&running)?;
    let next = node.containerd.run_pod(&GATED)?;
    let begun = Instant::now();
    let honest = start(&node, &next, IMAGE, "")?;
    let took = begun.elapsed();
    ensure!(node.said(&honest, &look_by(CERTIFI))? == "200", "{}", running.process.stderr()?);
    let log = || running.process.stderr();
    ensure!(!log()?.contains("could not be read within"), "the other one did not wait: {took:?}");
    wait_until("the agent to give up", LIMIT, || {
        Ok(log()?.contains("a file of the container's could not be read within 10s"))
    })?;
    let process = running.process.id();
    wait_until("its process to be gone", LIMIT, || {
        let threads = fs::read_dir(format!("/proc/{process}/task"))?.flatten();
        let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
        let mut children = children.flat_map(|list| {
            list.split_whitespace()
                .map(|child| fs::read_to_string(format!("/proc/{child}/cmdline")))
                .collect::<Vec<_>>()
        });
        Ok(!children.any(|line| line.is_ok_and(|line| line.contains("__cover"))))
    })?;
    // With whoever serves it the file system fails, which lets everybody go on.
    drop(server);
    for pod in [&pod, &next] {
        node.containerd.remove_pod(pod)?;
    }
    wait_until("the copies to go", LIMIT, || Ok(copies(&scene)? == 0))?;
    running.stop()?;
    Ok(())
}
