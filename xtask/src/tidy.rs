//! `cargo xtask tidy`: the rules of the tree that no lint knows.

use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The stages in the order of the life of a connection: each may use those before it, and none after it.
const STAGES: [&str; 9] =
    ["capture", "identify", "peek", "terminate", "classify", "decide", "forward", "record", "session"];

/// A file past this length holds more than one concept.
const MAX_LINES: usize = 420;

/// Fails with every place that breaks a rule.
pub(crate) fn run(workspace: &Path) -> Result<()> {
    let mut problems = Vec::new();
    for root in ["agent/src", "ebpf/src", "ebpf/common/src", "tests", "xtask/src"] {
        for file in sources(&workspace.join(root))? {
            let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            let shown = file.strip_prefix(workspace).unwrap_or(&file).display().to_string();
            let lines = text.lines().count();
            if lines > MAX_LINES {
                problems.push(format!("{shown}: {lines} lines, more than {MAX_LINES}: split it by concept"));
            }
            if let Some(stage) = shown.strip_prefix("agent/src/").and_then(stage_of) {
                problems.extend(later_stages(&text, stage).into_iter().map(|later| {
                    format!(
                        "{shown}: the stage `{}` uses the later stage `{later}`",
                        STAGES.get(stage).unwrap_or(&"?")
                    )
                }));
            }
        }
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

fn sources(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The stage that a file below `agent/src` belongs to.
fn stage_of(path: &str) -> Option<usize> {
    let name = path.split('/').next()?.trim_end_matches(".rs");
    STAGES.iter().position(|stage| *stage == name)
}

/// The later stages that the text names outside its tests.
fn later_stages(text: &str, stage: usize) -> Vec<&'static str> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let used = crate_items(code);
    STAGES.iter().skip(stage + 1).copied().filter(|later| used.iter().any(|name| name == later)).collect()
}

/// What follows `crate::`, by itself or in a group.
fn crate_items(code: &str) -> Vec<String> {
    let mut items = Vec::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => items.push(word(rest)),
            Some(group) => {
                let mut depth = 0_usize;
                let mut at_start = true;
                for (at, character) in group.char_indices() {
                    match character {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => at_start = true,
                        _ if at_start && !character.is_whitespace() => {
                            items.push(word(group.get(at..).unwrap_or_default()));
                            at_start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    items
}

fn word(text: &str) -> String {
    text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_stage_is_found_wherever_it_is_named() {
        let peek = STAGES.iter().position(|stage| *stage == "peek").unwrap();
        for (code, expected) in [
            ("use crate::decide::Policy;", vec!["decide"]),
            ("use crate::{capture::Captured, record::{Verdict, decide}};", vec!["record"]),
            (
                "use crate::{\n    host::HostName,\n    session::gate,\n};\nfn f(p: &crate::forward::Key) {}",
                vec!["forward", "session"],
            ),
            ("use crate::capture::Captured;", vec![]),
            ("fn f() {}\n#[cfg(test)]\nmod tests { use crate::decide::Policy; }", vec![]),
        ] {
            assert_eq!(later_stages(code, peek), expected, "{code}");
        }
    }
}
