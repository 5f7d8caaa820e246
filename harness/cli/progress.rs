//! Progress on standard error: a bar where that is a terminal, plain lines where it is not.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};
use traintrue::runner::{Happening, Observer};

/// Shows what happens.
pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A bar of `length` scenarios and faults.
    pub fn new(length: u64) -> Self {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(length);
            match style {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        Self { bar }
    }

    fn done(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.inc(1),
            None => eprintln!("{line}"),
        }
    }
}

impl Observer for Progress {
    fn see(&self, happening: Happening<'_>) {
        match happening {
            Happening::Ran { scenario, run } => {
                if let Some(bar) = &self.bar {
                    bar.set_message(format!("{scenario} {run}"));
                }
            }
            Happening::Judged(outcome) => {
                let (scenario, verdict, seconds) =
                    (&outcome.scenario, outcome.verdict.name(), outcome.seconds);
                self.done(&format!("{scenario}: {verdict}, {seconds:.1} s"));
            }
            Happening::Tried { fault } => self.done(&format!("{fault}: tried")),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
