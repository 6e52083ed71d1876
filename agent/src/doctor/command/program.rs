//! Which program a command comes down to: found in `PATH`, through scripts to what interprets them, and through programs
//! that only start others.

use super::super::told;
use crate::identify::runtime::libraries;
use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Scripts that are interpreted by scripts, and wrappers in wrappers, end somewhere.
const MAX_STEPS: usize = 16;
/// As much of a script as its first line may have: what Linux reads.
const FIRST_LINE: u64 = 256;

const SHELLS: [&str; 8] = ["sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "busybox"];
/// What starts the words behind it, after options, and whether that many words of its own come first.
const WRAPPERS: [(&str, usize); 7] =
    [("nohup", 0), ("setsid", 0), ("nice", 0), ("ionice", 0), ("stdbuf", 0), ("time", 0), ("timeout", 1)];
/// What starts others with an environment of its own.
const CHANGERS: [&str; 4] = ["sudo", "su", "doas", "runuser"];
/// Where git keeps the program that speaks https.
const GIT_HELPERS: [&str; 3] = [
    "/usr/lib/git-core/git-remote-https",
    "/usr/libexec/git-core/git-remote-https",
    "/usr/local/libexec/git-core/git-remote-https",
];

/// What a program gets of the environment that it is started in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Environment {
    Kept,
    Cleared,
}

/// The program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its file, links followed.
    pub(super) path: PathBuf,
    /// The files on the way to it.
    through: Vec<PathBuf>,
    pub(super) environment: Environment,
    /// It is a shell that was given a script.
    pub(super) shell: Option<String>,
}

impl Found {
    /// The way to it.
    pub(super) fn told(&self) -> String {
        let through: Vec<String> = self.through.iter().map(|path| path.display().to_string()).collect();
        let through =
            if through.is_empty() { String::new() } else { format!(", through {}", through.join(", ")) };
        let cleared = match self.environment {
            Environment::Kept => "",
            Environment::Cleared => "; it does not get the environment that tidegate makes",
        };
        format!("{}{through}{cleared}", self.path.display())
    }
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Missing {
    #[error("no command")]
    Empty,
    #[error("no program `{}`", .0.display())]
    Nowhere(PathBuf),
    #[error("`{}` cannot be read: {}", path.display(), told(source))]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("`{}` leads through too many scripts", .0.display())]
    Circle(PathBuf),
}

/// Follows the command to the program that will make connections.
pub(super) fn find(words: &[OsString], path: &[PathBuf]) -> Result<Found, Missing> {
    let mut words: VecDeque<OsString> = words.iter().cloned().collect();
    let mut through = Vec::new();
    let mut environment = Environment::Kept;
    for _ in 0..MAX_STEPS {
        let name = words.pop_front().ok_or(Missing::Empty)?;
        let file = look_up(&name, path).ok_or_else(|| Missing::Nowhere(name.into()))?;
        if let Some(interpreter) = interpreter(&file)? {
            words.push_front(file.clone().into());
            for word in interpreter.into_iter().rev() {
                words.push_front(word.into());
            }
            through.push(file);
            continue;
        }
        let stem = name_of(&file);
        if stem == "env" {
            if skip_env(&mut words) {
                environment = Environment::Cleared;
            }
        } else if let Some((_, own)) = WRAPPERS.iter().find(|(name, _)| *name == stem) {
            skip_options(&mut words);
            words.drain(..(*own).min(words.len()));
        } else if CHANGERS.contains(&stem.as_str()) {
            environment = Environment::Cleared;
            skip_options(&mut words);
        } else {
            let shell = SHELLS.contains(&stem.as_str()).then_some(stem.clone());
            let helper = || GIT_HELPERS.iter().map(PathBuf::from).find(|path| path.exists());
            let file = match (stem == "git").then(helper).flatten() {
                Some(helper) => {
                    through.push(file);
                    helper
                }
                None => file,
            };
            let path = file.canonicalize().unwrap_or(file);
            return Ok(Found { path, through, environment, shell });
        }
        through.push(file.clone());
        if words.is_empty() {
            // The wrapper itself is all that is asked for.
            return Ok(Found { path: file, through: Vec::new(), environment, shell: None });
        }
    }
    Err(Missing::Circle(through.into_iter().next().unwrap_or_default()))
}

fn name_of(file: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    // `/bin/sh` is a link to the shell that it is.
    let real = file.canonicalize().ok();
    real.as_deref().and_then(name).or_else(|| name(file)).unwrap_or_default()
}

/// As execvp(3): a name with a slash is a path, another one is looked for.
fn look_up(name: &OsStr, path: &[PathBuf]) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if name.as_encoded_bytes().contains(&b'/') {
        return Some(PathBuf::from(name)).filter(is_program);
    }
    path.iter().map(|directory| directory.join(name)).find(is_program)
}

/// The words of a script's first line; none where the file is no script.
fn interpreter(file: &Path) -> Result<Option<Vec<String>>, Missing> {
    let unreadable = |source| Missing::Unreadable { path: file.to_owned(), source };
    let mut head = Vec::new();
    let opened = libraries::regular(file).map_err(unreadable)?;
    opened.take(FIRST_LINE).read_to_end(&mut head).map_err(unreadable)?;
    let Some(line) = head.strip_prefix(b"#!") else { return Ok(None) };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    // Linux hands over all behind the program's name as one argument, which env(1) splits after `-S`.
    let (program, rest) = match line.trim().split_once(char::is_whitespace) {
        Some((program, rest)) => (program, rest.trim()),
        None => (line.trim(), ""),
    };
    let rest = match rest.strip_prefix("-S") {
        Some(split) => split.split_whitespace().map(str::to_owned).collect(),
        None if rest.is_empty() => Vec::new(),
        None => vec![rest.to_owned()],
    };
    Ok(Some(std::iter::once(program.to_owned()).chain(rest).collect()))
}

/// Takes away what env(1) takes for itself; answers whether it clears the environment.
fn skip_env(words: &mut VecDeque<OsString>) -> bool {
    let mut clears = false;
    while let Some(word) = words.front().map(|word| word.to_string_lossy().into_owned()) {
        let is_own = word.starts_with('-') || word.contains('=');
        if !is_own {
            break;
        }
        words.pop_front();
        clears |= matches!(word.as_str(), "-i" | "-" | "--ignore-environment");
        if matches!(word.as_str(), "-u" | "--unset" | "-C" | "--chdir") {
            words.pop_front();
        }
    }
    clears
}

/// Takes away options, and the values of those of one letter that stand apart, as far as a number tells them.
fn skip_options(words: &mut VecDeque<OsString>) {
    let is_option = |word: &OsString| word.as_encoded_bytes().starts_with(b"-");
    let is_number = |word: &OsString| word.to_string_lossy().chars().all(|char| char.is_ascii_digit());
    while let Some(option) = words.pop_front_if(|word| is_option(word)) {
        if option.len() == 2 && option != "--" && words.len() > 1 {
            words.pop_front_if(|word| is_number(word));
        }
        if option == "-u" || option == "-g" {
            words.pop_front();
        }
    }
}
