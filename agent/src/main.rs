//! The command `tidegate`; all that it does is in the library.

use clap::{Parser, error::ErrorKind};
use std::{
    ffi::OsString,
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
};
#[cfg(feature = "kubernetes")]
use tidegate::containers::cover::inside;
use tidegate::{
    capture::canary::probe,
    cli::{self, Cli, Command},
    run::{child, reaper},
};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::{Layer, SubscriberExt},
    util::SubscriberInitExt,
};

fn main() -> ExitCode {
    if let Some(code) = internal(&std::env::args_os().skip(1).collect::<Vec<_>>()) {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let colours = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(io::stderr);
    tracing_subscriber::registry().with(log.with_filter(filter(&cli))).init();
    match cli::dispatch(cli, &mut io::stdout().lock()) {
        Ok(status) => ExitCode::from(status),
        // Whoever read the output has seen enough of it, as `head` does, and wants no message about that.
        Err(cli::Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(error) => {
            say(&cli::told(&error));
            ExitCode::from(error.status())
        }
    }
}

/// What the log shows: `TIDEGATE_LOG` is a level, or a list of `module=level`.
fn filter(cli: &Cli) -> Targets {
    let wanted = std::env::var("TIDEGATE_LOG").ok().and_then(|text| text.parse().ok());
    let usual = if matches!(cli.command, Command::Daemon(_) | Command::Proxy | Command::Cluster(_)) {
        LevelFilter::INFO
    } else {
        LevelFilter::WARN
    };
    wanted.unwrap_or_else(|| Targets::new().with_default(usual))
}

/// The processes that the agent makes of this program: the one that becomes the command, the reaper, the canary,
/// the one that enters a container.
fn internal(arguments: &[OsString]) -> Option<ExitCode> {
    match arguments {
        [name, directory, dashes, command @ ..] if name == child::SUBCOMMAND && dashes == "--" => {
            Some(child::main(Path::new(directory), command))
        }
        [name, directory] if name == reaper::SUBCOMMAND => Some(reaper::main(Path::new(directory))),
        [name, cgroup] if name == probe::SUBCOMMAND => Some(probe::main(Path::new(cgroup))),
        #[cfg(feature = "kubernetes")]
        [name] if name == inside::SUBCOMMAND => Some(inside::main()),
        _ => None,
    }
}

/// Help and version go to standard output; a mistake on the command line is told like any other error.
fn usage(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let written = io::stdout().lock().write_all(text.as_bytes());
        return if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    match text.strip_prefix("error: ") {
        Some(mistake) => say(&format!("tidegate: {}", mistake.trim_end())),
        None => say(text.trim_end()),
    }
    ExitCode::from(2)
}

fn say(text: &str) {
    // There is nobody left to tell when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
