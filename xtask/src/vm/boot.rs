//! One kernel in qemu, without KVM: any machine can do it, and a guest cannot wedge its host.

use super::kernels::{Kernel, Unpacked};
use anyhow::{Context as _, Result};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// What a machine left.
pub(crate) struct Booted {
    /// What it wrote to the console.
    pub(crate) console: String,
    /// What it wrote to the second serial port.
    pub(crate) results: String,
    /// How long it ran.
    pub(crate) took: Duration,
}

/// Boots a kernel from the disk, whose changes are thrown away, and waits for its end; kills it at the limit.
pub(crate) fn boot(
    kernel: &Kernel,
    files: &Unpacked,
    disk: &Path,
    logs: &Path,
    limit: Duration,
) -> Result<Booted> {
    fs::create_dir_all(logs)?;
    let console = logs.join(format!("{}.console", kernel.name));
    let results = logs.join(format!("{}.results", kernel.name));
    let mut qemu = qemu(files, disk);
    qemu.arg("-append").arg(command_line(kernel, ""));
    for log in [&console, &results] {
        qemu.arg("-serial").arg(format!("file:{}", log.display()));
    }
    let started = Instant::now();
    let mut qemu = qemu.stdin(Stdio::null()).spawn().context("starting qemu-system-x86_64")?;
    while qemu.try_wait()?.is_none() {
        if started.elapsed() > limit {
            qemu.kill()?;
            qemu.wait()?;
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    let text = |path: &Path| -> Result<String> {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Booted { console: text(&console)?, results: text(&results)?, took: started.elapsed() })
}

/// As [`boot`], with a shell on this terminal instead of the tests.
pub(crate) fn shell(kernel: &Kernel, files: &Unpacked, disk: &Path) -> Result<()> {
    let mut qemu = qemu(files, disk);
    qemu.args(["-serial", "stdio", "-serial", "null"]);
    qemu.arg("-append").arg(command_line(kernel, "TIDEGATE_VM_SHELL=1"));
    crate::command::run(&mut qemu)
}

fn qemu(files: &Unpacked, disk: &Path) -> Command {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"]);
    qemu.args(["-nodefaults", "-no-reboot", "-display", "none", "-monitor", "none"]);
    qemu.arg("-kernel").arg(&files.image);
    qemu.arg("-drive").arg(format!("if=none,id=disk,file={},format=raw,snapshot=on", disk.display()));
    qemu.args(["-device", "nvme,serial=disk,drive=disk"]);
    qemu
}

fn command_line(kernel: &Kernel, more: &str) -> String {
    // An emulated machine on a busy host misses the ticks by which the kernel tests its timer, and would panic.
    // A panic ends the machine: -1 restarts at once, and qemu then leaves. What is no parameter of the kernel's and
    // has no dot is for the environment of init.
    format!(
        "console=ttyS0 quiet panic=-1 no_timer_check root=/dev/nvme0n1 rootfstype=ext4 rw init=/init net.ifnames=0 \
         TIDEGATE_VM={} {} {more}",
        kernel.name, kernel.parameters
    )
}
