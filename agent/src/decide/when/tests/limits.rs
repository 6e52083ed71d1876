//! Texts that would take too long, or too much of the stack.

use super::*;
use proptest::prelude::*;

fn repeated(text: &str, count: usize) -> String {
    text.repeat(count)
}

#[test]
fn limits_hold() {
    let elements = |count: usize| format!("1 in [{}1]", repeated("1,", count));
    let rows = [
        (format!("true{}", repeated(" ", 5000)), "the condition is longer than 4096 bytes"),
        (elements(252), ""),
        (elements(253), "the condition has more than 256 parts"),
        (elements(1000), "the condition is too long"),
        (format!("{}true{}", repeated("(", 24), repeated(")", 24)), ""),
        (
            format!("{}true{}", repeated("(", 25), repeated(")", 25)),
            "more than 24 brackets are open (column 25)",
        ),
        (format!("{}true", repeated("(", 4000)), "more than 24 brackets are open (column 25)"),
        (format!("{}1", repeated("[", 4000)), "more than 24 brackets are open (column 25)"),
        (format!("{}1", repeated("{1:", 1000)), "more than 24 brackets are open (column 73)"),
        (format!("{}1", repeated("size(", 500)), "more than 24 brackets are open (column 125)"),
        (format!("{}true", repeated("true?true:", 24)), ""),
        (format!("{}true", repeated("true?true:", 400)), "more than 24 `?` (column 245)"),
        (format!("{}true", repeated("!-", 400)), "the condition is nested more than 48 deep"),
        (format!("{}true", repeated("!", 1000)), ""),
        (format!("1{} == 1", repeated("+1", 46)), ""),
        (format!("1{} == 1", repeated("+1", 47)), "the condition is nested more than 48 deep"),
        (format!("1{} == 1", repeated("+1", 500)), "the condition is nested more than 48 deep"),
        (format!("true{}", repeated("&&true", 127)), ""),
        (format!("true{}", repeated("&&true", 128)), "the condition has more than 256 parts"),
        (format!("now{}", repeated(".a", 500)), "the condition is nested more than 48 deep"),
        (format!("[1]{} == 1", repeated("[0]", 300)), "the condition is nested more than 48 deep"),
        (
            format!("[1]{} == []", repeated(".filter(a,true)", 100)),
            "the condition is nested more than 48 deep",
        ),
        (format!("{}true{}", repeated("[1].all(a,", 2), repeated(")", 2)), ""),
        (
            format!("{}true{}", repeated("[1].all(a,", 20), repeated(")", 20)),
            "more than 2 macros such as `all` stand in one another",
        ),
    ];
    for (text, message) in rows {
        let error = compile(&text, "droplets_create").err().map_or(String::new(), |error| error.to_string());
        assert_eq!(error.replace(" of the condition)", ")"), message, "{text}");
    }
}

/// The stack of the thread that reads policies may be small.
#[test]
fn no_text_takes_a_deep_stack() {
    let ends = [
        "(",
        "[",
        "{",
        "!",
        "-",
        "!-",
        "a.",
        "a?",
        "a?a:",
        "f(",
        "[1].all(a,",
        "1+",
        "a&&a||",
        "a==",
        "1 in ",
    ];
    let texts = ends.map(|part| [format!("{}1", repeated(part, 1000)), format!("{}1", repeated(part, 20))]);
    let chains =
        [".a", ".f(1)", "[0]", ".all(a, a)", "{a:1}", "?1:1"].map(|part| format!("a{}", repeated(part, 160)));
    let run = move || {
        for text in texts.into_iter().flatten().chain(chains) {
            let _ = compile(&text, "droplets_create");
        }
    };
    std::thread::Builder::new().stack_size(512 * 1024).spawn(run).unwrap().join().unwrap();
}

proptest! {
    #[test]
    fn no_text_makes_the_compiler_panic(text in ".{0,80}") {
        let _ = compile(&text, "droplets_create");
    }

    #[test]
    fn no_tokens_make_the_compiler_panic(tokens in proptest::collection::vec(0..TOKENS.len(), 0..60)) {
        let text: String = tokens.iter().map(|index| TOKENS[*index]).collect();
        let _ = compile(&text, "droplets_create");
    }
}

const TOKENS: [&str; 60] = [
    "request",
    "body",
    "size",
    "tags",
    "backup_policy",
    "hour",
    "query",
    "resource",
    "droplet",
    "now",
    "a",
    "b",
    ".",
    ".",
    ".",
    "(",
    ")",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ",",
    ":",
    "?",
    "&&",
    "||",
    "!",
    "-",
    "+",
    "*",
    "/",
    "%",
    "==",
    "!=",
    "<",
    ">=",
    " in ",
    "true",
    "null",
    "1",
    "1u",
    "0x1",
    "1.5",
    "1e9",
    "'x'",
    "\"\\u00e9\"",
    "r'\\'",
    "b'x'",
    "'''x'''",
    "all",
    "exists",
    "map",
    "filter",
    "has",
    "startsWith",
    "é",
    "\n",
];
