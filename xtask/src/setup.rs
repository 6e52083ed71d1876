//! Gets what the eBPF build needs beyond the toolchain: rust-src and bpf-linker.
//!
//! Both must fit the running toolchain exactly: rust-src is compiled by it, and bpf-linker links with the
//! toolchain's own LLVM, so that it reads the bitcode that rustc writes.

mod rust_src;

use crate::command::{output, run};
use anyhow::{Context, Result, bail};
use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

/// Built against LLVM 22 for rustc 1.95; newer ones need a newer rustc.
const BPF_LINKER: &str = "0.13.0";

/// The running toolchain.
pub(crate) struct Toolchain {
    /// `1.95.0`.
    pub(crate) version: String,
    /// The major version of its LLVM.
    llvm: String,
    /// Where it is installed.
    pub(crate) sysroot: PathBuf,
}

/// Installs what is missing; quick when nothing is.
pub(crate) fn ensure() -> Result<()> {
    let toolchain = Toolchain::running()?;
    rust_src::ensure(&toolchain)?;
    ensure_bpf_linker(&toolchain)
}

impl Toolchain {
    fn running() -> Result<Self> {
        let verbose = output(Command::new("rustc").arg("-vV"))?;
        let field = |name: &str| {
            let line = verbose.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned())
                .with_context(|| format!("`rustc -vV` has no `{name}` line"))
        };
        let llvm = field("LLVM version:")?;
        let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
        Ok(Self {
            version: field("release:")?,
            llvm: llvm.split('.').next().unwrap_or(&llvm).to_owned(),
            sysroot: sysroot.trim().into(),
        })
    }

    /// The shared library that holds the toolchain's LLVM.
    fn libllvm(&self) -> Result<PathBuf> {
        let lib = self.sysroot.join("lib");
        let mut found: Vec<(u64, PathBuf)> = fs::read_dir(&lib)
            .with_context(|| format!("cannot read {}", lib.display()))?
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("libLLVM"))
            .filter_map(|entry| Some((entry.metadata().ok()?.len(), entry.path())))
            .collect();
        // Beside the library lies a linker script of a few bytes with a similar name.
        found.sort();
        found.pop().map(|(_, path)| path).with_context(|| format!("no libLLVM in {}", lib.display()))
    }
}

fn ensure_bpf_linker(toolchain: &Toolchain) -> Result<()> {
    let wanted = format!("bpf-linker {BPF_LINKER}");
    if output(Command::new("bpf-linker").arg("--version")).is_ok_and(|version| version.trim() == wanted) {
        return Ok(());
    }
    let prefix = env::temp_dir().join(format!("tidegate-llvm-{}", std::process::id()));
    let result = install_bpf_linker(toolchain, &prefix);
    fs::remove_dir_all(&prefix).with_context(|| format!("cannot remove {}", prefix.display()))?;
    result?;
    match output(Command::new("bpf-linker").arg("--version")) {
        Ok(version) if version.trim() == wanted => Ok(()),
        Ok(version) => bail!("`bpf-linker` on PATH is {}, not {wanted}; remove it", version.trim()),
        Err(error) => {
            Err(error.context("bpf-linker is installed but not on PATH; add cargo's bin directory to it"))
        }
    }
}

fn install_bpf_linker(toolchain: &Toolchain, prefix: &Path) -> Result<()> {
    let lib = prefix.join("lib");
    fs::create_dir_all(&lib).with_context(|| format!("cannot create {}", lib.display()))?;
    symlink(toolchain.libllvm()?, lib.join("libLLVM.so")).context("cannot link to the toolchain's LLVM")?;
    let rpath = format!("-C link-arg=-Wl,-rpath,{}", toolchain.sysroot.join("lib").display());
    run(Command::new("cargo")
        // Nearly all of its time passes in LLVM, which is optimised in any case.
        .args(["install", "--debug", "bpf-linker", "--version", BPF_LINKER, "--locked", "--force", "--quiet"])
        .args(["--no-default-features", "--features", &format!("llvm-{}", toolchain.llvm)])
        .env("LLVM_PREFIX", prefix)
        .env("RUSTFLAGS", rpath)
        // Its build belongs nowhere near this workspace's.
        .env("CARGO_TARGET_DIR", prefix.join("target")))
}
