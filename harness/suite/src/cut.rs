//! A training script that is ended at several places and resumed, judged against the same script left alone.
//!
//! The script is recorded three times per place in all: once whole, once until the recorder ends it there, and once resumed.
//! The invariant is `seam/identical`, as for a trainer that follows plans.

mod places;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use traintrue_judge::case::compare;
use traintrue_judge::finding::{At, Difference, Sheet};
use traintrue_judge::invariants::resume::seam::RULE as SEAM;
use traintrue_judge::rule::RunEvidence;
use traintrue_judge::tally::{Labels, Tally};
use traintrue_judge::verdict::{Outcome, seconds_since};
use traintrue_protocol::trace::TraceError;
use traintrue_protocol::vocabulary::Component;

use crate::record::{Cut, Declared, How, RecordError, Recording, Request as Record, record};
pub use places::{Place, places};

/// The folder of a run in a command.
pub const OUT: &str = "{out}";
/// The last lines of a command's output that a finding shows.
const SHOWN_LINES: usize = 4;

/// What to cut.
#[derive(Clone, Debug)]
pub struct Request {
    /// The training script, with `{out}` where its folder is named.
    pub command: Vec<OsString>,
    /// What resumes it from the same `{out}`.
    pub resume: Vec<OsString>,
    /// The places, in micro-batches from the start; empty: four kinds of place are chosen.
    pub at: Vec<u64>,
    /// How the script is ended.
    pub how: How,
    /// An empty folder for everything that the runs leave.
    pub work: PathBuf,
}

/// A script that could not be cut.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum CutError {
    #[error(
        "{which}: no {OUT} in the command: put {OUT} where it names its folder, so that every run gets a fresh one"
    )]
    NoOut { which: &'static str },
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("{path}: {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the whole run failed with exit status {status}; its output ends with: {output}")]
    Failed { status: u8, output: String },
    #[error("{0}")]
    Nothing(String),
    #[error("{count} processes of the command train: cut takes scripts of one process")]
    Ranks { count: usize },
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error("--at {at}: the whole run has {all} micro-batches; a place is from 1 to {last}", last = .all.saturating_sub(1))]
    NoPlace { at: u64, all: u64 },
    #[error("the whole run has {0} micro-batches: there is no place to cut it at")]
    TooShort(u64),
}

/// Runs the script whole and cut, and judges every cut. `tell` is called before each run with what is run.
pub fn cut(request: &Request, labels: Labels, tell: &mut dyn FnMut(&str)) -> Result<Outcome, CutError> {
    let begun = std::time::Instant::now();
    holds_out("the training command", &request.command)?;
    holds_out("--resume", &request.resume)?;
    tell("the whole run");
    let whole = Run { request, folder: request.work.join("whole") };
    let recorded = whole.make(&request.command, "whole", None)?;
    if let Some(status) = recorded.failure() {
        return Err(CutError::Failed { status, output: whole.last_words("whole") });
    }
    let mut against =
        RunEvidence { name: "whole".into(), segments: vec![one_trace(&recorded)?], repeats: Vec::new() };
    let mut tally = Tally::new(labels);
    let mut traces = against.segments.clone();
    let places = places::chosen(&against.segments[0], &request.at)?;
    for place in &places {
        tell(&format!("cut after micro-batch {}, {}", place.after, place.what));
        let Cutting { evidence, mut sheet, recorded } = at(request, place, &against)?;
        // A script may cease to be deterministic after the place of the cut: this tells it from a wrong resume.
        if sheet.broken.is_some() && recorded.len() == 2 && against.repeats.is_empty() {
            tell("the whole run again: it must come out the same");
            let again = Run { request, folder: request.work.join("again") };
            against.repeats.push(again.make(&request.command, "again", None)?.traces);
            sheet = compare(&SEAM, &evidence, Some(&against));
        }
        let named = |remark: &String| format!("{}: {remark}", evidence.name);
        sheet.remarks = sheet.remarks.iter().map(named).collect();
        tally.asked(&SEAM, &evidence, Some(&against), &sheet);
        traces.extend(recorded);
    }
    tally.count("cuts", places.len() as u64);
    Ok(Outcome { seconds: seconds_since(begun), traces, ..tally.outcome("cut") })
}

/// One cut: the script until there, resumed, and compared with the whole run.
fn at(request: &Request, place: &Place, whole: &RunEvidence) -> Result<Cutting, CutError> {
    let name = format!("cut-{}", place.after);
    let run = Run { request, folder: request.work.join(&name) };
    let before =
        run.make(&request.command, "before", Some(Cut { after: Some(place.after), how: request.how }))?;
    let resumed = run.make(&request.resume, "resumed", None)?;
    let mut evidence = RunEvidence { name, segments: before.traces.clone(), repeats: Vec::new() };
    let mut sheet = Sheet::default();
    match (resumed.failure(), resumed.traces.as_slice()) {
        (None, [trace]) => {
            evidence.segments.push(trace.clone());
            sheet = compare(&SEAM, &evidence, Some(whole));
        }
        (None, []) if before.failure().is_none() && before.traces.is_empty() => {
            sheet.cannot("the cut run trained nothing")
        }
        (None, []) if reached(&before)?.all == place.of => {
            sheet.cannot("the script did not stop: it trained to its end after the signal, and nothing was left to resume")
        }
        (Some(status), []) if !reached(&before)?.saved => sheet.cannot(&format!(
            "the script had saved nothing by then, as far as the recorder sees, and the resume command ends with exit status \
             {status}: {}",
            run.last_words("resumed")
        )),
        (status, traces) => {
            // A finding names the output: there is no trace to name.
            evidence.segments = vec![run.output("resumed")];
            let actual = match status {
                Some(status) => format!("exit status {status}: {}", run.last_words("resumed")),
                None if traces.is_empty() => "it ends without training".to_owned(),
                None => format!("{} processes train", traces.len()),
            };
            let at = || At { event: "process".into(), ..At::default() };
            sheet.check_at(false, 0, at, || Difference {
                expected: "the resume command to train the rest".into(),
                actual,
                component: Component::Checkpoint,
                cause: "the script cannot go on from what it left: no complete checkpoint is there, or the resume refuses it".into(),
            });
        }
    }
    Ok(Cutting { evidence, sheet, recorded: [before.traces, resumed.traces].concat() })
}

/// What was seen at one place.
struct Cutting {
    evidence: RunEvidence,
    sheet: Sheet,
    /// The traces of its two runs.
    recorded: Vec<PathBuf>,
}

/// One run of the script in a folder of its own.
struct Run<'a> {
    request: &'a Request,
    folder: PathBuf,
}

impl Run<'_> {
    fn make(&self, command: &[OsString], segment: &str, cut: Option<Cut>) -> Result<Recording, CutError> {
        let out = self.folder.join("out");
        fs::create_dir_all(&out).map_err(|source| CutError::Io { path: out.clone(), source })?;
        let cut = cut.unwrap_or(Cut { after: None, how: self.request.how });
        Ok(record(&Record {
            command: command.iter().map(|word| filled(word, &out)).collect(),
            out: Some(self.folder.join(segment)),
            declared: Declared { digest_every: Some(1), cut: Some(cut), ..Declared::default() },
            output: Some(self.output(segment)),
        })?)
    }

    fn output(&self, segment: &str) -> PathBuf {
        self.folder.join(format!("{segment}.txt"))
    }

    fn last_words(&self, segment: &str) -> String {
        let text = fs::read(self.output(segment)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join(" | ")
    }
}

/// How far a run came that was cut.
fn reached(recorded: &Recording) -> Result<places::Course, CutError> {
    Ok(recorded.traces.first().map(|trace| places::course(trace)).transpose()?.unwrap_or_default())
}

fn one_trace(recorded: &Recording) -> Result<PathBuf, CutError> {
    match recorded.traces.as_slice() {
        [trace] => Ok(trace.clone()),
        [] => Err(CutError::Nothing(recorded.nothing())),
        traces => Err(CutError::Ranks { count: traces.len() }),
    }
}

fn holds_out(which: &'static str, command: &[OsString]) -> Result<(), CutError> {
    let holds = command.iter().any(|word| word.to_string_lossy().contains(OUT));
    if holds { Ok(()) } else { Err(CutError::NoOut { which }) }
}

fn filled(word: &OsStr, out: &Path) -> OsString {
    match word.to_str() {
        Some(text) if text.contains(OUT) => text.replace(OUT, &out.to_string_lossy()).into(),
        _ => word.to_owned(),
    }
}
