//! Which programs trust the local CA, and what becomes of the user's own bundles.

use crate::place::{Place, send, stderr, stdout};
use nix::sys::signal::Signal;
use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};
use test_case::test_case;

/// A TLS server whose certificate only the test's CA vouches for.
struct Server(Child, String);

impl Server {
    fn new(place: &Place) -> Self {
        Self::showing(place, "leaf.pem", "leaf.key")
    }

    fn showing(place: &Place, certificate: &str, key: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", "-www", "-accept", &port, "-cert", certificate, "-key", key])
            .current_dir(&place.scratch)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        while std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
            assert!(Instant::now() < end, "the TLS server does not come up");
            thread::sleep(Duration::from_millis(10));
        }
        Self(child, format!("localhost:{port}"))
    }

    fn url(&self) -> String {
        format!("https://{}/", self.1)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

const PYTHON: &str =
    "import ssl,sys,urllib.request as u; ssl.create_default_context(); u.urlopen(sys.argv[1])";

#[test_case(&["curl", "-sS", "-o", "/dev/null"]; "curl by the bundle")]
#[test_case(&["openssl", "s_client", "-verify_return_error", "-no-CAfile", "-no-CAstore", "-CApath", "/etc/ssl/certs", "-connect"]; "OpenSSL by the hashed directory")]
#[test_case(&["/usr/bin/python3", "-c", PYTHON]; "Python")]
fn programs_trust_the_local_ca_without_any_variable(client: &[&str]) {
    let place = Place::new();
    let server = Server::new(&place);
    let url = server.url();
    let mut arguments = vec!["env", "-i", "PATH=/usr/bin:/bin"];
    arguments.extend(client);
    let is_openssl = client.first() == Some(&"openssl");
    arguments.push(if is_openssl { &server.1 } else { &url });
    let outside = Command::new("env").args(&arguments[1..]).stdin(Stdio::null()).output().unwrap();
    assert!(!outside.status.success(), "outside it must not be trusted: {outside:?}");
    let inside = place.command(&arguments).output().unwrap();
    assert!(inside.status.success(), "{inside:?}");
    let unprivileged = place.command_as("nobody", &arguments).output().unwrap();
    assert!(unprivileged.status.success(), "{unprivileged:?}");
}

const PACKAGE: &str = "import ssl,sys,urllib.request as u; sys.path.insert(0, sys.argv[2]); import certifi; \
                       u.urlopen(sys.argv[1], context=ssl.create_default_context(cafile=certifi.where()))";

/// A virtual environment with a certifi of its own, which trusts some CA of the system's.
fn environment(place: &Place, name: &str) -> PathBuf {
    let packages = place.scratch.join(name).join("lib/python3/site-packages/certifi");
    fs::create_dir_all(&packages).unwrap();
    fs::write(packages.join("__init__.py"), "def where(): return __path__[0] + '/cacert.pem'\n").unwrap();
    let bundle = fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").unwrap();
    let end = bundle.find("-----END CERTIFICATE-----\n").unwrap() + "-----END CERTIFICATE-----\n".len();
    fs::write(packages.join("cacert.pem"), &bundle[..end]).unwrap();
    packages
}

#[test]
fn a_virtual_environment_trusts_it_by_its_own_certifi() {
    let place = Place::new();
    let server = Server::new(&place);
    let packages = environment(&place, ".venv");
    let directory = packages.parent().unwrap().to_str().unwrap();
    let url = server.url();
    // Without the machine's own packages.
    let client = ["env", "-i", "/usr/bin/python3", "-S", "-c", PACKAGE, &url, directory];
    let outside = Command::new("env").args(&client[1..]).output().unwrap();
    assert!(stderr(&outside).contains("CERTIFICATE_VERIFY_FAILED"), "{outside:?}");
    let inside = place.command(&client).current_dir(&place.scratch).output().unwrap();
    assert!(inside.status.success(), "by the working directory: {inside:?}");
    let other = place.command(&client).current_dir("/").env_remove("VIRTUAL_ENV").output().unwrap();
    assert!(stderr(&other).contains("CERTIFICATE_VERIFY_FAILED"), "nothing leads to it: {other:?}");
    let named = place.command(&client).env("VIRTUAL_ENV", place.scratch.join(".venv")).output().unwrap();
    assert!(named.status.success(), "by its variable: {named:?}");
    let unprivileged = place.command_as("nobody", &client).current_dir(&place.scratch).output().unwrap();
    assert!(unprivileged.status.success(), "{unprivileged:?}");
}

const JAVA: &str = r#"
public class Client {
    public static void main(String[] arguments) throws Exception {
        new java.net.URL(arguments[0]).openStream().readAllBytes();
    }
}
"#;

#[test]
fn java_trusts_it_and_still_what_it_trusted() {
    let place = Place::new();
    let server = Server::new(&place);
    let source = place.scratch.join("Client.java");
    fs::write(&source, JAVA).unwrap();
    let client = ["env", "-i", "/usr/bin/java", source.to_str().unwrap(), &server.url()];
    let outside = Command::new("env").args(&client[1..]).output().unwrap();
    assert!(stderr(&outside).contains("unable to find valid certification path"), "{outside:?}");
    let inside = place.command(&client).output().unwrap();
    assert!(inside.status.success(), "{inside:?}");
    assert_eq!(stderr(&inside), "", "no line of Java's about options");
    // keytool checks the keystore's integrity where it is given a password.
    let list = ["env", "-i", "/usr/bin/keytool", "-list", "-cacerts", "-storepass", "changeit"];
    let entries = |output: &Output| {
        assert!(output.status.success(), "{output:?}");
        let entries = stdout(output).lines().filter(|line| line.contains("trustedCertEntry"));
        entries.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = entries(&Command::new("env").args(&list[1..]).output().unwrap());
    let within = entries(&place.command(&list).output().unwrap());
    let added: Vec<_> = within.iter().filter(|entry| !before.contains(entry)).collect();
    assert_eq!((added.len(), within.len()), (1, before.len() + 1), "{added:?}");
}

#[test]
fn a_keystore_that_the_user_names_is_merged() {
    let place = Place::new();
    let server = Server::new(&place);
    let source = place.scratch.join("Client.java");
    fs::write(&source, JAVA).unwrap();
    let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=Company -keyout c.key \
                -out c.pem && keytool -importcert -noprompt -alias company -file c.pem -keystore trust.p12 \
                -storepass secret1";
    let made = Command::new("sh").args(["-c", make]).current_dir(&place.scratch).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let keystore = place.scratch.join("trust.p12");
    let options = format!(
        "-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStorePassword=secret1 -Djavax.net.ssl.trustStoreType=PKCS12",
        keystore.display()
    );
    let client = ["/usr/bin/java", source.to_str().unwrap(), &server.url()];
    let inside = place.command(&client).env("JAVA_TOOL_OPTIONS", &options).output().unwrap();
    assert!(inside.status.success(), "{inside:?}");
    let list = ["keytool", "-list", "-keystore", keystore.to_str().unwrap(), "-storepass", "secret1"];
    let listed = place.command(&list).env("JAVA_TOOL_OPTIONS", &options).output().unwrap();
    assert!(stdout(&listed).contains("company, ") && stdout(&listed).contains("2 entries"), "{listed:?}");
}

#[test]
fn a_corporate_ca_of_the_users_stays_trusted() {
    let place = Place::new();
    let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=Company -keyout c.key \
                -out company.pem && openssl x509 -req -in leaf.csr -CA company.pem -CAkey c.key -days 2 \
                -extfile leaf.ext -out other.pem";
    let made = Command::new("sh").args(["-c", make]).current_dir(&place.scratch).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let servers = [Server::new(&place), Server::showing(&place, "other.pem", "leaf.key")];
    let company = place.scratch.join("company.pem");
    let original = fs::read(&company).unwrap();
    let home = place.scratch.join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join(".curlrc"), format!("cacert = {}\n", company.display())).unwrap();
    for server in &servers {
        let url = server.url();
        let run = |command: &[&str], variables: &[(&str, &Path)]| {
            let mut run = place.command(command);
            for name in ["SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE"] {
                run.env_remove(name);
            }
            let output = run.envs(variables.iter().copied()).output().unwrap();
            assert!(output.status.success(), "{command:?} {variables:?} {output:?}");
            assert_eq!(stderr(&output), "");
        };
        run(&["curl", "-sS", "-o", "/dev/null", &url], &[("CURL_CA_BUNDLE", &company)]);
        run(&["/usr/bin/python3", "-c", PYTHON, &url], &[("SSL_CERT_FILE", &company)]);
        run(&["curl", "-sS", "-o", "/dev/null", &url], &[("HOME", &home)]);
    }
    assert_eq!(fs::read(&company).unwrap(), original);
}

#[test]
fn nothing_changes_outside_while_a_command_runs() {
    let place = Place::new();
    let server = Server::new(&place);
    let packages = environment(&place, "venv");
    let files = ["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/java/cacerts"].map(PathBuf::from);
    let files: Vec<_> = files.into_iter().chain([packages.join("cacert.pem")]).collect();
    let state = || {
        let contents: Vec<_> = files.iter().map(|path| fs::read(path).unwrap()).collect();
        let names = fs::read_dir("/etc/ssl/certs").unwrap().count();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts: Vec<_> =
            mounts.lines().filter(|line| line.contains("/trust/")).map(str::to_owned).collect();
        (contents, names, mounts)
    };
    let before = state();
    let script = format!(
        "cd {}; {}; echo ready; sleep 60",
        place.scratch.display(),
        "cmp -s /etc/ssl/certs/ca-certificates.crt /proc/1/root/etc/ssl/certs/ca-certificates.crt && exit 1"
    );
    let (mut child, line) = place.start(&script);
    let during = state();
    let outside = Command::new("curl").args(["-sS", "-o", "/dev/null", &server.url()]).output().unwrap();
    send(&child, Signal::SIGTERM);
    child.wait().unwrap();
    assert_eq!(line, "ready");
    assert!(before == during, "the stores of other processes have changed");
    assert!(!outside.status.success(), "a process outside does not trust it: {outside:?}");
    assert!(before == state());
}

#[test]
fn a_store_that_cannot_be_merged_is_a_warning() {
    let place = Place::new();
    let packages = environment(&place, ".venv");
    fs::write(packages.join("cacert.pem"), "not a certificate").unwrap();
    let output = place.command(&["true"]).current_dir(&place.scratch).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let expected = format!("`{}` holds no PEM certificate", packages.join("cacert.pem").display());
    assert!(stderr(&output).contains(&expected), "{output:?}");
}

#[test]
fn a_bad_setting_of_the_users_stays_with_a_warning() {
    let place = Place::new();
    let server = Server::new(&place);
    let script = format!("curl -sS -o /dev/null {}; echo $? $CURL_CA_BUNDLE", server.url());
    let missing =
        place.command(&["sh", "-c", &script]).env("CURL_CA_BUNDLE", "/nonexistent.pem").output().unwrap();
    assert_eq!(stdout(&missing), "77 /nonexistent.pem", "{missing:?}");
    assert!(
        stderr(&missing).contains("CURL_CA_BUNDLE=`/nonexistent.pem` is not a file or directory"),
        "{missing:?}"
    );
}
