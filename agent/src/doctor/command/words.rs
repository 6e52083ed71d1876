//! A command in one argument, as its words. Pure; no shell, so that nothing is expanded.

/// Quotes are left open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the command has a quote without its end; close it, or give the words behind `--`")]
pub struct OpenQuote;

/// The words: apart by spaces, kept together by quotes and backslashes.
///
/// # Errors
/// When a quote has no end.
pub fn split(command: &str) -> Result<Vec<String>, OpenQuote> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = command.chars();
    while let Some(char) = chars.next() {
        match char {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(OpenQuote)? {
                        '\'' => break,
                        inside => word.push(inside),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(OpenQuote)? {
                        '"' => break,
                        '\\' => word.push(chars.next().ok_or(OpenQuote)?),
                        inside => word.push(inside),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next().ok_or(OpenQuote)?),
            space if space.is_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("node app.js", &["node", "app.js"]; "two words")]
    #[test_case("  node\tapp.js ", &["node", "app.js"]; "space around")]
    #[test_case(r#"sh -c "a 'b' \"c\"""#, &["sh", "-c", "a 'b' \"c\""]; "double quotes")]
    #[test_case(r"a 'b \ c'", &["a", "b \\ c"]; "single quotes keep a backslash")]
    #[test_case(r"my\ program", &["my program"]; "a backslash keeps a space")]
    #[test_case("a''b \"\"", &["ab", ""]; "empty quotes")]
    #[test_case("a $HOME *", &["a", "$HOME", "*"]; "nothing is expanded")]
    #[test_case("", &[]; "nothing")]
    fn a_command_is_split(command: &str, expected: &[&str]) {
        assert_eq!(split(command).unwrap(), expected);
    }

    #[test_case("a 'b"; "single")]
    #[test_case("a \"b"; "double")]
    #[test_case("a \\"; "backslash")]
    fn an_open_quote_is_an_error(command: &str) {
        assert_eq!(split(command), Err(OpenQuote));
    }
}
