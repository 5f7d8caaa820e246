//! Which findings a person reads in full, and which in one line under them.

use traintrue_judge::finding::Finding;
use traintrue_judge::rules::find;
use traintrue_judge::verdict::Outcome;

use super::text::many;

/// A finding that is shown in full.
pub(super) struct Root<'a> {
    pub(super) finding: &'a Finding,
    /// The invariant, and the runs that break it.
    pub(super) head: String,
    /// What may follow from it: a line an invariant.
    pub(super) following: Vec<String>,
}

impl Root<'_> {
    /// What stands above `following`.
    pub(super) fn and_more(&self) -> String {
        let invariants = if self.following.len() == 1 { "invariant is" } else { "invariants are" };
        format!("and {} more {invariants} broken, which may follow from this:", self.following.len())
    }
}

/// The first finding of each invariant, in the order of the findings: the true cause stands first. One that has the same
/// component as another, or only says that two runs differ, stands under the other: it may be a consequence, and nothing
/// that was measured says that it is none.
pub(super) fn roots(outcome: &Outcome) -> Vec<Root<'_>> {
    let mut roots: Vec<Root> = Vec::new();
    for (at, finding) in outcome.findings.iter().enumerate() {
        if outcome.findings[..at].iter().any(|it| it.invariant == finding.invariant) {
            continue;
        }
        let head = head(finding, outcome);
        match root_of(finding, &mut roots) {
            Some(root) => root.following.push(format!("{head}: {}", finding.cause)),
            None => roots.push(Root { finding, head, following: Vec::new() }),
        }
    }
    roots
}

fn head(finding: &Finding, outcome: &Outcome) -> String {
    let of_it = outcome.findings.iter().filter(|it| it.invariant == finding.invariant);
    let others = match of_it.count() - 1 {
        0 => String::new(),
        others => format!(" and in {}", many(others as u64, "other run")),
    };
    format!("{} is broken in {}{others}", finding.invariant, finding.run)
}

/// The root that a finding may follow from. What is waived is known already: it explains nothing, and is not hidden.
fn root_of<'a, 'b>(finding: &Finding, roots: &'b mut [Root<'a>]) -> Option<&'b mut Root<'a>> {
    if finding.waived.is_some() {
        return None;
    }
    let compares_runs = find(&finding.invariant).is_some_and(|rule| rule.compares.two_runs());
    let new = |root: &Root| root.finding.waived.is_none();
    let at = roots
        .iter()
        .position(|root| new(root) && root.finding.component == finding.component)
        .or_else(|| roots.iter().position(|root| new(root) && compares_runs))?;
    roots.get_mut(at)
}
