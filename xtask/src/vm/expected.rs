//! What the kernels are held to: how long a program may be for the verifier, and what a kernel cannot do.

/// How many instructions the verifier may look at before it knows that a program is safe, on any kernel; it gives
/// up at a million. A program that is not named here fails the run.
pub(crate) const BUDGETS: [(&str, u32); 17] = [
    ("bind4", 20_000),
    ("bind6", 20_000),
    ("connect4", 100_000),
    ("connect6", 100_000),
    ("create", 20_000),
    ("egress", 200_000),
    ("getpeername4", 1_000),
    ("getpeername6", 1_000),
    ("join", 20_000),
    ("packet_socket", 20_000),
    ("release", 1_000),
    ("sendmsg4", 60_000),
    ("sendmsg6", 60_000),
    ("task_attach", 20_000),
    ("task_exec", 40_000),
    ("task_fork", 20_000),
    ("task_free", 1_000),
];

/// A program that some kernels refuse, and why tidegate does without it there. Where it loads after all, the run fails.
pub(crate) struct Refused {
    /// The kernels' names.
    pub(crate) kernels: &'static [&'static str],
    /// The programs.
    pub(crate) programs: &'static [&'static str],
    /// What the kernel lacks.
    pub(crate) reason: &'static str,
}

/// Every one of them.
pub(crate) const REFUSED: [Refused; 1] = [Refused {
    kernels: &["5.10", "5.10-bpf"],
    programs: &["task_attach", "task_exec", "task_fork", "packet_socket"],
    reason: "Linux 5.10 gives `bpf_get_current_ancestor_cgroup_id` to cgroup programs only, so that neither \
             tracepoints nor security hooks can tell a subject: no sticky tags, no refusal of packet sockets",
}];

/// Why a kernel refuses a program.
pub(crate) fn refusal(kernel: &str, program: &str) -> Option<&'static Refused> {
    REFUSED.iter().find(|refused| refused.kernels.contains(&kernel) && refused.programs.contains(&program))
}

/// A test that fails on some kernels, and is no fault of tidegate's. It is run all the same: where it passes after
/// all, the run fails, so that this list tells the truth.
pub(crate) struct Exception {
    /// The kernels' names.
    pub(crate) kernels: &'static [&'static str],
    /// The suite.
    pub(crate) suite: &'static str,
    /// The test's whole name.
    pub(crate) test: &'static str,
    /// What the kernel lacks.
    pub(crate) reason: &'static str,
}

/// Every one of them.
pub(crate) const EXCEPTIONS: [Exception; 3] = [
    Exception {
        kernels: &["5.10", "5.10-bpf"],
        suite: "hooks",
        test: "evasion::a_subject_gets_no_socket_that_would_pass_the_hooks::test_case_1_mptcp",
        reason: NO_MPTCP,
    },
    Exception {
        kernels: &["5.10", "5.10-bpf"],
        suite: "hooks",
        test: "evasion::a_subject_gets_no_socket_that_would_pass_the_hooks::test_case_2_mptcp_over_ipv6",
        reason: NO_MPTCP,
    },
    Exception {
        kernels: &["5.10", "5.10-bpf"],
        suite: "escape",
        test: "a_subject_stays_one_wherever_it_goes::test_case_1_as_root",
        reason: "the programs of sticky tags do not load, see above; `capture.sticky_tags = false` is for such kernels",
    },
];

const NO_MPTCP: &str = "Debian builds Linux 5.10 without MPTCP, so that nobody gets such a socket";

/// Why a test may fail on a kernel.
pub(crate) fn exception(kernel: &str, suite: &str, test: &str) -> Option<&'static Exception> {
    EXCEPTIONS.iter().find(|exception| {
        exception.suite == suite && exception.test == test && exception.kernels.contains(&kernel)
    })
}
