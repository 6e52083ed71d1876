//! Records as a table for people.

use crate::record::redact::escape_control;
use serde_json::{Map, Value};
use std::{
    borrow::Cow,
    io::{self, Write},
};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const GREEN: &str = "\u{1b}[32m";
const PLAIN: &str = "\u{1b}[0m";

/// A narrower terminal gets two lines for a record, so that little has to be cut.
const WIDE: usize = 140;
/// What stands before a record's second line.
const INDENT: &str = "                ";

/// Writes rows, and what is above them.
pub(super) struct Table {
    has_colours: bool,
    /// The columns of the terminal; None where there is none, and nothing is cut.
    width: Option<usize>,
    is_begun: bool,
}

/// What a row shows.
struct Row<'r> {
    time: String,
    workload: Cow<'r, str>,
    answer: &'static str,
    colour: &'static str,
    status: String,
    request: String,
    why: String,
}

impl Table {
    pub(super) const fn new(has_colours: bool, width: Option<usize>) -> Self {
        Self { has_colours, width, is_begun: false }
    }

    /// One record.
    pub(super) fn row(&mut self, record: &Map<String, Value>, out: &mut impl Write) -> io::Result<()> {
        let is_begun = std::mem::replace(&mut self.is_begun, true);
        let row = Row::of(record);
        match self.width {
            Some(width) if width < WIDE => self.two_lines(&row, width, is_begun, out),
            _ => self.one_line(&row, is_begun, out),
        }
    }

    fn one_line(&self, row: &Row<'_>, is_begun: bool, out: &mut impl Write) -> io::Result<()> {
        // 56 columns are before the request, the reason gets a little less than half of the others.
        let room = self.width.map(|width| width.saturating_sub(56));
        let why = room.map_or(usize::MAX, |room| room * 9 / 20);
        let (workload, request) =
            (room.map_or(usize::MAX, |_| 14), room.map_or(usize::MAX, |room| room - why));
        if !is_begun {
            let request = fitted("REQUEST", 44.min(request), 44.min(request));
            writeln!(out, "TIME (UTC)           WORKLOAD        ANSWER   STATUS  {request}  WHY")?;
        }
        let Row { time, answer, status, .. } = row;
        let (colour, plain) = self.colour(row);
        let workload = fitted(&row.workload, 14, workload);
        let request = fitted(&row.request, request.min(44), request);
        let why = fitted(&row.why, 0, why);
        writeln!(out, "{time:<19}  {workload}  {colour}{answer:<7}{plain}  {status:<6}  {request}  {why}")
    }

    fn two_lines(&self, row: &Row<'_>, width: usize, is_begun: bool, out: &mut impl Write) -> io::Result<()> {
        if !is_begun {
            writeln!(out, "{}", fitted("TIME (UTC)      WORKLOAD      ANSWER   REQUEST, AND WHY", 0, width))?;
        }
        let Row { time, answer, status, .. } = row;
        let (colour, plain) = self.colour(row);
        let time: String = time.chars().skip("2026-".len()).collect();
        let workload = fitted(&row.workload, 12, 12);
        let request = fitted(&row.request, 0, width.saturating_sub(39));
        writeln!(out, "{time:<14}  {workload}  {colour}{answer:<7}{plain}  {request}")?;
        let why = fitted(&format!("{status} {}", row.why), 0, width.saturating_sub(INDENT.len()));
        writeln!(out, "{INDENT}{why}")
    }

    fn colour(&self, row: &Row<'_>) -> (&'static str, &'static str) {
        if self.has_colours { (row.colour, PLAIN) } else { ("", "") }
    }
}

impl<'r> Row<'r> {
    fn of(record: &'r Map<String, Value>) -> Self {
        let text = |key: &str| text(record, key);
        let (answer, colour) = match (&*text("tidegate.decision"), &*text("tidegate.verdict")) {
            (_, "would_refuse") => ("dry-run", YELLOW),
            ("allow", _) => ("allow", GREEN),
            _ => ("deny", RED),
        };
        Self {
            time: text("timestamp").chars().take(19).collect::<String>().replace('T', " "),
            workload: text("tidegate.workload"),
            answer,
            colour,
            status: record
                .get("http.response.status_code")
                .and_then(Value::as_u64)
                .map_or("-".to_owned(), |status| status.to_string()),
            request: request(record),
            why: why(record),
        }
    }
}

/// The text in at least and at most so many columns of a terminal; `…` stands for what is cut.
pub(super) fn fitted(text: &str, least: usize, most: usize) -> String {
    let mut fitted = text.to_owned();
    if text.width() > most {
        fitted.clear();
        let mut width = 1;
        for char in text.chars() {
            width += char.width().unwrap_or_default();
            if width > most {
                break;
            }
            fitted.push(char);
        }
        fitted.push('…');
    }
    let missing = least.saturating_sub(fitted.width());
    fitted.extend(std::iter::repeat_n(' ', missing));
    fitted
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
