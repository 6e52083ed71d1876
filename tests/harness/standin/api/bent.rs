//! Answers that the query asked to bend; [`crate::standin`] lists the parameters.

use super::super::body::{Sender, send_pattern, stream};
use super::{Answer, Received, json_answer};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::json;
use std::{io, time::Duration};

/// What the edge in front of the API shows to a client that it turns away.
const EDGE_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Attention Required! | Cloudflare</title></head>\n\
    <body><h1>Sorry, you have been blocked</h1></body></html>\n";

pub(super) enum Outcome {
    Answered(Answer),
    /// Nothing was bent; the request's body.
    Usual(Vec<u8>),
}

pub(super) async fn answer(head: &Parts, body: Incoming, mut received: Received) -> io::Result<Outcome> {
    let query = head.uri.query().unwrap_or_default();
    let number = |name: &str| -> Option<u64> {
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    };
    if number("standin_echo").is_some() {
        return Ok(Outcome::Answered(echoed(head, body, received)));
    }
    let bytes = collect(body, &mut received).await?;
    if let Some(delay) = number("standin_delay_ms") {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let answer = if let Some(length) = number("standin_bytes") {
        streamed("application/octet-stream", Some(length), move |sender| async move {
            send_pattern(&sender, length).await;
        })
    } else if let Some(length) = number("standin_break") {
        streamed("application/octet-stream", Some(length + 1_000_000), move |sender| async move {
            send_pattern(&sender, length).await;
            // An error at once would throw away what hyper has not written yet.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let _ = sender.send(Err(io::ErrorKind::ConnectionAborted.into())).await;
        })
    } else if let Some(count) = number("standin_events") {
        streamed("text/event-stream", None, move |sender| send_events(sender, count))
    } else if let Some(status) = number("standin_page") {
        page(status)
    } else if number("standin_digest").is_some() {
        json_answer(StatusCode::OK, &json!({ "bytes": received.bytes, "sha256": received.sha256() }))
    } else {
        return Ok(Outcome::Usual(bytes));
    };
    Ok(Outcome::Answered(answer))
}

/// Reads a whole body; keeps only as much as an API request can have.
async fn collect(mut body: Incoming, received: &mut Received) -> io::Result<Vec<u8>> {
    const KEPT: usize = 1024 * 1024;
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame.map_err(io::Error::other)?.into_data() {
            received.add(&piece);
            if bytes.len() + piece.len() <= KEPT {
                bytes.extend_from_slice(&piece);
            }
        }
    }
    received.finish();
    Ok(bytes)
}

/// Gives each piece back as it arrives.
fn echoed(head: &Parts, mut body: Incoming, mut received: Received) -> Answer {
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    streamed("application/octet-stream", length, move |sender| async move {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return };
            let Ok(piece) = frame.into_data() else { continue };
            received.add(&piece);
            if sender.send(Ok(piece)).await.is_err() {
                return;
            }
        }
        received.finish();
    })
}

async fn send_events(sender: Sender, count: u64) {
    for number in 1..=count {
        let event = Bytes::from(format!("id: {number}\ndata: {{\"event\":{number}}}\n\n"));
        if sender.send(Ok(event)).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn streamed<F, W>(media_type: &'static str, length: Option<u64>, write: W) -> Answer
where
    F: Future<Output = ()> + Send + 'static,
    W: FnOnce(Sender) -> F,
{
    let (sender, body) = stream();
    tokio::spawn(write(sender));
    let mut answer = Response::new(body.boxed());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    if let Some(length) = length {
        answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    answer
}

fn page(status: u64) -> Answer {
    let body = Full::new(Bytes::from_static(EDGE_PAGE.as_bytes())).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed());
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    *answer.status_mut() = status.unwrap_or(StatusCode::FORBIDDEN);
    let html = HeaderValue::from_static("text/html; charset=UTF-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, html);
    answer.headers_mut().insert("cf-ray", HeaderValue::from_static("8f2a1c3d4e5f6a7b-AMS"));
    answer
}
