use super::{ca::Authority, *};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use std::net::Ipv4Addr;
use test_case::test_case;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    process::Command,
};
use tokio_rustls::{TlsConnector, client};

const API: &str = "api.digitalocean.com";
const PATIENCE: Duration = Duration::from_secs(10);

fn host(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

struct Fixture {
    authority: Arc<Authority>,
    terminator: Terminator,
}

impl Fixture {
    fn new() -> Self {
        let authority = Arc::new(Authority::ephemeral(&[host("digitalocean.com")]).unwrap());
        Self { terminator: Terminator::new(authority.clone()).unwrap(), authority }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.authority.trust_anchor_pem().as_bytes()).unwrap())
            .unwrap();
        roots
    }

    fn client(&self, version: &'static SupportedProtocolVersion, alpn: &[&str]) -> Arc<ClientConfig> {
        client_with(self.roots(), version, alpn)
    }

    /// One handshake; the client asks for `asked` and the peek is taken to have said [`API`].
    async fn connect(&self, client: &Arc<ClientConfig>, asked: &str) -> Ends {
        let (near, far) = duplex(1 << 16);
        let name = ServerName::try_from(asked.to_owned()).unwrap();
        let client = TlsConnector::from(client.clone()).connect(name, far);
        let peeked = host(API);
        let (server, client) = tokio::join!(self.terminator.accept(near, &peeked, PATIENCE), client);
        Ends { server, client }
    }
}

struct Ends {
    server: Result<TlsStream<DuplexStream>, Error>,
    client: io::Result<client::TlsStream<DuplexStream>>,
}

fn client_with(
    roots: RootCertStore,
    version: &'static SupportedProtocolVersion,
    alpn: &[&str],
) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// The bytes of a ClientHello for [`API`].
fn hello() -> Vec<u8> {
    let config = client_with(RootCertStore::empty(), &TLS13, &[]);
    let mut bytes = Vec::new();
    let mut connection = rustls::ClientConnection::new(config, API.try_into().unwrap()).unwrap();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

#[test_case(&TLS12, &["h2", "http/1.1"], Some("h2"))]
#[test_case(&TLS13, &["h2", "http/1.1"], Some("h2"))]
#[test_case(&TLS13, &["http/1.1", "h2"], Some("h2"); "the client's order does not matter")]
#[test_case(&TLS13, &["http/1.1"], Some("http/1.1"))]
#[test_case(&TLS13, &["http/1.0", "http/1.1"], Some("http/1.1"); "one of them")]
#[test_case(&TLS12, &[], None; "none offered")]
#[tokio::test]
async fn handshakes_pick_a_protocol(
    version: &'static SupportedProtocolVersion,
    alpn: &[&str],
    expected: Option<&str>,
) {
    let fixture = Fixture::new();
    let ends = fixture.connect(&fixture.client(version, alpn), API).await;
    let (mut server, mut client) = (ends.server.unwrap(), ends.client.unwrap());
    assert_eq!(server.get_ref().1.alpn_protocol(), expected.map(str::as_bytes));
    assert_eq!(server.get_ref().1.protocol_version(), Some(version.version));
    client.write_all(b"request").await.unwrap();
    client.flush().await.unwrap();
    let mut request = [0; 7];
    server.read_exact(&mut request).await.unwrap();
    assert_eq!(&request, b"request");
}

#[tokio::test]
async fn a_protocol_that_is_not_served_fails_the_handshake() {
    let fixture = Fixture::new();
    let ends = fixture.connect(&fixture.client(&TLS13, &["acme-tls/1"]), API).await;
    assert_eq!(ends.server.unwrap_err().reason(), Reason::HandshakeFailed);
    assert!(ends.client.is_err());
}

#[test_case(&TLS12)]
#[test_case(&TLS13)]
#[tokio::test]
async fn sessions_resume_without_a_certificate(version: &'static SupportedProtocolVersion) {
    let fixture = Fixture::new();
    let config = fixture.client(version, &["http/1.1"]);
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let ends = fixture.connect(&config, API).await;
        let (mut server, mut client) = (ends.server.unwrap(), ends.client.unwrap());
        // The tickets of TLS 1.3 come with the first bytes.
        server.write_all(b"x").await.unwrap();
        server.flush().await.unwrap();
        client.read_u8().await.unwrap();
        let kind = server.get_ref().1.handshake_kind();
        let is_expected = kind == Some(expected)
            || (kind == Some(HandshakeKind::FullWithHelloRetryRequest) && expected == HandshakeKind::Full);
        assert!(is_expected, "{kind:?}");
    }
}

#[test_case(&TLS12)]
#[test_case(&TLS13)]
#[tokio::test]
async fn a_client_that_does_not_trust_the_ca_is_told_apart(version: &'static SupportedProtocolVersion) {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let ends = fixture.connect(&client_with(other.roots(), version, &[]), API).await;
    let error = ends.server.unwrap_err();
    assert!(matches!(&error, Error::ClientRejectedCa { detail } if detail.contains("alert")), "{error:?}");
    assert_eq!(error.reason(), Reason::ClientRejectedCa);
    assert!(ends.client.is_err());
}

/// Plays a client that writes these bytes, reads the answer if it wants one, and closes.
async fn against(bytes: Vec<u8>, reads_answer: bool) -> Error {
    let fixture = Fixture::new();
    let (near, mut far) = duplex(1 << 16);
    let client = async move {
        far.write_all(&bytes).await.unwrap();
        if reads_answer {
            far.read_u8().await.unwrap();
        }
    };
    let peeked = host(API);
    let (server, ()) = tokio::join!(fixture.terminator.accept(near, &peeked, PATIENCE), client);
    server.unwrap_err()
}

#[tokio::test]
async fn closing_at_the_certificate_is_a_rejection() {
    let error = against(hello(), true).await;
    assert!(matches!(&error, Error::ClientRejectedCa { detail } if detail.contains("closed")), "{error:?}");
}

#[test_case(hello()[..100].to_vec(); "inside the hello")]
#[test_case(vec![]; "before it")]
#[test_case(b"GET / HTTP/1.1\r\n\r\n".to_vec(); "not tls")]
#[tokio::test]
async fn other_failures_are_failures(bytes: Vec<u8>) {
    assert_eq!(against(bytes, false).await.reason(), Reason::HandshakeFailed);
}

#[tokio::test]
async fn a_handshake_has_its_time() {
    let fixture = Fixture::new();
    let (near, mut far) = duplex(1 << 16);
    far.write_all(&hello()).await.unwrap();
    let patience = Duration::from_millis(50);
    let error = fixture.terminator.accept(near, &host(API), patience).await.unwrap_err();
    assert_eq!(error.reason(), Reason::HandshakeTimeout);
}

#[tokio::test]
async fn a_name_outside_the_domains_gets_no_handshake() {
    let fixture = Fixture::new();
    let (near, _far) = duplex(64);
    let error = fixture.terminator.accept(near, &host("example.org"), PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::NoLeaf { .. }), "{error:?}");
}

#[tokio::test]
async fn a_hello_for_another_name_than_the_peeked_one_is_refused() {
    let fixture = Fixture::new();
    let mut config = Arc::unwrap_or_clone(fixture.client(&TLS13, &[]));
    // The client would refuse the certificate; let it go on, so that it is the server that notices.
    config.dangerous().set_certificate_verifier(Arc::new(trusting::Anything));
    let ends = fixture.connect(&Arc::new(config), "registry.digitalocean.com").await;
    let error = ends.server.unwrap_err();
    assert!(matches!(error, Error::HandshakeFailed(_)), "{error:?}");
}

#[test_case("curl -sS --cacert {ca} --resolve {host}:{port}:127.0.0.1 https://{host}:{port}/", None; "curl trusts")]
#[test_case("curl -sS --resolve {host}:{port}:127.0.0.1 https://{host}:{port}/", Some("alert UnknownCA"); "curl")]
#[test_case("openssl s_client -connect 127.0.0.1:{port} -servername {host} -verify_return_error -x509_strict -CAfile {ca}", None; "openssl trusts")]
#[test_case("openssl s_client -connect 127.0.0.1:{port} -servername {host} -verify_return_error", Some("alert UnknownCA"); "openssl")]
#[tokio::test]
async fn real_programs_accept_and_reject(command: &str, rejection: Option<&str>) {
    let fixture = Fixture::new();
    let folder = tempfile::TempDir::new().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, fixture.authority.trust_anchor_pem()).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();

    let words = command.split(' ').map(|word| {
        word.replace("{ca}", ca.to_str().unwrap()).replace("{port}", &port).replace("{host}", API)
    });
    let words: Vec<_> = words.collect();
    let mut program = Command::new(&words[0]);
    program
        .args(&words[1..])
        .stdin(std::process::Stdio::null())
        .env_remove("SSL_CERT_FILE")
        .kill_on_drop(true);
    let server = async {
        let (stream, _): (TcpStream, _) = listener.accept().await.unwrap();
        let accepted = fixture.terminator.accept(stream, &host(API), PATIENCE).await;
        accepted.map(drop)
    };
    let (server, output) = tokio::join!(server, program.output());
    output.unwrap();
    match rejection {
        None => server.unwrap(),
        Some(expected) => {
            let error = server.unwrap_err();
            assert!(matches!(&error, Error::ClientRejectedCa { detail } if detail == expected), "{error:?}");
        }
    }
}

/// A verifier that lets every certificate pass.
mod trusting {
    use rustls::{
        DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    };
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

    #[derive(Debug)]
    pub(super) struct Anything;

    impl ServerCertVerifier for Anything {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ECDSA_NISTP256_SHA256]
        }
    }
}
