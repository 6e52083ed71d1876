//! The options in which users name a keystore of their own to Java.

use super::{Password, search::Search, tree};
use std::path::Path;

/// Variables that hold options of the virtual machine.
const VARIABLES: [&str; 9] = [
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    "JAVA_OPTS",
    "MAVEN_OPTS",
    "GRADLE_OPTS",
    "SBT_OPTS",
    "ANT_OPTS",
    "CATALINA_OPTS",
];

pub(super) fn search(search: &mut Search<'_>) {
    let mut named: Vec<String> = Vec::new();
    let variables = VARIABLES.iter().filter_map(|name| (search.surroundings.lookup)(name));
    named.extend(variables.map(|value| value.to_string_lossy().into_owned()));
    // The command's own arguments are no list of words: a path may have blanks.
    let arguments =
        search.surroundings.command.iter().map(|argument| argument.to_string_lossy().into_owned());
    let arguments: Vec<_> = arguments.collect();
    let lists = named.iter().map(|list| words(list)).chain([arguments]);
    for words in lists.collect::<Vec<_>>() {
        let (stores, password) = options(&words);
        for store in stores {
            if let Some(path) = tree::absolute(Path::new(&store), search.surroundings.working_directory) {
                search.keystore(&path, &password);
            }
        }
    }
}

/// The trust stores that the options name, and the password for them.
fn options(words: &[String]) -> (Vec<String>, Password) {
    let values = |name: &str| -> Vec<String> {
        let option = format!("-Djavax.net.ssl.{name}=");
        words.iter().filter_map(|word| word.strip_prefix(&option)).map(str::to_owned).collect()
    };
    let password = values("trustStorePassword").pop().map_or_else(Password::default, Password);
    (values("trustStore"), password)
}

/// What Java makes of such a variable: blanks separate, except in quotes.
fn words(list: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for character in list.chars() {
        match quote {
            Some(open) if open == character => quote = None,
            None if matches!(character, '"' | '\'') => quote = Some(character),
            None if character.is_whitespace() => words.push(String::new()),
            Some(_) | None => {
                if let Some(word) = words.last_mut() {
                    word.push(character);
                }
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
