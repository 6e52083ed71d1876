//! `tidegate-rust-client KIND URL…`: asks each URL by rustls, and says `URL STATUS` or why not. With `native` it
//! trusts what rustls-native-certs finds on the system, with `compiled-in` what webpki-roots has built in.

use anyhow::{Context as _, Result, bail};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::ServerName;
use std::{
    env,
    io::{self, Read as _, Write},
    net::TcpStream,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

const TOKEN: &str = "dop_v1_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let config = match arguments.next().as_deref().map(roots) {
        Some(Ok(roots)) => {
            Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
        }
        Some(Err(problem)) => return failed(&problem),
        None => return failed(&anyhow::anyhow!("usage: tidegate-rust-client native|compiled-in URL…")),
    };
    let mut code = ExitCode::SUCCESS;
    for url in arguments {
        match ask(&config, &url) {
            Ok(status) => {
                let _ = writeln!(io::stdout(), "{url} {status}");
                if status != "200" {
                    code = ExitCode::FAILURE;
                }
            }
            Err(problem) => code = failed(&problem.context(url)),
        }
    }
    code
}

fn failed(problem: &anyhow::Error) -> ExitCode {
    let _ = writeln!(io::stderr(), "{problem:#}");
    ExitCode::FAILURE
}

fn roots(kind: &str) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match kind {
        "compiled-in" => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        "native" => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        other => bail!("`{other}` is neither native nor compiled-in"),
    }
    Ok(roots)
}

fn ask(config: &Arc<ClientConfig>, url: &str) -> Result<String> {
    let rest = url.strip_prefix("https://").context("an https URL")?;
    let (authority, path) = rest.split_once('/').context("a URL with a path")?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse()?),
        None => (authority, 443),
    };
    let stream = TcpStream::connect((host, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let name = ServerName::try_from(host.to_owned())?;
    let mut stream = StreamOwned::new(ClientConnection::new(config.clone(), name)?, stream);
    let head = format!("GET /{path} HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {TOKEN}\r\n");
    stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    let status = std::str::from_utf8(&answer)?.split(' ').nth(1).context("a status line")?;
    Ok(status.to_owned())
}
