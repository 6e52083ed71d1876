//! `tidegate doctor --command`: whom will this program trust? Told from its files alone; nothing is run.

mod program;
mod trust;
pub mod words;

use super::Check;
use crate::{
    identify::runtime::{Content, guess, libraries},
    trust::variables,
};
use program::{Environment, Found, Missing};
use std::{env, ffi::OsString, path::PathBuf};

const PROGRAM: &str = "command_program";
const RUNTIME: &str = "command_runtime";
const TRUST: &str = "command_trust";

/// Examines a command: its program and arguments.
pub fn examine(words: &[OsString]) -> Vec<Check> {
    let path = env::var_os("PATH").unwrap_or_default();
    match program::find(words, &env::split_paths(&path).collect::<Vec<PathBuf>>()) {
        Ok(found) => judge(&found),
        Err(missing) => absent(&missing),
    }
}

fn judge(found: &Found) -> Vec<Check> {
    let program = Check::ok(PROGRAM, found.told());
    if let Some(shell) = &found.shell {
        let advice = "ask for each program that it starts: `tidegate doctor --command PROGRAM`";
        let runtime = Check::warning(RUNTIME, format!("a script of {shell}: what it starts decides"), advice);
        return vec![program, runtime, Check::warning(TRUST, "not told by a script", advice)];
    }
    let file = match libraries::regular(&found.path) {
        Ok(file) => file,
        Err(error) => {
            let seen = format!("`{}` cannot be read: {error}", found.path.display());
            let unread = Check::failed(RUNTIME, seen, "run this as a user who may read it");
            let untold = Check::failed(TRUST, "not looked at", format!("see `{RUNTIME}`"));
            return vec![program, unread, untold];
        }
    };
    let content = Content::read(&found.path, &file);
    let linked = match &content.elf {
        Some(elf) => libraries::linked(&found.path, &elf.libraries),
        None => Vec::new(),
    };
    let guess = guess(&found.path, &content, &linked);
    let runtime = trust::runtime(guess, &content);
    let keeps_environment = found.environment == Environment::Kept;
    let sets = |variable: &str| keeps_environment && variables::is_set(variable);
    vec![program, runtime, trust::predict(guess, &content, found.environment, sets)]
}

fn absent(missing: &Missing) -> Vec<Check> {
    let advice = "name a program on this machine, with its path if it is not in PATH";
    let untold = |name| Check::failed(name, "not looked at", format!("see `{PROGRAM}`"));
    vec![Check::failed(PROGRAM, missing.to_string(), advice), untold(RUNTIME), untold(TRUST)]
}

#[cfg(test)]
mod tests;
