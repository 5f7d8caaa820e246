//! The live line of a watched command: memory, growth, and how far the limit is.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use traintrue_memory::bytes::{Bytes, BytesPerStep, Per, Rate};
use traintrue_memory::slope::judge;
use traintrue_memory::watch::{Observer, Record, Stopped, Throttle};

/// A terminal sees a line that changes; a file gets a line of its own now and then.
const ON_A_TERMINAL: Duration = Duration::from_millis(500);
const ELSEWHERE: Duration = Duration::from_secs(60);
/// A slope of many samples takes its time; the line is no older than this.
const OLDEST: Duration = Duration::from_secs(60);

/// Shows how a command does. The lines are written on a thread of their own: a terminal that is held up must not hold up
/// the watch.
pub struct Live {
    due: Throttle,
    limit: Option<Bytes>,
    lines: Option<SyncSender<Line>>,
    writer: Option<JoinHandle<()>>,
}

enum Line {
    Now(String),
    Lasting(String),
}

impl Live {
    /// With the limit that the command must stay under.
    pub fn new(limit: Option<Bytes>) -> Self {
        let pause = if io::stderr().is_terminal() { ON_A_TERMINAL } else { ELSEWHERE };
        let (lines, received) = sync_channel(4);
        let writer = thread::spawn(move || show(&received));
        Self { due: Throttle::new(pause, OLDEST), limit, lines: Some(lines), writer: Some(writer) }
    }

    fn send(&self, line: Line) {
        if let Some(lines) = &self.lines {
            // A line that finds no room is left out: a newer one will come.
            let _ = lines.try_send(line);
        }
    }
}

impl Observer for Live {
    fn sampled(&mut self, record: &Record) {
        let limit = self.limit;
        if let Some(Some(line)) = self.due.when_due(|| line(record, limit)) {
            self.send(Line::Now(line));
        }
    }

    fn stopping(&mut self, stopped: &Stopped) {
        self.send(Line::Lasting(format!("ending the command: {stopped}")));
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.lines = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn show(lines: &Receiver<Line>) {
    let bar = io::stderr().is_terminal().then(ProgressBar::new_spinner);
    let style = ProgressStyle::with_template("{elapsed} {msg}");
    let bar = match (bar, style) {
        (Some(bar), Ok(style)) => Some(bar.with_style(style)),
        (bar, _) => bar,
    };
    for line in lines {
        match (line, &bar) {
            (Line::Now(line), Some(bar)) => {
                bar.set_message(line);
                bar.tick();
            }
            (Line::Lasting(line), Some(bar)) => bar.suspend(|| eprintln!("traintrue: {line}")),
            (Line::Now(line) | Line::Lasting(line), None) => eprintln!("traintrue: {line}"),
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

fn line(record: &Record, limit: Option<Bytes>) -> Option<String> {
    let [rss, device] = record.last()?.bytes;
    let rss = rss?;
    let per = record.per();
    let slope = judge(&record.points(0, per), BytesPerStep(0.0));
    let step = record.step().map(|step| format!("step {step}, "));
    let device = device.map(|bytes| format!(", {} on GPUs", Bytes(bytes)));
    let growth = slope.low.map(|_| Rate { bytes: slope.slope_per_step, per });
    let left = growth.zip(limit).and_then(|(growth, limit)| {
        let left = limit.0.saturating_sub(rss) as f64 / growth.bytes;
        let unit = if per == Per::Step { "steps" } else { "s" };
        (growth.bytes > 0.0).then(|| format!(", {left:.0} {unit} to {limit}"))
    });
    let growth = growth.map(|growth| format!(", growth {growth}"));
    let parts = [step, Some(Bytes(rss).to_string()), device, growth, left];
    Some(parts.into_iter().flatten().collect())
}
