//! The kernel tier: `tidegate run` on the real kernel, real programs, and the upstream's own log. Root only.

mod capture {
    mod answers;
    mod clients;
    mod families;
    mod hostile;
    mod lifecycle;
    mod names;
    mod others;
    mod processes;
    mod proxies;
    mod rejection;
    mod reload;
    mod remains;
    mod sessions;
    mod upstream;
}

use anyhow::{Result, ensure};
use tidegate_tests::{agent::Ran, audit::Record, client::Answer};

/// The URL of an operation at the API.
fn api(path: &str) -> String {
    format!("https://api.digitalocean.com{path}")
}

/// Checks that a record says these things.
fn expect(record: &Record, decision: &str, verdict: &str, reason: &str, status: Option<u64>) -> Result<()> {
    let told = (record.decision(), record.verdict(), record.reason(), record.status());
    ensure!(told == (decision, verdict, reason, status), "{told:?} in {record:?}");
    Ok(())
}

/// Checks that an answer is a refusal in DigitalOcean's shape, whose message names all of these.
fn expect_refusal(answer: &Answer, status: u16, id: &str, named: &[&str]) -> Result<()> {
    ensure!(answer.status == status, "{answer:?}");
    let body = answer.json()?;
    let text = |key: &str| body.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    ensure!(text("id") == id && !text("request_id").is_empty(), "{answer:?}");
    let message = text("message");
    for word in named {
        ensure!(message.contains(word), "`{word}` is not in the message: {message}");
    }
    Ok(())
}

/// What a Python script printed under tidegate.
fn printed(ran: &Ran) -> Result<String> {
    ensure!(ran.finished.status.success(), "{ran:#?}");
    Ok(ran.finished.text())
}
