//! A program as many are: Rust, with the public roots compiled in (`webpki-roots`). It makes one request over TLS to the
//! host that it is given, and writes the first line of the answer, or why there is none.

use anyhow::{Context as _, Result};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream, crypto::aws_lc_rs};
use std::{
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
    sync::Arc,
};

fn main() -> Result<()> {
    let host = std::env::args().nth(1).context("give a host")?;
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), host.clone().try_into()?)?;
    let mut socket = TcpStream::connect((host.as_str(), 443))?;
    let mut stream = Stream::new(&mut connection, &mut socket);
    write!(stream, "GET /v2/account HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    io::stdout().write_all(line.as_bytes())?;
    Ok(())
}
