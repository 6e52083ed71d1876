//! Programs at their hooks: attached anew or in place of those of an earlier agent, checked, and repaired.

use super::{
    Error,
    pins::{self, Pins, adopt, lock::Lock, removal},
    program::{self, HOOKS, Hook, Kind, Need},
    sys::{self, Link, Target},
};
use aya::{Ebpf, programs::ProgramFd};
use std::{
    fmt::{self, Display, Formatter},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

/// What a link's name ends with until it takes the place of another.
const NEXT: &str = "-next";

/// The attached programs. Dropping it detaches none of them: their pins hold them.
#[derive(Debug)]
pub struct Attached {
    cgroup: File,
    cgroup_id: u64,
    pins: Pins,
    hooks: Vec<Held>,
    maps: Vec<Pinned>,
    _lock: Option<Lock>,
}

/// A loaded program and its hook. Its link is not kept open, so that removing the pin detaches it.
#[derive(Debug)]
struct Held {
    hook: Hook,
    program: ProgramFd,
    program_id: u32,
}

#[derive(Debug)]
struct Pinned {
    name: String,
    id: u32,
}

/// What is not as [`Attached`] left it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Fault::to_string).collect::<Vec<_>>().join("; "))]
pub struct Missing(pub Vec<Fault>);

/// One hook or map that is not as it was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The name of the hook or map.
    pub name: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a hook or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The kernel does not run the program at the cgroup, or more than once: how often.
    Runs(usize),
    /// There is no pin: what is attached now ends with whoever still holds it.
    NoPin,
    /// The pin is of something else.
    OtherPin,
    /// The kernel does not answer.
    Unknown(String),
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.problem {
            Problem::Runs(0) => write!(f, "`{name}` is not attached"),
            Problem::Runs(times) => write!(f, "`{name}` is attached {times} times"),
            Problem::NoPin => write!(f, "the pin of `{name}` is gone"),
            Problem::OtherPin => write!(f, "the pin of `{name}` is not the agent's"),
            Problem::Unknown(error) => write!(f, "the state of `{name}` is unknown: {error}"),
        }
    }
}

impl Attached {
    /// Attaches the programs at `cgroup`. Every program is loaded before the first one is attached, so that a kernel
    /// that refuses one leaves everything as it was.
    pub(super) fn start(
        programs: &mut Ebpf,
        maps: &[adopt::Declared],
        cgroup: &Path,
        pins: &Pins,
        is_needed: impl Fn(Need) -> bool,
        lock: Option<Lock>,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Io { action: format!("open the cgroup {}", cgroup.display()), source };
        let directory = File::open(cgroup).map_err(failed)?;
        let cgroup_id = directory.metadata().map_err(failed)?.ino();
        let mut hooks = Vec::with_capacity(HOOKS.len());
        for hook in HOOKS.into_iter().filter(|hook| is_needed(hook.need)) {
            match load(programs, hook) {
                Ok(held) => hooks.push(held),
                // What these refuse, `doctor` says; the rest holds without them.
                Err(error) if hook.need != Need::Always => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        hook = hook.name,
                        error,
                        "this kernel does not take the program; see `tidegate doctor`"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        let maps = pinned(pins, maps)?;
        let attached = Self { cgroup: directory, cgroup_id, pins: pins.clone(), hooks, maps, _lock: lock };
        for held in &attached.hooks {
            attached.establish(held)?;
        }
        Ok(attached)
    }

    /// The programs, by name, with the kernel's numbers for them.
    pub fn programs(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.hooks.iter().map(|held| (held.hook.name, held.program_id))
    }

    /// Whether threads are followed: by all programs that this takes, or nothing forgets those that have ended.
    pub fn follows_threads(&self) -> bool {
        let is_sticky = |hook: &Hook| hook.need == Need::StickyTags;
        let held = self.hooks.iter().filter(|held| is_sticky(&held.hook)).count();
        held == HOOKS.iter().filter(|hook| is_sticky(hook)).count()
    }

    /// Whether every program is still attached and pinned, and every map pinned, as at the start.
    ///
    /// # Errors
    /// Names all that is not.
    pub fn verify(&self) -> Result<(), Missing> {
        let hooks = self.hooks.iter().filter_map(|held| {
            let problem =
                self.problem_of(held).unwrap_or_else(|error| Some(Problem::Unknown(error.to_string())));
            problem.map(|problem| Fault { name: held.hook.name.to_owned(), problem })
        });
        let maps = self.maps.iter().filter_map(|map| {
            let problem = match adopt::id_at(&self.pins.maps()?.join(&map.name)) {
                Ok(Some(id)) if id == map.id => return None,
                Ok(Some(_)) => Problem::OtherPin,
                Ok(None) => Problem::NoPin,
                Err(error) => Problem::Unknown(error.to_string()),
            };
            Some(Fault { name: map.name.clone(), problem })
        });
        let faults: Vec<Fault> = hooks.chain(maps).collect();
        if faults.is_empty() { Ok(()) } else { Err(Missing(faults)) }
    }

    /// Attaches and pins again whatever [`Self::verify`] names; answers what it named.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn repair(&self) -> Result<Vec<Fault>, Error> {
        let Err(Missing(faults)) = self.verify() else { return Ok(Vec::new()) };
        // Agents that came after could not find their directories otherwise.
        self.pins.prepare()?;
        let is_faulty = |name: &str| faults.iter().any(|fault| fault.name == name);
        for map in self.maps.iter().filter(|map| is_faulty(&map.name)) {
            let Some(directory) = self.pins.maps() else { continue };
            let path = directory.join(&map.name);
            remove_if_there(&path)?;
            adopt::pin_again(map.id, &path)?;
        }
        for held in self.hooks.iter().filter(|held| is_faulty(held.hook.name)) {
            self.establish(held)?;
        }
        Ok(faults)
    }

    /// Detaches and unpins what earlier agents left beside these programs: other layouts, links at other cgroups, and hooks
    /// and maps that are not of this build. Only for an agent that has seen its own programs do their work. Answers what
    /// was removed.
    ///
    /// # Errors
    /// What could not be removed; another call tries again.
    pub fn retire_others(&self) -> Result<Vec<PathBuf>, Error> {
        let links: Vec<&str> = self.hooks.iter().map(|held| held.hook.name).collect();
        let maps: Vec<&str> = self.maps.iter().map(|map| map.name.as_str()).collect();
        Ok(removal::retire(&self.pins, &links, &maps)?)
    }

    fn problem_of(&self, held: &Held) -> io::Result<Option<Problem>> {
        if let Kind::Cgroup(attach_type) = held.hook.kind {
            let running = sys::programs_at(self.cgroup.as_fd(), attach_type)?;
            let times = running.iter().filter(|id| **id == held.program_id).count();
            if times != 1 {
                return Ok(Some(Problem::Runs(times)));
            }
        }
        let info = match Link::open(&self.pin(held)) {
            Ok(link) => link.info()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Problem::NoPin)),
            Err(error) => return Err(error),
        };
        let is_ours = info.program_id == held.program_id && self.is_target(held.hook, info.target);
        Ok((!is_ours).then_some(Problem::OtherPin))
    }

    /// Makes the pinned link of the hook run this program, whatever state it is in: there is no instant in which neither
    /// the old nor the new program runs.
    fn establish(&self, held: &Held) -> Result<(), Error> {
        let pin = self.pin(held);
        let old = match Link::open(&pin) {
            Ok(link) => link,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.attach(held)?.pin(&pin).map_err(pinning(held, &pin));
            }
            Err(error) => return Err(pinning(held, &pin)(error)),
        };
        let info = old.info().map_err(pinning(held, &pin))?;
        let program = held.program.as_fd();
        match info.target {
            Target::RawTracePoint | Target::Tracing if info.program_id == held.program_id => Ok(()),
            Target::Cgroup { .. } if self.is_target(held.hook, info.target) => {
                old.update(program).or_else(|error| {
                    tracing::warn!(hook = held.hook.name, %error, "the link takes no other program; it is replaced");
                    self.replace(held, &pin, &old)
                })
            }
            Target::Cgroup { id, .. } if id != 0 && id != self.cgroup_id => self.set_aside(held, &pin, info.id),
            // It was detached, its cgroup is gone, it is of a tracepoint, or of something else altogether.
            Target::Cgroup { .. } | Target::RawTracePoint | Target::Tracing | Target::Other(_) => {
                self.replace(held, &pin, &old)
            }
        }
    }

    /// Attaches a new link beside the old one, and then lets it take the old one's place.
    fn replace(&self, held: &Held, pin: &Path, old: &Link) -> Result<(), Error> {
        let new = self.attach(held)?;
        let next = self.pins.links().join(format!("{}{NEXT}", held.hook.name));
        // What an agent left that died right here may be all that is attached: it goes after the new one came.
        match removal::unpin(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(pinning(held, &next)(error)),
            _ => {}
        }
        new.pin(&next).map_err(pinning(held, &next))?;
        fs::rename(&next, pin).map_err(pinning(held, pin))?;
        // At once, whoever has it open. One that is detached already, or is a tracepoint's, goes with its pin.
        let _ = old.detach();
        Ok(())
    }

    /// Attaches a new link; the one at another place holds on until it is retired.
    fn set_aside(&self, held: &Held, pin: &Path, old: u32) -> Result<(), Error> {
        let new = self.attach(held)?;
        let name = held.hook.name;
        let Some(directory) = self.pins.retired() else {
            let error = io::Error::other("a link of something else is pinned there");
            return Err(pinning(held, pin)(error));
        };
        fs::rename(pin, directory.join(format!("{name}-{old}"))).map_err(pinning(held, pin))?;
        new.pin(pin).map_err(pinning(held, pin))?;
        tracing::info!(
            hook = name,
            "it was attached at another cgroup, and is so until the new one is seen to work"
        );
        Ok(())
    }

    fn attach(&self, held: &Held) -> Result<Link, Error> {
        let program: BorrowedFd<'_> = held.program.as_fd();
        let link = match held.hook.kind {
            Kind::Cgroup(attach_type) => Link::attach_to_cgroup(program, self.cgroup.as_fd(), attach_type),
            Kind::TracePoint(name) => Link::attach_to_trace_point(program, Some(name)),
            Kind::Lsm => Link::attach_to_trace_point(program, None),
        };
        link.map_err(|source| Error::Program { name: held.hook.name, source: source.into() })
    }

    fn is_target(&self, hook: Hook, target: Target) -> bool {
        match hook.kind {
            Kind::Cgroup(attach_type) => {
                target == Target::Cgroup { id: self.cgroup_id, attach_type: attach_type as u32 }
            }
            Kind::TracePoint(_) => target == Target::RawTracePoint,
            Kind::Lsm => target == Target::Tracing,
        }
    }

    fn pin(&self, held: &Held) -> PathBuf {
        self.pins.links().join(held.hook.name)
    }
}

fn load(programs: &mut Ebpf, hook: Hook) -> Result<Held, Error> {
    let name = hook.name;
    let refused = |source: aya::programs::ProgramError| Error::Program { name, source: source.into() };
    let program = program::program(programs, name)?;
    program::load_one(program).map_err(refused)?;
    let program_id = program.info().map_err(refused)?.id();
    let program = program.fd().map_err(refused)?.try_clone();
    let program = program.map_err(|source| Error::Program { name, source: source.into() })?;
    Ok(Held { hook, program, program_id })
}

/// The maps as they are pinned now; none where maps are not.
fn pinned(pins: &Pins, maps: &[adopt::Declared]) -> Result<Vec<Pinned>, Error> {
    let Some(directory) = pins.maps() else { return Ok(Vec::new()) };
    let pinned = maps.iter().map(|map| {
        let path = directory.join(&map.name);
        let gone = || pins::io_error("find", &path)(io::ErrorKind::NotFound.into());
        Ok(Pinned { name: map.name.clone(), id: adopt::id_at(&path)?.ok_or_else(gone)? })
    });
    pinned.collect()
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(pins::io_error("remove", path)(error).into())
        }
        _ => Ok(()),
    }
}

fn pinning(held: &Held, path: &Path) -> impl Fn(io::Error) -> Error {
    let (name, path) = (held.hook.name, path.to_owned());
    move |source| Error::Pin { name, path: path.clone(), source }
}
