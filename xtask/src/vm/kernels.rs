//! Debian's cloud kernels: the newest point version of each series, fetched, checked and unpacked.

use crate::{apt::Apt, command};
use anyhow::{Context as _, Result};
use std::{
    cmp::Ordering,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The suites that hold them. Old point versions leave the suites, so that none is ever named.
const SUITES: [&str; 4] = ["bullseye-security", "bookworm-security", "trixie-security", "trixie-backports"];

const FLAVOUR: &str = "-cloud-amd64";

/// A kernel to boot, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// Its series, such as `6.1`; `None` is the newest of all.
    series: Option<&'static str>,
    /// More for its command line.
    pub(crate) parameters: &'static str,
}

/// Every kernel that tidegate promises to work on. Debian has nothing between 5.10 and 6.1.
pub(crate) const KERNELS: [Kernel; 6] = [
    Kernel { name: "5.10", series: Some("5.10"), parameters: "" },
    // Debian's default list leaves `bpf` out: there BPF LSM programs attach and are never called.
    Kernel { name: "5.10-bpf", series: Some("5.10"), parameters: "lsm=lockdown,yama,apparmor,bpf" },
    Kernel { name: "6.1", series: Some("6.1"), parameters: "" },
    Kernel { name: "6.12", series: Some("6.12"), parameters: "" },
    Kernel { name: "6.18", series: Some("6.18"), parameters: "" },
    Kernel { name: "newest", series: None, parameters: "" },
];

/// A kernel on disk.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// What `uname -r` says.
    pub(crate) release: String,
    /// The kernel itself.
    pub(crate) image: PathBuf,
    /// What has `lib/modules`.
    tree: PathBuf,
}

/// One package of an index.
#[derive(Debug, PartialEq, Eq)]
struct Package<'a> {
    name: &'a str,
    version: &'a str,
}

impl Kernel {
    /// Two kernels of one series share their files.
    pub(crate) fn cache_name(&self) -> &'static str {
        self.series.unwrap_or("newest")
    }
}

/// The kernels as they lie in `cache`; those that are not there are fetched, and all of them with `refresh`.
pub(crate) fn unpacked(kernels: &[Kernel], cache: &Path, refresh: bool) -> Result<Vec<Unpacked>> {
    let is_missing = |kernel: &&Kernel| refresh || !cache.join(kernel.cache_name()).is_dir();
    let mut missing: Vec<Kernel> = kernels.iter().filter(is_missing).copied().collect();
    missing.dedup_by_key(|kernel| kernel.cache_name());
    if !missing.is_empty() {
        fetch(&missing, cache)?;
    }
    kernels.iter().map(|kernel| Unpacked::find(&cache.join(kernel.cache_name()))).collect()
}

fn fetch(kernels: &[Kernel], cache: &Path) -> Result<()> {
    let work = cache.join("apt");
    let apt = Apt::new(&work, &SUITES)?;
    apt.run("apt-get", &["update", "-qq"])?;
    let index = apt.output("apt-cache", &["dumpavail"])?;
    let index = packages(&index);
    for kernel in kernels {
        let wanted = newest(&index, kernel.series).with_context(|| {
            format!("the suites {} have no cloud kernel {}", SUITES.join(", "), kernel.name)
        })?;
        let tree = cache.join(kernel.cache_name());
        if tree.is_dir() && fs::read_to_string(tree.join("packages")).is_ok_and(|had| had == wanted.join(" "))
        {
            continue;
        }
        apt.run("apt-get", &[&["download", "-qq"], &wanted[..]].concat())?;
        unpack(&wanted, &work, &tree)?;
    }
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))
}

/// Unpacks beside the place and renames, so that an interrupted fetch is never taken for a whole one.
fn unpack(packages: &[&str], work: &Path, tree: &Path) -> Result<()> {
    let partial = work.join("tree");
    fs::create_dir_all(&partial)?;
    for package in packages {
        let files = fs::read_dir(work)?.filter_map(Result::ok).map(|entry| entry.path());
        let prefix = format!("{package}_");
        let file = files
            .into_iter()
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)));
        let file = file.with_context(|| format!("apt-get download left no package {package}"))?;
        command::run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&partial))?;
        fs::remove_file(file)?;
    }
    let found = Unpacked::find(&partial)?;
    let mut depmod = Command::new("depmod");
    command::run(depmod.arg("-b").arg(base_of(&partial)).arg(&found.release))?;
    fs::write(partial.join("packages"), packages.join(" "))?;
    if tree.is_dir() {
        fs::remove_dir_all(tree)?;
    }
    fs::rename(&partial, tree).with_context(|| format!("cannot put the kernel at {}", tree.display()))
}

impl Unpacked {
    fn find(tree: &Path) -> Result<Self> {
        let modules = base_of(tree).join("lib/modules");
        let release = only_entry(&modules)?;
        // Since 6.19 the kernel lies with its modules.
        let places = [tree.join(format!("boot/vmlinuz-{release}")), modules.join(&release).join("vmlinuz")];
        let image = places.into_iter().find(|path| path.is_file());
        let image = image.with_context(|| format!("no kernel in {}", tree.display()))?;
        Ok(Self { release, image, tree: tree.to_owned() })
    }

    /// The files of these modules and of all that they need, in the order in which they are to be loaded. One that
    /// the kernel has not is left out: what needs it says so.
    pub(crate) fn modules(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for name in names {
            let mut modprobe = Command::new("modprobe");
            modprobe.arg("-d").arg(base_of(&self.tree)).args(["-S", &self.release, "--show-depends", name]);
            let output = modprobe.output().context("starting modprobe")?;
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                // Options of the machine's own configuration may follow.
                let file = line.strip_prefix("insmod ").and_then(|rest| rest.split_whitespace().next());
                let file = file.map(PathBuf::from);
                files.extend(file.filter(|file| !files.contains(file)));
            }
        }
        Ok(files)
    }
}

/// What has `lib/modules`: newer packages lay it below `usr`.
fn base_of(tree: &Path) -> PathBuf {
    if tree.join("lib/modules").is_dir() { tree.to_owned() } else { tree.join("usr") }
}

fn only_entry(directory: &Path) -> Result<String> {
    let mut entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    let entry = entries.next().with_context(|| format!("{} is empty", directory.display()))??;
    Ok(entry.file_name().to_string_lossy().into_owned())
}

/// The packages of an index in Debian's format: fields by line, paragraphs by package.
fn packages(index: &str) -> Vec<Package<'_>> {
    fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
        paragraph.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
    }
    let paragraphs = index.split("\n\n");
    paragraphs
        .filter_map(|paragraph| {
            Some(Package { name: field(paragraph, "Package:")?, version: field(paragraph, "Version:")? })
        })
        .collect()
}

/// The packages of the newest kernel of a series. Since 6.19 there are three of them.
fn newest<'a>(index: &[Package<'a>], series: Option<&str>) -> Option<Vec<&'a str>> {
    let release = |package: &Package<'a>| {
        let release = package.name.strip_prefix("linux-image-")?.strip_suffix(FLAVOUR)?;
        let is_of_series = match series {
            Some(series) => release.strip_prefix(series).is_some_and(|rest| rest.starts_with('.')),
            None => true,
        };
        // Not those that are named after a series alone, and only depend on another package.
        let is_whole =
            release.starts_with(|first: char| first.is_ascii_digit()) && release.split('.').count() > 2;
        (is_of_series && is_whole).then_some(release)
    };
    let newest = index
        .iter()
        .filter_map(|package| Some((release(package)?, package)))
        .max_by(|(_, a), (_, b)| compare(a.version, b.version));
    let (release, image) = newest?;
    let parts = ["linux-binary-", "linux-modules-", "linux-base-"].map(|part| {
        let name = format!("{part}{release}{FLAVOUR}");
        index.iter().find(|package| package.name == name).map(|package| package.name)
    });
    match parts {
        [Some(binary), Some(modules), Some(base)] => Some(vec![binary, modules, base]),
        _ => Some(vec![image.name]),
    }
}

/// The order of Debian's versions: numbers as numbers, `~` before everything, letters before other signs.
fn compare(a: &str, b: &str) -> Ordering {
    let split = |text: &str| -> (u64, String) {
        match text.split_once(':') {
            Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest.to_owned()),
            None => (0, text.to_owned()),
        }
    };
    let ((epoch_a, a), (epoch_b, b)) = (split(a), split(b));
    epoch_a.cmp(&epoch_b).then_with(|| compare_parts(a.as_bytes(), b.as_bytes()))
}

fn compare_parts(mut a: &[u8], mut b: &[u8]) -> Ordering {
    fn take(text: &mut &[u8], of: impl Fn(&u8) -> bool) -> Vec<u8> {
        let length = text.iter().take_while(|byte| of(byte)).count();
        let (taken, rest) = text.split_at(length);
        *text = rest;
        taken.to_vec()
    }
    fn weight(byte: u8) -> u16 {
        match byte {
            b'~' => 0,
            letter if letter.is_ascii_alphabetic() => u16::from(letter) + 1,
            other => u16::from(other) + 512,
        }
    }
    const END: u16 = 1;
    while !a.is_empty() || !b.is_empty() {
        let is_text = |byte: &u8| !byte.is_ascii_digit();
        let weights = |text: Vec<u8>| text.into_iter().map(weight).chain([END]).collect::<Vec<_>>();
        let order = weights(take(&mut a, is_text)).cmp(&weights(take(&mut b, is_text)));
        let number = |text: Vec<u8>| {
            let digits = String::from_utf8_lossy(&text).trim_start_matches('0').to_owned();
            (digits.len(), digits)
        };
        let order = order.then_with(|| {
            number(take(&mut a, u8::is_ascii_digit)).cmp(&number(take(&mut b, u8::is_ascii_digit)))
        });
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "\
Package: linux-image-6.1-cloud-amd64
Version: 6.1.180-1

Package: linux-image-6.1.0-9-cloud-amd64
Source: linux-signed-amd64 (6.1.27+1)
Version: 6.1.27-1
Description: Linux 6.1
 Version: 9.9 of a description

Package: linux-image-6.1.0-56-cloud-amd64
Version: 6.1.192-1

Package: linux-image-6.1.0-0.deb11.52-cloud-amd64
Version: 6.1.180-1~deb11u1

Package: linux-image-6.1.0-57-cloud-amd64-dbg
Version: 6.1.193-1

Package: linux-image-6.12.117+deb13-cloud-amd64
Version: 6.12.117-1

Package: linux-image-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1

Package: linux-binary-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1

Package: linux-modules-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1

Package: linux-base-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1

Package: linux-image-7.10.1+deb13-amd64
Version: 7.10.1-1
";

    #[test]
    fn the_newest_point_version_of_a_series_is_found() {
        let index = packages(INDEX);
        assert_eq!(index.len(), 11);
        for (series, expected) in [
            (Some("6.1"), Some(vec!["linux-image-6.1.0-56-cloud-amd64"])),
            (Some("6.12"), Some(vec!["linux-image-6.12.117+deb13-cloud-amd64"])),
            (
                None,
                Some(vec![
                    "linux-binary-7.3.4+deb13-cloud-amd64",
                    "linux-modules-7.3.4+deb13-cloud-amd64",
                    "linux-base-7.3.4+deb13-cloud-amd64",
                ]),
            ),
            (Some("5.10"), None),
        ] {
            assert_eq!(newest(&index, series), expected, "{series:?}");
        }
    }

    #[test]
    fn an_index_that_is_cut_off_loses_its_last_packages_only() {
        for length in 0..INDEX.len() {
            let found = packages(&INDEX[..length]);
            assert!(found.len() <= 11 && found.iter().all(|package| INDEX.contains(package.name)));
        }
    }

    #[test]
    fn versions_are_ordered_as_debian_orders_them() {
        let ordered = [
            "5.10.9-1",
            "5.10.226-1~deb10u1",
            "5.10.226-1",
            "6.1.0-9",
            "6.1.0-56",
            "6.1.0-56+b1",
            "6.1.0-56.1",
            "7.3~rc7-1",
            "7.3-1",
            "7.3.4-1~bpo13+1",
            "7.3.4-1",
            "7.10-1",
            "1:1.0-1",
        ];
        for pair in ordered.windows(2) {
            let [older, newer] = pair else { panic!("two") };
            assert_eq!(compare(older, newer), Ordering::Less, "{older} {newer}");
            assert_eq!(compare(newer, older), Ordering::Greater, "{older} {newer}");
            assert_eq!(compare(newer, newer), Ordering::Equal);
        }
    }
}
