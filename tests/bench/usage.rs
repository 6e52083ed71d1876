//! What the processes of a peer use.

use anyhow::{Context as _, Result};
use std::{fs, time::Duration};
use tidegate_tests::cgroup::Cgroup;

/// The kernel counts processor time in these for user space.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Of all processes of a peer.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    /// In user space and in the kernel, with children that have ended.
    pub(crate) cpu: Duration,
    pub(crate) resident_kib: u64,
}

impl Usage {
    pub(crate) fn of(cgroup: &Cgroup) -> Result<Self> {
        let mut usage = Self::default();
        for pid in cgroup.processes()? {
            let (Ok(stat), Ok(status)) = (
                fs::read_to_string(format!("/proc/{pid}/stat")),
                fs::read_to_string(format!("/proc/{pid}/status")),
            ) else {
                continue;
            };
            let ticks = ticks(&stat).with_context(|| format!("the format of /proc/{pid}/stat"))?;
            usage.cpu += TICK * ticks;
            usage.resident_kib += resident_kib(&status).unwrap_or_default();
        }
        Ok(usage)
    }
}

/// utime, stime, cutime and cstime, which are the 14th to 17th field; the second may hold anything.
fn ticks(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').skip(11).take(4).map(|word| word.parse::<u32>().ok()).sum()
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 200 0 0 7 5 3 1 20 0 4 0 99 1000 200";
        assert_eq!(ticks(stat), Some(16));
        assert_eq!(ticks("42 no name"), None);
    }

    #[test]
    fn resident_memory_is_a_line_of_status() {
        assert_eq!(resident_kib("Name:\tx\nVmRSS:\t   12345 kB\n"), Some(12_345));
        assert_eq!(resident_kib("Name:\tkthread\n"), None);
    }
}
