//! How much work each program is for the verifier, which gives up at a million instructions.
//!
//! Linux tells the count of a loaded program since 5.16. Before, only the verifier's log has it, and aya throws
//! that of a program that loads away; so the load is made to fail after the verifier is done with it, by leaving
//! no descriptor for the program.

use super::{Error, OBJECT, load_one};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    programs::{Program, ProgramError},
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A program of the object.
#[derive(Debug)]
pub struct Count {
    /// Its name.
    pub program: String,
    /// How many instructions the verifier looked at, or what the kernel said instead.
    pub instructions: Result<u32, ProgramError>,
}

/// Loads every program of the object, one after the other, and lets it go again. Meanwhile the process cannot open
/// anything.
///
/// # Errors
/// When the maps cannot be made.
pub fn count() -> Result<Vec<Count>, Error> {
    let object = || {
        let mut loader = EbpfLoader::new();
        loader.verifier_log_level(VerifierLogLevel::STATS);
        loader.load(OBJECT).map_err(|error| Error::Object(Box::new(error)))
    };
    let (mut programs, mut again) = (object()?, object()?);
    let mut counts: Vec<Count> = programs
        .programs_mut()
        .map(|(name, program)| Count {
            program: name.to_owned(),
            instructions: one(name, program, &mut again),
        })
        .collect();
    counts.sort_by(|a, b| a.program.cmp(&b.program));
    Ok(counts)
}

fn one(name: &str, program: &mut Program, again: &mut Ebpf) -> Result<u32, ProgramError> {
    load_one(program)?;
    if let Some(count) = program.info()?.verified_instruction_count() {
        return Ok(count);
    }
    let program = again.program_mut(name).ok_or(ProgramError::NotLoaded)?;
    let error = match without_descriptors(|| load_one(program))? {
        Ok(()) => return Err(ProgramError::AlreadyLoaded),
        Err(error) => error,
    };
    if let ProgramError::LoadError { verifier_log, .. } = &error
        && let Some(count) = processed(&verifier_log.to_string())
    {
        return Ok(count);
    }
    Err(error)
}

fn without_descriptors<T>(work: impl FnOnce() -> T) -> Result<T, ProgramError> {
    let refused = |errno: nix::Error| ProgramError::IOError(errno.into());
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(refused)?;
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).map_err(refused)?;
    let result = work();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).map_err(refused)?;
    Ok(result)
}

/// The number in `processed 123 insns (limit 1000000) …`.
fn processed(log: &str) -> Option<u32> {
    let counts = log.lines().rev().find_map(|line| line.trim().strip_prefix("processed "))?;
    counts.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::processed;
    use test_case::test_case;

    #[test_case("verification time 41 usec\nstack depth 0+8\nprocessed 4711 insns (limit 1000000) max_states_per_insn 0\n\n", Some(4711); "statistics")]
    #[test_case("unknown func bpf_get_netns_cookie#122\nprocessed 12 insns (limit 1000000)\n", Some(12); "after a refusal")]
    #[test_case("", None; "no log")]
    #[test_case("processed many insns", None; "no number")]
    fn the_count_is_found_in_the_verifiers_log(log: &str, expected: Option<u32>) {
        assert_eq!(processed(log), expected);
    }
}
