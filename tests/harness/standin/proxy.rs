//! An HTTP proxy as companies run them.

use super::log::{Entry, Writer};
use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream, copy_bidirectional},
    net::TcpStream,
};

/// Takes requests until one opens a tunnel or is passed on to its host.
pub(super) async fn serve(stream: TcpStream, authorization: Option<&str>, log: &Writer) -> Result<()> {
    let mut client = BufStream::new(stream);
    loop {
        let head = head(&mut client).await?;
        let credentials = head.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: "));
        if authorization.is_some_and(|needed| credentials != Some(needed)) {
            let fields = "Proxy-Authenticate: Basic realm=\"standin\"\r\nContent-Length: 8\r\n";
            let answer = format!("HTTP/1.1 407 Proxy Authentication Required\r\n{fields}\r\nsign in\n");
            client.write_all(answer.as_bytes()).await?;
            client.flush().await?;
            continue;
        }
        let mut words = head.split(' ');
        let (method, target) =
            (words.next().context("a method")?, words.next().context("a target")?.to_owned());
        let (host, first) = if method == "CONNECT" {
            (target.clone(), "")
        } else {
            let rest = target.strip_prefix("http://").context("the absolute form")?;
            let host = rest.split('/').next().unwrap_or(rest);
            (if host.contains(':') { host.to_owned() } else { format!("{host}:80") }, head.as_str())
        };
        let Ok(mut server) = TcpStream::connect(&host).await else {
            client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await?;
            client.flush().await?;
            continue;
        };
        if method == "CONNECT" {
            log.write(&Entry::Tunnel { target })?;
            client.write_all(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 standin\r\n\r\n").await?;
            client.flush().await?;
        }
        server.write_all(first.as_bytes()).await?;
        copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    }
}

async fn head(client: &mut BufStream<TcpStream>) -> Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        anyhow::ensure!(client.read_line(&mut head).await? > 0, "the client closed the connection");
    }
    Ok(head)
}
