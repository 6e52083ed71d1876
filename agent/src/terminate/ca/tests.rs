use super::*;
use rcgen::SanType;
use rustls_pki_types::pem::PemObject;
use std::{fs, process::Command};
use tempfile::TempDir;
use test_case::test_case;

fn host(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

fn authority() -> Authority {
    Authority::ephemeral(&[host("digitalocean.com"), host("example.org")]).unwrap()
}

fn root_der(authority: &Authority) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(authority.trust_anchor_pem().as_bytes()).unwrap()
}

/// What a thief of the intermediate's key could sign.
fn stolen(authority: &Authority, names: Vec<SanType>) -> CertificateDer<'static> {
    let now = SystemTime::now();
    let mut params = params("stolen", now, now + Duration::from_hours(1)).unwrap();
    params.is_ca = IsCa::ExplicitNoCa;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names = names;
    params.signed_by(&Key::generate().unwrap(), &authority.issuer).unwrap().into()
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn webpki_accepts(authority: &Authority, leaf: &CertificateDer<'_>, name: &str) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(root_der(authority)).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let name = ServerName::try_from(name).unwrap();
    let chain = [authority.chain[0].clone()];
    verifier.verify_server_cert(leaf, &chain, &name, &[], UnixTime::now()).map(drop)
}

/// `openssl verify` with its strict checks; the error text where it refuses.
fn openssl_accepts(authority: &Authority, leaf: &CertificateDer<'_>) -> Result<(), String> {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let to_pem = |der: &[u8], name| {
        let path = file(name, der);
        let output =
            Command::new("openssl").args(["x509", "-inform", "DER", "-in"]).arg(path).output().unwrap();
        output.stdout
    };
    let root = file("root.pem", authority.trust_anchor_pem().as_bytes());
    let intermediate = file("intermediate.pem", &to_pem(&authority.chain[0], "intermediate.der"));
    let leaf = file("leaf.pem", &to_pem(leaf, "leaf.der"));
    let output = Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslserver", "-no-CApath", "-CAfile"])
        .arg(root)
        .arg("-untrusted")
        .arg(intermediate)
        .arg(leaf)
        .output()
        .unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// `certtool --verify` of GnuTLS; what it says where it refuses.
fn gnutls_accepts(authority: &Authority, leaf: &CertificateDer<'_>) -> Result<(), String> {
    let folder = TempDir::new().unwrap();
    let (root, chain) = (folder.path().join("root.pem"), folder.path().join("chain.pem"));
    fs::write(&root, authority.trust_anchor_pem()).unwrap();
    fs::write(&chain, certificate::pem(leaf) + &certificate::pem(&authority.chain[0])).unwrap();
    let mut certtool = Command::new("certtool");
    certtool.args(["--verify", "--verify-profile", "medium", "--load-ca-certificate"]).arg(root);
    let output = certtool.arg("--infile").arg(chain).output().expect("certtool, of the package gnutls-bin");
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    if output.status.success() { Ok(()) } else { Err(told) }
}

#[test_case("api.digitalocean.com")]
#[test_case("digitalocean.com")]
#[test_case("a.b.example.org")]
#[test_case(&format!("{}.digitalocean.com", "a".repeat(60)); "longer than a common name may be")]
fn leaves_inside_the_constraint_are_accepted(name: &str) {
    let authority = authority();
    let leaf = Leaf::try_from(authority.mint(&host(name), SystemTime::now()).unwrap()).unwrap();
    let leaf = &leaf.certified.cert[0];
    assert_eq!(webpki_accepts(&authority, leaf, name), Ok(()));
    assert_eq!(openssl_accepts(&authority, leaf), Ok(()));
    assert_eq!(gnutls_accepts(&authority, leaf), Ok(()));
}

#[test_case("api.example.com"; "another domain")]
#[test_case("evildigitalocean.com"; "no dot between")]
#[test_case("digitalocean.com.evil.net"; "above")]
#[test_case("com"; "the public suffix")]
fn no_leaf_is_minted_outside_the_constraint(name: &str) {
    let result = authority().mint(&host(name), SystemTime::now());
    assert!(matches!(result, Err(Error::Outside { .. })), "{result:?}");
}

#[test_case(vec![dns("api.example.com")], "api.example.com"; "another domain")]
#[test_case(vec![dns("evildigitalocean.com")], "evildigitalocean.com"; "no dot between")]
#[test_case(vec![dns("api.digitalocean.com"), dns("example.com")], "api.digitalocean.com"; "one of two names")]
#[test_case(vec![dns("api.digitalocean.com"), SanType::IpAddress([192, 0, 2, 1].into())], "192.0.2.1"; "ipv4")]
#[test_case(vec![SanType::IpAddress(Ipv6Addr::LOCALHOST.into())], "::1"; "ipv6")]
fn what_a_stolen_key_signs_elsewhere_is_refused(names: Vec<SanType>, asked: &str) {
    let authority = authority();
    let leaf = stolen(&authority, names);
    let webpki = webpki_accepts(&authority, &leaf, asked).unwrap_err();
    assert!(format!("{webpki:?}").contains("NameConstraintViolation"), "{webpki:?}");
    let openssl = openssl_accepts(&authority, &leaf).unwrap_err();
    assert!(openssl.contains("subtree violation"), "{openssl}");
    let gnutls = gnutls_accepts(&authority, &leaf).unwrap_err();
    assert!(gnutls.contains("The certificate chain violates the signer's constraints"), "{gnutls}");
}

#[test]
fn an_intermediate_of_the_intermediate_is_refused() {
    let authority = authority();
    let now = SystemTime::now();
    let end = now + Duration::from_hours(1);
    let name = [host("digitalocean.com")];
    let params = ca_params("second", 0, &name, now, end).unwrap();
    let second = params.signed_by(&Key::generate().unwrap(), &authority.issuer).unwrap();
    let error = openssl_accepts(&authority, second.der()).unwrap_err();
    assert!(error.contains("path length constraint exceeded") || error.contains("purpose"), "{error}");
}

#[test]
fn both_certificates_carry_the_same_critical_constraint() {
    let authority = Authority::ephemeral(&[host("digitalocean.com")]).unwrap();
    let mut expected = vec![0x06, 0x03, 0x55, 0x1d, 0x1e]; // nameConstraints
    expected.extend([0x01, 0x01, 0xff]); // critical
    expected.extend([0x04, 0x4a, 0x30, 0x48]);
    expected.extend([0xa0, 0x14, 0x30, 0x12, 0x82, 0x10]); // permitted: dNSName
    expected.extend(b"digitalocean.com");
    expected.extend([0xa1, 0x30, 0x30, 0x0a, 0x87, 0x08]); // excluded: 0.0.0.0/0
    expected.extend([0; 8]);
    expected.extend([0x30, 0x22, 0x87, 0x20]); // and ::/0
    expected.extend([0; 32]);
    for der in [root_der(&authority), authority.chain[0].clone()] {
        assert!(der.windows(expected.len()).any(|window| window == expected), "{der:02x?}");
    }
}

/// The text of `openssl x509` without blanks at line ends, for one certificate.
fn text_of(der: &[u8]) -> String {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("certificate.der");
    fs::write(&path, der).unwrap();
    let output =
        Command::new("openssl").args(["x509", "-inform", "DER", "-noout", "-text", "-in"]).arg(path).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

/// The line below the heading of an extension, the heading's own `critical` in front.
fn extension_of(text: &str, heading: &str) -> String {
    let mut lines = text.lines().map(str::trim).skip_while(|line| !line.starts_with(heading));
    let critical = if lines.next().unwrap_or_default().ends_with("critical") { "critical " } else { "" };
    format!("{critical}{}", lines.next().unwrap_or("absent"))
}

#[test]
fn certificates_say_what_they_are_and_may() {
    let authority = authority();
    let leaf =
        Leaf::try_from(authority.mint(&host("api.digitalocean.com"), SystemTime::now()).unwrap()).unwrap();
    let [root, intermediate, leaf] =
        [&root_der(&authority), &authority.chain[0], &leaf.certified.cert[0]].map(|der| text_of(der));
    let rows: [(&str, [&str; 3]); 4] = [
        (
            "X509v3 Basic Constraints",
            ["critical CA:TRUE, pathlen:1", "critical CA:TRUE, pathlen:0", "critical CA:FALSE"],
        ),
        (
            "X509v3 Key Usage",
            [
                "critical Certificate Sign, CRL Sign",
                "critical Certificate Sign, CRL Sign",
                "critical Digital Signature",
            ],
        ),
        (
            "X509v3 Extended Key Usage",
            ["absent", "TLS Web Server Authentication", "TLS Web Server Authentication"],
        ),
        ("X509v3 Subject Alternative Name", ["absent", "absent", "DNS:api.digitalocean.com"]),
    ];
    for (heading, expected) in rows {
        assert_eq!(
            [&root, &intermediate, &leaf].map(|text| extension_of(text, heading)),
            expected,
            "{heading}"
        );
    }
    let key_id = |text| extension_of(text, "X509v3 Subject Key Identifier");
    let authority_id = |text| extension_of(text, "X509v3 Authority Key Identifier");
    assert_eq!(authority_id(&root), key_id(&root));
    assert_eq!(authority_id(&intermediate), key_id(&root));
    assert_eq!(authority_id(&leaf), key_id(&intermediate));
    assert!(root.contains("CN = tidegate local CA") || root.contains("CN=tidegate local CA"), "{root}");
}

#[test]
fn without_a_domain_there_is_no_authority() {
    assert!(matches!(Authority::ephemeral(&[]), Err(Error::NoDomain)));
}

#[test]
fn serials_are_positive_long_and_differ() {
    let serials: Vec<_> = (0..100).map(|_| new_serial().unwrap().to_bytes()).collect();
    for (index, serial) in serials.iter().enumerate() {
        assert!(serial.len() == 16 && serial[0] & 0xc0 == 0x40);
        assert!(!serials[..index].contains(serial));
    }
}

#[test]
fn nothing_that_is_printed_of_an_authority_is_secret() {
    let authority = authority();
    assert!(!authority.trust_anchor_pem().contains("PRIVATE"));
    assert_eq!(
        format!("{authority:?}"),
        "Authority { domains: [HostName(\"digitalocean.com\"), HostName(\"example.org\")], .. }"
    );
}
