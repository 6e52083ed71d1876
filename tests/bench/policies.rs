//! Policies by the thousand.

use crate::{place::Place, policy_text};
use anyhow::Result;
use std::{fs, path::PathBuf};

/// What one workload that reads needs.
const SMALL: &str = "description = \"Look at everything, change nothing\"\nallow = [\"api:read\"]\n";

/// A new directory with `small.toml` and this many policies of 50 rules, `many-0.toml` and on.
pub(crate) fn write(place: &Place, many: usize) -> Result<PathBuf> {
    let directory = place.directory().join("policies");
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir(&directory)?;
    fs::write(directory.join("small.toml"), SMALL)?;
    for number in 0..many {
        let text = policy_text::text(number, true);
        fs::write(directory.join(format!("many-{number}.toml")), text)?;
    }
    Ok(directory)
}
