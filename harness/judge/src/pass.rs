//! All invariants over single traces, in one pass over a trace.

use std::path::Path;

use traintrue_protocol::trace::event::Run;
use traintrue_protocol::trace::{Event, Line, TraceError, TraceReader};

use crate::finding::Sheet;
use crate::rule::{Kind, Opening, Rule, Watch};

/// What one trace came to.
pub struct Watched {
    /// One an invariant.
    pub sheets: Vec<(&'static Rule, Sheet)>,
    /// Its first line, where it has one.
    pub run: Option<Box<Run>>,
    /// Why it could not be read to its end.
    pub error: Option<TraceError>,
    /// The last line that could be read; 0 where none could.
    pub last_line: u64,
}

/// Reads one trace. That of a process which `died` on purpose ends anywhere, also within a line.
pub fn watch(trace: &Path, died: bool, rules: &[&'static Rule]) -> Watched {
    let mut watched = Watched { sheets: Vec::new(), run: None, error: None, last_line: 0 };
    match read(trace, died, rules, &mut watched) {
        Err(TraceError::CutShort { .. } | TraceError::NoRun { .. }) if died => {}
        other => watched.error = other.err(),
    }
    watched
}

fn read(trace: &Path, died: bool, rules: &[&'static Rule], watched: &mut Watched) -> Result<(), TraceError> {
    let mut lines = TraceReader::open(trace)?;
    let Some(mut last) = lines.next().transpose()? else {
        return Ok(());
    };
    watched.last_line = last.number;
    let Event::Run(run) = &last.event else {
        return Ok(());
    };
    let judged = |rule: &&'static Rule| run.recorded.as_ref().is_none_or(|it| it.lacks(rule.needs).is_none());
    let rules: Vec<&'static Rule> = rules.iter().copied().filter(judged).collect();
    let mut watches = open(&rules, &Opening { plan: &run.plan, contract: &run.contract });
    watched.run = Some(run.clone());
    let result = follow(lines, &mut watches, &mut last);
    watched.last_line = last.number;
    if result.is_ok() && !died {
        watches.iter_mut().for_each(|(_, watch, sheet)| watch.finish(&last, sheet));
    }
    watched.sheets = watches.into_iter().map(|(rule, _, sheet)| (rule, sheet)).collect();
    result
}

/// Some of the invariants over lines that were imported: those that a log with gaps can answer.
pub fn imported(rules: &[&'static Rule], opening: &Opening, lines: &[Line]) -> Vec<(&'static Rule, Sheet)> {
    let mut watches = open(rules, opening);
    for line in lines {
        watches.iter_mut().for_each(|(_, watch, sheet)| watch.see(line, sheet));
    }
    watches.into_iter().map(|(rule, _, sheet)| (rule, sheet)).collect()
}

type Watching = (&'static Rule, Box<dyn Watch>, Sheet);

fn open(rules: &[&'static Rule], opening: &Opening) -> Vec<Watching> {
    let watching = |rule: &&'static Rule| match rule.kind {
        Kind::Trace(open) => Some((*rule, open(opening), Sheet::default())),
        _ => None,
    };
    rules.iter().filter_map(watching).collect()
}

fn follow(lines: TraceReader, watches: &mut [Watching], last: &mut Line) -> Result<(), TraceError> {
    for line in lines {
        let line = line?;
        for (_, watch, sheet) in watches.iter_mut() {
            watch.see(&line, sheet);
        }
        *last = line;
    }
    Ok(())
}
