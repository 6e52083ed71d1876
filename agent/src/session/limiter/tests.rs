use super::*;
use crate::{classify::Catalogue, decide::document};
use proptest::prelude::*;
use std::path::Path;
use test_case::test_case;

fn policy(text: &str) -> Policy {
    document::parse("p", text, Path::new("p.toml"), Catalogue::embedded()).unwrap()
}

/// A policy with one limit for each of these, `20/hour` or `20%`.
fn policy_of(quotas: &[&str]) -> Policy {
    let table = |quota: &&str| {
        let key = if quota.ends_with('%') { "share" } else { "rate" };
        format!("[[limit]]\n{key} = \"{quota}\"\n")
    };
    policy(&quotas.iter().map(table).collect::<String>())
}

/// A limiter whose time is told in milliseconds.
struct World {
    limiter: Limiter,
    start: Instant,
    workload: Arc<str>,
    hourly: Option<u32>,
}

impl World {
    fn new() -> Self {
        Self { limiter: Limiter::default(), start: Instant::now(), workload: "ci".into(), hourly: None }
    }

    fn try_take(&self, at_ms: u64, policy: &Policy, limits: &[usize], token: &str) -> Result<Taken, Full> {
        let asking = Asking {
            workload: &self.workload,
            policy,
            limits,
            token: Some(token).filter(|token| !token.is_empty()),
            hourly: self.hourly,
        };
        self.limiter.take(asking, self.start + Duration::from_millis(at_ms))
    }

    /// Where it is refused: by which limit, and for how many milliseconds.
    fn take(&self, at_ms: u64, policy: &Policy, limits: &[usize], token: &str) -> Option<(usize, u64)> {
        let full = self.try_take(at_ms, policy, limits, token).err()?;
        Some((full.index, u64::try_from(full.wait.as_millis()).unwrap()))
    }

    fn times(&self) -> usize {
        let state = self.limiter.lock();
        let counts = state.workloads.values().flat_map(HashMap::values);
        counts.map(|count| count.own.values().map(Window::len).sum::<usize>() + count.others.len()).sum()
    }
}

#[test_case("3/minute", &[(0, None), (0, None), (0, None), (1, Some(59_999))]; "at once")]
#[test_case("3/minute", &[(0, None), (10_000, None), (20_000, None), (59_999, Some(1)), (60_000, None), (60_000, Some(10_000))]; "the edge of the window")]
#[test_case("1/second", &[(0, None), (999, Some(1)), (1_000, None), (1_999, Some(1)), (2_000, None)]; "one after the other")]
#[test_case("1/minute", &[(0, None), (30_000, Some(30_000)), (59_000, Some(1_000)), (60_000, None)]; "what is refused does not count")]
#[test_case("2/minute", &[(0, None), (59_000, None), (61_000, None), (62_000, Some(57_000))]; "no moment lets twice the limit through")]
#[test_case("1/minute", &[(50_000, None), (20_000, Some(60_000)), (110_000, None)]; "time never goes back")]
#[test_case("1/day", &[(0, None), (86_399_999, Some(1)), (86_400_000, None)]; "a day")]
fn a_rate_lets_so_many_through_in_any_period(rate: &str, requests: &[(u64, Option<u64>)]) {
    let (world, policy) = (World::new(), policy_of(&[rate]));
    for (at, expected) in requests {
        assert_eq!(world.take(*at, &policy, &[0], "a").map(|(_, wait)| wait), *expected, "at {at}");
    }
}

#[test]
fn all_limits_have_room_or_none_is_taken() {
    let (world, policy) = (World::new(), policy_of(&["1/minute", "3/hour"]));
    assert_eq!(world.take(0, &policy, &[0, 1], "a"), None);
    for at in 1..10 {
        assert_eq!(world.take(at, &policy, &[0, 1], "a"), Some((0, 60_000 - at)));
    }
    assert_eq!(world.times(), 2, "the refused ones took nothing from the second limit");
    assert_eq!(world.take(10, &policy, &[1], "a"), None);
    assert_eq!(world.take(10, &policy, &[1], "a"), None);
    assert_eq!(world.take(10, &policy, &[1], "a"), Some((1, 3_599_990)));
    assert_eq!(world.take(60_000, &policy, &[0, 1], "a"), Some((1, 3_540_000)));
    assert_eq!(world.take(60_000, &policy, &[0], "a"), None, "nor did this one from the first");
}

#[test]
fn of_two_limits_without_room_the_later_one_is_told() {
    let (world, policy) = (World::new(), policy_of(&["1/minute", "1/hour", "1/second"]));
    assert_eq!(world.take(0, &policy, &[0, 1, 2], "a"), None);
    assert_eq!(world.take(0, &policy, &[0, 1, 2], "a"), Some((1, 3_600_000)));
    assert_eq!(world.take(0, &policy, &[2, 0], "a"), Some((0, 60_000)));
}

#[test]
fn limits_that_count_the_same_alike_count_it_once() {
    let (world, policy) = (World::new(), policy_of(&["2/hour", "2/hour"]));
    assert_eq!(world.take(0, &policy, &[0, 1], "a"), None);
    assert_eq!(world.take(0, &policy, &[0, 1], "a"), None);
    assert!(world.take(0, &policy, &[0, 1], "a").is_some());
}

#[test]
fn what_never_left_is_given_back() {
    let (world, policy) = (World::new(), policy_of(&["2/minute", "100%"]));
    let first = world.try_take(0, &policy, &[0, 1], "a").unwrap();
    world.try_take(1_000, &policy, &[0, 1], "a").unwrap();
    assert_eq!(world.take(2_000, &policy, &[0, 1], "a"), Some((0, 58_000)));
    world.limiter.give_back(first);
    assert_eq!(world.times(), 2);
    assert_eq!(world.take(2_000, &policy, &[0, 1], "a"), None);
    assert_eq!(world.take(2_000, &policy, &[0, 1], "a"), Some((0, 59_000)), "the second is the oldest now");
}

#[test]
fn what_has_left_its_window_gives_nothing_back() {
    let (world, policy) = (World::new(), policy_of(&["1/minute"]));
    let first = world.try_take(0, &policy, &[0], "a").unwrap();
    assert_eq!(world.take(60_000, &policy, &[0], "a"), None);
    world.limiter.give_back(first);
    assert_eq!(world.take(60_000, &policy, &[0], "a"), Some((0, 60_000)));
    let gone = world.try_take(120_000, &policy, &[0], "a").unwrap();
    world.take(500_000, &policy, &[], "a");
    assert!(world.limiter.lock().workloads.is_empty());
    world.limiter.give_back(gone);
}

#[test]
fn a_share_is_counted_by_token_and_a_rate_is_not() {
    let (world, policy) = (World::new(), policy_of(&["1%", "5/minute"]));
    for token in ["a", "b", ""] {
        assert_eq!(world.take(0, &policy, &[0], token), None);
        assert_eq!(world.take(0, &policy, &[0], token), None);
        assert_eq!(world.take(0, &policy, &[0], token), Some((0, 60_000)), "{token}");
    }
    for token in ["a", "b", "", "c", "d"] {
        assert_eq!(world.take(0, &policy, &[1], token), None);
    }
    assert_eq!(world.take(0, &policy, &[1], "e"), Some((1, 60_000)));
}

#[test]
fn a_share_is_of_the_minute_and_of_the_hour() {
    let (world, policy) = (World::new(), policy_of(&["20%"]));
    let taken =
        |minute: u64| (0..60).filter(|_| world.take(minute * 60_000, &policy, &[0], "a").is_none()).count();
    let by_minute: Vec<usize> = (0..21).map(taken).collect();
    assert_eq!(by_minute[..20], [50; 20]);
    assert_eq!(by_minute[20], 0, "the hour's thousand is used up");
    let full = world.try_take(20 * 60_000, &policy, &[0], "a").unwrap_err();
    assert_eq!((full.rate.to_string().as_str(), full.wait), ("1000/hour", Duration::from_secs(40 * 60)));
}

#[test]
fn a_smaller_budget_counts_from_when_it_is_known() {
    let (mut world, policy) = (World::new(), policy_of(&["20%"]));
    for second in 0..50 {
        assert_eq!(world.take(second * 1_000, &policy, &[0], "a"), None);
    }
    // A fifth of 500 an hour is 100, and of 25 a minute 5: 46 have to leave.
    world.hourly = Some(500);
    assert_eq!(world.take(50_000, &policy, &[0], "a"), Some((0, 55_000)));
    assert_eq!(world.take(104_999, &policy, &[0], "a"), Some((0, 1)));
    assert_eq!(world.take(105_000, &policy, &[0], "a"), None);
}

#[test]
fn made_up_tokens_bring_no_new_shares() {
    let (world, policy) = (World::new(), policy_of(&["1%"]));
    for token in 0..MAX_TOKENS {
        assert_eq!(world.take(0, &policy, &[0], &token.to_string()), None);
    }
    let further = |at, token: &str| world.take(at, &policy, &[0], token);
    assert_eq!(further(1_000, "further"), None);
    let last = world.try_take(1_000, &policy, &[0], "another").unwrap();
    assert_eq!(further(1_000, "third"), Some((0, 60_000)));
    world.limiter.give_back(last);
    assert_eq!(further(1_000, "third"), None);
    assert_eq!(further(1_000, "further"), Some((0, 60_000)));
    assert_eq!(further(1_000, "0"), None, "a token that is known has its own");

    // There is room again, but whoever is counted with the others stays so until their hour is over.
    let sizes = || {
        let state = world.limiter.lock();
        let count = state.workloads["ci"].values().next().unwrap();
        (count.own.len(), count.others.len())
    };
    assert_eq!(further(3_600_000, "x"), None);
    assert_eq!(sizes(), (1, 3));
    assert_eq!(further(3_661_000, "x"), None);
    assert_eq!(sizes(), (0, 2));
    assert_eq!(further(7_300_000, "x"), None);
    assert_eq!(sizes(), (1, 0));
}

#[test]
fn workloads_are_counted_apart() {
    let (mut world, policy) = (World::new(), policy_of(&["1/hour"]));
    assert_eq!(world.take(0, &policy, &[0], "a"), None);
    assert!(world.take(0, &policy, &[0], "a").is_some());
    world.workload = "other".into();
    assert_eq!(world.take(0, &policy, &[0], "a"), None);
}

#[test]
fn a_reload_keeps_the_count_of_a_limit_that_it_does_not_change() {
    let world = World::new();
    assert_eq!(world.take(0, &policy_of(&["1/hour"]), &[0], "a"), None);
    let moved = policy(
        "contact = \"ops\"\n[[limit]]\nshare = \"1%\"\n[[limit]]\nrate = \"1/hour\"\nreason = \"less is more\"",
    );
    assert_eq!(world.take(0, &moved, &[0, 1], "a"), Some((1, 3_600_000)));
    assert_eq!(world.take(0, &policy_of(&["2/hour"]), &[0], "a"), None, "another limit");
}

#[test]
fn a_dry_run_refuses_nothing_and_counts_up_to_its_limit() {
    let (world, policy) = (World::new(), policy("mode = \"dry-run\"\n[[limit]]\nrate = \"2/minute\""));
    let over = |at| world.try_take(at, &policy, &[0], "a").unwrap().over;
    assert_eq!((over(0), over(1_000)), (None, None));
    let full = over(2_000).unwrap();
    assert_eq!((full.index, full.wait), (0, Duration::from_secs(58)));
    assert_eq!(world.times(), 2);
    assert_eq!(over(60_000), None, "as if it were enforced");
}

#[test]
fn an_enforced_limit_refuses_whatever_a_dry_run_says() {
    let limits = "[[limit]]\nrate = \"1/hour\"\nmode = \"dry-run\"\n[[limit]]\nrate = \"2/minute\"";
    let (world, policy) = (World::new(), policy(limits));
    let over = |taken: Result<Taken, Full>| taken.map(|taken| taken.over.map(|full| full.index));
    assert_eq!(over(world.try_take(0, &policy, &[0, 1], "a")), Ok(None));
    assert_eq!(over(world.try_take(0, &policy, &[0, 1], "a")), Ok(Some(0)), "it goes out, and counts");
    assert_eq!(over(world.try_take(0, &policy, &[0, 1], "a")).unwrap_err().index, 1);
}

#[test]
fn what_is_over_is_not_kept() {
    let (world, policy) = (World::new(), policy_of(&["5/minute", "1%"]));
    for token in 0..5 {
        assert_eq!(world.take(0, &policy, &[0, 1], &token.to_string()), None);
    }
    assert_eq!(world.times(), 10);
    world.take(120_000, &policy, &[], "a");
    assert_eq!(world.times(), 5, "the minute's are gone");
    world.take(3_600_000, &policy, &[], "a");
    assert!(world.limiter.lock().workloads.is_empty());
}

#[test]
fn threads_together_get_no_more_than_the_limit() {
    let (world, policy) = (World::new(), policy_of(&["100/hour"]));
    let taken: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| (0..50).filter(|at| world.take(*at, &policy, &[0], "a").is_none()).count())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(taken, 100);
}

/// What went out, as simply as can be: every request with the limits that counted it.
#[derive(Default)]
struct Model(Vec<(u64, Vec<usize>, &'static str)>);

impl Model {
    const PERIODS_MS: [u64; 3] = [1_000, 60_000, 60_000];

    fn has_room(&self, now: u64, limit: usize, token: &str) -> bool {
        let most = [2, 5, 2][limit];
        let within = self.0.iter().filter(|(at, limits, other)| {
            now - at < Self::PERIODS_MS[limit] && limits.contains(&limit) && (limit < 2 || *other == token)
        });
        within.count() < most
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask { after_ms: u64, limits: Vec<usize>, token: &'static str },
    GiveBack(prop::sample::Index),
}

fn any_step() -> impl Strategy<Value = Step> {
    let after = prop_oneof![Just(0), 0..1_500_u64, 0..70_000_u64, Just(1_000), Just(60_000)];
    let limits = prop::sample::subsequence(vec![0, 1, 2], 0..=3);
    let ask = (after, limits, prop::sample::select(vec!["", "a", "b"]));
    prop_oneof![
        6 => ask.prop_map(|(after_ms, limits, token)| Step::Ask { after_ms, limits, token }),
        1 => any::<prop::sample::Index>().prop_map(Step::GiveBack),
    ]
}

proptest! {
    #[test]
    fn it_answers_as_a_simple_model_does(steps in prop::collection::vec(any_step(), 0..120)) {
        let (world, policy) = (World::new(), policy_of(&["2/second", "5/minute", "1%"]));
        let (mut model, mut tickets, mut now) = (Model::default(), Vec::new(), 0);
        for step in steps {
            match step {
                Step::Ask { after_ms, limits, token } => {
                    now += after_ms;
                    let expected = limits.iter().all(|limit| model.has_room(now, *limit, token));
                    match world.try_take(now, &policy, &limits, token) {
                        Ok(taken) => {
                            prop_assert!(expected, "too much at {}", now);
                            model.0.push((now, limits, token));
                            tickets.push((taken, now, token));
                        }
                        Err(full) => {
                            prop_assert!(!expected, "too little at {}", now);
                            prop_assert!(!model.has_room(now, full.index, token));
                            // When the wait is over there is room for all of them, and not before for that one.
                            let then = now + u64::try_from(full.wait.as_millis()).unwrap();
                            prop_assert!(limits.iter().all(|limit| model.has_room(then, *limit, token)));
                            prop_assert!(!model.has_room(then - 1, full.index, token));
                        }
                    }
                }
                Step::GiveBack(index) if !tickets.is_empty() => {
                    let (taken, at, token) = tickets.swap_remove(index.index(tickets.len()));
                    let place = model.0.iter().position(|entry| {
                        entry.0 == at && entry.2 == token && entry.1.len() == taken.counted.len()
                            && entry.1.iter().all(|limit| {
                                taken.counted.iter().any(|(digest, _)| *digest == policy.limits[*limit].digest())
                            })
                    });
                    model.0.remove(place.unwrap());
                    world.limiter.give_back(taken);
                }
                Step::GiveBack(_) => {}
            }
        }
    }
}
