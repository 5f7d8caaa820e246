//! What the verdict on a recorded loop says beside its findings: first what was not judged, then what the loop was held to.

use std::collections::BTreeMap;

use traintrue_judge::finding::Sheet;
use traintrue_judge::pass::JudgedTrace;
use traintrue_judge::rule::{Kind, Rule};
use traintrue_judge::rules::RULES;
use traintrue_judge::tally::Tally;
use traintrue_protocol::trace::event::End;
use traintrue_protocol::trace::recorded::{Fact, Recorded};

/// Tells the reader of a recorded loop's verdict how much of the loop was judged.
pub(super) fn tell(recorded: &Recorded, judged: &JudgedTrace, tally: &mut Tally) {
    let updates = judged.sheets.iter().filter_map(|(_, sheet)| sheet.counted.get("updates")).sum::<u64>();
    if updates == 0 && recorded.lacks(&[Fact::Observed]).is_none() {
        tally.cannot_judge("no optimizer made a step".into());
    }
    if judged.end.is_none() {
        tally.lead(format!("the script ended without an end event: judged up to line {}", judged.last_line));
    }
    for trouble in judged.end.iter().flat_map(|end| &end.trouble) {
        tally.lead(format!("not observed: {trouble}"));
    }
    for (rule, sheet) in &judged.sheets {
        if let Some(why) = &sheet.missing {
            tally.lead(format!("not judged: {why} ({})", rule.name));
        }
        sheet.remarks.iter().for_each(|remark| tally.note(remark));
    }
    lacking(recorded).into_iter().for_each(|note| tally.lead(note));
    let observed = judged.sheets.iter().flat_map(|(_, sheet)| &sheet.observed);
    recorded.words().into_iter().for_each(|said| tally.observe(said));
    observed.for_each(|what| tally.observe(format!("{what} (observed)")));
}

/// Why a finding is no verdict: the recorder itself failed, and what it missed may look like a fault of the loop.
pub(super) fn doubt(rule: &Rule, sheet: &Sheet, end: Option<&End>) -> Option<String> {
    let is_of_recorder = rule.needs.contains(&Fact::Observed);
    let trouble = end.filter(|_| is_of_recorder)?.trouble.first()?;
    let broken = sheet.broken.as_ref()?;
    Some(format!("{} may only seem broken, for the recorder failed ({trouble}): {}", rule.name, broken.cause))
}

/// The facts that a recording does not give, each with the rules that need it.
fn lacking(recorded: &Recorded) -> Vec<String> {
    let of_traces = RULES.iter().filter(|rule| matches!(rule.kind, Kind::Trace(_)));
    let held_to_rates = recorded.schedule.is_some() || recorded.rates.is_some();
    // A recorded loop has no plan: to say so of each rule would hide what its user can declare. One of the two ways to
    // declare a schedule is enough.
    let is_told = |fact: &Fact| match fact {
        Fact::Plan => false,
        Fact::Rates => !held_to_rates,
        Fact::Schedule => !held_to_rates || recorded.schedule.is_some(),
        _ => true,
    };
    let lacks = |rule: &&&Rule| recorded.lacks(rule.needs).filter(is_told);
    let mut by_fact: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (rule, fact) in of_traces.filter_map(|rule| Some((rule, lacks(&rule)?))) {
        by_fact.entry(fact.to_string()).or_default().push(rule.name);
    }
    let note = |(fact, rules): (String, Vec<&str>)| {
        format!("not judged, for the recording does not say: {fact} ({})", rules.join(", "))
    };
    by_fact.into_iter().map(note).collect()
}
