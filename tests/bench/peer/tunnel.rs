//! Passes connections on through an HTTP proxy, for clients that know none.

use anyhow::{Result, ensure};
use clap::Args;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    runtime::Builder,
};

/// What the tunnel is told.
#[derive(Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    proxy: SocketAddr,
    #[arg(long)]
    to: String,
}

/// Passes on until it is killed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    tidegate::run::limits::OpenFiles::raise()?;
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(arguments.listen).await?;
        loop {
            let (client, _) = listener.accept().await?;
            let (proxy, to) = (arguments.proxy, arguments.to.clone());
            // A connection that breaks is the client's to notice.
            tokio::spawn(async move { pass(client, proxy, &to).await });
        }
    })
}

async fn pass(mut client: TcpStream, proxy: SocketAddr, to: &str) -> Result<()> {
    let mut proxy = TcpStream::connect(proxy).await?;
    client.set_nodelay(true)?;
    proxy.set_nodelay(true)?;
    proxy.write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(proxy.read_u8().await?);
    }
    ensure!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    copy_bidirectional(&mut client, &mut proxy).await?;
    Ok(())
}
