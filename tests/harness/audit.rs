//! The audit log: reading it as its users do, one JSON object a line, and a record to write.

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};
use std::{fmt, fs, path::Path, time::SystemTime};
use tidegate::{
    decide::Effect,
    identify::Subject,
    reason::Reason,
    record::{AuditRecord, Destination, Durations, Phase, Ratelimit, SCHEMA, Verdict, request_id, timestamp},
};

/// What a refused request of this workload leaves, as far as every record has it.
///
/// # Errors
/// When the system has no random numbers.
pub fn refused(workload: &str) -> Result<AuditRecord> {
    Ok(AuditRecord {
        timestamp: timestamp(SystemTime::now()),
        schema: SCHEMA,
        phase: Phase::Outcome,
        request_id: request_id()?,
        subject: Subject { workload: workload.into(), policy: "read-only".into(), ..Subject::default() },
        destination: Destination::default(),
        request: None,
        decision: Effect::Deny,
        reason: Reason::MissingScope,
        rule: None,
        verdict: Some(Verdict::Refused),
        status: Some(403),
        ratelimit: Ratelimit::default(),
        detail: None,
        runtime: None,
        hint: None,
        count: None,
        bytes_in: 0,
        bytes_out: 0,
        durations: Durations::default(),
    })
}

/// One line of the audit log.
#[derive(Clone, PartialEq)]
pub struct Record(Map<String, Value>);

/// Every record of this file; a line that is not a JSON object is an error, a missing file too.
///
/// # Errors
/// Says which line is wrong.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("reading the audit log {}", path.display()))?;
    let parse = |(number, line)| match serde_json::from_str(line) {
        Ok(Value::Object(record)) => Ok(Some(record).filter(is_record).map(Record)),
        _ => bail!("line {} of {} is not a JSON object: {line}", number + 1, path.display()),
    };
    text.lines().enumerate().filter_map(|line| parse(line).transpose()).collect()
}

/// A checkpoint is about the log itself.
fn is_record(line: &Map<String, Value>) -> bool {
    line.get("tidegate.phase").and_then(Value::as_str) != Some("checkpoint")
}

/// As [`read`], without the lines that killed writers have left in the middle.
///
/// # Errors
/// When the file cannot be read.
pub fn read_past_torn(path: &Path) -> Result<Vec<Record>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("reading the audit log {}", path.display()))?;
    let whole = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    Ok(whole.filter(is_record).map(Record).collect())
}

impl Record {
    /// The records in these lines of JSON.
    ///
    /// # Errors
    /// When a line is something else.
    pub fn of_lines(text: &str) -> Result<Vec<Self>> {
        let objects = text.lines().map(|line| {
            let object: Map<String, Value> =
                serde_json::from_str(line).with_context(|| format!("no record: {line}"))?;
            Ok(object)
        });
        let objects: Vec<Map<String, Value>> = objects.collect::<Result<_>>()?;
        Ok(objects.into_iter().filter(is_record).map(Self).collect())
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// The value of a key as text; empty where it is absent or no text.
    pub fn text(&self, key: &str) -> &str {
        self.value(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// The value of a key as a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.value(key).and_then(Value::as_u64)
    }

    /// The texts in a list; empty where it is absent.
    pub fn list(&self, key: &str) -> Vec<&str> {
        let list = self.value(key).and_then(Value::as_array);
        list.map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
    }

    /// `intent` or `outcome`.
    pub fn phase(&self) -> &str {
        self.text("tidegate.phase")
    }

    /// `allow` or `deny`.
    pub fn decision(&self) -> &str {
        self.text("tidegate.decision")
    }

    /// What was done on the wire.
    pub fn verdict(&self) -> &str {
        self.text("tidegate.verdict")
    }

    /// Why.
    pub fn reason(&self) -> &str {
        self.text("tidegate.reason")
    }

    /// The status that the client got.
    pub fn status(&self) -> Option<u64> {
        self.number("http.response.status_code")
    }

    /// Method and path, as `GET /v2/droplets`; empty for a connection without a request.
    pub fn request(&self) -> String {
        let (method, path) = (self.text("http.request.method"), self.text("url.path"));
        if method.is_empty() { String::new() } else { format!("{method} {path}") }
    }

    /// The whole line as JSON.
    pub fn json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.json())
    }
}

/// Of these records, the last line of each request or connection.
pub fn outcomes(records: &[Record]) -> Vec<&Record> {
    records.iter().filter(|record| record.phase() == "outcome").collect()
}

/// The one outcome that fits.
///
/// # Errors
/// When none or several fit; shows all records then.
pub fn only<'r>(records: &'r [Record], what: &str, fits: impl Fn(&Record) -> bool) -> Result<&'r Record> {
    let found: Vec<&Record> = outcomes(records).into_iter().filter(|record| fits(record)).collect();
    match found.as_slice() {
        [record] => Ok(record),
        _ => bail!("{} records instead of one of {what}, in {records:#?}", found.len()),
    }
}
