//! Draws `tidegate top`, in whatever room there is.

use super::{
    decision::{Answer, Decision},
    input::View,
    model::{Model, Of, Slow, Workload},
    source::Daemon,
};
use crate::{
    health::status::{Counters, Status, duration},
    record::redact::escape_control,
};
use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Cell, Clear, Paragraph, Row, StatefulWidget, Table, TableState, Widget},
};
use std::{io, path::Path};

const KEYS: &str = "q quit  ↑↓ workload  d refusals  p pause  c clear  ? help";
const HELP: [&str; 8] = [
    "↑ ↓ k j    look at one workload alone, or at all",
    "Enter d    only what was refused",
    "p space    pause, and go on",
    "c          count anew",
    "q Ctrl-C   quit",
    "Esc        leave this, or quit",
    "",
    "Rates are of the last 10 seconds; times are UTC.",
];
/// A narrower picture leaves out what a person misses least.
const WIDE: u16 = 64;
/// A lower one too.
const HIGH: u16 = 18;

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);

/// What is shown.
#[derive(Clone, Copy)]
pub(super) struct Screen<'a> {
    pub(super) model: &'a Model,
    pub(super) view: &'a View,
    pub(super) daemon: &'a Daemon,
    pub(super) log: &'a Path,
    pub(super) trouble: Option<&'a io::Error>,
    pub(super) now: i64,
}

/// The picture without its colours, a line for each of its rows.
pub(super) fn plain(screen: &Screen<'_>, area: Rect) -> String {
    let mut buffer = Buffer::empty(area);
    screen.render(area, &mut buffer);
    let rows = area.rows().map(|row| {
        let cells = row.columns().filter_map(|cell| buffer.cell((cell.x, cell.y)));
        let mut skipped = 0;
        let mut text = String::new();
        for cell in cells {
            // Behind a wide character stands an empty cell that is its second half.
            if skipped > 0 {
                skipped -= 1;
                continue;
            }
            skipped = Span::raw(cell.symbol()).width().saturating_sub(1);
            text.push_str(cell.symbol());
        }
        text.trim_end().to_owned() + "\n"
    });
    rows.collect()
}

impl Widget for &Screen<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let workloads = self.model.workloads(self.now);
        let rows = u16::try_from(workloads.len()).unwrap_or(u16::MAX).saturating_add(2);
        let body = area.height.saturating_sub(4);
        let has_middle = area.width >= WIDE && body >= HIGH;
        let heights = [
            Constraint::Length(3.min(area.height)),
            Constraint::Length(rows.min((body / 3).max(4)).min(body)),
            Constraint::Length(if has_middle { (body / 3).min(8) } else { 0 }),
            Constraint::Fill(1),
            Constraint::Length(u16::from(area.height > 4)),
        ];
        let [header, table, middle, tail, footer] = area.layout(&Layout::vertical(heights));
        Paragraph::new(self.header()).render(header, buffer);
        self.workloads(&workloads, table, buffer);
        if has_middle {
            let halves = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(1);
            let [left, right] = middle.layout(&halves);
            self.refused(left, buffer);
            self.slowest(right, buffer);
        }
        self.tail(tail, buffer);
        Line::styled(KEYS, FAINT).render(footer, buffer);
        if self.view.has_help {
            help(area, buffer);
        }
    }
}

impl Screen<'_> {
    fn selected(&self) -> Option<&str> {
        self.view.selected.as_deref()
    }

    fn header(&self) -> Vec<Line<'_>> {
        let mut first = vec![Span::styled("tidegate top", BOLD), Span::raw("  ")];
        let mut counters = Line::default();
        match self.daemon {
            Daemon::NotAsked => first.push(Span::styled("no daemon: a log alone", FAINT)),
            Daemon::Absent(why) => first.push(Span::styled(why.as_str(), Color::Yellow)),
            Daemon::Here(status) => {
                first.push(health(status));
                counters = counters_of(&status.counters);
            }
        }
        if self.view.is_paused {
            first.push(Span::styled("  PAUSED", BOLD.fg(Color::Yellow)));
        }
        let log = escape_control(&self.log.display().to_string()).into_owned();
        let decisions = match (self.trouble, self.model.since()) {
            (Some(error), _) => {
                let error = escape_control(&error.to_string()).into_owned();
                Line::styled(format!("cannot read {log}: {error}"), Color::Yellow)
            }
            (None, None) => Line::raw(format!("no decisions yet in {log}")),
            (None, Some(since)) => {
                Line::raw(format!("{} decisions since {since} in {log}", self.model.decisions()))
            }
        };
        vec![Line::from(first), counters, decisions]
    }

    fn workloads(&self, workloads: &[(&str, &Workload)], area: Rect, buffer: &mut Buffer) {
        let is_wide = area.width >= WIDE;
        let mut columns = vec![("WORKLOAD", Constraint::Fill(2)), ("REQ/S", Constraint::Length(6))];
        columns.extend([("ALLOWED", Constraint::Length(7)), ("REFUSED", Constraint::Length(7))]);
        if is_wide {
            columns.insert(1, ("POLICY", Constraint::Fill(2)));
            columns.extend([("DRY-RUN", Constraint::Length(7)), ("PASSED", Constraint::Length(7))]);
            columns.push(("LAST REFUSAL", Constraint::Fill(4)));
        }
        let rows = workloads.iter().map(|(name, workload)| {
            let Workload { policy, counts, last_refusal, .. } = workload;
            let number = |number: u64| Cell::from(Line::raw(compact(number)).right_aligned());
            let refused = number(counts.refused).style(alarm(counts.refused));
            let rate = Cell::from(Line::raw(format!("{:.1}", workload.rate(self.now))).right_aligned());
            let mut cells = vec![Cell::from(*name), rate, number(counts.allowed), refused];
            if is_wide {
                cells.insert(1, Cell::from(policy.as_str()));
                cells.extend([number(counts.dry_run), number(counts.passed)]);
                let last = last_refusal.as_ref();
                cells
                    .push(last.map_or_else(String::new, |last| format!("{} {}", last.time, last.why)).into());
            }
            Row::new(cells)
        });
        let head = Row::new(columns.iter().map(|(name, width)| {
            let is_number = matches!(width, Constraint::Length(_));
            if is_number { Cell::from(Line::raw(*name).right_aligned()) } else { Cell::from(*name) }
        }));
        let widths = columns.iter().map(|(_, width)| *width);
        let table = Table::new(rows, widths)
            .header(head.style(FAINT))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
            .block(section("Workloads"));
        let names: Vec<&str> = workloads.iter().map(|(name, _)| *name).collect();
        let mut state = TableState::default().with_selected(self.view.place(&names));
        StatefulWidget::render(table, area, buffer, &mut state);
    }

    fn refused(&self, area: Rect, buffer: &mut Buffer) {
        let lines = self.model.refused(self.selected()).into_iter().map(|of| {
            let Of { workload, what: (operation, count) } = of;
            Line::from(vec![
                Span::styled(format!("{:>6} ", compact(count)), Color::Red),
                self.whose(workload),
                Span::raw(operation),
            ])
        });
        list("Most refused", lines, area, buffer);
    }

    fn slowest(&self, area: Rect, buffer: &mut Buffer) {
        let lines = self.model.slowest(self.selected()).into_iter().map(|of| {
            let Of { workload, what: Slow { microseconds, request } } = of;
            Line::from(vec![
                Span::raw(format!("{:>8} ", time_taken(*microseconds))),
                self.whose(workload),
                Span::raw(request.as_str()),
            ])
        });
        list("Slowest", lines, area, buffer);
    }

    /// Whose it is, where several workloads' are shown.
    fn whose<'w>(&self, workload: &'w str) -> Span<'w> {
        if self.selected().is_some() { Span::default() } else { Span::styled(format!("{workload} "), FAINT) }
    }

    fn tail(&self, area: Rect, buffer: &mut Buffer) {
        let what = if self.view.only_refused { "Refusals" } else { "Decisions" };
        let title = match self.selected() {
            Some(workload) => format!("{what} of {workload}, the newest first"),
            None => format!("{what}, the newest first"),
        };
        let is_wide = area.width >= WIDE;
        let newest = self.model.newest(self.selected(), self.view.only_refused);
        let rows = newest.take(usize::from(area.height)).map(|decision| {
            let Decision { time, workload, answer, request, status, why, .. } = decision;
            let answer = Cell::from(answer.word()).style(colour(*answer));
            let mut cells = vec![Cell::from(time.as_str()), answer, Cell::from(request.as_str())];
            if is_wide {
                cells.insert(1, Cell::from(workload.as_str()));
                cells.extend([Cell::from(status.as_str()), Cell::from(why.as_str())]);
            }
            Row::new(cells)
        });
        let (time, answer, fill) = (Constraint::Length(8), Constraint::Length(7), Constraint::Fill);
        let widths = match is_wide {
            true => vec![time, Constraint::Length(12), answer, fill(3), Constraint::Length(3), fill(2)],
            false => vec![time, answer, fill(1)],
        };
        Widget::render(Table::new(rows, widths).block(section(&title)), area, buffer);
    }
}

fn health(status: &Status) -> Span<'static> {
    let version = escape_control(&status.version).into_owned();
    if status.healthy {
        let up = duration(status.up_seconds);
        return Span::styled(format!("daemon {version}: healthy, up {up}"), Color::Green);
    }
    let problem = status.problems.first();
    let why = problem.map(|problem| format!(": {}: {}", problem.part.as_str(), escape_control(&problem.why)));
    Span::styled(format!("daemon {version}: UNHEALTHY{}", why.unwrap_or_default()), BOLD.fg(Color::Red))
}

fn counters_of(counters: &Counters) -> Line<'static> {
    let Counters { redirected, open, refused, lost_events, unwritten_records, .. } = *counters;
    let mut line = Line::raw(format!(
        "{open} open, {redirected} redirected, {refused} refused by the kernel side, {lost_events} lost"
    ));
    if unwritten_records > 0 {
        line.push_span(Span::styled(format!(", {unwritten_records} records unwritten"), Color::Red));
    }
    line
}

fn section(title: &str) -> Block<'_> {
    Block::new().borders(Borders::TOP).border_style(FAINT).title(Line::styled(title, BOLD))
}

fn list<'l>(title: &str, lines: impl Iterator<Item = Line<'l>>, area: Rect, buffer: &mut Buffer) {
    let lines: Vec<Line<'_>> = lines.take(usize::from(area.height)).collect();
    Paragraph::new(lines).block(section(title)).render(area, buffer);
}

fn help(area: Rect, buffer: &mut Buffer) {
    let lines: Vec<Line<'_>> = HELP.iter().map(|line| Line::raw(*line)).collect();
    let longest = lines.iter().map(Line::width).max().and_then(|width| u16::try_from(width).ok());
    let (width, height) =
        (longest.unwrap_or_default() + 4, u16::try_from(lines.len()).unwrap_or_default() + 2);
    let place = area.centered(Constraint::Length(width), Constraint::Length(height));
    Clear.render(place, buffer);
    Paragraph::new(lines).block(Block::bordered().title("Keys")).render(place, buffer);
}

fn colour(answer: Answer) -> Style {
    match answer {
        Answer::Allowed => Style::new().fg(Color::Green),
        Answer::Refused => Style::new().fg(Color::Red),
        Answer::DryRun => Style::new().fg(Color::Yellow),
        Answer::Passed => Style::new(),
    }
}

fn alarm(count: u64) -> Style {
    if count > 0 { Style::new().fg(Color::Red) } else { Style::new() }
}

/// In at most six characters.
fn compact(number: u64) -> String {
    match number {
        0..=99_999 => number.to_string(),
        100_000..=9_999_999 => format!("{}k", number / 1_000),
        10_000_000..=9_999_999_999 => format!("{}M", number / 1_000_000),
        _ => format!("{}G", (number / 1_000_000_000).min(9_999)),
    }
}

fn time_taken(microseconds: u64) -> String {
    let (milliseconds, seconds) = (microseconds / 1_000, microseconds / 1_000_000);
    match (seconds, milliseconds) {
        (0, 0) => format!("{microseconds} µs"),
        (0, milliseconds) => format!("{milliseconds} ms"),
        (seconds @ 0..=9_999, _) => format!("{seconds}.{} s", microseconds / 100_000 % 10),
        (seconds, _) => format!("{} h", (seconds / 3_600).min(99_999)),
    }
}

#[cfg(test)]
mod tests;
