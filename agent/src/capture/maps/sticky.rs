//! Sticky tags: the threads that stay subjects, and the programs that they have run.

use super::{Error, Hash, absent_is_fine, hash, used};
use aya::Ebpf;
use tidegate_ebpf_common::{Executable, Origin, Task, maps};

/// Only in the place of an entry that is there.
const BPF_EXIST: u64 = 2;

/// Threads that stay subjects, and the programs that are told apart by their files.
pub struct Sticky {
    tasks: Hash<u32, Task>,
    executables: Hash<Executable, u32>,
}

impl Sticky {
    pub(in crate::capture) fn take(programs: &mut Ebpf) -> Result<Self, Error> {
        let tasks = hash(programs, maps::TASKS)?;
        Ok(Self { tasks, executables: hash(programs, maps::EXECUTABLES)? })
    }

    /// Makes a thread that is there already a subject by `origin`, for as long as it lives.
    ///
    /// # Errors
    /// When the table is full.
    pub fn add(&mut self, tid: u32, origin: Origin) -> Result<(), Error> {
        self.tasks.insert(tid, Task { origin, address: 0 }, 0).map_err(used(maps::TASKS))
    }

    /// The threads that are subjects, and by what.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn threads(&self) -> Result<Vec<(u32, Origin)>, Error> {
        let entries = self.tasks.iter().map(|entry| entry.map(|(tid, task)| (tid, task.origin)));
        entries.collect::<Result<_, _>>().map_err(used(maps::TASKS))
    }

    /// Notes in the origin of every thread that runs one of these files from now on, and of all below it, the bit
    /// `1 << number`. Bits that an earlier agent gave other files to mean nothing any more: whoever has one gets all,
    /// since to have run a program only ever holds a process to more.
    ///
    /// # Errors
    /// When a table cannot be read, or is full.
    pub fn follow_executables(&mut self, files: &[(Executable, u32)]) -> Result<(), Error> {
        let used_files = used(maps::EXECUTABLES);
        let bit = |number: u32| 1_u32.checked_shl(number).unwrap_or(0);
        let before = self.executables.iter().collect::<Result<Vec<_>, _>>().map_err(&used_files)?;
        let is_wanted = |(file, had): &(Executable, u32)| {
            files.iter().any(|(wanted, number)| wanted == file && bit(*number) == *had)
        };
        let is_changed = !before.iter().all(is_wanted);
        for (file, _) in before.iter().filter(|entry| !is_wanted(entry)) {
            absent_is_fine(self.executables.remove(file)).map_err(&used_files)?;
        }
        for (file, number) in files {
            self.executables.insert(file, bit(*number), 0).map_err(&used_files)?;
        }
        if is_changed {
            self.forget_programs()?;
        }
        Ok(())
    }

    fn forget_programs(&mut self) -> Result<(), Error> {
        let tasks = self.tasks.iter().collect::<Result<Vec<_>, _>>().map_err(used(maps::TASKS))?;
        for (tid, mut task) in tasks {
            if task.origin.executables != 0 {
                task.origin.executables = u32::MAX;
                // One that has ended meanwhile must not come back.
                let _is_there = self.tasks.insert(tid, task, BPF_EXIST);
            }
        }
        Ok(())
    }
}
