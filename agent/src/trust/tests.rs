use super::{
    variables::{Named, Value},
    *,
};
use std::{collections::BTreeMap, os::unix::fs::symlink};
use test_case::test_case;

const COMPANY: &[u8] = include_bytes!("../../../tests/fixtures/keystore/company.der");
const COMPANY_JKS: &[u8] = include_bytes!("../../../tests/fixtures/keystore/company.jks");
const LEGACY: &[u8] = include_bytes!("../../../tests/fixtures/keystore/legacy.p12");
const ENCRYPTED: &[u8] = include_bytes!("../../../tests/fixtures/keystore/pbes2.p12");

/// A tree of a system, with the home `/home/build` and the working directory `/work/project/part`.
struct System {
    root: tempfile::TempDir,
    variables: BTreeMap<&'static str, String>,
    command: Vec<OsString>,
}

impl System {
    fn new() -> Self {
        let system =
            Self { root: tempfile::tempdir().unwrap(), variables: BTreeMap::new(), command: Vec::new() };
        for directory in ["/home/build", "/work/project/part", "/tmp"] {
            fs::create_dir_all(system.at(directory)).unwrap();
        }
        system
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), content).unwrap();
    }

    fn bundle(&self, path: &str) {
        self.file(path, certificate::pem(&company()));
    }

    fn link(&self, path: &str, target: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        symlink(target, self.at(path)).unwrap();
    }

    fn set(mut self, name: &'static str, value: &str) -> Self {
        self.variables.insert(name, value.to_owned());
        self
    }

    fn find(&self) -> Found {
        let lookup = |name: &str| self.variables.get(name).map(OsString::from);
        find(&Surroundings {
            root: self.root.path(),
            home: Some(Path::new("/home/build")),
            working_directory: Some(Path::new("/work/project/part")),
            command: &self.command,
            lookup: &lookup,
        })
        .unwrap()
    }

    fn paths(&self) -> Vec<String> {
        self.find().stores.into_iter().map(|store| store.path.to_str().unwrap().to_owned()).collect()
    }
}

fn company() -> CertificateDer<'static> {
    CertificateDer::from(COMPANY.to_vec())
}

fn anchor() -> CertificateDer<'static> {
    let domain = crate::host::HostName::parse("example.com").unwrap();
    crate::terminate::ca::Authority::ephemeral(&[domain]).unwrap().trust_anchor().clone()
}

#[test_case("/etc/ssl/certs/ca-certificates.crt"; "debian and alpine")]
#[test_case("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"; "fedora")]
#[test_case("/etc/pki/tls/certs/ca-bundle.crt"; "fedora before")]
#[test_case("/var/lib/ca-certificates/ca-bundle.pem"; "suse")]
#[test_case("/etc/ca-certificates/extracted/tls-ca-bundle.pem"; "arch")]
#[test_case("/etc/ssl/cert.pem"; "alpine's OpenSSL")]
fn the_systems_bundle_is_known(path: &str) {
    let system = System::new();
    system.bundle(path);
    assert_eq!(system.find().system_bundle.unwrap().path, Path::new(path));
}

#[test_case("/usr/lib/python3/dist-packages/certifi/cacert.pem"; "debian's python")]
#[test_case("/usr/local/lib/python3.12/site-packages/pip/_vendor/certifi/cacert.pem"; "pip's own")]
#[test_case("/usr/lib64/python3.9/site-packages/botocore/cacert.pem"; "botocore")]
#[test_case("/opt/app/venv/lib/python3.11/site-packages/certifi/cacert.pem"; "an application's environment")]
#[test_case("/home/build/.pyenv/versions/3.13.0/lib/python3.13/site-packages/certifi/cacert.pem"; "pyenv")]
#[test_case("/home/build/.local/lib/python3.11/site-packages/certifi/cacert.pem"; "user site")]
#[test_case("/home/build/.local/share/uv/tools/x/lib/python3.12/site-packages/certifi/cacert.pem"; "uv tool")]
#[test_case("/work/project/.venv/lib/python3.11/site-packages/certifi/cacert.pem"; "the project's, from below")]
#[test_case("/work/project/part/.tox/py311/lib/python3.11/site-packages/certifi/cacert.pem"; "tox")]
#[test_case("/usr/share/perl5/Mozilla/CA/cacert.pem"; "debian's perl")]
#[test_case("/usr/local/share/perl/5.36.0/Mozilla/CA/cacert.pem"; "perl from cpan")]
#[test_case("/home/build/perl5/lib/perl5/Mozilla/CA/cacert.pem"; "local lib")]
#[test_case("/usr/lib/jvm/temurin-21/lib/security/cacerts"; "a jdk")]
#[test_case("/opt/jdk8/jre/lib/security/jssecacerts"; "an old jdk's own")]
#[test_case("/home/build/.sdkman/candidates/java/21.0.1-tem/lib/security/cacerts"; "sdkman")]
#[test_case("/var/lib/ca-certificates/java-cacerts"; "suse's java")]
fn a_store_is_found(path: &str) {
    let system = System::new();
    system.bundle(path);
    assert_eq!(system.paths(), [path]);
}

#[test_case("/home/build/miniconda3/envs/x/ssl/cacert.pem"; "nothing without openssl.cnf")]
#[test_case("/somewhere/lib/python3.11/site-packages/certifi/cacert.pem"; "nowhere that is looked at")]
fn what_only_looks_like_a_store_is_not(path: &str) {
    let system = System::new();
    system.bundle(path);
    assert_eq!(system.paths(), Vec::<String>::new());
}

#[test_case("VIRTUAL_ENV", "/v", "/v/lib/python3.11/site-packages/certifi/cacert.pem")]
#[test_case("PYENV_ROOT", "/v", "/v/versions/3.11.1/lib/python3.11/site-packages/certifi/cacert.pem")]
#[test_case("PATH", "/usr/bin:/v/bin", "/v/lib/python3.11/site-packages/certifi/cacert.pem")]
#[test_case("PYTHONPATH", "/x:../v", "/work/project/v/certifi/cacert.pem"; "a relative path")]
#[test_case("PERL5LIB", "/v", "/v/Mozilla/CA/cacert.pem")]
#[test_case("JAVA_HOME", "/v", "/v/lib/security/cacerts")]
#[test_case("CONDA_PREFIX", "/v", "/v/lib/jvm/lib/security/cacerts")]
#[test_case("SSL_CERT_FILE", "/v/corporate.pem", "/v/corporate.pem")]
#[test_case("REQUESTS_CA_BUNDLE", "corporate.pem", "/work/project/part/corporate.pem"; "a relative file")]
#[test_case("JAVA_TOOL_OPTIONS", "-Xmx1g -Djavax.net.ssl.trustStore=/v/trust.jks", "/v/trust.jks"; "java options")]
#[test_case("MAVEN_OPTS", "'-Djavax.net.ssl.trustStore=/v/a b.jks'", "/v/a b.jks"; "quoted java options")]
fn what_a_variable_leads_to_is_found(name: &'static str, value: &str, path: &str) {
    let system = System::new();
    system.bundle(path);
    assert_eq!(system.paths(), Vec::<String>::new());
    assert_eq!(system.set(name, value).paths(), [path]);
}

#[test_case(&["/v/bin/tool"]; "its own directory")]
#[test_case(&["../../../v/bin/tool", "x"]; "relative")]
#[test_case(&["sh", "-c", "exec /v/bin/tool --x"]; "a word of a script")]
#[test_case(&["linked"]; "a link on PATH")]
#[test_case(&["script"]; "a script's interpreter")]
fn the_environment_of_the_commands_program_is_found(command: &[&str]) {
    let certifi = "/v/lib/python3.11/site-packages/certifi/cacert.pem";
    let mut system = System::new().set("PATH", "/usr/bin:/links/here");
    system.bundle(certifi);
    system.file("/v/bin/tool", "");
    system.link("/links/here/linked", "../../v/bin/tool");
    system.file("/links/here/script", "#! /v/bin/tool -u\nprint()\n");
    assert!(!system.paths().contains(&certifi.to_owned()));
    system.command = command.iter().map(OsString::from).collect();
    assert_eq!(system.paths(), [certifi]);
}

#[test]
fn an_environments_base_is_searched() {
    let base = "/base/lib/python3.11/site-packages/pip/_vendor/certifi/cacert.pem";
    let system = System::new().set("VIRTUAL_ENV", "/v");
    system.bundle(base);
    system.file("/v/pyvenv.cfg", "version = 3.11\nhome = /base/bin\n");
    assert_eq!(system.paths(), [base]);
}

#[test_case("/home/build/.gitconfig", "[http]\n\tsslCAInfo = ~/corporate.pem\n", Some("GIT_SSL_CAINFO"); "git")]
#[test_case("/work/project/.npmrc", "cafile=${HOME}/corporate.pem", Some("npm_config_cafile"); "npm")]
#[test_case("/etc/pip.conf", "[global]\ncert: '/home/build/corporate.pem' # ours\n", Some("PIP_CERT"); "pip")]
#[test_case("/home/build/.cargo/config.toml", "[http]\ncainfo = \"/home/build/corporate.pem\"", Some("CARGO_HTTP_CAINFO"); "cargo")]
#[test_case("/home/build/.aws/config", "[default]\nca_bundle=/home/build/corporate.pem", Some("AWS_CA_BUNDLE"); "aws")]
#[test_case("/home/build/.curlrc", "--cacert /home/build/corporate.pem", None; "curl")]
#[test_case("/etc/wgetrc", "ca_certificate = /home/build/corporate.pem", None; "wget")]
#[test_case("/etc/php/8.2/cli/conf.d/20-x.ini", "curl.cainfo=/home/build/corporate.pem ; x", None; "php")]
fn a_tools_settings_are_kept(file: &str, content: &str, variable: Option<&str>) {
    let corporate = "/home/build/corporate.pem";
    let system = System::new();
    system.bundle(corporate);
    system.file(file, content);
    let found = system.find();
    assert_eq!(found.stores.iter().map(|store| &store.path).collect::<Vec<_>>(), [Path::new(corporate)]);
    let theirs: Vec<_> =
        found.variables.iter().filter(|variable| matches!(variable.value, Value::Theirs(_))).collect();
    let named = Value::Theirs(vec![Named { given: corporate.into(), store: Some(corporate.into()) }]);
    assert_eq!(
        theirs.iter().map(|variable| (variable.name, &variable.value)).collect::<Vec<_>>(),
        variable.map(|name| (name, &named)).into_iter().collect::<Vec<_>>()
    );
}

#[test_case("# sslCAInfo = /home/build/corporate.pem"; "a comment")]
#[test_case("sslCAInfoX = /home/build/corporate.pem"; "another key")]
#[test_case("sslCAInfo = corporate.pem"; "relative to what only git knows")]
#[test_case("sslCAInfo"; "no value")]
fn what_is_no_setting_names_nothing(line: &str) {
    let system = System::new();
    system.bundle("/home/build/corporate.pem");
    system.file("/home/build/.gitconfig", line);
    assert_eq!(system.paths(), Vec::<String>::new());
}

#[test]
fn a_store_is_found_once_where_its_links_lead() {
    let system = System::new();
    system.bundle("/etc/ssl/certs/ca-certificates.crt");
    system.link("/etc/ssl/cert.pem", "certs/ca-certificates.crt");
    system.link("/usr/lib/ssl/certs", "/etc/ssl/certs");
    system.link(
        "/usr/lib/python3/dist-packages/certifi/cacert.pem",
        "../../../../../../../../etc/ssl/cert.pem",
    );
    let found = system.find();
    let kinds: Vec<_> = found.stores.iter().map(|store| (store.path.to_str().unwrap(), store.kind)).collect();
    assert_eq!(
        kinds,
        [("/etc/ssl/certs", Kind::HashedDirectory), ("/etc/ssl/certs/ca-certificates.crt", Kind::Bundle)]
    );
}

#[test]
fn an_openssl_of_its_own_is_known_by_its_settings() {
    let system = System::new();
    system.bundle("/opt/server/ssl/cert.pem");
    assert_eq!(system.paths(), Vec::<String>::new(), "that may be the server's own certificate");
    system.file("/opt/server/ssl/openssl.cnf", "");
    system.bundle("/opt/server/ssl/certs/01234567.0");
    assert_eq!(system.paths(), ["/opt/server/ssl/cert.pem", "/opt/server/ssl/certs"]);
}

#[test]
fn what_is_not_a_file_is_no_store_and_does_not_block() {
    let system = System::new().set("SSL_CERT_FILE", "/tmp/pipe").set("CURL_CA_BUNDLE", "/gone");
    nix::unistd::mkfifo(&system.at("/tmp/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir_all(system.at("/home/build/.pip")).unwrap();
    nix::unistd::mkfifo(&system.at("/home/build/.pip/pip.conf"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let found = system.find();
    assert_eq!(found.stores, []);
    let value = |name| &found.variables.iter().find(|variable| variable.name == name).unwrap().value;
    assert_eq!(
        value("SSL_CERT_FILE"),
        &Value::Theirs(vec![Named { given: "/tmp/pipe".into(), store: None }])
    );
    assert_eq!(value("CURL_CA_BUNDLE"), &Value::Theirs(vec![Named { given: "/gone".into(), store: None }]));
    assert_eq!(value("REQUESTS_CA_BUNDLE"), &Value::Bundle);
}

#[test]
fn a_list_of_directories_is_a_store_each() {
    let system = System::new().set("SSL_CERT_DIR", "/a:/b");
    system.bundle("/a/01234567.0");
    system.bundle("/b/01234567.0");
    assert_eq!(system.paths(), ["/a", "/b"]);
}

#[test]
fn a_search_without_end_is_cut_short_and_says_so() {
    let system = System::new();
    for number in 0..600 {
        system.bundle(&format!(
            "/home/build/.pyenv/versions/{number}/lib/python3/site-packages/certifi/cacert.pem"
        ));
    }
    let found = system.find();
    assert_eq!(found.stores.len(), 512);
    assert_eq!(found.warnings.len(), 1);
}

/// A link of a user's to what only root may read.
#[test]
fn of_a_file_only_certificates_are_copied() {
    let system = System::new();
    let path = "/home/build/.local/lib/python3/site-packages/certifi/cacert.pem";
    system.file(
        "/etc/key.pem",
        format!(
            "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n{}",
            certificate::pem(&company())
        ),
    );
    system.file("/etc/shadow", "root:SECRET:1::::::\n");
    system.link(path, "/etc/key.pem");
    let copy = system.at("/tmp/copy");
    let found = system.find();
    found.stores[0].merge_into(&[anchor()], &copy).unwrap();
    assert!(!fs::read_to_string(&copy).unwrap().contains("SECRET"));
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o644);
    fs::remove_file(system.at(path)).unwrap();
    system.link(path, "/etc/shadow");
    let error = system.find().stores[0].merge_into(&[anchor()], &system.at("/tmp/other")).unwrap_err();
    assert_eq!(error.to_string(), "`/etc/shadow` holds no PEM certificate");
}

#[test]
fn what_was_exchanged_for_a_link_after_the_search_is_not_read() {
    let system = System::new();
    system.bundle("/etc/ssl/cert.pem");
    system.bundle("/etc/other.pem");
    let found = system.find();
    fs::remove_file(system.at("/etc/ssl/cert.pem")).unwrap();
    system.link("/etc/ssl/cert.pem", "../other.pem");
    assert!(found.stores[0].merge_into(&[anchor()], &system.at("/tmp/copy")).is_err());
}

#[test_case(COMPANY_JKS, false; "what it trusts stays")]
#[test_case(LEGACY, true; "the system's where it does not show them")]
fn a_keystore_gets_the_anchors(content: &[u8], warns: bool) {
    let system = System::new();
    system.bundle("/etc/ssl/cert.pem");
    system.file("/usr/lib/jvm/x/lib/security/cacerts", content);
    let anchors = [anchor(), anchor()];
    let copy = system.at("/tmp/copy");
    let found = system.find();
    let store = found.stores.iter().find(|store| store.kind == Kind::Keystore).unwrap();
    assert_eq!(store.merge_into(&anchors, &copy).unwrap().is_some(), warns);
    let entries = keystore::read(&fs::read(&copy).unwrap(), "changeit").unwrap();
    let certificates: Vec<_> = entries.iter().map(|entry| &entry.certificate[..]).collect();
    assert_eq!(certificates, [COMPANY, &anchors[0][..], &anchors[1][..]]);
}

#[test_case("secret1", true)]
#[test_case("another", false)]
fn a_keystore_of_the_users_is_read_with_their_password_or_stays(password: &str, is_read: bool) {
    let options = format!("-Djavax.net.ssl.trustStore=/v.p12 -Djavax.net.ssl.trustStorePassword={password}");
    let system = System::new().set("JAVA_TOOL_OPTIONS", &options);
    system.bundle("/etc/ssl/cert.pem");
    system.file("/v.p12", ENCRYPTED);
    let copy = system.at("/tmp/copy");
    let found = system.find();
    let store = found.stores.iter().find(|store| store.kind == Kind::Keystore).unwrap();
    assert!(!format!("{store:?}").contains(password));
    assert_eq!(store.merge_into(&[anchor()], &copy).is_ok(), is_read);
    assert_eq!(copy.exists(), is_read, "the system's roots cannot stand in for the user's");
}

#[test]
fn an_anchor_that_is_no_certificate_is_an_error() {
    assert!(anchors_of_pem("").is_err() && anchors_of_pem("x").is_err());
    let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    assert!(anchors_of_pem(&format!("{}{broken}", certificate::pem(&company()))).is_err());
    assert_eq!(anchors_of_pem(&certificate::pem(&company()).repeat(2)).unwrap().len(), 2);
}

#[test]
fn a_root_that_is_no_directory_is_an_error() {
    let surroundings = Surroundings {
        root: Path::new("/etc/passwd"),
        home: None,
        working_directory: None,
        command: &[],
        lookup: &|_| None,
    };
    assert!(matches!(find(&surroundings), Err(Error::Root { .. })));
}
