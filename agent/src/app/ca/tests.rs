use super::*;
use crate::terminate::store::ID_LENGTH;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::ServerName;
use std::fs;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::timeout,
};
use tokio_rustls::TlsConnector;

const API: &str = "api.digitalocean.com";
const PATIENCE: Duration = Duration::from_secs(20);

fn settings(folder: &TempDir) -> config::Ca {
    config::Ca { dir: folder.path().join("ca"), ..config::Config::default().ca }
}

fn domains() -> Vec<HostName> {
    vec![HostName::parse("digitalocean.com").unwrap()]
}

fn client(anchors: &[CertificateDer<'static>]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    anchors.iter().for_each(|anchor| roots.add(anchor.clone()).unwrap());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// One handshake and a byte back; how it went, and who issued the certificate that was verified.
async fn handshake(
    terminator: &Terminator,
    client: &Arc<ClientConfig>,
) -> Option<(HandshakeKind, CertificateDer<'static>)> {
    let (near, far) = duplex(1 << 16);
    let name = HostName::parse(API).unwrap();
    let asked = ServerName::try_from(API).unwrap();
    let (server, client) = tokio::join!(
        terminator.accept(near, &name, PATIENCE),
        TlsConnector::from(client.clone()).connect(asked, far)
    );
    let (mut server, mut client) = (server.ok()?, client.ok()?);
    server.write_all(b"x").await.unwrap();
    server.flush().await.unwrap();
    client.read_u8().await.unwrap();
    let connection = client.get_ref().1;
    let issuer = connection.peer_certificates().unwrap()[1].clone().into_owned();
    Some((server.get_ref().1.handshake_kind().unwrap(), issuer))
}

#[tokio::test]
async fn a_session_goes_on_after_a_restart_and_not_after_a_theft() {
    let folder = tempfile::tempdir().unwrap();
    let (first, client) = {
        let keeper = Keeper::open(&settings(&folder), &domains()).unwrap();
        (keeper.terminator().unwrap(), client(keeper.anchors()))
    };
    assert_eq!(handshake(&first, &client).await.unwrap().0, HandshakeKind::Full);
    let again = Keeper::open(&settings(&folder), &domains()).unwrap().terminator().unwrap();
    assert_eq!(handshake(&again, &client).await.unwrap().0, HandshakeKind::Resumed);
    Store::open(&settings(&folder), &domains()).unwrap().rotate(SystemTime::now(), true).unwrap();
    let after = Keeper::open(&settings(&folder), &domains()).unwrap().terminator().unwrap();
    assert!(
        handshake(&after, &client).await.is_none(),
        "the stolen CA's client knows nothing of the new one"
    );
}

#[tokio::test]
async fn a_running_agent_follows_rotations() {
    let folder = tempfile::tempdir().unwrap();
    let published = folder.path().join("run");
    fs::create_dir(&published).unwrap();
    let keeper = Keeper::open(&settings(&folder), &domains()).unwrap();
    let (old, terminator) = (keeper.anchors().to_vec(), keeper.terminator().unwrap());
    let copies = Copies::new(folder.path().into(), published.join("trust"));
    let mut publishing = Published::new(published.clone(), copies);
    keeper.publish(&mut publishing);
    let keeping = tokio::spawn(keeper.keep(Arc::new(terminator.signer()), Some(publishing)));
    let anchors = |count| {
        let published = published.clone();
        async move {
            let is_there = async {
                loop {
                    let text = fs::read(published.join(ANCHORS)).unwrap_or_default();
                    match certificate::all_of_pem(&text) {
                        Some(anchors) if anchors.len() == count => return anchors,
                        Some(_) | None => sleep(Duration::from_millis(20)).await,
                    }
                }
            };
            timeout(PATIENCE, is_there).await.unwrap()
        }
    };
    assert_eq!(anchors(1).await, old);

    let store = Store::open(&settings(&folder), &domains()).unwrap();
    let next = store.rotate(SystemTime::now(), false).unwrap();
    let both = anchors(2).await;
    assert_eq!(both, [old[0].clone(), next.root.clone()]);
    // The files are written one after the other.
    let has_both = |name: &str| {
        let text = fs::read_to_string(published.join(name)).unwrap();
        both.iter().all(|anchor| text.contains(&certificate::pem(anchor)))
    };
    let published_all = async {
        while ![BUNDLE, "trust/ca.pem", "trust/ca-bundle.pem"].into_iter().all(has_both) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, published_all).await.unwrap();
    let issuer = handshake(&terminator, &client(&both)).await.unwrap().1;
    assert_ne!(issuer, next.intermediate, "the next one waits for its time");

    let third = store.rotate(SystemTime::now(), true).unwrap();
    assert_eq!(third.id.len(), ID_LENGTH);
    let followed = async {
        loop {
            let client = client(std::slice::from_ref(&third.root));
            if let Some((_, issuer)) = handshake(&terminator, &client).await {
                return issuer;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(timeout(PATIENCE, followed).await.unwrap(), third.intermediate);
    assert!(handshake(&terminator, &client(&old)).await.is_none());
    keeping.abort();
}

#[tokio::test]
async fn a_ca_that_breaks_while_the_agent_runs_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let keeper = Keeper::open(&settings(&folder), &domains()).unwrap();
    let (old, terminator) = (keeper.anchors().to_vec(), keeper.terminator().unwrap());
    let keeping = tokio::spawn(keeper.keep(Arc::new(terminator.signer()), None));
    fs::remove_dir_all(folder.path().join("ca")).unwrap();
    sleep(2 * QUIET).await;
    assert!(!keeping.is_finished());
    assert_eq!(handshake(&terminator, &client(&old)).await.unwrap().0, HandshakeKind::Full);
    keeping.abort();
}
