//! Requests as bytes, and as much of their answers as the tests look at.

use super::super::{
    frames::{HEADERS, PREFACE, SETTINGS, frame},
    world::World,
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::timeout,
};

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    /// Not so: a stream or connection of HTTP/2 that ended without one.
    pub(super) is_answer: bool,
    /// The whole answer over HTTP/1.1.
    pub(super) text: Option<String>,
}

const PATIENCE: Duration = Duration::from_secs(10);
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// Sends the bytes while it reads the first answer that is not interim.
pub(super) async fn ask_http1(world: &World, bytes: &[u8]) -> Result<Reply, String> {
    let (stream, _) = world.raw(false);
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sent = bytes.to_vec();
    // The proxy may answer and close before all is sent.
    let sending = tokio::spawn(async move {
        let _ = writer.write_all(&sent).await;
        writer
    });
    let mut text = Vec::new();
    let read = async {
        loop {
            if let Some(answer) = whole(&text) {
                return Ok(answer);
            }
            let mut piece = [0; 4096];
            match reader.read(&mut piece).await {
                Ok(0) | Err(_) => return Err(format!("closed after {:?}", String::from_utf8_lossy(&text))),
                Ok(length) => text.extend_from_slice(&piece[..length]),
            }
        }
    };
    let answer = timeout(PATIENCE, read).await.map_err(|_| "no answer in time".to_owned())?;
    sending.abort();
    answer
}

/// The answer, if it is all there.
fn whole(bytes: &[u8]) -> Option<Reply> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&text);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")).map(|number| number.parse());
    match length {
        Some(Ok(length)) if body.len() < length => return None,
        Some(_) => {}
        None if head.contains("transfer-encoding: chunked") && !body.ends_with("0\r\n\r\n") => return None,
        None => {}
    }
    Some(Reply { is_answer: true, text: Some(text.to_owned()) })
}

/// Sends the frames of a request on stream 1, and reads frames until that has an answer or an end.
pub(super) async fn ask_http2(world: &World, frames: &[u8]) -> Result<Reply, String> {
    let (stream, _) = world.raw(true);
    let (mut reader, mut writer) = tokio::io::split(stream);
    // As much window as any of the answers needs.
    let more = u32::MAX >> 2;
    let window = frame(WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
    let sent = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &window, frames].concat();
    let sending = tokio::spawn(async move {
        let _ = writer.write_all(&sent).await;
        writer
    });
    let is_answer =
        timeout(PATIENCE, is_answered(&mut reader)).await.map_err(|_| "no answer in time".to_owned());
    sending.abort();
    Ok(Reply { is_answer: is_answer?, text: None })
}

/// Whether stream 1 gets the head of an answer before it ends.
async fn is_answered(reader: &mut tokio::io::ReadHalf<DuplexStream>) -> bool {
    loop {
        let mut head = [0; 9];
        if reader.read_exact(&mut head).await.is_err() {
            return false;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match head[3] {
            HEADERS if stream == 1 => return true,
            RST_STREAM if stream == 1 => return false,
            GOAWAY => return false,
            _ if reader.read_exact(&mut payload).await.is_err() => return false,
            _ => {}
        }
    }
}
