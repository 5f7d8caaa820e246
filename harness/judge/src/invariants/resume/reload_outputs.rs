//! `reload/same-outputs`: a reloaded model gives the same outputs as before it was saved.

use std::path::PathBuf;

use traintrue_protocol::plan::Plan;
use traintrue_protocol::trace::event::{Probe, State, TensorState};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line, TraceError};
use traintrue_protocol::vocabulary::{Component, Moment};

use crate::bound::{self, Unbounded};
use crate::finding::{Difference, Sheet};
use crate::invariants::probes::rows::{self, Tolerance};
use crate::invariants::shared::stream::Stream;
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

pub(crate) static RULE: Rule = Rule {
    name: "reload/same-outputs",
    says: "a model that is loaded in a fresh process gives the same logits and head outputs as before it was saved",
    verifies: "Probes of the same name at the end of one segment and at the start of the next have the same loss, \
               logits and head output in every row: bit for bit if the trainer is deterministic, otherwise within the \
               rounding bound.",
    does_not_verify: "Rows that no probe covers. How training continues (reload/same-sets, seam/identical).",
    kind: Kind::Run(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Reload,
    needs: &[Fact::Plan],
};

fn judge(run: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    let mut compared = false;
    for (index, pair) in run.segments.windows(2).enumerate() {
        let mut before = Stream::of(&pair[..1]);
        let Some(opening) = before.run()? else { continue };
        let saved = probes(&mut before, "end")?;
        let came_back = otherwise(pair)?;
        for (line, loaded) in probes(&mut Stream::of(&pair[1..]), "start")? {
            let Some((_, saved)) = saved.iter().find(|(_, saved)| saved.name == loaded.name) else {
                continue;
            };
            compared = true;
            let tolerance = tolerance(&opening.plan, opening.contract.deterministic, saved, &loaded);
            let Some(tolerance) = sheet.comparable(tolerance) else { continue };
            if let Some(differs) = rows::differ(saved, &loaded, tolerance, sheet) {
                sheet.check_in(index + 1, false, &line, || Difference {
                    expected: differs.expected,
                    actual: differs.actual,
                    component: Component::AdapterLoader,
                    cause: came_back.clone().unwrap_or_else(|| {
                        "the loaded model computes other outputs: a part of it was lost, initialised anew, or applied twice".into()
                    }),
                });
            }
        }
    }
    if !compared {
        sheet.missing("probe at the end of a segment and at the start of the next");
    }
    Ok(())
}

/// What came back otherwise than it was saved, by the states on both sides of a load.
fn otherwise(pair: &[PathBuf]) -> Result<Option<String>, TraceError> {
    let at = |path: &PathBuf, moment: Moment| -> Result<Option<State>, TraceError> {
        let here = |event: &Event| matches!(event, Event::State(it) if it.at == moment);
        let line = Stream::of(std::slice::from_ref(path)).next_where(here)?;
        Ok(line.and_then(|line| if let Event::State(it) = line.event { Some(*it) } else { None }))
    };
    let (Some(saved), Some(loaded)) = (at(&pair[0], Moment::End)?, at(&pair[1], Moment::Loaded)?) else {
        return Ok(None);
    };
    let scale = |state: &State| state.parts.get(State::ADAPTER_SCALE).cloned();
    if let (Some(saved), Some(loaded)) = (scale(&saved), scale(&loaded))
        && saved != loaded
    {
        return Ok(Some(format!(
            "the loaded model scales its adapters by {loaded}, and the saved one by {saved}"
        )));
    }
    let differs = |it: &&TensorState| {
        let other = saved.tensors.iter().find(|other| other.name == it.name);
        other.is_some_and(|other| other.digest != it.digest)
    };
    let names: Vec<&str> = loaded.tensors.iter().filter(differs).map(|it| it.name.as_str()).collect();
    let (count, all) = (names.len(), loaded.tensors.len());
    let some = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    Ok((count > 0).then(|| {
        format!("the loaded model computes other outputs: {count} of {all} tensors have other values than the saved ones ({some})")
    }))
}

fn tolerance(
    plan: &Plan,
    deterministic: bool,
    saved: &Probe,
    loaded: &Probe,
) -> Result<Tolerance, Unbounded> {
    if deterministic {
        return Ok(Tolerance::Bits);
    }
    let dtype = plan.train.dtype;
    let terms = bound::output_terms(saved.width.unwrap_or(0), loaded.width.unwrap_or(0), dtype);
    bound::between(terms, dtype).map(Tolerance::Relative)
}

fn probes(stream: &mut Stream, when: &str) -> Result<Vec<(Line, Probe)>, TraceError> {
    let mut found = Vec::new();
    let here = |event: &Event| matches!(event, Event::Probe(it) if it.at.as_deref() == Some(when));
    while let Some(line) = stream.next_where(here)? {
        if let Event::Probe(it) = &line.event {
            found.push((line.clone(), Probe::clone(it)));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use traintrue_protocol::number::Number;

    fn reload(events: &mut [Event]) -> &mut Probe {
        let at = position(events, |event| matches!(event, Event::Probe(it) if it.name == "reload"));
        match &mut events[at] {
            Event::Probe(it) => it,
            other => panic!("a probe, not {other:?}"),
        }
    }

    #[test]
    fn a_healthy_reload_holds() {
        holds(&judge_runs(RULE.name, &cut_at(at(0, 4)), &[]));
    }

    #[test]
    fn a_head_that_came_back_new_breaks() {
        let mut segments = cut_at(at(0, 4));
        reload(&mut segments[1]).rows[0].head[1] = Number(0.5000001);
        breaks(judge_runs(RULE.name, &segments, &[]), "adapter-loader");
    }

    #[test]
    fn what_came_back_otherwise_is_named() {
        let mut segments = cut_at(at(0, 4));
        reload(&mut segments[1]).rows[0].head[1] = Number(0.6);
        let mut scaled = segments.clone();
        for (segment, moment, scale) in [(0, Moment::End, "16"), (1, Moment::Loaded, "4")] {
            let parts = &mut state_at(&mut scaled[segment], moment).parts;
            parts.insert(State::ADAPTER_SCALE.to_owned(), scale.to_owned());
        }
        let cause = breaks(judge_runs(RULE.name, &scaled, &[]), "adapter-loader");
        assert_eq!(cause, "the loaded model scales its adapters by 4, and the saved one by 16");
        state_at(&mut segments[1], Moment::Loaded).tensors[0].digest = "new".into();
        let cause = breaks(judge_runs(RULE.name, &segments, &[]), "adapter-loader");
        assert!(cause.contains("have other values than the saved ones ("), "{cause}");
    }

    #[test]
    fn a_trainer_that_is_not_deterministic_may_round_otherwise() {
        let mut segments = cut_at(at(0, 4));
        if let Event::Run(run) = &mut segments[0][0] {
            run.contract.deterministic = false;
        }
        reload(&mut segments[1]).rows[0].head[1] = Number(0.5000001);
        holds(&judge_runs(RULE.name, &segments, &[]));
        reload(&mut segments[1]).rows[0].head[1] = Number(0.6);
        breaks(judge_runs(RULE.name, &segments, &[]), "adapter-loader");
    }

    #[test]
    fn a_plan_without_probes_cannot_be_judged() {
        let mut plan = plan();
        plan.probes.clear();
        let segments = [segment(&plan, None, Some(at(0, 4))), segment(&plan, Some(at(0, 4)), None)];
        assert!(judge_runs(RULE.name, &segments, &[]).missing.is_some());
    }
}
