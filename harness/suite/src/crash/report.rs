//! The report: a table of points, the worst first, and the exit status.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;
use traintrue_protocol::exit::Exit;

use super::judge::{Judge, Verdict};
use super::points::Left;
use super::{Request, Tried};

/// The version of the document. Raised when a field changes its meaning or goes.
const SCHEMA: u32 = 1;

/// The document of `crash`.
#[derive(Clone, Debug, Serialize)]
pub struct CrashReport {
    /// The version of this document.
    pub schema: u32,
    /// The training script.
    pub command: String,
    /// How it is resumed.
    pub resume: String,
    /// How many operations the fault-free run made.
    pub operations: usize,
    /// How many saves were told apart.
    pub saves: usize,
    /// How many different states were resumed.
    pub resumes: usize,
    /// How many files of the fault-free end are compared.
    pub compared: usize,
    /// Files that are not compared.
    pub left_out: Vec<LeftOut>,
    /// The points, the worst first.
    pub points: Vec<PointReport>,
}

/// A file that is not compared.
#[derive(Clone, Debug, Serialize)]
pub struct LeftOut {
    /// Below `{out}`.
    pub path: PathBuf,
    /// The reason.
    pub why: &'static str,
}

/// One point and its verdict.
#[derive(Clone, Debug, Serialize)]
pub struct PointReport {
    /// The number of the operation in the fault-free run, from 1.
    pub operation: usize,
    /// The operation in words.
    pub before: String,
    /// How the run ended there.
    pub left: Left,
    /// How many saves were complete, and on the disk.
    pub complete: usize,
    /// The verdict.
    pub verdict: Verdict,
    /// What shows it.
    pub evidence: String,
}

impl CrashReport {
    pub(super) fn of(
        request: &Request,
        judge: &Judge,
        tried: &[Tried],
        left_out: Vec<LeftOut>,
        resumes: usize,
    ) -> Self {
        let point = |Tried { point, outcome }: &Tried| {
            let (verdict, evidence) = judge.verdict(point, outcome);
            PointReport {
                operation: point.at + 1,
                before: judge.steps[point.at].operation.to_string(),
                left: point.left,
                complete: judge.complete(point),
                verdict,
                evidence,
            }
        };
        let mut points: Vec<PointReport> = tried.iter().map(point).collect();
        points.sort_by_key(|it| (it.verdict, it.operation, it.left));
        Self {
            schema: SCHEMA,
            command: words(&request.command),
            resume: words(&request.resume),
            operations: judge.steps.len(),
            saves: judge.saves.len(),
            resumes,
            compared: judge.end.0.len(),
            left_out,
            points,
        }
    }

    /// The worst point that is a finding.
    pub fn worst(&self) -> Option<&PointReport> {
        self.points.first().filter(|it| it.verdict.is_broken())
    }

    /// How many points came to a verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.points.iter().filter(|it| it.verdict == verdict).count()
    }

    /// Broken: a point is silently different, refuses to start, loses work or leaves a damaged file. Not judged:
    /// nothing could be compared, or there was one save only, and so no checkpoint to go back to.
    pub fn exit(&self) -> Exit {
        if self.worst().is_some() {
            Exit::Broken
        } else if self.compared == 0 || self.saves < 2 {
            Exit::NotJudged
        } else {
            Exit::Held
        }
    }

    /// The report as text for a terminal.
    pub fn text(&self) -> String {
        let Self { command, resume, operations, saves, resumes, compared, .. } = self;
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(text, "command  {command}\nresume   {resume}");
        let _ = writeln!(
            text,
            "{operations} file operations in {saves} saves; {} points, {resumes} different states resumed",
            self.points.len()
        );
        let _ = writeln!(text, "{compared} files of the fault-free end compared{}", self.not_compared());
        if self.saves < 2 {
            let _ = writeln!(
                text,
                "one save only: let the script save at least twice, to see what a crash costs"
            );
        }
        let _ = writeln!(text);
        for verdict in Verdict::ALL.into_iter().filter(|verdict| self.count(*verdict) > 0) {
            let _ = writeln!(text, "{:6} {}", self.count(verdict), verdict.name());
        }
        for verdict in Verdict::ALL.into_iter().filter(|it| it.is_broken() && self.count(*it) > 0) {
            let _ = writeln!(text, "\n{}", verdict.name());
            for (evidence, points) in self.by_evidence(verdict) {
                let _ = writeln!(text, "  {evidence}");
                for PointReport { operation, before, left, .. } in points {
                    let _ = writeln!(text, "    {operation:4} {:16} {before}", left.name());
                }
            }
        }
        text
    }

    /// The points with a verdict, together where one line shows them all, in the order of the first.
    fn by_evidence(&self, verdict: Verdict) -> Vec<(String, Vec<&PointReport>)> {
        let mut groups: Vec<(String, Vec<&PointReport>)> = Vec::new();
        for point in self.points.iter().filter(|it| it.verdict == verdict) {
            let line = point.line();
            match groups.iter_mut().find(|(evidence, _)| *evidence == line) {
                Some((_, points)) => points.push(point),
                None => groups.push((line, vec![point])),
            }
        }
        groups
    }

    /// What is left out, by reason.
    fn not_compared(&self) -> String {
        let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for LeftOut { path, why } in &self.left_out {
            reasons.entry(why).or_default().push(path.display().to_string());
        }
        reasons.iter().fold(String::new(), |text, (why, paths)| {
            format!("{text}\n{} not compared ({why}): {}", paths.len(), paths.join(", "))
        })
    }
}

impl PointReport {
    /// The evidence on one line: of what a failed command said, the last line.
    fn line(&self) -> String {
        match self.evidence.split_once(": ") {
            Some((status, said)) if self.verdict == Verdict::Refuses => {
                format!("{status}: {}", said.lines().last().unwrap_or_default())
            }
            _ => self.evidence.clone(),
        }
    }
}

/// A command as a shell would take it.
fn words(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    shlex::try_join(words.iter().map(|word| word.as_ref())).unwrap_or_default()
}
