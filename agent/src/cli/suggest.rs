//! `tidegate suggest`: the least policy that the recorded calls need.

use super::Error;
use crate::{
    classify::Catalogue,
    decide::suggest::{self, Call},
    record::sink::CHECKPOINT,
};
use clap::Args;
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
};

/// More than any record, so that a file that is no audit log cannot fill the memory.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// `tidegate suggest`.
#[derive(Debug, Args)]
pub struct SuggestArgs {
    /// The audit log; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub audit: PathBuf,
    /// The workload, where the log has several
    #[arg(long, value_name = "NAME")]
    pub workload: Option<String>,
    /// Leave out calls that were refused
    #[arg(long)]
    pub passed: bool,
}

/// What of a record matters here.
#[derive(Deserialize)]
struct Record {
    #[serde(rename = "tidegate.phase")]
    phase: String,
    #[serde(rename = "tidegate.workload")]
    workload: String,
    #[serde(rename = "http.request.method")]
    method: Option<String>,
    #[serde(rename = "tidegate.operation")]
    operation: Option<String>,
    #[serde(rename = "tidegate.scopes.required", default)]
    required: Vec<String>,
    #[serde(rename = "tidegate.rule")]
    rule: Option<String>,
    #[serde(rename = "tidegate.resources", default)]
    resources: Vec<String>,
    #[serde(rename = "tidegate.verdict")]
    verdict: Option<String>,
}

/// What was read of a log.
#[derive(Default)]
struct Log {
    calls: BTreeMap<String, Vec<Call>>,
    /// Requests that no policy was asked about, or that the catalogue does not have.
    passed_over: usize,
    /// Lines that are no records.
    broken: usize,
}

/// Writes a policy for the calls of an audit log.
///
/// # Errors
/// When the log cannot be read, has no calls of the workload or calls of several, or `out` fails.
pub fn suggest(args: &SuggestArgs, out: &mut impl Write) -> Result<(), Error> {
    let fail = |source| Error::Audit { path: args.audit.clone(), source };
    let log = if args.audit == Path::new("-") {
        Log::read(io::stdin().lock())
    } else {
        File::open(&args.audit).and_then(|file| Log::read(BufReader::new(file)))
    };
    let mut log = log.map_err(fail)?;
    let workloads: Vec<String> = log.calls.keys().cloned().collect();
    let workload = match (&args.workload, workloads.as_slice()) {
        (Some(name), _) => name.clone(),
        (None, [name]) => name.clone(),
        (None, []) => return Err(Error::NoCalls { path: args.audit.clone(), workloads }),
        (None, _) => return Err(Error::SeveralWorkloads { path: args.audit.clone(), workloads }),
    };
    let Some(mut calls) = log.calls.remove(&workload) else {
        return Err(Error::NoCalls { path: args.audit.clone(), workloads });
    };
    if args.passed {
        calls.retain(|call| !call.refused);
    }
    let origin = format!("of workload `{workload}` in {}", args.audit.display());
    out.write_all(suggest::policy(&calls, Catalogue::embedded(), &origin).as_bytes())?;
    for (count, what) in [
        (log.passed_over, "requests were passed over: malformed, or not in the catalogue"),
        (log.broken, "lines of the log are no records"),
    ] {
        if count > 0 {
            writeln!(out, "\n# {count} {what}.")?;
        }
    }
    Ok(())
}

impl Log {
    fn read(mut reader: impl BufRead) -> io::Result<Self> {
        let mut log = Self::default();
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
                return Ok(log);
            }
            match serde_json::from_slice::<Record>(&line) {
                Ok(record) => log.add(record),
                Err(_) if line.trim_ascii().is_empty() || is_checkpoint(&line) => {}
                Err(_) => log.broken += 1,
            }
        }
    }

    fn add(&mut self, record: Record) {
        // A write's intent says nothing that its outcome does not, and a connection is no call.
        if record.phase != "outcome" || record.method.is_none() {
            return;
        }
        let (Some(operation), Some(_)) = (record.operation, record.rule) else {
            self.passed_over += 1;
            return;
        };
        let mut resources: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (kind, value) in record.resources.iter().filter_map(|resource| resource.split_once(':')) {
            resources.entry(kind.to_owned()).or_default().insert(value.to_owned());
        }
        self.calls.entry(record.workload).or_default().push(Call {
            operation,
            scopes: record.required.into_iter().collect(),
            resources,
            refused: record.verdict.as_deref() == Some("refused"),
        });
    }
}

fn is_checkpoint(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Phase {
        #[serde(rename = "tidegate.phase")]
        phase: String,
    }
    serde_json::from_slice::<Phase>(line).is_ok_and(|line| line.phase == CHECKPOINT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn record(workload: &str, operation: &str, verdict: &str) -> String {
        format!(
            "{{\"tidegate.phase\":\"outcome\",\"tidegate.workload\":\"{workload}\",\"http.request.method\":\"GET\",\
             \"tidegate.operation\":\"{operation}\",\"tidegate.scopes.required\":[\"domain:read\"],\
             \"tidegate.rule\":\"allow[0]\",\"tidegate.resources\":[\"domain:a.example\"],\
             \"tidegate.verdict\":\"{verdict}\"}}\n"
        )
    }

    fn suggested(log: &str, workload: Option<&str>, passed: bool) -> Result<String, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), log).unwrap();
        let mut out = Vec::new();
        let workload = workload.map(str::to_owned);
        let args = SuggestArgs { audit: file.path().to_owned(), workload, passed };
        let result = suggest(&args, &mut out).map_err(|error| error.to_string());
        result.map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_policy_of_a_log_is_written() {
        let log = record("ci", "domains_get", "forwarded") + "{\"tidegate.phase\":\"outc";
        let text = suggested(&log, None, false).unwrap();
        assert!(text.starts_with("# The least policy for the 1 calls of workload `ci` in "), "{text}");
        assert!(text.contains("resources = { domain = [\"a.example\"] }\n"), "{text}");
        assert!(text.ends_with("\n# 1 lines of the log are no records.\n"), "{text}");
    }

    #[test]
    fn refused_calls_can_be_left_out() {
        let log = record("ci", "domains_get", "refused");
        assert!(suggested(&log, None, false).unwrap().contains("[[rule]]"));
        assert!(!suggested(&log, None, true).unwrap().contains("[[rule]]"));
    }

    #[test_case(None, Err("several workloads"); "none is chosen")]
    #[test_case(Some("b"), Ok("domains_list"); "one is chosen")]
    #[test_case(Some("c"), Err("no calls"); "one that is not there")]
    fn a_log_of_several_workloads_needs_a_choice(workload: Option<&str>, expected: Result<&str, &str>) {
        let log = record("a", "domains_get", "forwarded") + &record("b", "domains_list", "forwarded");
        match (suggested(&log, workload, false), expected) {
            (Ok(text), Ok(part)) | (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
            (found, _) => panic!("{found:?}"),
        }
    }
}
