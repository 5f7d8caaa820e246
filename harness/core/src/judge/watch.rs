//! All invariants over single traces, in one pass over a trace.

use std::path::Path;

use crate::finding::Sheet;
use crate::invariants::{Kind, Opening, RULES, Rule, Watch};
use crate::trace::event::Run;
use crate::trace::{Event, Line, TraceError, TraceReader};

/// What one trace came to.
pub struct Watched {
    /// One an invariant.
    pub sheets: Vec<(&'static Rule, Sheet)>,
    /// Its first line, where it has one.
    pub run: Option<Box<Run>>,
    /// Why it could not be read to its end.
    pub error: Option<TraceError>,
}

/// Reads one trace. That of a process which `died` on purpose ends anywhere, also within a line.
pub fn watch(trace: &Path, died: bool) -> Watched {
    let mut watched = Watched { sheets: Vec::new(), run: None, error: None };
    match read(trace, died, &mut watched) {
        Err(TraceError::CutShort { .. } | TraceError::NoRun { .. }) if died => {}
        other => watched.error = other.err(),
    }
    watched
}

fn read(trace: &Path, died: bool, watched: &mut Watched) -> Result<(), TraceError> {
    let mut lines = TraceReader::open(trace)?;
    let Some(mut last) = lines.next().transpose()? else {
        return Ok(());
    };
    let Event::Run(run) = &last.event else {
        return Ok(());
    };
    let opening = Opening { plan: &run.plan, contract: &run.contract };
    let mut watches: Vec<(&'static Rule, Box<dyn Watch>, Sheet)> = RULES
        .iter()
        .filter_map(|&rule| match rule.kind {
            Kind::Trace(open) => Some((rule, open(&opening), Sheet::default())),
            _ => None,
        })
        .collect();
    watched.run = Some(run.clone());
    let result = follow(lines, &mut watches, &mut last);
    if result.is_ok() && !died {
        watches.iter_mut().for_each(|(_, watch, sheet)| watch.finish(&last, sheet));
    }
    watched.sheets = watches.into_iter().map(|(rule, _, sheet)| (rule, sheet)).collect();
    result
}

fn follow(
    lines: TraceReader,
    watches: &mut [(&'static Rule, Box<dyn Watch>, Sheet)],
    last: &mut Line,
) -> Result<(), TraceError> {
    for line in lines {
        let line = line?;
        for (_, watch, sheet) in watches.iter_mut() {
            watch.see(&line, sheet);
        }
        *last = line;
    }
    Ok(())
}
