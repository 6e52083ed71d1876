//! The eBPF object and the hooks that its programs are for.

pub mod count;

use super::{
    Error,
    layout::Layout,
    pins::{Pins, adopt},
    sys::AttachType,
};
use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{Program, ProgramError},
};
use std::ffi::CStr;
use tidegate_ebpf_common::maps;

/// The kernel side, compiled: programs and maps, as they are loaded.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tidegate-ebpf"));

/// A program, where it is attached, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The program's name, and its link's.
    pub name: &'static str,
    /// Where it is attached.
    pub kind: Kind,
    /// When it is attached.
    pub need: Need,
}

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// At the cgroup root.
    Cgroup(AttachType),
    /// At a tracepoint of the whole machine.
    TracePoint(&'static CStr),
    /// At a security hook of the whole machine, which the program itself names.
    Lsm,
}

/// When a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Always: without it there is a way round.
    Always,
    /// Where [`super::Options::sticky_tags`] is set.
    StickyTags,
    /// Where [`super::Options::packet_sockets`] is set.
    PacketSockets,
}

const fn at_cgroup(name: &'static str, attach_type: AttachType) -> Hook {
    Hook { name, kind: Kind::Cgroup(attach_type), need: Need::Always }
}

const fn at_trace_point(name: &'static str, trace_point: &'static CStr) -> Hook {
    Hook { name, kind: Kind::TracePoint(trace_point), need: Need::StickyTags }
}

/// In the order in which they are attached: what tells who is a subject, then whatever finds, refuses or forgets flows,
/// then the connect hooks, which make them.
pub const HOOKS: [Hook; 17] = [
    // What forgets a thread comes before what remembers one.
    at_trace_point("task_free", c"sched_process_free"),
    at_trace_point("task_fork", c"sched_process_fork"),
    at_trace_point("task_exec", c"sched_process_exec"),
    at_trace_point("task_attach", c"cgroup_attach_task"),
    at_cgroup("release", AttachType::InetSockRelease),
    at_cgroup("join", AttachType::SockOps),
    at_cgroup("getpeername4", AttachType::Inet4Getpeername),
    at_cgroup("getpeername6", AttachType::Inet6Getpeername),
    at_cgroup("create", AttachType::InetSockCreate),
    Hook { name: "packet_socket", kind: Kind::Lsm, need: Need::PacketSockets },
    at_cgroup("bind4", AttachType::Inet4Bind),
    at_cgroup("bind6", AttachType::Inet6Bind),
    at_cgroup("egress", AttachType::InetEgress),
    at_cgroup("sendmsg4", AttachType::Udp4Sendmsg),
    at_cgroup("sendmsg6", AttachType::Udp6Sendmsg),
    at_cgroup("connect4", AttachType::Inet4Connect),
    at_cgroup("connect6", AttachType::Inet6Connect),
];

/// The place in [`HOOKS`] of the link of this name; those that are not there come after all others.
pub(super) fn order(name: &str) -> usize {
    // A retired link has its id behind the name.
    let name = name.split_once('-').map_or(name, |(name, _)| name);
    HOOKS.iter().position(|hook| hook.name == name).unwrap_or(HOOKS.len())
}

/// What the verifier made of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// How many instructions it looked at, over all paths; the kernel allows a million. None before Linux 5.16.
    pub verified_instructions: Option<u32>,
    /// The bytes of the program as it runs, before it is compiled; None where the kernel does not tell.
    pub translated_bytes: Option<u32>,
}

/// A program's name, and what the kernel said to it.
pub type Answer = (&'static str, Result<Size, ProgramError>);

/// Loads the object's maps: those that are pinned as they are, the others empty, and pinned where pins are shared.
pub(super) fn load(
    flows: u32,
    pins: Option<&Pins>,
    layout: Option<&Layout>,
) -> Result<(Ebpf, Vec<adopt::Declared>), Error> {
    let sizes = [(maps::FLOWS, flows), (maps::ORIGINALS, flows)];
    let declared = adopt::declared(OBJECT, &sizes)?;
    let level = log_level();
    let mut loader = EbpfLoader::new();
    for (name, size) in sizes {
        loader.map_max_entries(name, size);
    }
    loader.override_global(aya_log::LEVEL, &level, false);
    for (name, offset) in layout.map(Layout::globals).unwrap_or_default() {
        loader.override_global(name, offset, true);
    }
    if let Some(pins) = pins {
        adopt::prepare(pins, &declared)?;
        for (map, directory) in declared.iter().zip(std::iter::repeat_with(|| pins.maps())) {
            let Some(directory) = directory else { break };
            loader.map_pin_path(&map.name, directory.join(&map.name));
        }
    }
    let programs = loader.load(OBJECT).map_err(|error| Error::Object(Box::new(error)))?;
    drop(loader);
    Ok((programs, declared))
}

/// Loads every program as [`super::Capture::start`] does, attaches none, and answers what the kernel said to each.
/// All of it ends with this call.
///
/// # Errors
/// When the maps cannot be made, or the object lacks a program.
pub fn probe(flows: u32) -> Result<Vec<Answer>, Error> {
    let (mut programs, _) = load(flows, None, None)?;
    // A kernel without BPF LSM refuses its program, which `doctor` tells in words of its own.
    let hooks = HOOKS.iter().filter(|hook| hook.kind != Kind::Lsm);
    hooks.map(|hook| Ok((hook.name, measure(program(&mut programs, hook.name)?)))).collect()
}

fn measure(program: &mut Program) -> Result<Size, ProgramError> {
    load_one(program)?;
    let info = program.info()?;
    Ok(Size {
        verified_instructions: info.verified_instruction_count(),
        translated_bytes: info.size_translated(),
    })
}

/// The program of this name.
pub(super) fn program<'a>(programs: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Program, Error> {
    programs.program_mut(name).ok_or(Error::Missing { kind: "program", name })
}

/// Hands the program to the verifier.
#[expect(clippy::wildcard_enum_match_arm, reason = "the object holds programs of six types only")]
pub(super) fn load_one(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::RawTracePoint(program) => program.load(),
        Program::Lsm(program) => program.load("socket_create", &Btf::from_sys_fs()?),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// The kernel side writes only the lines that the agent's log shows.
fn log_level() -> u8 {
    use tracing::level_filters::LevelFilter;
    let level = match LevelFilter::current() {
        LevelFilter::TRACE => aya_log::Level::Trace,
        LevelFilter::DEBUG => aya_log::Level::Debug,
        LevelFilter::INFO => aya_log::Level::Info,
        LevelFilter::WARN => aya_log::Level::Warn,
        _ => aya_log::Level::Error,
    };
    level as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_program_of_the_object_has_one_hook() {
        let object = aya_obj::Object::parse(OBJECT).unwrap();
        let programs: BTreeSet<&str> = object.programs.keys().map(String::as_str).collect();
        let hooks: BTreeSet<&str> = HOOKS.iter().map(|hook| hook.name).collect();
        assert_eq!(hooks.len(), HOOKS.len());
        assert_eq!(programs, hooks);
    }

    #[test]
    fn what_makes_flows_is_attached_last() {
        let first = HOOKS.iter().position(|hook| hook.name.starts_with("connect")).unwrap();
        let after = &HOOKS[first..];
        assert!(after.iter().all(|hook| hook.name.starts_with("connect")), "{after:?}");
    }

    #[test]
    fn a_retired_link_keeps_its_hooks_place_and_unknown_ones_come_last() {
        assert_eq!(order("egress-17"), order("egress"));
        assert!(order("egress") < order("connect4") && order("connect4") < order("unknown"));
    }
}
