//! Loads the eBPF object, attaches each program at one cgroup, and pins the links.

use super::Error;
use aya::{
    Ebpf, EbpfLoader,
    programs::{CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError, links::FdLink},
};
use std::{fs::File, path::Path};
use tidegate_ebpf_common::maps;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tidegate-ebpf"));

/// In the order in which they are attached: whatever finds, refuses or forgets flows comes before the
/// connect hooks, which make them.
pub const PROGRAMS: [&str; 12] = [
    "release",
    "join",
    "getpeername4",
    "getpeername6",
    "create",
    "bind4",
    "bind6",
    "egress",
    "sendmsg4",
    "sendmsg6",
    "connect4",
    "connect6",
];

/// A program's name, and what the kernel said to it.
pub type Answer = (&'static str, Result<(), ProgramError>);

/// Loads the object with flow tables of `flows` entries.
pub(super) fn load(flows: u32) -> Result<Ebpf, Error> {
    let level = log_level();
    let mut loader = EbpfLoader::new();
    loader.map_max_entries(maps::FLOWS, flows).map_max_entries(maps::ORIGINALS, flows);
    loader.override_global(aya_log::LEVEL, &level, false);
    loader.load(OBJECT).map_err(|error| Error::Object(Box::new(error)))
}

/// Attaches every program at `cgroup` and pins its link under its name in `pins`.
pub(super) fn attach(programs: &mut Ebpf, cgroup: &Path, pins: &Path) -> Result<(), Error> {
    let directory = File::open(cgroup)
        .map_err(|source| Error::Io { action: format!("open the cgroup {}", cgroup.display()), source })?;
    for name in PROGRAMS {
        let program = programs.program_mut(name).ok_or(Error::Missing { kind: "program", name })?;
        let link = attach_one(program, &directory).map_err(|source| Error::Program { name, source })?;
        let path = pins.join(name);
        link.pin(&path).map_err(|source| Error::Pin { name, path, source })?;
    }
    Ok(())
}

/// Loads every program as [`super::Capture::start`] does, attaches none, and answers what the kernel said to each.
/// All of it ends with this call.
///
/// # Errors
/// When the maps cannot be made, or the object lacks a program.
pub fn probe(flows: u32) -> Result<Vec<Answer>, Error> {
    let mut programs = load(flows)?;
    let mut answers = Vec::with_capacity(PROGRAMS.len());
    for name in PROGRAMS {
        let program = programs.program_mut(name).ok_or(Error::Missing { kind: "program", name })?;
        answers.push((name, load_one(program)));
    }
    Ok(answers)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the object holds programs of four types only")]
fn load_one(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        Program::SockOps(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Links take no flags on the kernels in use: `Single` is flags 0, and links are multi-attach by nature.
fn attach_one(
    program: &mut Program,
    cgroup: &File,
) -> Result<FdLink, Box<dyn std::error::Error + Send + Sync>> {
    const MODE: CgroupAttachMode = CgroupAttachMode::Single;
    load_one(program)?;
    #[expect(clippy::wildcard_enum_match_arm, reason = "the object holds programs of four types only")]
    match program {
        Program::CgroupSockAddr(program) => {
            let id = program.attach(cgroup, MODE)?;
            Ok(program.take_link(id)?.try_into()?)
        }
        Program::CgroupSock(program) => {
            let id = program.attach(cgroup, MODE)?;
            Ok(program.take_link(id)?.try_into()?)
        }
        Program::CgroupSkb(program) => {
            let id = program.attach(cgroup, CgroupSkbAttachType::Egress, MODE)?;
            Ok(program.take_link(id)?.try_into()?)
        }
        Program::SockOps(program) => {
            let id = program.attach(cgroup, MODE)?;
            Ok(program.take_link(id)?.try_into()?)
        }
        _ => Err(ProgramError::UnexpectedProgramType.into()),
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
