use super::*;
use crate::cli::top::decision::MAX_CHARS;
use proptest::prelude::*;
use std::collections::HashMap;
use test_case::test_case;

/// An [`Answer`] as a number.
type Kind = u8;

const NOW: i64 = 1_795_341_600;

/// A decision of now.
fn decision(workload: &str, answer: Answer, operation: &str) -> Decision {
    Decision {
        second: Some(NOW),
        time: "10:00:00".to_owned(),
        workload: workload.to_owned(),
        policy: "p".to_owned(),
        answer,
        count: 1,
        operation: operation.to_owned(),
        request: format!("GET /{operation}"),
        status: "200".to_owned(),
        why: "scopes_allowed".to_owned(),
        microseconds: None,
    }
}

fn model(decisions: impl IntoIterator<Item = Decision>) -> Model {
    let mut model = Model::default();
    decisions.into_iter().for_each(|decision| model.add(decision, NOW));
    model
}

#[test]
fn decisions_are_counted_for_their_workload_by_what_became_of_them() {
    let counted = model([
        decision("ci", Answer::Allowed, "a"),
        Decision { count: 5, ..decision("ci", Answer::Refused, "b") },
        decision("ci", Answer::DryRun, "b"),
        decision("bots", Answer::Passed, "c"),
    ]);
    let rows = counted.workloads(NOW);
    let counts: Vec<_> = rows.iter().map(|(name, workload)| (*name, workload.counts)).collect();
    let ci = Counts { allowed: 1, refused: 5, dry_run: 1, passed: 0 };
    assert_eq!(counts, [("ci", ci), ("bots", Counts { passed: 1, ..Counts::default() })]);
    assert_eq!((counted.decisions(), counted.since()), (8, Some("10:00:00")));
    assert_eq!(rows[0].1.last_refusal.as_ref().unwrap().why, "scopes_allowed");
    assert!(rows[1].1.last_refusal.is_none());
    let refused = counted.refused(None);
    assert_eq!(refused, [Of { workload: "ci", what: ("b", 6) }]);
    assert!(counted.refused(Some("bots")).is_empty());
}

#[test_case(0, 0.3; "now")]
#[test_case(9, 0.3; "at the end of the window")]
#[test_case(10, 0.0; "behind it")]
#[test_case(-1, 0.0; "before it")]
fn a_rate_is_that_of_the_last_seconds(later: i64, expected: f64) {
    let counted = model([Decision { count: 3, ..decision("ci", Answer::Allowed, "a") }]);
    let (_, workload) = counted.workloads(NOW)[0];
    assert!((workload.rate(NOW + later) - expected).abs() < 1e-9);
}

#[test]
fn times_that_are_wrong_do_not_stand_in_the_way_of_right_ones() {
    let at = |second| Decision { second, ..decision("ci", Answer::Allowed, "a") };
    let times = [Some(i64::MAX), Some(NOW + WINDOW as i64), Some(i64::MIN), Some(0), None, Some(NOW)];
    let counted = model(times.map(at));
    let (_, workload) = counted.workloads(NOW)[0];
    assert!((workload.rate(NOW) - 0.1).abs() < 1e-9);
    assert_eq!(workload.counts.allowed, 6, "they are counted all the same");
}

#[test]
fn the_slowest_requests_stand_first() {
    let took = |microseconds, name: &str| Decision { microseconds, ..decision("ci", Answer::Allowed, name) };
    let mut decisions: Vec<_> = (0..100).map(|n| took(Some(n), &format!("{n}"))).collect();
    decisions.push(took(None, "connection"));
    decisions.push(Decision { workload: "bots".into(), ..took(Some(1_000), "bot") });
    let counted = model(decisions);
    let slowest =
        |workload| -> Vec<u64> { counted.slowest(workload).iter().map(|of| of.what.microseconds).collect() };
    assert_eq!(&slowest(None)[..3], [1_000, 99, 98]);
    assert_eq!(&slowest(Some("ci"))[..2], [99, 98]);
    assert_eq!(slowest(Some("bots")), [1_000]);
}

#[test]
fn the_tail_is_the_newest_first_and_can_be_chosen_from() {
    let counted = model([
        decision("ci", Answer::Refused, "one"),
        decision("bots", Answer::DryRun, "two"),
        decision("ci", Answer::Allowed, "three"),
    ]);
    let shown = |workload, only_refused| -> Vec<&str> {
        counted.newest(workload, only_refused).map(|decision| &*decision.operation).collect()
    };
    assert_eq!(shown(None, false), ["three", "two", "one"]);
    assert_eq!(shown(None, true), ["two", "one"]);
    assert_eq!(shown(Some("ci"), false), ["three", "one"]);
    assert_eq!(shown(Some("ci"), true), ["one"]);
    assert!(shown(Some("nobody"), false).is_empty());
}

#[test]
fn workloads_of_the_configuration_are_there_before_they_do_anything_and_after_a_clear() {
    let status =
        status::Workload { name: "ci\u{1b}".into(), policy: "read".into(), ..status::Workload::default() };
    let mut counted = model([decision("bots", Answer::Allowed, "a")]);
    counted.configure(std::slice::from_ref(&status));
    let names = |model: &Model| -> Vec<(String, String, u64)> {
        let rows = model.workloads(NOW);
        rows.iter().map(|(name, its)| ((*name).to_owned(), its.policy.clone(), its.counts.sum())).collect()
    };
    let row = |name: &str, policy: &str, sum| (name.to_owned(), policy.to_owned(), sum);
    assert_eq!(names(&counted), [row("bots", "p", 1), row("ci\\u{1b}", "read", 0)]);
    counted.clear();
    assert_eq!(names(&counted), [row("bots", "p", 0), row("ci\\u{1b}", "read", 0)]);
    assert_eq!((counted.decisions(), counted.since(), counted.newest(None, false).count()), (0, None, 0));
}

#[test]
fn workloads_without_number_are_counted_together() {
    let mut counted = model((0..500).map(|n| decision(&format!("w{n}"), Answer::Refused, "a")));
    let many: Vec<_> =
        (0..500).map(|n| status::Workload { name: format!("c{n}"), ..status::Workload::default() }).collect();
    counted.configure(&many);
    let rows = counted.workloads(NOW);
    assert_eq!(rows.len(), MAX_WORKLOADS + 1);
    assert_eq!((rows[0].0, rows[0].1.counts.refused), (OTHERS, 500 - MAX_WORKLOADS as u64));
    assert_eq!(counted.newest(Some(OTHERS), false).count(), 500 - MAX_WORKLOADS);
}

#[test]
fn what_is_refused_often_is_found_among_endless_rare_ones() {
    let decisions = (0..20_000).map(|n| {
        let operation = if n % 4 == 0 { "often".to_owned() } else { format!("rare{n}") };
        decision("ci", Answer::Refused, &operation)
    });
    let counted = model(decisions);
    let refused = counted.refused(None);
    assert_eq!(refused[0].what.0, "often");
    assert!((5_000..5_000 + 15_000 / MAX_REFUSED as u64).contains(&refused[0].what.1), "{:?}", refused[0]);
}

prop_compose! {
    fn any_decision()(
        workload in "[a-z]{0,2}|\\PC{0,64}",
        operation in "[a-z]{0,2}",
        answer in prop::sample::select(vec![Answer::Allowed, Answer::Refused, Answer::DryRun, Answer::Passed]),
        count in prop_oneof![1..5_u64, Just(u64::MAX)],
        second in prop_oneof![(NOW - 20..NOW + 20).prop_map(Some), any::<Option<i64>>()],
        microseconds in any::<Option<u64>>(),
    ) -> Decision {
        Decision { count, second, microseconds, ..decision(&workload, answer, &operation) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn memory_is_bounded_and_the_sums_agree(
        decisions in prop::collection::vec(any_decision(), 0..2 * MAX_TAIL),
        clear_at in 0..4 * MAX_TAIL,
    ) {
        let mut counted = Model::default();
        let mut expected: HashMap<Kind, u64> = HashMap::new();
        for (number, decision) in decisions.iter().enumerate() {
            if number == clear_at {
                counted.clear();
                expected.clear();
            }
            let sum = expected.entry(decision.answer as Kind).or_default();
            *sum = sum.saturating_add(decision.count);
            counted.add(decision.clone(), NOW);
        }
        prop_assert!(counted.workloads.len() <= MAX_WORKLOADS + 1);
        prop_assert!(counted.tail.len() <= MAX_TAIL);
        let total = |of: fn(&Counts) -> u64| {
            counted.workloads.values().fold(0_u64, |sum, its| sum.saturating_add(of(&its.counts)))
        };
        let wanted = |answer: Answer| expected.get(&(answer as Kind)).copied().unwrap_or_default();
        prop_assert_eq!(total(|counts| counts.allowed), wanted(Answer::Allowed));
        prop_assert_eq!(total(|counts| counts.refused), wanted(Answer::Refused));
        prop_assert_eq!(total(|counts| counts.dry_run), wanted(Answer::DryRun));
        prop_assert_eq!(total(|counts| counts.passed), wanted(Answer::Passed));
        prop_assert_eq!(total(Counts::sum), counted.decisions());
        for its in counted.workloads.values() {
            prop_assert!(its.refused.0.len() <= MAX_REFUSED && its.slow.len() <= MAX_SLOW);
            prop_assert!(its.slow.is_sorted_by(|one, other| one.microseconds >= other.microseconds));
            let refused = its.refused.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(count));
            let counts = its.counts.refused.saturating_add(its.counts.dry_run);
            if counts < u64::MAX {
                prop_assert_eq!(refused, counts);
            }
            prop_assert!(its.slow.iter().all(|slow| slow.request.chars().count() <= MAX_CHARS));
        }
    }
}
