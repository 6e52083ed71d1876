//! The stand-in as a program: `tidegate-standin CONFIG.json` prints `ready` once every listener is bound, and
//! serves until its standard input ends, so that it never outlives whoever started it.

use anyhow::{Context as _, Result};
use std::io::Write as _;
use tidegate_tests::standin::{Config, Standin};

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1).context("usage: tidegate-standin CONFIG.json")?;
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let config: Config =
        serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let _standin = Standin::serve(config).await?;
        writeln!(std::io::stdout(), "ready")?;
        std::io::stdout().flush()?;
        let (sender, end) = tokio::sync::oneshot::channel();
        // A thread, since tokio's own standard input needs one too and cannot be cancelled.
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            let _ = sender.send(());
        });
        end.await.context("waiting for the end of standard input")
    })
}
