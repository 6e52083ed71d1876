//! Loads every eBPF program of the agent and writes, as one JSON object to a line, how many instructions the
//! verifier looked at, or what it said instead. `tidegate-load cookie` writes the
//! cookie of the network namespace instead, as a program learns it.

use anyhow::Result;
use serde_json::json;
use std::io::{self, Write};
use tidegate::capture::{netns::learn, program::count};

fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("cookie") {
        writeln!(io::stdout(), "{}", learn::cookie()?)?;
        return Ok(());
    }
    for count in count::count()? {
        let line = match count.instructions {
            Ok(instructions) => json!({ "program": count.program, "instructions": instructions }),
            Err(error) => {
                let told = format!("{:#}", anyhow::Error::from(error));
                json!({ "program": count.program, "error": told })
            }
        };
        writeln!(io::stdout(), "{line}")?;
    }
    Ok(())
}
