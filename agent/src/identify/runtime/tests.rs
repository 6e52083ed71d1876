use super::{elf::tests::made, markers::Marker::*, *};
use test_case::test_case;

const NOTHING: &[Marker] = &[];
const ROOTS: [Marker; 3] = [Root(0), Root(2), Root(4)];

#[test_case("/usr/bin/node", NOTHING, &[], Runtime::Node; "node by its name")]
#[test_case("/opt/app", &[Node, OpenSsl], &[], Runtime::Node; "a single file with node in it")]
#[test_case("/opt/app", &[Deno, Node, Rust, Rustls], &[], Runtime::Deno; "a single file with deno in it")]
#[test_case("/opt/app", &[Bun, Node], &[], Runtime::Bun; "a single file with bun in it")]
#[test_case("/usr/bin/python3.11", NOTHING, &["libssl.so.3"], Runtime::Python; "python with its version")]
#[test_case("/usr/bin/python3.13t", NOTHING, &[], Runtime::Python; "python without a lock")]
#[test_case("/usr/bin/php-fpm8.2", NOTHING, &["libssl.so.3"], Runtime::Php; "php as a service")]
#[test_case("/usr/bin/ruby3.1 (deleted)", NOTHING, &[], Runtime::Ruby; "ruby that was upgraded")]
#[test_case("/usr/bin/perl", NOTHING, &[], Runtime::Perl; "perl")]
#[test_case("/usr/sbin/uwsgi", NOTHING, &["libpython3.11.so.1.0", "libssl.so.3"], Runtime::Python; "python inside another program")]
#[test_case("/opt/launcher", NOTHING, &["libjvm.so"], Runtime::Java; "java inside another program")]
#[test_case("/opt/tool", &[Go, CertificateVariable], &["libc.so.6"], Runtime::Go; "go")]
#[test_case("/usr/bin/curl", NOTHING, &["libcurl.so.4", "libgnutls.so.30", "libssl.so.3"], Runtime::OpenSsl; "curl")]
#[test_case("/usr/lib/git-core/git-remote-http", NOTHING, &["libssl.so.3", "libcurl-gnutls.so.4"], Runtime::GnuTls; "git")]
#[test_case("/usr/bin/wget", NOTHING, &["libgnutls.so.30"], Runtime::GnuTls; "wget")]
#[test_case("/usr/bin/evolution", NOTHING, &["libnss3.so"], Runtime::Nss; "nss")]
#[test_case("/opt/tool", &[Rustls, Rust], &["libssl.so.3"], Runtime::Rust; "rustls beside openssl")]
#[test_case("/opt/tool", &[Rust], &["libssl.so.3"], Runtime::OpenSsl; "rust with the system's openssl")]
#[test_case("/opt/tool", &[Rust, OpenSsl], &[], Runtime::Rust; "rust with an openssl of its own")]
#[test_case("/opt/tool", &[OpenSsl], &[], Runtime::OpenSsl; "a static openssl")]
#[test_case("/usr/bin/nodetool", NOTHING, &["libc.so.6"], Runtime::Unknown; "a name that begins like another")]
#[test_case("", NOTHING, &[], Runtime::Unknown; "nothing at all")]
fn a_runtime_is_told_by_what_is_there(path: &str, markers: &[Marker], libraries: &[&str], expected: Runtime) {
    let content = Content { elf: None, markers: Markers::of(markers) };
    let libraries: Vec<String> = libraries.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(guess(Path::new(path), &content, &libraries).runtime, expected);
}

#[test_case(&[Rustls], false, Roots::Outside; "rustls alone")]
#[test_case(&[Rustls, CertificateVariable], false, Roots::Outside; "native roots")]
#[test_case(&[Rustls], true, Roots::CompiledIn; "webpki roots")]
#[test_case(&[Rustls, CertificateVariable], true, Roots::Either; "both")]
#[test_case(&[Rustls, Root(1), Root(3)], false, Roots::Outside; "two names that it pins or tests")]
#[test_case(&[Rustls, PemRoot], false, Roots::CompiledIn; "a bundle as text")]
#[test_case(&[Go, CertificateVariable], true, Roots::Outside; "go takes its own only where the system has none")]
#[test_case(&[Node, PemRoot], false, Roots::Outside; "node adds what it is told")]
fn roots_are_told_by_their_names(markers: &[Marker], with_roots: bool, expected: Roots) {
    let markers = [markers, if with_roots { &ROOTS } else { &[] }].concat();
    let content = Content { elf: None, markers: Markers::of(&markers) };
    assert_eq!(guess(Path::new("/opt/tool"), &content, &[]).roots, expected);
}

/// Enough bytes that words come to lie at the borders between what is read at once.
#[test]
fn words_are_found_wherever_they_lie() {
    let words = ["invalid peer certificate", "ISRG Root X1", "GTS Root R1", "Amazon Root CA 1"];
    for border in [1 << 20, (1 << 20) - 48, 2 << 20] {
        let mut constants = vec![b' '; (2 << 20) + 200];
        for (index, word) in words.iter().enumerate() {
            let at = border - 3 + index * 32;
            constants[at..at + word.len()].copy_from_slice(word.as_bytes());
        }
        let content = Content::read(Path::new("/opt/tool"), made(&constants, &[], "").as_slice());
        let guess = guess(Path::new("/opt/tool"), &content, &[]);
        assert_eq!(guess, Guess { runtime: Runtime::Rust, roots: Roots::CompiledIn }, "{border}");
    }
}

#[test_case("/usr/bin/node", Runtime::Node; "node")]
#[test_case("/usr/bin/python3", Runtime::Python; "python")]
#[test_case("/usr/bin/perl", Runtime::Perl; "perl")]
#[test_case("/usr/bin/java", Runtime::Java; "java")]
#[test_case("/usr/bin/curl", Runtime::OpenSsl; "curl")]
#[test_case("/usr/bin/openssl", Runtime::OpenSsl; "openssl")]
#[test_case("/usr/bin/wget", Runtime::GnuTls; "wget")]
#[test_case("/usr/bin/env", Runtime::Unknown; "env")]
fn the_machines_own_programs_are_known(path: &str, expected: Runtime) {
    let path = Path::new(path).canonicalize().unwrap();
    let content = Content::read(&path, &libraries::regular(&path).unwrap());
    let elf = content.elf.as_ref().unwrap();
    let linked = libraries::linked(&path, &elf.libraries);
    assert_eq!(guess(&path, &content, &linked).runtime, expected, "{:?} {linked:?}", content.markers);
}

#[test]
fn this_program_does_not_hold_what_it_looks_for() {
    let path = std::env::current_exe().unwrap();
    let markers = Content::read(&path, &libraries::regular(&path).unwrap()).markers;
    for other in [Deno, Bun, Node, Go] {
        assert!(!markers.has(other), "{markers:?}");
    }
    assert!(markers.has(Rust), "{markers:?}");
}
