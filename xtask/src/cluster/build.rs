//! Compiling Kubernetes: quietly, with its messages in a log, and with little priority.

use anyhow::{Context as _, Result, bail, ensure};
use std::{
    collections::BTreeSet,
    fs,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

const PROGRAMS: [&str; 4] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"];

/// What the API server's description of its types is made of.
const DESCRIBED: [&str; 15] = [
    "api",
    "apimachinery",
    "apiserver",
    "apiextensions-apiserver",
    "kube-aggregator",
    "metrics",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kube-controller-manager",
    "cloud-provider",
    "client-go",
    "component-base",
    "controller-manager",
    "code-generator",
];
const MARK: &str = "+k8s:openapi-gen=";
/// Which of the source's packages say which version they are of.
const VERSIONED: [&str; 2] = ["component-base", "client-go/pkg"];

/// Go and the tree that it compiles, in the one place where it looks for it.
struct Build<'a> {
    work: &'a Path,
    tree: PathBuf,
    log: PathBuf,
}

/// Unpacks the source and compiles its programs into `bin`, with the Go that lies in `work/root`.
pub(super) fn programs(work: &Path, archive: &Path, bin: &Path) -> Result<()> {
    let tree = work.join("go/src/k8s.io/kubernetes");
    let build = Build { work, tree, log: work.join("build.log") };
    build.unpack(archive)?;
    build.replace_reflect2()?;
    build.describe()?;
    fs::create_dir_all(bin)?;
    let version = |package: &str| {
        ["k8s.io", "k8s.io/kubernetes/vendor/k8s.io"].map(|root| {
            let package = format!("{root}/{package}/version");
            format!("-X {package}.gitVersion=v1.20.2 -X {package}.gitMajor=1 -X {package}.gitMinor=20")
        })
    };
    let flags = format!("-s -w {}", VERSIONED.map(version).concat().join(" "));
    for program in PROGRAMS {
        let (to, from) = (bin.join(program).display().to_string(), format!("./cmd/{program}"));
        // Without clouds' and Docker's parts, which are a third of it.
        build.go(&["-tags", "providerless dockerless", "-ldflags", &flags, "-o", &to, &from])?;
    }
    Ok(())
}

impl Build<'_> {
    fn unpack(&self, archive: &Path) -> Result<()> {
        fs::create_dir_all(&self.tree)?;
        let mut tar = Command::new("tar");
        self.run(tar.args(["-x", "--strip-components=1", "-f"]).arg(archive).arg("-C").arg(&self.tree))
    }

    /// The one that the source holds reads memory that is not its own once it is compiled by Go 1.18 or newer.
    fn replace_reflect2(&self) -> Result<()> {
        let place = self.tree.join("vendor/github.com/modern-go/reflect2");
        let newer = self.work.join("root/usr/share/gocode/src/github.com/modern-go/reflect2");
        for directory in [&place, &newer] {
            for entry in
                fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?
            {
                let path = entry?.path();
                if !path.extension().is_some_and(|extension| extension == "go" || extension == "s") {
                    continue;
                }
                if directory == &place {
                    fs::remove_file(&path)?;
                } else {
                    fs::copy(&path, place.join(path.file_name().unwrap_or_default()))?;
                }
            }
        }
        Ok(())
    }

    /// The description of the types is generated, and the source package does not hold it.
    fn describe(&self) -> Result<()> {
        let generator = self.work.join("openapi-gen");
        let to = generator.display().to_string();
        self.go(&["-o", &to, "./vendor/k8s.io/kube-openapi/cmd/openapi-gen"])?;
        let mut packages = BTreeSet::new();
        let staging = DESCRIBED.map(|name| format!("staging/src/k8s.io/{name}"));
        for directory in staging.iter().map(String::as_str).chain(["pkg", "cmd"]) {
            let directory = self.tree.join(directory);
            if directory.is_dir() {
                marked(&directory, &mut packages)?;
            }
        }
        let packages: Vec<String> = packages
            .iter()
            .filter_map(|directory| directory.strip_prefix(&self.tree).ok()?.to_str())
            .map(|directory| match directory.strip_prefix("staging/src/") {
                Some(staged) => format!("k8s.io/kubernetes/vendor/{staged}"),
                None => format!("k8s.io/kubernetes/{directory}"),
            })
            .collect();
        ensure!(!packages.is_empty(), "no file below {} has a `{MARK}`", self.tree.display());
        let mut generate = self.nice(&generator);
        generate.args(["--input-dirs", &packages.join(",")]);
        generate.args(["--output-package", "k8s.io/kubernetes/pkg/generated/openapi"]);
        generate.args(["--output-file-base", "zz_generated.openapi"]);
        generate.args(["--go-header-file", "vendor/k8s.io/code-generator/hack/boilerplate.go.txt"]);
        self.run(generate.arg("--report-filename").arg(self.work.join("violations")))
    }

    fn go(&self, arguments: &[&str]) -> Result<()> {
        let cores = thread::available_parallelism()?.to_string();
        let go = self.work.join("root/usr/lib/go-1.19/bin/go");
        self.run(self.nice(&go).args(["build", "-p", &cores]).args(arguments))
    }

    /// A command of Go's that yields to whatever else the machine does.
    fn nice(&self, program: &Path) -> Command {
        let root = self.work.join("root/usr/lib/go-1.19");
        let mut command = Command::new("nice");
        command.args(["-n", "15"]).arg(program).current_dir(&self.tree);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([root.join("bin")].into_iter().chain(std::env::split_paths(&path)));
        command.env("PATH", path.unwrap_or_default());
        command.env("GOROOT", &root).env("GOPATH", self.work.join("go"));
        command.env("GOCACHE", self.work.join("cache")).env("HOME", self.work);
        // Nothing is fetched: the source holds whatever it needs.
        command.envs([("GO111MODULE", "off"), ("GOPROXY", "off"), ("GOFLAGS", ""), ("CGO_ENABLED", "0")]);
        command
    }

    /// Runs a command with its messages in the log.
    fn run(&self, command: &mut Command) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("writing {}", self.log.display()))?;
        let status = command.stdout(log.try_clone()?).stderr(log).status();
        let shown: String = crate::command::shown(command).chars().take(200).collect();
        if !status.with_context(|| format!("starting {shown}"))?.success() {
            bail!("compiling Kubernetes failed at `{shown}`: {} says why", self.log.display());
        }
        Ok(())
    }
}

/// Adds the directories of all files with the mark.
fn marked(directory: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            marked(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "go")
            && fs::read_to_string(&path).is_ok_and(|text| text.contains(MARK))
        {
            found.insert(directory.to_owned());
        }
    }
    Ok(())
}
