//! What root in the enclosure may do: the capabilities that a build job needs, and none that undo the enclosure.

use rustix::{
    io::Errno,
    thread::{
        CapabilitySet as Cap, CapabilitySets, capabilities, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities,
    },
};
use std::io;

/// The capabilities that stay, each with what a build job does with it. A kernel's new ones do not stay.
const KEPT: &[(Cap, &str)] = &[
    (Cap::CHOWN, "unpack archives with their owners"),
    (Cap::DAC_OVERRIDE, "write files of other users"),
    (Cap::FOWNER, "change modes and times of other users' files"),
    (Cap::FSETID, "keep set-user-ID bits when writing"),
    (Cap::KILL, "end jobs that run as other users"),
    (Cap::SETGID, "su, sudo, and services that drop root"),
    (Cap::SETUID, "su, sudo, and services that drop root"),
    (Cap::SETPCAP, "drop further capabilities"),
    (Cap::SETFCAP, "install files that carry capabilities"),
    (Cap::LINUX_IMMUTABLE, "set append-only flags"),
    (Cap::NET_BIND_SERVICE, "serve on ports below 1024 in tests"),
    (Cap::NET_BROADCAST, "unused by the kernel"),
    (Cap::IPC_LOCK, "lock memory, for keys and databases"),
    (Cap::IPC_OWNER, "share memory between users"),
    (Cap::SYS_CHROOT, "build root file systems"),
    (Cap::MKNOD, "make device files in root file systems; those of the host are in /dev anyway"),
    (Cap::SYS_NICE, "change priorities"),
    (Cap::SYS_RESOURCE, "raise limits"),
    (Cap::SYS_TTY_CONFIG, "hang up terminals at logout"),
    (Cap::LEASE, "file servers"),
    (Cap::AUDIT_WRITE, "sudo and login report to the kernel's audit log"),
    (Cap::WAKE_ALARM, "timers"),
    (Cap::BLOCK_SUSPEND, "timers"),
];

/// Those that would undo the enclosure, each with how. Every other one that is not kept goes as well.
#[cfg(test)]
const UNDOING: &[(Cap, &str)] = &[
    (Cap::SYS_ADMIN, "unmount the covers, enter other namespaces, detach BPF programs"),
    (Cap::BPF, "detach BPF programs and change their maps"),
    (Cap::PERFMON, "read kernel memory with BPF"),
    (Cap::NET_ADMIN, "reroute packets, make tunnels, set socket marks"),
    (Cap::NET_RAW, "send packets that no connect hook sees"),
    (Cap::SYS_PTRACE, "make a process outside the cgroup connect"),
    (Cap::SYS_MODULE, "load kernel code"),
    (Cap::SYS_RAWIO, "write kernel memory"),
    (Cap::SYS_BOOT, "start another kernel"),
    (Cap::DAC_READ_SEARCH, "open files by handle, past the covers"),
    (Cap::CHECKPOINT_RESTORE, "choose process ids and change what /proc/PID/exe says"),
    (Cap::SYS_TIME, "turn back the clock of records and certificates"),
    (Cap::SYSLOG, "see kernel addresses"),
    (Cap::SYS_PACCT, "switch process accounting off"),
    (Cap::MAC_ADMIN, "change what LSMs enforce"),
    (Cap::MAC_OVERRIDE, "pass what LSMs enforce"),
    (Cap::AUDIT_CONTROL, "switch the kernel's audit log off"),
    (Cap::AUDIT_READ, "read the kernel's audit log"),
];

/// Limits what the calling process can gain by any later exec, set-user-ID programs included. Its permitted set
/// stays until then, and `no_new_privs` is not set, so that sudo works within these limits.
pub(super) fn limit() -> io::Result<()> {
    let kept = KEPT.iter().fold(Cap::empty(), |set, (capability, _)| set | *capability);
    clear_ambient_capability_set()?;
    for number in 0..u64::BITS {
        let capability = Cap::from_bits_retain(1 << number);
        if kept.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // The kernel has no capability of this number, nor of any above it.
            Err(Errno::INVAL) => break,
            removed => removed?,
        }
    }
    let sets = capabilities(None)?;
    // An inheritable capability comes back through a file that is marked for it, whatever the bounding set says.
    Ok(set_capabilities(None, CapabilitySets { inheritable: Cap::empty(), ..sets })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_undoes_the_enclosure_is_kept_and_every_capability_is_considered() {
        let kept: Vec<_> = KEPT.iter().map(|(capability, _)| *capability).collect();
        let undoing: Vec<_> = UNDOING.iter().map(|(capability, _)| *capability).collect();
        assert!(kept.iter().all(|capability| !undoing.contains(capability)));
        let all = kept.iter().chain(&undoing).fold(Cap::empty(), |set, capability| set | *capability);
        assert_eq!(all.bits(), (1 << 41) - 1, "CAP_CHECKPOINT_RESTORE, 40, is the last");
    }
}
