use super::*;
use crate::{config::file, host::HostName, terminate::ca::Authority, toml_file::Source};
use rustls_pki_types::CertificateDer;
use std::os::unix::fs::symlink;
use tempfile::TempDir;
use test_case::test_case;

const WEB: &str =
    "[[workload]]\nname = \"web\"\npolicy = \"p\"\nmatch = [{ cgroup = \"/system.slice/*\" }]\n";
const DROP_IN: &str = "etc/systemd/system/web.service.d/50-tidegate.conf";

pub(super) fn certificate(domain: &str) -> (CertificateDer<'static>, String) {
    let authority = Authority::ephemeral(&[HostName::parse(domain).unwrap()]).unwrap();
    (authority.trust_anchor().clone(), authority.trust_anchor_pem().to_owned())
}

pub(super) fn write(folder: &TempDir, path: &str, content: &str) {
    let path = folder.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A system of Debian's kind with a unit `web`, whose [Service] has these lines.
pub(super) fn system(lines: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "lib/systemd/system/web.service", &format!("[Service]\nExecStart=/bin/web\n{lines}\n"));
    write(&folder, "etc/ssl/certs/ca-certificates.crt", &certificate("system.example").1);
    write(
        &folder,
        "opt/app/venv/lib/python3.11/site-packages/certifi/cacert.pem",
        &certificate("certifi.example").1,
    );
    folder
}

pub(super) fn config(text: &str) -> Config {
    file::parse(&Source { path: "tidegate.toml".into(), text: text.to_owned() }).unwrap()
}

pub(super) fn planned(folder: &TempDir, unit: &str) -> Result<Plan, Error> {
    plan(folder.path(), &UnitName::parse(unit).unwrap(), &config(WEB), Path::new("tidegate.toml"), None)
}

fn take_away(folder: &TempDir) -> Result<Vec<String>, Error> {
    unprotect(folder.path(), &UnitName::parse("web").unwrap())
}

fn everything(folder: &TempDir) -> Vec<PathBuf> {
    let mut found = vec![folder.path().to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if path.is_dir() {
            found.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_unit_is_protected_and_is_as_it_was_afterwards() {
    let folder = system("");
    write(&folder, "etc/systemd/system/other.service", "");
    let before = everything(&folder);
    let plan = planned(&folder, "web").unwrap();
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    assert_eq!(everything(&folder), before, "a plan changes nothing");
    let done = plan.carry_out().unwrap();
    assert!(done[0].starts_with("wrote ") && done[1].contains("when it starts"), "{done:?}");
    let text = fs::read_to_string(folder.path().join(DROP_IN)).unwrap();
    for line in [
        "BindReadOnlyPaths=/run/tidegate/trust",
        "BindReadOnlyPaths=/run/tidegate/trust/etc-ssl-certs:/etc/ssl/certs",
        "BindReadOnlyPaths=/run/tidegate/trust/opt-app-venv-lib-python3.11-site_2dpackages-certifi-cacert.pem:/opt/app/venv/lib/\
         python3.11/site-packages/certifi/cacert.pem",
        "Environment=NODE_EXTRA_CA_CERTS=/run/tidegate/trust/ca.pem",
        "Environment=SSL_CERT_FILE=/run/tidegate/trust/ca-bundle.pem",
        "Requires=tidegate.service",
        "After=tidegate.service",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert_eq!(text.matches("ca-certificates").count(), 0, "it lies in the directory that is bound\n{text}");
    assert!(!text.contains("Paths=-"), "nothing that is missing is passed over");
    let again = planned(&folder, "web").unwrap();
    assert_eq!(again.text, text);
    assert!(again.carry_out().unwrap()[0].ends_with("is up to date"));
    assert_eq!(take_away(&folder).unwrap().len(), 3);
    assert_eq!(everything(&folder), before);
    let error = take_away(&folder).unwrap_err();
    assert!(error.to_string().contains("is not protected"), "{error}");
    assert!(!error.is_of_configuration());
}

#[test]
fn other_drop_ins_stay() {
    let folder = system("");
    let own = "etc/systemd/system/web.service.d/10-own.conf";
    write(&folder, own, "[Service]\nEnvironment=NODE_EXTRA_CA_CERTS=/etc/corp.pem\n");
    write(&folder, "etc/corp.pem", &certificate("corp.example").1);
    planned(&folder, "web").unwrap().carry_out().unwrap();
    take_away(&folder).unwrap();
    assert!(folder.path().join(own).exists() && !folder.path().join(DROP_IN).exists());
}

#[test_case("Environment=NODE_EXTRA_CA_CERTS=/etc/corp.pem", true; "in the unit")]
#[test_case("EnvironmentFile=/etc/default/web", true; "in a file")]
#[test_case("Environment=NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt", false; "of the system")]
fn a_units_own_setting_stays_and_its_file_is_merged(line: &str, is_bound: bool) {
    let folder = system(line);
    write(&folder, "etc/corp.pem", &certificate("corp.example").1);
    write(&folder, "etc/default/web", "NODE_EXTRA_CA_CERTS=\"/etc/corp.pem\"\n");
    let plan = planned(&folder, "web").unwrap();
    assert!(!plan.text.contains("NODE_EXTRA_CA_CERTS"), "{}", plan.text);
    assert!(plan.text.contains("Environment=SSL_CERT_FILE="), "{}", plan.text);
    let bind = "BindReadOnlyPaths=/run/tidegate/trust/etc-corp.pem:/etc/corp.pem\n";
    assert_eq!(plan.text.contains(bind), is_bound, "{}", plan.text);
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    // Also the second time, when a drop-in of ours is there.
    plan.carry_out().unwrap();
    assert_eq!(planned(&folder, "web").unwrap().text, plan.text);
}

#[test_case("/etc/none.pem"; "which is missing")]
#[test_case("/etc/hostname"; "without certificates")]
#[test_case("%h/ca.pem"; "which only systemd knows")]
fn a_setting_that_cannot_be_merged_stays_with_a_warning(value: &str) {
    let folder = system(&format!("Environment=NODE_EXTRA_CA_CERTS={value}"));
    write(&folder, "etc/hostname", "web\n");
    let plan = planned(&folder, "web").unwrap();
    assert!(!plan.text.contains("NODE_EXTRA_CA_CERTS") && !plan.text.contains("hostname"), "{}", plan.text);
    assert!(plan.warnings.iter().any(|told| told.contains("NODE_EXTRA_CA_CERTS")), "{:?}", plan.warnings);
}

#[test]
fn what_others_wrote_is_neither_replaced_nor_removed() {
    let folder = system("");
    write(&folder, DROP_IN, "[Service]\nRestart=always\n");
    for error in [planned(&folder, "web").unwrap_err(), take_away(&folder).unwrap_err()] {
        assert!(matches!(error, Error::Foreign(_)), "{error}");
    }
    fs::remove_file(folder.path().join(DROP_IN)).unwrap();
    write(&folder, "etc/ours", MARK);
    symlink("/etc/ours", folder.path().join(DROP_IN)).unwrap();
    for error in [planned(&folder, "web").unwrap_err(), take_away(&folder).unwrap_err()] {
        assert!(matches!(error, Error::Foreign(_)), "a link: {error}");
    }
}

#[test]
fn links_of_a_tree_do_not_lead_out_of_it() {
    let (folder, outside) = (system(""), tempfile::tempdir().unwrap());
    fs::create_dir_all(folder.path().join("etc/systemd/system")).unwrap();
    fs::create_dir(folder.path().join("elsewhere")).unwrap();
    let directory = folder.path().join("etc/systemd/system/web.service.d");
    symlink("/elsewhere", &directory).unwrap();
    planned(&folder, "web").unwrap().carry_out().unwrap();
    assert!(folder.path().join("elsewhere/50-tidegate.conf").exists());
    fs::remove_file(&directory).unwrap();
    symlink(outside.path(), &directory).unwrap();
    assert!(matches!(planned(&folder, "web"), Err(Error::Foreign(_))));
    assert!(matches!(take_away(&folder), Err(Error::Foreign(_))));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test_case("RootDirectory=/srv/web", "tree of its own"; "a root of its own")]
#[test_case("Slice=job-%i.slice", "only systemd resolves"; "a slice that is not known")]
#[test_case("Slice=-.slice", "is no workload of"; "no workload")]
fn what_cannot_be_protected_is_told(line: &str, expected: &str) {
    let error = planned(&system(line), "web").unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn the_gate_does_not_wait_for_itself() {
    let folder = system("");
    for name in ["tidegate", "tidegate-early"] {
        write(&folder, &format!("lib/systemd/system/{name}.service"), "[Service]\n");
        assert!(matches!(planned(&folder, name), Err(Error::Own(_))));
    }
}

#[test]
fn all_instances_of_a_template_are_protected_at_once() {
    let folder = system("");
    write(&folder, "lib/systemd/system/job@.service", "[Service]\n");
    let text = WEB.replace("/system.slice/*", "/system.slice/system-job.slice/**");
    let asked = UnitName::parse("job@").unwrap();
    let plan = plan(folder.path(), &asked, &config(&text), Path::new("c"), Some("web")).unwrap();
    assert!(plan.path.ends_with("etc/systemd/system/job@.service.d/50-tidegate.conf"), "{plan:?}");
    plan.carry_out().unwrap();
    let root = Root::open(folder.path()).unwrap();
    let names: Vec<_> = protected(&root).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [asked]);
}
