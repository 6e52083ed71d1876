use super::*;
use crate::protect::tests::{certificate, planned, system, write};
use rustls_pki_types::pem::PemObject;
use std::{io::Read, os::unix::fs::symlink, thread, time::Duration};
use tempfile::TempDir;

const CERTIFI: &str = "opt/app/venv/lib/python3.11/site-packages/certifi/cacert.pem";

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(&fs::read(path).unwrap()).map(Result::unwrap).collect()
}

/// A system whose unit `web` is protected, and the copies for it.
fn protected_system(lines: &str) -> (TempDir, TempDir, Copies) {
    let (folder, run) = (system(lines), tempfile::tempdir().unwrap());
    planned(&folder, "web").unwrap().carry_out().unwrap();
    let copies = Copies::new(folder.path().into(), run.path().join("trust"));
    (folder, run, copies)
}

fn copy(run: &TempDir, store: &str) -> PathBuf {
    run.path().join("trust").join(name(&Path::new("/").join(store)))
}

#[test]
fn every_copy_has_what_its_store_has_and_the_anchors() {
    let (folder, run, mut copies) = protected_system("Environment=CURL_CA_BUNDLE=/etc/corp.pem");
    let (corp, pem) = certificate("corp.example");
    write(
        &folder,
        "etc/corp.pem",
        &format!("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n{pem}"),
    );
    planned(&folder, "web").unwrap().carry_out().unwrap();
    let (one, two) = (certificate("digitalocean.com").0, certificate("digitalocean.com").0);
    copies.fill(&[one.clone(), two.clone()]).unwrap();
    assert_eq!(copies.told, BTreeSet::new());
    let merged =
        |store: &str| certificates(&folder.path().join(store)).into_iter().chain([one.clone(), two.clone()]);
    let bundle = copy(&run, "etc/ssl/certs").join("ca-certificates.crt");
    assert_eq!(certificates(&bundle), merged("etc/ssl/certs/ca-certificates.crt").collect::<Vec<_>>());
    assert_eq!(certificates(&copy(&run, CERTIFI)), merged(CERTIFI).collect::<Vec<_>>());
    assert_eq!(certificates(&copy(&run, "etc/corp.pem")), [corp, one.clone(), two.clone()]);
    assert!(!fs::read_to_string(copy(&run, "etc/corp.pem")).unwrap().contains("PRIVATE"));
    let hashed = fs::read_dir(copy(&run, "etc/ssl/certs")).unwrap().count();
    assert_eq!(hashed, 3, "the bundle, and both anchors under their hash");
    assert_eq!(certificates(&run.path().join("trust/ca.pem")), [one, two]);
    let mut modes: Vec<u32> = Vec::new();
    for path in [run.path().join("trust"), copy(&run, "etc/ssl/certs"), copy(&run, CERTIFI), bundle] {
        modes.push(fs::metadata(path).unwrap().mode() & 0o7777);
    }
    assert_eq!(modes, [0o755, 0o755, 0o644, 0o644]);
    assert!(!run.path().join("trust").join(DRAFTS).exists());
}

#[test]
fn what_runs_sees_the_next_anchor_and_no_more_the_one_that_is_gone() {
    let (folder, run, mut copies) = protected_system("");
    let (one, two) = (certificate("digitalocean.com").0, certificate("digitalocean.com").0);
    copies.fill(std::slice::from_ref(&one)).unwrap();
    // As a bind does: the file and the directory that are there now, whatever becomes of their names.
    let bound = || File::open(copy(&run, CERTIFI)).unwrap();
    let mut file = bound();
    let directory = fs::metadata(copy(&run, "etc/ssl/certs")).unwrap().ino();
    let before = fs::read_to_string(copy(&run, CERTIFI)).unwrap();
    copies.fill(&[one.clone(), two.clone()]).unwrap();
    let mut seen = String::new();
    file.read_to_string(&mut seen).unwrap();
    assert!(seen.starts_with(&before), "what was read stays, and more comes behind it");
    assert_eq!(seen, fs::read_to_string(copy(&run, CERTIFI)).unwrap());
    assert_eq!(fs::metadata(copy(&run, "etc/ssl/certs")).unwrap().ino(), directory);
    let mut file = bound();
    copies.fill(std::slice::from_ref(&two)).unwrap();
    seen.clear();
    file.read_to_string(&mut seen).unwrap();
    let own = certificates(&folder.path().join(CERTIFI));
    assert_eq!(certificates(&copy(&run, CERTIFI)), [own, vec![two]].concat());
    assert_eq!(seen, fs::read_to_string(copy(&run, CERTIFI)).unwrap());
}

/// Whoever reads while anchors come and go finds certificates that are whole.
#[test]
fn a_reader_finds_whole_certificates_at_any_time() {
    let (_folder, run, mut copies) = protected_system("");
    let anchors: Vec<_> = (0..4).map(|_| certificate("digitalocean.com").0).collect();
    copies.fill(&anchors[..1]).unwrap();
    let file = copy(&run, CERTIFI);
    let reading = thread::spawn(move || {
        for _ in 0..2_000 {
            // One read, as small files are read.
            let mut buffer = vec![0; 1 << 16];
            let length = File::open(&file).unwrap().read(&mut buffer).unwrap();
            let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&buffer[..length]).collect();
            assert!(found.unwrap().len() >= 2);
        }
    });
    while !reading.is_finished() {
        for count in [1, 2, 4] {
            copies.fill(&anchors[..count]).unwrap();
        }
        thread::sleep(Duration::from_millis(1));
    }
    reading.join().unwrap();
}

#[test]
fn a_change_of_a_store_or_a_unit_makes_the_copies_stale() {
    let (folder, run, mut copies) = protected_system("");
    let anchor = certificate("digitalocean.com").0;
    assert!(copies.are_stale());
    copies.fill(std::slice::from_ref(&anchor)).unwrap();
    assert!(!copies.are_stale());
    write(&folder, CERTIFI, &certificate("other.example").1.repeat(2));
    assert!(copies.are_stale());
    copies.fill(std::slice::from_ref(&anchor)).unwrap();
    assert!(!copies.are_stale());
    assert_eq!(certificates(&copy(&run, CERTIFI)).len(), 3);
    write(&folder, "lib/systemd/system/job.service", "[Service]\n");
    planned(&folder, "job").unwrap().carry_out().unwrap();
    assert!(copies.are_stale());
}

#[test]
fn a_store_that_has_gone_is_told_with_the_unit_that_waits_for_it() {
    let (folder, run, mut copies) = protected_system("");
    fs::remove_file(folder.path().join(CERTIFI)).unwrap();
    copies.fill(&[certificate("digitalocean.com").0]).unwrap();
    let told: Vec<_> = copies.told.iter().collect();
    assert!(matches!(told.as_slice(), [one] if one.contains("`web.service` cannot start")), "{told:?}");
    assert!(copy(&run, "etc/ssl/certs").is_dir(), "the others are there");
}

#[test]
fn a_store_that_breaks_keeps_its_last_copy() {
    let (folder, run, mut copies) = protected_system("");
    let anchor = certificate("digitalocean.com").0;
    copies.fill(std::slice::from_ref(&anchor)).unwrap();
    let before = fs::read(copy(&run, CERTIFI)).unwrap();
    write(&folder, CERTIFI, "an error page\n");
    copies.fill(&[anchor]).unwrap();
    assert_eq!(fs::read(copy(&run, CERTIFI)).unwrap(), before);
    assert_eq!(copies.told.len(), 1, "{:?}", copies.told);
}

#[test]
fn a_link_that_has_come_into_a_directory_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("a/b")).unwrap();
    symlink("/etc", folder.path().join("link")).unwrap();
    let is = |below: &str| is_straight(folder.path(), Path::new(below));
    assert!(is("cacerts") && is("a/b/cacerts"));
    assert!(!is("link/cacerts") && !is("a/none/cacerts"));
}

#[test]
fn each_store_has_a_name_of_its_own() {
    let long = format!("/{}", "a/".repeat(300));
    let paths =
        ["/etc/ssl/certs", "/etc-ssl/certs", "/etc_2dssl/certs", "/.new", "/.lock", "/ca.pem", &long, "/é b"];
    let names: BTreeSet<String> = paths.iter().map(|path| name(Path::new(path))).collect();
    assert_eq!(names.len(), paths.len());
    for name in names {
        assert!(name.len() < 250 && !name.starts_with('.') && name != ANCHORS, "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)), "{name}");
    }
}
