//! h2load: many requests over few connections.

use super::TOKEN;
use crate::{
    peer::Target,
    place::{Answer, Place},
};
use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tidegate_tests::process::Process;

/// What is asked, and how.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) host: &'static str,
    pub(crate) answer: Answer,
    pub(crate) http2: bool,
    pub(crate) connections: u32,
    /// At once on one connection.
    pub(crate) streams: u32,
}

/// What came back.
#[derive(Debug, PartialEq)]
pub(crate) struct Done {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
}

/// How long requests took.
pub(crate) struct Latency {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) requests: usize,
}

impl Load {
    fn line(self, target: &Target, requests: u64) -> Vec<String> {
        let mut line = vec!["h2load".to_owned()];
        if !self.http2 {
            line.push("--h1".to_owned());
        }
        line.push(format!("--clients={}", self.connections));
        line.push(format!("--max-concurrent-streams={}", self.streams));
        // Not by time: at its end h2load may wait for ever for a client that waits for its answer.
        line.push(format!("--requests={}", requests.max(u64::from(self.connections))));
        line.extend(target.address.map(|address| format!("--connect-to={address}")));
        line.extend(["--header".to_owned(), format!("authorization: Bearer {TOKEN}")]);
        line.extend(["--header".to_owned(), "accept: application/json".to_owned()]);
        line.push(format!("https://{}{}", self.host, self.answer.path()));
        line
    }

    /// So many, as fast as it goes.
    pub(crate) fn run(self, place: &Place, target: &Target, requests: u64) -> Result<Done> {
        self.start(place, target, &self.line(target, requests))
    }

    /// How many requests take about so long; the peer is warm then.
    pub(crate) fn requests_in(self, place: &Place, target: &Target, time: Duration) -> Result<u64> {
        let at_once = u64::from(self.connections * self.streams);
        let mut requests = at_once * 8;
        // The first time is mostly that of the handshakes.
        for share in [0.1, 1.0] {
            let done = self.run(place, target, requests)?;
            let rate = done.requests as f64 / done.seconds;
            requests = at_once.max((rate * time.as_secs_f64() * share) as u64);
        }
        Ok(requests)
    }

    fn start(self, place: &Place, target: &Target, line: &[String]) -> Result<Done> {
        let limit = Duration::from_secs(120);
        let finished = Process::run(&mut place.command(target.role, line), place.directory(), limit)?;
        let text = finished.text();
        done(&text).with_context(|| format!("h2load: {text}{}", finished.stderr))
    }

    /// At a fixed rate for some time, at which nobody waits for anybody.
    pub(crate) fn pace(self, place: &Place, target: &Target, rate: f64, time: Duration) -> Result<Latency> {
        let log = place.directory().join("h2load.log");
        let _ = fs::remove_file(&log);
        let per_client = (rate / f64::from(self.connections)).max(1.0);
        let mut line = self.line(target, (rate * time.as_secs_f64()) as u64);
        line.push(format!("--rps={per_client:.2}"));
        line.push(format!("--log-file={}", log.display()));
        self.start(place, target, &line)?;
        let text = fs::read_to_string(&log).context("reading h2load's log")?;
        // The first are those that wait for the connection.
        let began = text.lines().filter_map(start_us).min().unwrap_or_default();
        ensure!(began <= now_us(), "h2load's log is of the future");
        latency(&text, began + u64::try_from(time.as_micros() / 5)?).context("too few requests to tell")
    }
}

fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// What h2load tells, where every request was answered as it should be.
fn done(text: &str) -> Result<Done> {
    let after = |begin: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(begin));
        line.with_context(|| format!("h2load tells nothing of `{begin}`"))
    };
    let seconds = seconds(after("finished in ")?).context("how long h2load took")?;
    let number = |line: &str, of: &str| -> Result<u64> {
        let word = line.split(", ").find_map(|part| part.strip_suffix(of));
        word.and_then(|word| word.trim().parse().ok()).with_context(|| format!("h2load tells no `{of}`"))
    };
    let requests = after("requests: ")?;
    let (succeeded, failed) = (number(requests, " succeeded")?, number(requests, " failed")?);
    let good = number(after("status codes: ")?, " 2xx")?;
    ensure!(succeeded > 0 && good >= succeeded, "{succeeded} requests succeeded, {good} with 2xx");
    ensure!(failed == 0, "{failed} requests failed beside {succeeded}");
    Ok(Done { requests: succeeded, seconds })
}

/// `3.02s`, `15.00ms` or `1.5m`, up to a comma.
fn seconds(text: &str) -> Option<f64> {
    let word = text.split(',').next()?;
    let at = word.find(|character: char| character.is_alphabetic())?;
    let number: f64 = word.get(..at)?.parse().ok()?;
    let unit = match word.get(at..)? {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Some(number * unit)
}

/// A line of the log is the time at which a request began, its status, and how long it took, in microseconds.
fn start_us(line: &str) -> Option<u64> {
    line.split('\t').next()?.parse().ok()
}

fn latency(log: &str, from_us: u64) -> Option<Latency> {
    let mut times: Vec<u64> = log
        .lines()
        .filter(|line| start_us(line).is_some_and(|start| start >= from_us))
        .filter_map(|line| line.split('\t').nth(2)?.parse().ok())
        .collect();
    times.sort_unstable();
    let requests = times.len();
    // Nearest rank.
    let rank = |percent: usize| times.get((requests * percent).div_ceil(100).saturating_sub(1)).copied();
    let [p50_us, p99_us] = [rank(50)?, rank(99)?].map(|time| time as f64);
    (requests >= 20).then_some(Latency { p50_us, p99_us, requests })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "finished in 3.02s, 33112.91 req/s, 36.02MB/s\n\
        requests: 100000 total, 100000 started, 100000 done, 100000 succeeded, 0 failed, 0 errored, 0 timeout\n\
        status codes: 100000 2xx, 0 3xx, 0 4xx, 0 5xx\n";

    #[test]
    fn what_h2load_tells_is_read() {
        assert_eq!(done(TOLD).unwrap(), Done { requests: 100_000, seconds: 3.02 });
    }

    #[test]
    fn an_answer_that_is_no_success_fails_the_turn() {
        for bad in [
            TOLD.replace("100000 2xx, 0 3xx, 0 4xx", "0 2xx, 0 3xx, 100000 4xx"),
            TOLD.replace("100000 succeeded, 0 failed", "99999 succeeded, 1 failed"),
            TOLD.replace("100000 succeeded", "0 succeeded"),
            "h2load: command not found".to_owned(),
        ] {
            assert!(done(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn units_of_time_are_known() {
        for (text, expected) in [
            ("15.00ms, 1 req/s", Some(0.015)),
            ("2.00s", Some(2.0)),
            ("1.5m, ", Some(90.0)),
            ("3 parsecs", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn percentiles_leave_the_first_out() {
        let log: String = (0..200_u64).map(|at| format!("{at}\t200\t{}\n", 1_000 - at)).collect();
        let latency = latency(&log, 100).unwrap();
        assert_eq!((latency.requests, latency.p50_us, latency.p99_us), (100, 850.0, 899.0));
    }
}
