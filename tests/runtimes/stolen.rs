//! Whoever steals the CA's key has a key for the API's domain and for nothing else: real clients that trust the CA
//! refuse its certificates for other names. Of tidegate only the CA is in it.

use crate::runtimes::programs::{RUNTIMES, command_line, java_options, java_store};
use anyhow::{Context as _, Result, ensure};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};
use test_case::test_case;
use tidegate_tests::{
    certificates::Authority,
    client,
    netns::World,
    process::{Finished, Process},
    programs,
    standin::{Config, Served, Service, Tls},
};

const LIMIT: Duration = Duration::from_secs(60);

/// Whom a server claims to be.
struct Claim {
    /// How a client calls it.
    host: &'static str,
    /// Its address; where `host` is none itself, the name resolves to it.
    address: &'static str,
    /// The names and addresses in the certificate; of none it has only a common name.
    names: &'static [&'static str],
}

const GENUINE: &str = "api.digitalocean.com";

/// The first is what the CA is for, the others are what a thief might want.
const CLAIMS: [Claim; 8] = [
    Claim { host: GENUINE, address: "192.0.2.10", names: &[GENUINE] },
    Claim { host: "example.com", address: "192.0.2.41", names: &["example.com"] },
    Claim { host: "www.example.org", address: "192.0.2.42", names: &["*.example.org"] },
    Claim { host: "192.0.2.43", address: "192.0.2.43", names: &["192.0.2.43"] },
    Claim { host: "notdigitalocean.com", address: "192.0.2.44", names: &["notdigitalocean.com"] },
    Claim { host: "both.example", address: "192.0.2.45", names: &[GENUINE, "both.example"] },
    Claim {
        host: "api.digitalocean.com.example",
        address: "192.0.2.46",
        names: &["api.digitalocean.com.example"],
    },
    Claim { host: "named.example", address: "192.0.2.47", names: &[] },
];

/// A world in which the CA's key is in the wrong hands: on port 443 are servers with certificates by it, on 8443 the
/// same servers with certificates of a CA without constraints. Fields drop in this order.
struct Heist {
    _servers: Served,
    world: World,
    trusted: PathBuf,
}

impl Heist {
    fn new() -> Result<Self> {
        let world = World::new()?;
        let directory = world.directory().to_owned();
        let stolen = stolen_ca(&world)?;
        let intermediate = CertificateDer::from_pem_file(stolen.join("intermediate.pem"))?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(fs::read(stolen.join("key.der"))?));
        let thief = Issuer::from_ca_cert_der(&intermediate, KeyPair::try_from(&key)?)?;
        let between = fs::read_to_string(stolen.join("intermediate.pem"))?;
        let free = Authority::new("a CA without constraints")?;
        let root = fs::read_to_string(stolen.join("root.pem"))?;
        let trusted = world.write("trusted.pem", format!("{root}{}", free.pem()))?;

        let mut config = Config::new(&directory);
        let mut names: Vec<(IpAddr, &str)> = Vec::new();
        for (number, claim) in CLAIMS.iter().enumerate() {
            let address: IpAddr = claim.address.parse()?;
            if claim.host != claim.address {
                names.push((address, claim.host));
            }
            let by_thief = world.write(&format!("thief-{number}.pem"), forge(claim, &thief, &between)?)?;
            let by_other = world.write(&format!("other-{number}.pem"), forge(claim, free.issuer(), "")?)?;
            for (port, file) in [(443, by_thief), (8443, by_other)] {
                config = config.listen(SocketAddr::new(address, port), Service::Https(Tls::from_file(&file)));
            }
        }
        world.set_names(&names)?;
        Ok(Self { _servers: Served::start(&world, config)?, world, trusted })
    }

    /// Runs a client that trusts both CAs, by whatever variable it knows.
    fn client(&self, line: &[String]) -> Result<Finished> {
        let mut command = self.world.command(line);
        client::trust(&mut command, &self.trusted);
        let trusted = self.trusted.display().to_string();
        command.env("WGETRC", self.world.write("wgetrc", format!("ca_certificate = {trusted}\n"))?);
        if line.first().is_some_and(|program| program == "java") {
            command.env("JAVA_TOOL_OPTIONS", java_options(&java_store(&self.world, &trusted)?));
        }
        Process::run(&mut command, self.world.directory(), LIMIT)
    }
}

/// The files of a CA that tidegate has made.
fn stolen_ca(world: &World) -> Result<PathBuf> {
    let directory = world.directory().join("ca");
    let config = world.write("tidegate.toml", format!("[ca]\ndir = {directory:?}\n"))?;
    let tidegate = programs::built("tidegate")?;
    let words = [tidegate.as_path(), Path::new("ca"), Path::new("rotate"), Path::new("--config"), &config];
    let finished = Process::run(&mut world.command(&words), world.directory(), LIMIT)?;
    ensure!(finished.status.success(), "{finished:?}");
    let generations = fs::read_dir(&directory)?.filter_map(|entry| Some(entry.ok()?.path()));
    generations.into_iter().find(|path| path.join("key.der").exists()).context("a generation of the CA")
}

/// A certificate that says what the claim says, with its chain and key.
fn forge(claim: &Claim, issuer: &Issuer<'_, KeyPair>, between: &str) -> Result<String> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, claim.names.first().unwrap_or(&claim.host).to_owned());
    for name in claim.names {
        params.subject_alt_names.push(match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*name).try_into()?),
        });
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, issuer)?;
    Ok(format!("{}{between}{}", certificate.pem(), key.serialize_pem()))
}

const GNUTLS: &str = r#"for url; do
    rest=${url#https://}; rest=${rest%%/*}; port=${rest##*:}; [ "$port" != "$rest" ] || port=443
    gnutls-cli --x509cafile "$SSL_CERT_FILE" --port "$port" "${rest%:*}" < /dev/null >&2 && echo "$url 200"
done"#;
const OPENSSL: &str = r#"for url; do
    rest=${url#https://}; rest=${rest%%/*}; port=${rest##*:}; [ "$port" != "$rest" ] || port=443; host=${rest%:*}
    case $host in *[a-z]*) verify="-verify_hostname $host -servername $host" ;; *) verify="-verify_ip $host" ;; esac
    openssl s_client -brief -verify_return_error $verify -connect "$host:$port" < /dev/null && echo "$url 200"
done"#;

#[test_case("openssl s_client"; "openssl")]
#[test_case("gnutls-cli"; "gnutls")]
#[test_case("curl (OpenSSL)"; "curl")]
#[test_case("wget (GnuTLS)"; "wget")]
#[test_case("Go net/http"; "go")]
#[test_case("Java HttpClient"; "java")]
#[test_case("Python urllib, the system's"; "python")]
#[test_case("Node https"; "node")]
#[test_case("Rust rustls-native-certs"; "rustls")]
fn a_stolen_key_is_worth_nothing_for_other_names(client: &str) -> Result<()> {
    let heist = Heist::new()?;
    let url = |claim: &Claim, port: &str| format!("https://{}{port}/v2/account", claim.host);
    let by_thief = CLAIMS.iter().map(|claim| url(claim, ""));
    let urls: Vec<String> = by_thief.chain(CLAIMS.iter().map(|claim| url(claim, ":8443"))).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let line = match client {
        "openssl s_client" => shell(OPENSSL, &urls),
        "gnutls-cli" => shell(GNUTLS, &urls),
        name => {
            let runtime = RUNTIMES.iter().find(|runtime| runtime.name == name);
            command_line(runtime.context("no such runtime")?, &urls)?
        }
    };
    let finished = heist.client(&line)?;
    let text = finished.text();
    let accepted: Vec<&str> = text.lines().filter_map(|line| line.strip_suffix(" 200")).collect();
    println!("{client}: {accepted:#?}");
    let by_thief: Vec<&str> = accepted.iter().copied().filter(|url| !url.contains(":8443")).collect();
    ensure!(by_thief == [format!("https://{GENUINE}/v2/account")], "{by_thief:?} are accepted: {finished:?}");
    // The same servers pass with the other CA, so that the constraints are what they fail by. Only a certificate
    // without any name is one that some clients accept of nobody.
    for claim in CLAIMS.iter().filter(|claim| !claim.names.is_empty()) {
        let url = url(claim, ":8443");
        ensure!(accepted.contains(&url.as_str()), "{url} is refused: {finished:?}");
    }
    Ok(())
}

fn shell(script: &str, urls: &[&str]) -> Vec<String> {
    ["sh", "-c", script, "sh"].iter().chain(urls).map(|&word| word.to_owned()).collect()
}
