//! `tidegate completions`: lets a shell complete the commands and their options.

use super::{Cli, Error};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use std::io::Write;

/// `tidegate completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell that is to complete
    pub shell: Shell,
}

/// Writes the script that the shell reads.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(args: &CompletionsArgs, out: &mut impl Write) -> Result<(), Error> {
    // The generator has no other answer to an error than to panic, and memory gives none.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tidegate", &mut script);
    out.write_all(&script)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use test_case::test_case;

    fn script(shell: Shell) -> String {
        let mut out = Vec::new();
        run(&CompletionsArgs { shell }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test_case(Shell::Bash; "bash")]
    #[test_case(Shell::Elvish; "elvish")]
    #[test_case(Shell::Fish; "fish")]
    #[test_case(Shell::PowerShell; "powershell")]
    #[test_case(Shell::Zsh; "zsh")]
    fn every_command_and_its_options_are_in_a_shells_script(shell: Shell) {
        let script = script(shell);
        for command in Cli::command().get_subcommands() {
            assert!(script.contains(command.get_name()), "{}", command.get_name());
        }
        assert!(script.contains("workload") && script.contains("uninstall"), "{script}");
    }

    #[test_case("tidegate sta", "status"; "a command")]
    #[test_case("tidegate unp", "unprotect"; "another command")]
    #[test_case("tidegate ca rot", "rotate"; "a command of a command")]
    #[test_case("tidegate run --pol", "--policy"; "an option")]
    #[test_case("tidegate completions zs", "zsh"; "a value")]
    #[test_case("tidegate nothing-", ""; "no such thing")]
    fn bash_completes(line: &str, expected: &str) {
        let asked = "eval \"$1\"; COMP_WORDS=($2); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); \
                     _tidegate tidegate \"${COMP_WORDS[-1]}\" \"${COMP_WORDS[-2]}\"; echo \"${COMPREPLY[*]}\"";
        let mut bash = Command::new("bash");
        let answer = bash.args(["-c", asked, "bash", &script(Shell::Bash), line]).output().unwrap();
        assert!(answer.stderr.is_empty() && answer.status.success(), "{answer:?}");
        assert_eq!(String::from_utf8(answer.stdout).unwrap().trim(), expected);
    }

    #[test]
    fn bash_finds_no_fault() {
        let checked = Command::new("bash").args(["-n", "-c", &script(Shell::Bash)]).output().unwrap();
        assert!(checked.stderr.is_empty() && checked.status.success(), "{checked:?}");
    }
}
