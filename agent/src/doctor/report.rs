//! How the checks are told. Pure.

use super::{Check, Status};
use serde::Serialize;
use std::io::{self, Write};

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    ok: bool,
    checks: &'a [Check],
}

/// Whether everything that is needed works.
pub fn is_ok(checks: &[Check]) -> bool {
    count(checks, Status::Failed) == 0
}

/// Writes `{"ok": …, "checks": [{"name", "status", "seen", "advice"}, …]}`.
///
/// # Errors
/// When `out` cannot be written.
pub fn write_json(checks: &[Check], out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &Document { ok: is_ok(checks), checks })?;
    writeln!(out)
}

/// What was examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The machine.
    Machine,
    /// A command that is to trust the local CA.
    Command,
}

/// Writes a line for each check, a second one where there is something to do, and a conclusion.
///
/// # Errors
/// When `out` cannot be written.
pub fn write_text(about: About, checks: &[Check], out: &mut impl Write) -> io::Result<()> {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    for Check { name, status, seen, advice } in checks {
        let word = match status {
            Status::Ok => "ok",
            Status::Warning => "warn",
            Status::Failed => "FAIL",
        };
        writeln!(out, "{word:<4}  {name:<width$}  {seen}")?;
        if let Some(advice) = advice {
            writeln!(out, "{:<4}  {:<width$}  -> {advice}", "", "")?;
        }
    }
    writeln!(out, "\n{}", conclusion(about, checks))
}

fn conclusion(about: About, checks: &[Check]) -> String {
    let first = checks.iter().find(|check| check.status == Status::Failed);
    let (good, bad) = match about {
        About::Machine => ("This machine can run tidegate", "This machine cannot run tidegate as it is"),
        About::Command => ("This command will trust tidegate", "This command will refuse tidegate"),
    };
    match (first, count(checks, Status::Warning)) {
        (Some(first), _) => format!(
            "{bad}: {} of {} checks failed; begin with `{}`.",
            count(checks, Status::Failed),
            checks.len(),
            first.name
        ),
        (None, 0) => format!("{good}."),
        (None, _) if about == About::Command => {
            "Whether this command will trust tidegate is not certain.".to_owned()
        }
        (None, 1) => format!("{good}; mind the warning."),
        (None, warnings) => format!("{good}; mind the {warnings} warnings."),
    }
}

fn count(checks: &[Check], status: Status) -> usize {
    checks.iter().filter(|check| check.status == status).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn checks() -> Vec<Check> {
        vec![
            Check::ok("root", "user id 0"),
            Check::warning("ptrace_scope", "0", "set it to 1"),
            Check::failed("bpffs", "refused", "mount it"),
            Check::failed("btf", "b", "c"),
        ]
    }

    #[test]
    fn the_text_is_aligned_and_ends_with_a_conclusion() {
        let mut out = Vec::new();
        write_text(About::Machine, &checks(), &mut out).unwrap();
        let expected = [
            "ok    root          user id 0",
            "warn  ptrace_scope  0",
            "                    -> set it to 1",
            "FAIL  bpffs         refused",
            "                    -> mount it",
            "FAIL  btf           b",
            "                    -> c",
            "",
            "This machine cannot run tidegate as it is: 2 of 4 checks failed; begin with `bpffs`.",
            "",
        ];
        assert_eq!(String::from_utf8(out).unwrap(), expected.join("\n"));
    }

    #[test_case(0..1, "This machine can run tidegate."; "all ok")]
    #[test_case(0..2, "This machine can run tidegate; mind the warning."; "a warning")]
    #[test_case(1..3, "This machine cannot run tidegate as it is: 1 of 2 checks failed; begin with `bpffs`."; "a failure")]
    #[test_case(0..0, "This machine can run tidegate."; "no checks")]
    fn the_conclusion_tells_the_worst(range: std::ops::Range<usize>, expected: &str) {
        assert_eq!(conclusion(About::Machine, &checks()[range]), expected);
    }

    #[test_case(0..1, "This command will trust tidegate."; "all ok")]
    #[test_case(0..2, "Whether this command will trust tidegate is not certain."; "a warning")]
    #[test_case(2..3, "This command will refuse tidegate: 1 of 1 checks failed; begin with `bpffs`."; "a failure")]
    fn the_conclusion_about_a_command_tells_the_worst(range: std::ops::Range<usize>, expected: &str) {
        assert_eq!(conclusion(About::Command, &checks()[range]), expected);
    }

    #[test]
    fn a_number_of_warnings_is_told_and_is_no_failure() {
        let checks = [checks().remove(1), checks().remove(1)];
        assert_eq!(
            conclusion(About::Machine, &checks),
            "This machine can run tidegate; mind the 2 warnings."
        );
        assert!(is_ok(&checks));
    }

    #[test]
    fn json_has_every_key_in_every_check() {
        let mut out = Vec::new();
        write_json(&checks()[..3], &mut out).unwrap();
        let expected = serde_json::json!({
            "ok": false,
            "checks": [
                { "name": "root", "status": "ok", "seen": "user id 0", "advice": null },
                { "name": "ptrace_scope", "status": "warning", "seen": "0", "advice": "set it to 1" },
                { "name": "bpffs", "status": "failed", "seen": "refused", "advice": "mount it" },
            ]
        });
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap(), expected);
    }
}
