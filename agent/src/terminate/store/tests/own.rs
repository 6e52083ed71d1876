//! A CA that the user brings.

use super::*;
use test_case::test_case;

/// A root and an intermediate, as a company has them.
struct Company {
    root: rcgen::Certificate,
    intermediate: rcgen::Certificate,
    key: KeyPair,
}

fn company(change: impl FnOnce(&mut CertificateParams)) -> Company {
    let ca = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let root_key = KeyPair::generate().unwrap();
    let root_params = ca("Company root");
    let root = root_params.self_signed(&root_key).unwrap();
    let mut params = ca("Company intermediate");
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let intermediate = params.signed_by(&key, &Issuer::from_params(&root_params, &root_key)).unwrap();
    Company { root, intermediate, key }
}

/// Writes the files, key owner-only, and answers the settings that name them.
fn bring(folder: &TempDir, certificates: &[&rcgen::Certificate], key: &KeyPair) -> config::Ca {
    let (chain, key_file) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    fs::write(&chain, certificates.iter().map(|certificate| certificate.pem()).collect::<String>()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
    config::Ca { brought: Some(BroughtCa { certificate: chain, key: Some(key_file) }), ..settings(folder) }
}

fn started(settings: &config::Ca) -> Result<Standing, Error> {
    store_for(settings, &["digitalocean.com"]).start(SystemTime::now())
}

#[test]
fn a_company_s_intermediate_signs_and_its_root_is_the_anchor() {
    let folder = folder();
    let company = company(|_| {});
    let settings = bring(&folder, &[&company.intermediate, &company.root], &company.key);
    let standing = started(&settings).unwrap();
    assert_eq!(&standing.anchors[..], [company.root.der().clone()]);
    let leaf = Leaf::try_from(
        standing.authority.mint(&hosts(&["api.digitalocean.com"])[0], SystemTime::now()).unwrap(),
    )
    .unwrap();
    assert_eq!(leaf.certified.cert[1..], [company.intermediate.der().clone()]);
    let error = store_for(&settings, &["digitalocean.com"]).rotate(SystemTime::now(), false).unwrap_err();
    assert!(matches!(error, Error::NotOurs));
}

#[test]
fn an_intermediate_alone_is_shown_to_clients_that_have_its_root() {
    let folder = folder();
    let company = company(|_| {});
    let standing = started(&bring(&folder, &[&company.intermediate], &company.key)).unwrap();
    let leaf = Leaf::try_from(
        standing.authority.mint(&hosts(&["api.digitalocean.com"])[0], SystemTime::now()).unwrap(),
    )
    .unwrap();
    assert_eq!(leaf.certified.cert[1..], [company.intermediate.der().clone()]);
}

#[test]
fn another_ca_in_the_files_signs_from_the_next_look_on() {
    let folder = folder();
    let (first, second) = (company(|_| {}), company(|_| {}));
    let settings = bring(&folder, &[&first.intermediate, &first.root], &first.key);
    let store = store_for(&settings, &["digitalocean.com"]);
    let now = SystemTime::now();
    let standing = store.start(now).unwrap();
    assert!(store.refresh(&standing, now).unwrap().is_none());
    bring(&folder, &[&second.intermediate, &second.root], &second.key);
    let standing = store.refresh(&standing, now).unwrap().unwrap();
    assert_eq!(&standing.anchors[..], [second.root.der().clone()]);
}

#[test_case(|params| params.is_ca = IsCa::ExplicitNoCa, "is not a CA's"; "a leaf")]
#[test_case(|params| params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign], "is not a CA's"; "may not sign certificates")]
#[test_case(|params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth], "may not sign for servers"; "for clients")]
#[test_case(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1), "is not valid at this time"; "expired")]
#[test_case(|params| params.not_before = rcgen::date_time_ymd(2200, 1, 1), "is not valid at this time"; "not yet")]
#[test_case(constrained_elsewhere, "is constrained to example.org"; "for another domain")]
fn a_certificate_that_cannot_do_it_is_refused(change: fn(&mut CertificateParams), expected: &str) {
    let folder = folder();
    let company = company(change);
    let error = started(&bring(&folder, &[&company.intermediate, &company.root], &company.key)).unwrap_err();
    let told = error.to_string();
    assert!(told.contains("chain.pem` ") && told.contains(expected), "{told}");
}

fn constrained_elsewhere(params: &mut CertificateParams) {
    params.name_constraints = Some(rcgen::NameConstraints {
        permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("example.org".to_owned())],
        excluded_subtrees: vec![],
    });
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let folder = folder();
    let (one, other) = (company(|_| {}), company(|_| {}));
    let told = |certificates: &[&rcgen::Certificate], key| {
        started(&bring(&folder, certificates, key)).unwrap_err().to_string()
    };
    let wrong_key = told(&[&one.intermediate, &one.root], &other.key);
    assert!(wrong_key.contains("does not begin with the certificate of its key"), "{wrong_key}");
    let wrong_order = told(&[&one.root, &one.intermediate], &one.key);
    assert!(wrong_order.contains("put the one that signs leaves first"), "{wrong_order}");
    let wrong_root = told(&[&one.intermediate, &other.root], &one.key);
    assert!(wrong_root.contains("cannot be used"), "{wrong_root}");
    let nothing = told(&[], &one.key);
    assert!(nothing.contains("holds no certificate"), "{nothing}");
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let folder = folder();
    let company = company(|_| {});
    let settings = bring(&folder, &[&company.intermediate, &company.root], &company.key);
    let key = folder.path().join("key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = started(&settings).unwrap_err().to_string();
    assert!(error.contains("key.pem` is open to others"), "{error}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&key, "no key").unwrap();
    let error = started(&settings).unwrap_err().to_string();
    assert!(error.contains("has no usable key in"), "{error}");
}

#[test]
fn a_credential_of_the_unit_is_the_key() {
    let folder = folder();
    let company = company(|_| {});
    let settings = bring(&folder, &[&company.intermediate, &company.root], &company.key);
    let files = BroughtCa { key: None, ..settings.brought.unwrap() };
    let error = brought::load(&files, None).map(drop).unwrap_err().to_string();
    assert!(error.contains("LoadCredential=ca-key:FILE"), "{error}");
    let credentials = folder.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("ca-key"), company.key.serialize_pem()).unwrap();
    fs::set_permissions(credentials.join("ca-key"), fs::Permissions::from_mode(0o440)).unwrap();
    let brought = brought::load(&files, Some(&credentials)).unwrap();
    assert!(brought.authority(&hosts(&["digitalocean.com"]), LeafKey::Ecdsa, SystemTime::now()).is_ok());
    fs::set_permissions(credentials.join("ca-key"), fs::Permissions::from_mode(0o444)).unwrap();
    assert!(brought::load(&files, Some(&credentials)).is_err());
}
