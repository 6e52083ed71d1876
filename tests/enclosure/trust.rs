//! Which programs trust the local CA, and what becomes of the user's own bundles.

use crate::place::{Place, stderr, stdout};
use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use test_case::test_case;

/// A TLS server whose certificate only the test's CA vouches for.
struct Server(Child, String);

impl Server {
    fn new(place: &Place) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", "-www", "-accept", &port, "-cert", "leaf.pem", "-key", "leaf.key"])
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

#[test]
fn the_users_own_bundle_is_merged_and_a_bad_one_stays_with_a_warning() {
    let place = Place::new();
    let server = Server::new(&place);
    let own = place.scratch.join("own.pem");
    let bundle = fs::read("/etc/ssl/certs/ca-certificates.crt").unwrap();
    fs::write(&own, &bundle[..bundle.len().min(4000)]).unwrap();
    let run = |file: &Path| {
        let script = format!("curl -sS -o /dev/null {}; echo $? $CURL_CA_BUNDLE", server.url());
        place.command(&["sh", "-c", &script]).env("CURL_CA_BUNDLE", file).output().unwrap()
    };
    let merged = run(&own);
    assert_eq!(
        stdout(&merged),
        format!("0 {}/trust/CURL_CA_BUNDLE.crt", place.run_dir.display()),
        "{merged:?}"
    );
    let missing = run(Path::new("/nonexistent.pem"));
    assert_eq!(stdout(&missing), "77 /nonexistent.pem", "{missing:?}");
    assert!(stderr(&missing).contains("CURL_CA_BUNDLE=`/nonexistent.pem` cannot be read"), "{missing:?}");
}
