//! How the agent learns its namespace's cookie where the kernel tells it to programs only.

use super::{CONNECT, V4, bench::Bench};
use std::{fs::File, os::fd::AsFd};
use tidegate::capture::sys::{AttachType, programs_at};
use tidegate_tests::programs::built;

#[test]
fn a_learnt_cookie_is_that_of_the_hooks_and_nothing_stays() {
    let bench = Bench::new();
    let program = bench.subject(&["python3", "-c", CONNECT, V4]);
    let expected = bench.accept().flow.netns_cookie;
    program.output();

    let cgroup = bench.cgroup().join("asks");
    std::fs::create_dir(&cgroup).unwrap();
    let loader = built("tidegate-load").unwrap().display().to_string();
    let learnt = bench.in_cgroup(&cgroup, &[&loader, "cookie"]).output();
    assert_eq!(learnt, expected.to_string());
    // In a namespace where nothing has a route, not even loopback.
    let elsewhere = bench.in_cgroup(&cgroup, &["unshare", "--net", &loader, "cookie"]).output();
    assert!(elsewhere.parse::<u64>().unwrap() > 0 && elsewhere != learnt, "{elsewhere}");
    let left = programs_at(File::open(cgroup).unwrap().as_fd(), AttachType::Inet4Connect).unwrap();
    assert!(left.is_empty(), "{left:?}");
}
