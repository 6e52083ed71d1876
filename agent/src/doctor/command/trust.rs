//! What a program of a runtime trusts, and what of that tidegate covers. Pure.

use super::{Check, Environment, RUNTIME, TRUST};
use crate::identify::runtime::{Content, Guess, Roots, Runtime, markers::Marker};

/// How tidegate reaches a runtime's roots.
enum Way {
    /// It reads the system's certificates, which are covered by mounts, whatever the environment.
    Mounts,
    /// It has roots of its own, and adds what the first of these names that is set.
    Variables(&'static [&'static str]),
    /// It reads something that nothing of tidegate's reaches.
    None,
    /// It is not told.
    Unclear,
}

/// What was recognised.
pub(super) fn runtime(guess: Guess, content: &Content) -> Check {
    let roots = match guess.roots {
        Roots::Outside => "",
        Roots::CompiledIn => ", with compiled-in roots",
        Roots::Either => ", with compiled-in roots and code that reads others",
    };
    if guess.runtime == Runtime::Unknown && guess.roots == Roots::Outside {
        let seen =
            if content.elf.is_some() { "no runtime or TLS library is recognised" } else { "no ELF program" };
        return Check::warning(
            RUNTIME,
            seen,
            "ask for the program that makes the connections, if it starts one",
        );
    }
    Check::ok(RUNTIME, format!("{}{roots}", guess.runtime.name()))
}

/// Whether the program will trust the local CA, when `sets` tells the variables that it gets of tidegate.
pub(super) fn predict(
    guess: Guess,
    content: &Content,
    environment: Environment,
    sets: impl Fn(&str) -> bool,
) -> Check {
    match guess.roots {
        Roots::CompiledIn => return Check::failed(TRUST, "no: its roots are compiled in", guess.hint()),
        Roots::Either => {
            let seen = "only if it is told to read the system's certificates: it has compiled-in roots too";
            return Check::warning(TRUST, seen, guess.hint());
        }
        Roots::Outside => {}
    }
    let (reads, way) = reads(guess.runtime, content);
    let cleared = match environment {
        Environment::Kept => "",
        Environment::Cleared => ", and its environment is cleared",
    };
    match way {
        Way::Mounts => Check::ok(TRUST, format!("yes, by mount: it reads {reads}")),
        Way::Variables(names) => match names.iter().find(|name| sets(name)) {
            Some(name) => Check::ok(TRUST, format!("yes, by variable {name}: it reads {reads}")),
            None => Check::failed(
                TRUST,
                format!("no: it reads {reads}, which no mount covers{cleared}"),
                guess.hint(),
            ),
        },
        Way::None => Check::failed(TRUST, format!("no: it reads {reads}"), guess.hint()),
        Way::Unclear => {
            let seen = format!("not told: {reads}; yes, if it was not compiled with roots of its own");
            Check::warning(TRUST, seen, guess.hint())
        }
    }
}

fn reads(runtime: Runtime, content: &Content) -> (&'static str, Way) {
    match runtime {
        Runtime::Node => {
            ("roots of its own and NODE_EXTRA_CA_CERTS", Way::Variables(&["NODE_EXTRA_CA_CERTS"]))
        }
        Runtime::Deno => {
            ("roots of its own and DENO_CERT", Way::Variables(&["DENO_CERT", "DENO_TLS_CA_STORE"]))
        }
        Runtime::Java => ("its JDK's keystore", Way::Mounts),
        Runtime::Python => ("the system's certificates, or those of its environment's certifi", Way::Mounts),
        Runtime::Go => ("the system's certificates, also where it is statically linked", Way::Mounts),
        Runtime::Bun | Runtime::Ruby | Runtime::Perl | Runtime::Php | Runtime::OpenSsl | Runtime::GnuTls => {
            ("the system's certificates", Way::Mounts)
        }
        Runtime::Nss => ("the databases of NSS, and the roots in its library", Way::None),
        Runtime::Rust => {
            let markers = &content.markers;
            if markers.has(Marker::CertificateVariable) || markers.has(Marker::OpenSsl) {
                ("the system's certificates (native roots)", Way::Mounts)
            } else if markers.has(Marker::Rustls) {
                ("nothing that is recognised", Way::Unclear)
            } else {
                ("nothing: no TLS library is recognised", Way::Unclear)
            }
        }
        Runtime::Unknown => ("no TLS library is recognised", Way::Unclear),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::Status, *};
    use test_case::test_case;

    #[test_case(Runtime::Node, Environment::Kept, Status::Ok, "yes, by variable NODE_EXTRA_CA_CERTS"; "node")]
    #[test_case(Runtime::Node, Environment::Cleared, Status::Failed, "and its environment is cleared"; "node without environment")]
    #[test_case(Runtime::Deno, Environment::Kept, Status::Ok, "yes, by variable DENO_CERT"; "deno")]
    #[test_case(Runtime::Go, Environment::Cleared, Status::Ok, "yes, by mount"; "go without environment")]
    #[test_case(Runtime::Python, Environment::Cleared, Status::Ok, "certifi"; "python without environment")]
    #[test_case(Runtime::Java, Environment::Cleared, Status::Ok, "keystore"; "java without environment")]
    #[test_case(Runtime::OpenSsl, Environment::Kept, Status::Ok, "yes, by mount"; "openssl")]
    #[test_case(Runtime::Nss, Environment::Kept, Status::Failed, "databases of NSS"; "nss")]
    #[test_case(Runtime::Unknown, Environment::Kept, Status::Warning, "not told"; "unknown")]
    fn what_is_read_outside_is_covered_or_not(
        runtime: Runtime,
        environment: Environment,
        status: Status,
        seen: &str,
    ) {
        let guess = Guess { runtime, roots: Roots::Outside };
        let sets = |name: &str| {
            environment == Environment::Kept && ["NODE_EXTRA_CA_CERTS", "DENO_CERT"].contains(&name)
        };
        let check = predict(guess, &Content::default(), environment, sets);
        assert_eq!(check.status, status, "{check:?}");
        assert!(check.seen.contains(seen), "{check:?}");
        assert_eq!(check.advice.is_none(), status == Status::Ok);
    }

    #[test_case(Roots::CompiledIn, Status::Failed, "compiled in"; "compiled in")]
    #[test_case(Roots::Either, Status::Warning, "only if"; "both")]
    fn compiled_in_roots_are_told(roots: Roots, status: Status, seen: &str) {
        let guess = Guess { runtime: Runtime::Rust, roots };
        let check = predict(guess, &Content::default(), Environment::Kept, |_| true);
        assert_eq!(check.status, status);
        assert!(check.seen.contains(seen) && check.advice.is_some(), "{check:?}");
    }
}
