//! When an agent writes what every agent would write: so that of a thousand mostly one does.

use aws_lc_rs::digest::{SHA256, digest};
use std::time::Duration;

/// Nobody waits longer, as long as the agents agree.
const WINDOW: Duration = Duration::from_secs(2);
/// More agents than there are.
const AGENTS: f64 = 20_000.0;
/// Where agents disagree, as during an update of their files, they do not go on writing against each other.
const LONGEST: Duration = Duration::from_secs(3_600);

/// How long this node waits before it writes what it would say of this generation of an object. `changes`: how often it
/// has seen that others have said something else of the same one.
///
/// Few are early and most are late, in such a way that among any number of nodes the first are a few, and the others see
/// what those have written.
pub fn delay(node: &str, uid: &str, generation: i64, changes: u32) -> Duration {
    let said = digest(&SHA256, format!("{node}\0{uid}\0{generation}\0{changes}").as_bytes());
    let first = said.as_ref().iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    // Above 0 and at most 1.
    let share = ((first >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    let part = (1.0 + share.ln() / AGENTS.ln()).clamp(0.0, 1.0);
    let window = WINDOW.saturating_mul(1_u32.checked_shl(changes).unwrap_or(u32::MAX)).min(LONGEST);
    // A window that has grown is waited for to its half at least.
    let least = if changes == 0 { Duration::ZERO } else { window / 2 };
    least + (window - least).mul_f64(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many nodes write before they can see that one has.
    fn writers(nodes: usize, uid: &str) -> usize {
        let seen = Duration::from_millis(100);
        let all: Vec<Duration> = (0..nodes).map(|node| delay(&format!("node-{node}"), uid, 1, 0)).collect();
        let first = *all.iter().min().unwrap();
        all.iter().filter(|delay| **delay < first + seen).count()
    }

    #[test]
    fn of_a_thousand_few_write_and_soon() {
        let total: usize = (0..50).map(|uid| writers(1000, &format!("uid-{uid}"))).sum();
        assert!(total < 50 * 6, "{total} writes of 50 objects");
        for nodes in [1, 10, 1000] {
            let first = (0..nodes).map(|node| delay(&format!("node-{node}"), "u", 1, 0)).min().unwrap();
            assert!(first <= WINDOW, "{first:?}");
        }
    }

    #[test]
    fn whoever_is_contradicted_waits_longer_each_time() {
        let mut before = Duration::ZERO;
        for changes in 1..8 {
            let now = delay("node", "u", 1, changes);
            assert!(now >= WINDOW * (1 << changes) / 2 && now >= before, "{changes}: {now:?}");
            before = now;
        }
        assert!(delay("node", "u", 1, 40) <= LONGEST);
        assert!(delay("node", "u", 1, u32::MAX) >= LONGEST / 2);
    }
}
