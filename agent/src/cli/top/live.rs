//! Runs `tidegate top`: reads, draws and listens to the keys, in turn.

use super::{
    TopArgs,
    input::{Action, Then, View},
    model::Model,
    screen::{Screen, plain},
    source::{Daemon, Log, seconds},
};
use crate::{
    cli::{Error, run::configuration},
    config::RUN_DIR,
    control::FILE_NAME,
};
use ratatui::{
    DefaultTerminal,
    crossterm::{
        cursor::Show,
        event::{self, Event},
        execute,
        terminal::{self, LeaveAlternateScreen},
    },
    layout::Rect,
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    flag,
    iterator::Signals,
};
use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    path::Path,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, SystemTime},
};

/// How long a key is waited for before everything is looked at again.
const TICK: Duration = Duration::from_millis(200);
/// So that a key is answered also while a long log is read.
const LINES_A_TICK: usize = 2_000;
/// A picture that nobody measures.
const USUAL_SIZE: (u16, u16) = (80, 24);
const LARGEST_SIDE: u16 = 500;

/// As a shell tells which signal has ended a process.
const ENDED_BY_SIGNAL: i32 = 128;

/// Everything that is looked at.
struct Watch {
    model: Model,
    view: View,
    daemon: Daemon,
    log: Log,
    now: SystemTime,
}

pub(super) fn run(args: &TopArgs, out: &mut impl Write) -> Result<(), Error> {
    let has_terminal = io::stdout().is_terminal();
    if !args.once && !has_terminal {
        return Err(Error::NoTerminal);
    }
    let path = match &args.audit {
        Some(file) => file.clone(),
        None => configuration(args.config.as_ref())?.0.audit.path,
    };
    // A log that somebody names may be another machine's, about which this one's daemon says nothing.
    let default = || args.audit.is_none().then(|| Path::new(RUN_DIR).join(FILE_NAME));
    let socket = args.socket.clone().or_else(default);
    let daemon = socket.as_deref().map_or(Daemon::NotAsked, Daemon::ask);
    let (log, now) = (Log::open(path), SystemTime::now());
    let mut watch =
        Watch { model: Model::default(), view: View::default(), daemon: Daemon::NotAsked, log, now };
    if !matches!(daemon, Daemon::Here(_))
        && let Some(error) = watch.log.trouble()
    {
        let source = io::Error::new(error.kind(), error.to_string());
        return Err(Error::Audit { path: watch.log.path, source });
    }
    watch.heard(daemon);
    if args.once {
        return watch.once(has_terminal, out);
    }
    let statuses = match socket {
        Some(socket) => Daemon::ask_regularly(socket).map_err(Error::Terminal)?,
        None => mpsc::channel().1,
    };
    in_terminal(|terminal| watch.live(terminal, &statuses)).map_err(Error::Terminal)
}

/// Restores the terminal however it ends; ratatui's own hook does where something panics.
fn in_terminal(work: impl FnOnce(&mut DefaultTerminal) -> io::Result<()>) -> io::Result<()> {
    let worked = ratatui::try_init().and_then(|mut terminal| {
        let worked = work(&mut terminal);
        worked.and(terminal.show_cursor())
    });
    let restored = ratatui::try_restore();
    worked.and(restored)
}

/// A terminal that is gone ends the process from another thread, since crossterm would read it for ever.
fn end_at_hangup() -> io::Result<()> {
    let mut hangups = Signals::new([SIGHUP])?;
    let wait = move || {
        if hangups.forever().next().is_some() {
            // Where the terminal is still there, it is left as it was. The other thread has standard output.
            let _ = terminal::disable_raw_mode();
            let there = File::options().write(true).open("/dev/tty");
            let _ = there.and_then(|mut there| execute!(there, LeaveAlternateScreen, Show));
            process::exit(ENDED_BY_SIGNAL + SIGHUP);
        }
    };
    thread::Builder::new().name("hangup".into()).spawn(wait).map(drop)
}

impl Watch {
    fn once(&mut self, has_terminal: bool, out: &mut impl Write) -> Result<(), Error> {
        while self.log.feed(&mut self.model, self.now, LINES_A_TICK) {}
        let measured = if has_terminal { terminal::size().ok() } else { None };
        let (width, height) = measured.unwrap_or_else(|| {
            let of = |name: &str| std::env::var(name).ok()?.parse().ok();
            (of("COLUMNS").unwrap_or(USUAL_SIZE.0), of("LINES").unwrap_or(USUAL_SIZE.1))
        });
        let area = Rect::new(0, 0, width.min(LARGEST_SIDE), height.min(LARGEST_SIDE));
        out.write_all(plain(&self.screen(), area).as_bytes())?;
        Ok(out.flush()?)
    }

    fn live(&mut self, terminal: &mut DefaultTerminal, statuses: &Receiver<Daemon>) -> io::Result<()> {
        let is_ended = Arc::new(AtomicBool::new(false));
        end_at_hangup()?;
        for signal in [SIGINT, SIGQUIT, SIGTERM] {
            flag::register(signal, Arc::clone(&is_ended))?;
        }
        let mut has_more = false;
        while !is_ended.load(Ordering::Relaxed) {
            if !self.view.is_paused {
                statuses.try_iter().for_each(|daemon| self.heard(daemon));
                self.now = SystemTime::now();
                has_more = self.log.feed(&mut self.model, self.now, LINES_A_TICK);
            }
            terminal.draw(|frame| frame.render_widget(&self.screen(), frame.area()))?;
            let patience = if has_more && !self.view.is_paused { Duration::ZERO } else { TICK };
            if event::poll(patience)?
                && let Event::Key(key) = event::read()?
                && let Some(action) = Action::of(&key)
                && self.did(action) == Then::End
            {
                break;
            }
        }
        Ok(())
    }

    fn did(&mut self, action: Action) -> Then {
        let workloads = self.model.workloads(seconds(self.now));
        let names: Vec<&str> = workloads.iter().map(|(name, _)| *name).collect();
        let then = self.view.apply(action, &names);
        if then == Then::Clear {
            self.model.clear();
        }
        then
    }

    fn heard(&mut self, daemon: Daemon) {
        if let Daemon::Here(status) = &daemon {
            self.model.configure(&status.workloads);
        }
        self.daemon = daemon;
    }

    fn screen(&self) -> Screen<'_> {
        let Self { model, view, daemon, log, now } = self;
        Screen { model, view, daemon, log: &log.path, trouble: log.trouble(), now: seconds(*now) }
    }
}
