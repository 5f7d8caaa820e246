//! All invariants over single traces, in one pass over a trace.

use std::path::Path;

use traintrue_logs::Precision;
use traintrue_protocol::trace::event::{End, Run};
use traintrue_protocol::trace::{Event, Line, TraceError, TraceReader};

use crate::finding::Sheet;
use crate::rule::{Kind, Opening, Rule, TraceRule};

/// One trace, judged by every invariant over single traces.
pub struct JudgedTrace {
    /// One sheet per invariant that applies to the trace.
    pub sheets: Vec<(&'static Rule, Sheet)>,
    /// The first line. None if the trace has no run event.
    pub run: Option<Box<Run>>,
    /// Why the trace could not be read to its end.
    pub error: Option<TraceError>,
    /// The last event, where it is `end`; the script of a recorded loop may have been killed.
    pub end: Option<End>,
    /// The number of the last line that could be read; 0 if there is none.
    pub last_line: u64,
}

/// Reads and judges one trace. The trace of a process that `died` on purpose may end anywhere, even within a line.
pub fn judge_trace(trace: &Path, died: bool, rules: &[&'static Rule]) -> JudgedTrace {
    let mut judged = JudgedTrace { sheets: Vec::new(), run: None, error: None, end: None, last_line: 0 };
    match read(trace, died, rules, &mut judged) {
        Err(TraceError::CutShort { .. } | TraceError::NoRun { .. }) if died => {}
        other => judged.error = other.err(),
    }
    judged
}

fn read(
    trace: &Path,
    died: bool,
    rules: &[&'static Rule],
    judged: &mut JudgedTrace,
) -> Result<(), TraceError> {
    let mut lines = TraceReader::open(trace)?;
    let Some(mut last) = lines.next().transpose()? else {
        return Ok(());
    };
    judged.last_line = last.number;
    let Event::Run(run) = last.event.clone() else {
        return Ok(());
    };
    // A recorded loop may lack facts that a rule needs; such a rule would only report them as missing.
    let applies = |rule: &&'static Rule| rule.applies_to(run.recorded.as_ref());
    let rules: Vec<&'static Rule> = rules.iter().copied().filter(applies).collect();
    let mut open = begin(
        &rules,
        &Opening {
            plan: &run.plan,
            contract: &run.contract,
            recorded: run.recorded.as_ref(),
            precision: Precision::EXACT,
        },
    );
    // A script that was told no plan may be killed at any place. What it did until then is judged.
    let result = match follow(lines, &mut open, &mut last) {
        Err(TraceError::CutShort { .. }) if run.recorded.is_some() => Ok(()),
        other => other,
    };
    judged.end = if let Event::End(end) = &last.event { Some(end.clone()) } else { None };
    judged.last_line = last.number;
    // A trace that was cut off has no end to judge. Its lines up to there are judged all the same.
    if result.is_ok() && !died {
        open.iter_mut().for_each(|(_, rule, sheet)| rule.finish(&last, sheet));
    }
    judged.run = Some(run);
    judged.sheets = open.into_iter().map(|(rule, _, sheet)| (rule, sheet)).collect();
    result
}

/// Judges imported lines by the given invariants: those that do not need a complete trace.
pub fn imported(rules: &[&'static Rule], opening: &Opening, lines: &[Line]) -> Vec<(&'static Rule, Sheet)> {
    let mut open = begin(rules, opening);
    for line in lines {
        open.iter_mut().for_each(|(_, rule, sheet)| rule.see(line, sheet));
    }
    open.into_iter().map(|(rule, _, sheet)| (rule, sheet)).collect()
}

/// An invariant in the middle of a trace.
type OpenRule = (&'static Rule, Box<dyn TraceRule>, Sheet);

fn begin(rules: &[&'static Rule], opening: &Opening) -> Vec<OpenRule> {
    let begin = |rule: &&'static Rule| match rule.kind {
        Kind::Trace(begin) => Some((*rule, begin(opening), Sheet::default())),
        _ => None,
    };
    rules.iter().filter_map(begin).collect()
}

fn follow(lines: TraceReader, open: &mut [OpenRule], last: &mut Line) -> Result<(), TraceError> {
    for line in lines {
        let line = line?;
        for (_, rule, sheet) in open.iter_mut() {
            rule.see(&line, sheet);
        }
        *last = line;
    }
    Ok(())
}
