//! Records as a table for people.

use crate::record::redact::escape_control;
use serde_json::{Map, Value};
use std::{
    borrow::Cow,
    io::{self, Write},
};

const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const GREEN: &str = "\u{1b}[32m";
const PLAIN: &str = "\u{1b}[0m";

/// Writes rows, and what is above them.
pub(super) struct Table {
    has_colours: bool,
    is_begun: bool,
}

impl Table {
    pub(super) const fn new(has_colours: bool) -> Self {
        Self { has_colours, is_begun: false }
    }

    /// One record.
    pub(super) fn row(&mut self, record: &Map<String, Value>, out: &mut impl Write) -> io::Result<()> {
        if !self.is_begun {
            self.is_begun = true;
            writeln!(
                out,
                "{:<19}  {:<14}  {:<7}  {:<6}  {:<44}  WHY",
                "TIME (UTC)", "WORKLOAD", "ANSWER", "STATUS", "REQUEST"
            )?;
        }
        let text = |key: &str| text(record, key);
        let time: String = text("timestamp").chars().take(19).collect::<String>().replace('T', " ");
        let (answer, colour) = match (&*text("tidegate.decision"), &*text("tidegate.verdict")) {
            (_, "would_refuse") => ("dry-run", YELLOW),
            ("allow", _) => ("allow", GREEN),
            _ => ("deny", RED),
        };
        let (colour, plain) = if self.has_colours { (colour, PLAIN) } else { ("", "") };
        let status = record.get("http.response.status_code").map_or("-".to_owned(), ToString::to_string);
        let (workload, request, why) = (text("tidegate.workload"), request(record), why(record));
        writeln!(
            out,
            "{time:<19}  {workload:<14}  {colour}{answer:<7}{plain}  {status:<6}  {request:<44}  {why}"
        )
    }
}

/// The value of a key as text that steers no terminal.
pub(in crate::cli) fn text<'r>(record: &'r Map<String, Value>, key: &str) -> Cow<'r, str> {
    escape_control(record.get(key).and_then(Value::as_str).unwrap_or_default())
}

/// Method and path; of what carried no request, where it went.
pub(in crate::cli) fn request(record: &Map<String, Value>) -> String {
    let text = |key: &str| text(record, key);
    let method = text("http.request.method");
    let count = record.get("tidegate.count").and_then(Value::as_u64).filter(|count| *count > 1);
    let times = count.map(|count| format!(" ({count} times)")).unwrap_or_default();
    if !method.is_empty() {
        let query = Some(text("url.query")).filter(|query| !query.is_empty());
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        return format!("{method} {}{query}{times}", text("url.path"));
    }
    let host = Some(text("server.address")).filter(|host| !host.is_empty());
    let port = record.get("destination.port").map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}{times}", host.unwrap_or_else(|| text("destination.address")))
}

/// The reason, what it is about, and the rule.
pub(in crate::cli) fn why(record: &Map<String, Value>) -> String {
    let text = |key: &str| text(record, key);
    let list = |key: &str| {
        let list = record.get(key).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(escape_control)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut why = text("tidegate.reason").into_owned();
    let missing = list("tidegate.scopes.missing");
    for (label, value) in [
        (": ", missing),
        (", removed ", list("tidegate.filtered")),
        (", by ", text("tidegate.rule").into_owned()),
    ] {
        if !value.is_empty() && value != "default" {
            why.push_str(label);
            why.push_str(&value);
        }
    }
    why
}
