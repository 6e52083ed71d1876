//! What tidegate is to reach.

use super::samples::Samples;

const PEER: &str = "tidegate";
const CPU: &str = "cpu_us_per_request";

/// A number, and where it should lie.
pub(super) struct Goal {
    pub(super) name: &'static str,
    bound: Bound,
    of: fn(&Samples) -> Option<f64>,
}

enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// Whether a goal is met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome {
    Met(f64),
    Missed(f64),
    /// Its scenario or its peer was left out.
    NotMeasured,
}

const fn goal(name: &'static str, bound: Bound, of: fn(&Samples) -> Option<f64>) -> Goal {
    Goal { name, bound, of }
}

/// All goals; "ratio" is that of CPU time a request to HAProxy's.
pub(super) const GOALS: [Goal; 13] = [
    goal("HTTP/1.1 kept alive, ratio", Bound::AtMost(1.1), |run| against_haproxy(run, "http1")),
    goal("HTTP/2 with 32 streams, ratio", Bound::AtMost(1.0), |run| against_haproxy(run, "http2")),
    goal("new connections, ratio", Bound::AtMost(0.6), |run| against_haproxy(run, "connect-full")),
    goal("new connections, resumed, ratio", Bound::AtMost(0.6), |run| {
        against_haproxy(run, "connect-resumed")
    }),
    goal("bodies of 1 MiB, ratio", Bound::AtMost(0.6), |run| against_haproxy(run, "body-1mib")),
    goal("mitmproxy's CPU time a request, as a multiple", Bound::AtLeast(75.0), |run| {
        run.ratio("http1", "mitmproxy", PEER, CPU)
    }),
    goal("passthrough of 100 MiB, rate against none", Bound::AtLeast(0.95), |run| {
        run.ratio("passthrough-bulk", PEER, "direct", "requests_per_second")
    }),
    goal("p99 added at a tenth of the peak, HTTP/1.1, µs", Bound::AtMost(300.0), |run| {
        run.median("http1", PEER, "p99_added_us")
    }),
    goal("p99 added at a tenth of the peak, HTTP/2, µs", Bound::AtMost(300.0), |run| {
        run.median("http2", PEER, "p99_added_us")
    }),
    goal("an idle connection, KiB", Bound::AtMost(25.0), |run| {
        run.median("idle", PEER, "kib_per_connection")
    }),
    goal("resident with 32 connections under load, MiB", Bound::AtMost(15.0), |run| {
        run.median("http1", PEER, "resident_kib").map(|kib| kib / 1024.0)
    }),
    goal("connect() of no subject, against no program", Bound::AtMost(1.02), |run| {
        run.median("connect", "tidegate, no subject", "ratio")
    }),
    goal("connect() of a subject to another port, against no program", Bound::AtMost(1.05), |run| {
        run.median("connect", "tidegate, a subject, another port", "ratio")
    }),
];

fn against_haproxy(run: &Samples, scenario: &str) -> Option<f64> {
    run.ratio(scenario, PEER, "haproxy", CPU)
}

impl Goal {
    /// As it is written in the table.
    pub(super) fn bound(&self) -> String {
        match self.bound {
            Bound::AtMost(most) => format!("≤ {most}"),
            Bound::AtLeast(least) => format!("≥ {least}"),
        }
    }

    pub(super) fn outcome(&self, run: &Samples) -> Outcome {
        let Some(value) = (self.of)(run) else { return Outcome::NotMeasured };
        let is_met = match self.bound {
            Bound::AtMost(most) => value <= most,
            Bound::AtLeast(least) => value >= least,
        };
        if is_met { Outcome::Met(value) } else { Outcome::Missed(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::samples::tests::samples, *};

    #[test]
    fn a_goal_is_met_missed_or_not_measured() {
        let run = samples(&[
            ("http1", "haproxy", 0, CPU, 10.0),
            ("http1", PEER, 0, CPU, 11.0),
            ("http1", "mitmproxy", 0, CPU, 110.0),
            ("idle", PEER, 0, "kib_per_connection", 26.0),
        ]);
        let outcome = |name: &str| GOALS.iter().find(|goal| goal.name == name).unwrap().outcome(&run);
        assert_eq!(outcome("HTTP/1.1 kept alive, ratio"), Outcome::Met(1.1));
        assert_eq!(outcome("mitmproxy's CPU time a request, as a multiple"), Outcome::Missed(10.0));
        assert_eq!(outcome("an idle connection, KiB"), Outcome::Missed(26.0));
        assert_eq!(outcome("HTTP/2 with 32 streams, ratio"), Outcome::NotMeasured);
    }
}
