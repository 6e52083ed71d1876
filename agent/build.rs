//! Compiles the kernel side from source and leaves each object in `OUT_DIR` as `NAME-ebpf`. With the feature
//! `kubernetes`, it also makes the messages of the protocols in `proto`, without `protoc`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const TARGET: &str = "bpfel-unknown-none";
const OBJECTS: [&str; 2] = ["tidegate", "learn"];

fn main() {
    for path in ["../ebpf", "../Cargo.lock"] {
        println!("cargo::rerun-if-changed={path}");
    }
    if let Err(problem) = build() {
        println!("cargo::error=cannot build the eBPF programs: {problem}; run `cargo xtask setup`");
    }
    #[cfg(feature = "kubernetes")]
    if let Err(problem) = messages() {
        println!("cargo::error=cannot make the messages of `proto`: {problem}");
    }
}

#[cfg(feature = "kubernetes")]
fn messages() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["ttrpc.proto", "nri.proto", "cri.proto"], ["proto"])?;
    // Labels in an order make what is told of them the same each time.
    Ok(prost_build::Config::new().btree_map(["."]).bytes(["."]).compile_fds(files)?)
}

fn build() -> Result<(), String> {
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    require_rust_src()?;
    require_bpf_linker()?;

    let target_dir = out_dir.join("ebpf");
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let output = Command::new(variable("CARGO")?)
        .args(["build", "--quiet", "--release", "--package", "tidegate-ebpf", "--bins"])
        .args(["--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(&target_dir)
        .current_dir(Path::new(&variable("CARGO_MANIFEST_DIR")?).join("../ebpf"))
        // The stable toolchain builds core for the BPF target only with its unstable flags unlocked.
        .env("RUSTC_BOOTSTRAP", "1")
        // Socket storage is a map whose types the kernel wants to know, which the linker tells in BTF.
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("--cfg=bpf_target_arch=\"{arch}\"\x1f-Clink-arg=--btf\x1f-Cdebuginfo=2"),
        )
        // The outer cargo's choices (clippy's driver above all) are not for the inner one.
        .env_remove("RUSTC")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).replace('\n', " | "));
    }
    for name in OBJECTS {
        let object = target_dir.join(TARGET).join("release").join(name);
        fs::copy(&object, out_dir.join(format!("{name}-ebpf")))
            .map_err(|error| format!("cannot copy {}: {error}", object.display()))?;
    }
    Ok(())
}

fn require_rust_src() -> Result<(), String> {
    let output = Command::new(variable("RUSTC")?)
        .args(["--print", "sysroot"])
        .output()
        .map_err(|error| format!("cannot start rustc: {error}"))?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let core = sysroot.join("lib/rustlib/src/rust/library/core");
    if core.is_dir() { Ok(()) } else { Err(format!("no rust-src at {}", core.display())) }
}

fn require_bpf_linker() -> Result<(), String> {
    println!("cargo::rerun-if-env-changed=PATH");
    match Command::new("bpf-linker").arg("--version").output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(format!("bpf-linker does not run: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Err(error) => Err(format!("no bpf-linker: {error}")),
    }
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}
