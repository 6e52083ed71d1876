//! Clients that refuse the local CA: each in its own way, all of them recorded with what they are and what would help.

use crate::{api, expect};
use anyhow::{Result, ensure};
use std::path::Path;
use test_case::test_case;
use tidegate_tests::{agent::Ran, client, netns::addresses::API_NAME, programs, scene::Scene};

/// Where the line of a client has the certificate of an authority that is not tidegate's.
const FOREIGN: &str = "{foreign}";

const PYTHON: &str = "\
import ssl, sys, urllib.request
urllib.request.urlopen(sys.argv[1], context=ssl.create_default_context(cafile=sys.argv[2]))";

/// Connects with a verified certificate, waits, and goes without a request.
const SILENT: &str = "\
import socket, ssl, sys, time
stream = ssl.create_default_context().wrap_socket(
    socket.create_connection((sys.argv[1], 443)), server_hostname=sys.argv[1])
time.sleep(3)
stream.close()";

const JAVA: &str = r#"
import java.net.URI;
import java.net.http.*;
public class Fetch {
    public static void main(String[] arguments) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(arguments[0])).build();
        HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
    }
}
"#;

/// Runs a client that must fail without having said a word to the API.
fn refused(scene: &Scene, line: &[String]) -> Result<Ran> {
    let ran = scene.tidegate("rejection")?.run(line)?;
    ensure!(!ran.finished.status.success(), "{ran:#?}");
    ensure!(scene.requests()?.is_empty());
    Ok(ran)
}

fn check(ran: &Ran, runtime: &str, hint: &str) -> Result<()> {
    let record = ran.outcome_because("client_rejected_ca")?;
    expect(record, "deny", "closed", "client_rejected_ca", None)?;
    ensure!(record.text("tidegate.client.runtime") == runtime, "{record:?}");
    ensure!(record.text("tidegate.hint").contains(hint), "{record:?}");
    ensure!(record.number("process.pid").is_some() && !record.text("process.executable.path").is_empty());
    Ok(())
}

fn words(line: &str, foreign: &Path) -> Vec<String> {
    let url = api("/v2/account");
    let word = |word: &str| match word {
        "{url}" => url.clone(),
        "{python}" => PYTHON.to_owned(),
        word => word.replace(FOREIGN, &foreign.display().to_string()),
    };
    line.split(' ').map(word).collect()
}

#[test_case("curl -sS --cacert {foreign} --capath /nonexistent {url}", "openssl", "CURL_CA_BUNDLE"; "curl with TLS 1.3")]
#[test_case("curl -sS --tls-max 1.2 --cacert {foreign} --capath /nonexistent {url}", "openssl", "CURL_CA_BUNDLE"; "curl with TLS 1.2")]
#[test_case("curl -sS --pinnedpubkey sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= {url}", "openssl", "pinned"; "curl that pins")]
#[test_case("curl -sS --http1.1 --pinnedpubkey sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= {url}", "openssl", "pinned"; "curl that pins over HTTP1")]
#[test_case("wget -q --tries=1 --ca-directory=/nonexistent --ca-certificate={foreign} {url}", "gnutls", "WGETRC"; "wget")]
#[test_case("/usr/bin/git -c http.sslCAInfo={foreign} -c http.sslCAPath=/nonexistent ls-remote {url}", "gnutls", "GIT_SSL_CAINFO"; "git")]
#[test_case("/usr/bin/python3 -c {python} {url} {foreign}", "python", "REQUESTS_CA_BUNDLE"; "python")]
#[test_case("openssl s_client -brief -verify_return_error -no-CApath -no-CAstore -CAfile {foreign} -connect api.digitalocean.com:443", "openssl", "SSL_CERT_FILE"; "openssl")]
fn a_client_that_refuses_is_recorded_with_a_hint(line: &str, runtime: &str, hint: &str) -> Result<()> {
    let scene = Scene::new()?;
    // Git takes the variable before its own option.
    let mut command = ["env", "-u", "GIT_SSL_CAINFO"].map(str::to_owned).to_vec();
    command.extend(words(line, &scene.standin.ca_file()));
    check(&refused(&scene, &command)?, runtime, hint)
}

#[test]
fn node_without_its_variable_is_recorded_with_it() -> Result<()> {
    let scene = Scene::new()?;
    let mut line =
        ["env", "-u", "NODE_EXTRA_CA_CERTS", "-u", "NODE_USE_SYSTEM_CA"].map(str::to_owned).to_vec();
    line.extend(client::Client::NodeFetch.request("GET", &api("/v2/account"), "")?);
    check(&refused(&scene, &line)?, "node", "NODE_EXTRA_CA_CERTS")
}

#[test]
fn java_with_another_keystore_is_recorded() -> Result<()> {
    let scene = Scene::new()?;
    let source = scene.world.write("Fetch.java", JAVA)?.display().to_string();
    let (store, foreign) = (scene.directory().join("store.p12"), scene.standin.ca_file());
    let (store, foreign) = (store.display().to_string(), foreign.display().to_string());
    // Made behind the start, since one that is there gets the local CA, too.
    let script = format!(
        "keytool -importcert -noprompt -alias a -storetype PKCS12 -storepass changeit -keystore {store} -file {foreign} && \
         exec java -Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStorePassword=changeit {source} {}",
        api("/v2/account")
    );
    let line = ["sh".to_owned(), "-c".to_owned(), script];
    check(&refused(&scene, &line)?, "java", "tidegate ca install")
}

#[test]
fn rust_with_compiled_in_roots_is_the_documented_refusal() -> Result<()> {
    let scene = Scene::new()?;
    let program = programs::built("rustls-webpki")?.display().to_string();
    let ran = refused(&scene, &[program.clone(), API_NAME.to_owned()])?;
    ensure!(ran.finished.stderr.contains("UnknownIssuer"), "{ran:#?}");
    check(&ran, "rust", "no setting can add to: build it with rustls-native-certs")?;
    let told: Vec<_> = ran.finished.stderr.lines().filter(|line| line.contains("does not trust")).collect();
    ensure!(told.len() == 1 && told.iter().all(|line| line.contains("webpki-roots")), "{ran:#?}");

    let doctor = std::process::Command::new(programs::built("tidegate")?)
        .args(["doctor", "--json", "--command", &program])
        .output()?;
    ensure!(doctor.status.code() == Some(1), "{doctor:?}");
    let told: serde_json::Value = serde_json::from_slice(&doctor.stdout)?;
    let seen = |number: usize| told.pointer(&format!("/checks/{number}/seen")).cloned();
    ensure!(seen(1) == Some("Rust, with compiled-in roots".into()), "{told:#}");
    ensure!(seen(2) == Some("no: its roots are compiled in".into()), "{told:#}");
    Ok(())
}

#[test]
fn many_refusals_of_one_program_are_told_once_in_the_log() -> Result<()> {
    let scene = Scene::new()?;
    let foreign = scene.standin.ca_file().display().to_string();
    let script = format!(
        "for i in 1 2 3; do curl -sS --cacert {foreign} --capath /nonexistent {}; done; exit 1",
        api("/")
    );
    let ran = refused(&scene, &["sh".to_owned(), "-c".to_owned(), script])?;
    let records: Vec<_> =
        ran.records.iter().filter(|record| record.reason() == "client_rejected_ca").collect();
    ensure!(records.len() == 3, "{ran:#?}");
    ensure!(records.iter().all(|record| record.text("tidegate.client.runtime") == "openssl"), "{records:#?}");
    ensure!(
        ran.finished.stderr.matches("does not trust the local CA, so it is refused").count() == 1,
        "{ran:#?}"
    );
    Ok(())
}

#[test]
fn a_client_that_trusts_and_changes_its_mind_later_is_no_refusal() -> Result<()> {
    let scene = Scene::new()?;
    let line = ["/usr/bin/python3", "-c", SILENT, API_NAME];
    let ran = scene.tidegate("rejection")?.run(&line)?;
    ensure!(ran.finished.status.success(), "{ran:#?}");
    expect(ran.outcome_because("no_request")?, "deny", "closed", "no_request", None)?;
    ensure!(ran.records.len() == 1, "{ran:#?}");
    Ok(())
}
