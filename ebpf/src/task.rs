//! Sticky tags: a thread that was a subject stays one when it forks, runs a program, changes its user or moves to
//! another cgroup, and so do its children.
//!
//! The table goes by thread id. A process's first thread stands for threads that the kernel makes by itself
//! (those of io_uring), which no hook sees being made.

use crate::{settings, subject};
use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel, generated::bpf_get_current_task},
    macros::map,
    maps::HashMap,
    programs::RawTracePointContext,
};
use aya_log_ebpf::error;
use core::ptr;
use tidegate_ebpf_common::{Executable, Origin, Task};

#[map]
static TASKS: HashMap<u32, Task> = HashMap::with_max_entries(262_144, BPF_F_NO_PREALLOC);

#[map]
static EXECUTABLES: HashMap<Executable, u32> = HashMap::with_max_entries(32, 0);

/// Where fields lie in the running kernel's structures, in bytes; the user side reads them from its BTF.
#[unsafe(no_mangle)]
static TASK_PID: u32 = 0;
#[unsafe(no_mangle)]
static BPRM_FILE: u32 = 0;
#[unsafe(no_mangle)]
static FILE_INODE: u32 = 0;
#[unsafe(no_mangle)]
static INODE_NUMBER: u32 = 0;
#[unsafe(no_mangle)]
static INODE_SUPER: u32 = 0;
#[unsafe(no_mangle)]
static SUPER_DEVICE: u32 = 0;
#[unsafe(no_mangle)]
static CGROUP_NODE: u32 = 0;
#[unsafe(no_mangle)]
static NODE_ID: u32 = 0;

/// By what the calling thread has been a subject.
pub(crate) fn origin() -> Origin {
    let pid_tgid = bpf_get_current_pid_tgid();
    of(pid_tgid as u32).or_else(|| of((pid_tgid >> 32) as u32)).unwrap_or(Origin::NONE)
}

/// Notes that the calling thread is a subject, where threads are followed.
pub(crate) fn mark(origin: &Origin) {
    let tid = bpf_get_current_pid_tgid() as u32;
    if !settings::sticky() || TASKS.get_ptr(tid).is_some() {
        return;
    }
    // SAFETY: takes no pointer.
    let address = unsafe { bpf_get_current_task() };
    let _full = TASKS.insert(tid, Task { origin: *origin, address }, 0);
}

/// `sched_process_fork(parent, child)`: a subject's child is one.
pub(crate) fn fork(ctx: &RawTracePointContext) {
    let Some(subject) = subject::current() else {
        return;
    };
    follow(ctx, subject.origin, ctx.arg(1));
}

/// `sched_process_exec(task, old_pid, bprm)`: the calling thread has become a process of one thread. Its id may be
/// a new one, since it takes that of the process.
pub(crate) fn exec(ctx: &RawTracePointContext) {
    let (task, old_tid) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1) as u32);
    let before = of(old_tid);
    let Some(mut origin) = subject::current().map(|subject| subject.origin).or(before) else {
        return;
    };
    if let Some(before) = before {
        origin.executables |= before.executables;
    }
    origin.executables |= bit(ctx.arg(2)).unwrap_or(0);
    if old_tid != bpf_get_current_pid_tgid() as u32 {
        let _absent = TASKS.remove(old_tid);
    }
    follow(ctx, origin, task);
}

/// `cgroup_attach_task(cgroup, path, task, threadgroup)`: whoever enters a subject's cgroup is one.
pub(crate) fn attach(ctx: &RawTracePointContext) {
    let task = ctx.arg::<u64>(2);
    // SAFETY: takes no pointer.
    if task == unsafe { bpf_get_current_task() } {
        if let Some(subject) = subject::current() {
            follow(ctx, subject.origin, task);
        }
        return;
    }
    // The cgroups above are not looked at: a process that is moved by another is marked at its next step at the latest.
    let node = read::<u64>(ctx.arg(0), offset(&raw const CGROUP_NODE));
    let id = node.and_then(|node| read::<u64>(node, offset(&raw const NODE_ID)));
    if let Some(id) = id.filter(|id| subject::is_listed(*id)) {
        follow(ctx, Origin { cgroup_id: id, ..Origin::NONE }, task);
    }
}

/// `sched_process_free(task)`: nothing runs as this thread any more. Its id may already be another's.
pub(crate) fn free(ctx: &RawTracePointContext) {
    let task = ctx.arg::<u64>(0);
    let Some(tid) = read::<u32>(task, offset(&raw const TASK_PID)) else {
        return;
    };
    // SAFETY: the value is copied at once; elements are not preallocated, so it is not another's meanwhile.
    let address = unsafe { TASKS.get(tid) }.map(|entry| entry.address);
    if address.is_some_and(|address| address == task || address == 0) {
        let _absent = TASKS.remove(tid);
    }
}

/// Notes that `task`, a `struct task_struct *`, is a subject.
fn follow(ctx: &RawTracePointContext, origin: Origin, task: u64) {
    let Some(tid) = read::<u32>(task, offset(&raw const TASK_PID)) else {
        return;
    };
    if TASKS.insert(tid, Task { origin, address: task }, 0).is_err() {
        error!(ctx, "the table of sticky tags is full: thread {} is a subject only while in its cgroup", tid);
    }
}

fn of(tid: u32) -> Option<Origin> {
    // SAFETY: as in `free`.
    unsafe { TASKS.get(tid) }.map(|task| task.origin)
}

/// The bit of the program that `bprm`, a `struct linux_binprm *`, is about to run.
fn bit(bprm: u64) -> Option<u32> {
    let file = read::<u64>(bprm, offset(&raw const BPRM_FILE))?;
    let inode = read::<u64>(file, offset(&raw const FILE_INODE))?;
    let superblock = read::<u64>(inode, offset(&raw const INODE_SUPER))?;
    let key = Executable {
        inode: read(inode, offset(&raw const INODE_NUMBER))?,
        device: read(superblock, offset(&raw const SUPER_DEVICE))?,
        reserved: 0,
    };
    // SAFETY: the value is one word, copied at once.
    unsafe { EXECUTABLES.get(key).copied() }
}

/// Reads a field of a structure of the kernel; an address that is none is an error of the helper.
fn read<T>(structure: u64, offset: u32) -> Option<T> {
    // SAFETY: the helper checks the address before it reads.
    unsafe { bpf_probe_read_kernel((structure + u64::from(offset)) as *const T) }.ok()
}

/// Volatile, since the user side sets it after the compiler has seen its value.
fn offset(field: *const u32) -> u32 {
    // SAFETY: the pointer is to a static of this object.
    unsafe { ptr::read_volatile(field) }
}
