//! What a run begins with: its plan, its parameters, and the probes before the first micro-batch.

use traintrue_protocol::plan::Plan;
use traintrue_protocol::trace::event::{Probe, TensorState};
use traintrue_protocol::trace::{Event, Line, TraceError, TraceReader};
use traintrue_protocol::vocabulary::Moment;

use crate::bound::{self, Unbounded};
use crate::finding::Sheet;
use crate::rule::RunEvidence;

/// The group of the parameters that no adapter and no head has added.
const BASE: &str = "base";

/// The beginning of a run.
pub(crate) struct Start {
    pub(crate) plan: Plan,
    pub(crate) probes: Vec<(Line, Probe)>,
    pub(crate) tensors: Vec<TensorState>,
}

impl Start {
    /// The beginning of a run; none where its trace has no first line.
    fn of(run: &RunEvidence) -> Result<Option<Self>, TraceError> {
        let Some(path) = run.segments.first() else { return Ok(None) };
        let (mut plan, mut probes, mut tensors) = (None, Vec::new(), Vec::new());
        for line in TraceReader::open(path)? {
            let line = line?;
            match &line.event {
                Event::Run(it) => plan = Some(it.plan.clone()),
                Event::State(it) if it.at == Moment::Start => tensors.clone_from(&it.tensors),
                Event::Probe(it) if it.at.as_deref() == Some("start") => {
                    let probe = Probe::clone(it);
                    probes.push((line, probe));
                }
                Event::MicroBatch(_) => break,
                _ => {}
            }
        }
        Ok(plan.map(|plan| Self { plan, probes, tensors }))
    }

    /// The beginnings of two runs whose outputs can be compared: they have the same base parameters.
    pub(crate) fn of_both(
        run: &RunEvidence,
        against: &RunEvidence,
        sheet: &mut Sheet,
    ) -> Result<Option<(Self, Self)>, TraceError> {
        let (Some(run), Some(against)) = (Self::of(run)?, Self::of(against)?) else { return Ok(None) };
        if run.tensors.is_empty() || against.tensors.is_empty() {
            sheet.missing("state at start");
            return Ok(None);
        }
        // By digest: what wraps a model may rename its parameters.
        let base = |it: &Self| {
            let base = it.tensors.iter().filter(|tensor| tensor.group == BASE);
            let mut digests: Vec<String> = base.map(|tensor| tensor.digest.clone()).collect();
            digests.sort_unstable();
            digests
        };
        if base(&run) != base(&against) {
            sheet.cannot(
                "the base parameters of the two runs differ at the start: draw them from the plan's seed alone, whatever else \
                 the plan asks for",
            );
            return Ok(None);
        }
        Ok(Some((run, against)))
    }

    /// The probes that both runs made, by name.
    pub(crate) fn shared<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (&'a Line, &'a Probe, &'a Probe)> {
        self.probes.iter().filter_map(|(line, probe)| {
            let (_, twin) = other.probes.iter().find(|(_, other)| other.name == probe.name)?;
            Some((line, probe, twin))
        })
    }

    /// How much two right outputs of one probe may differ, relative to their size.
    pub(crate) fn bound(&self, probe: &Probe, other: &Probe) -> Result<f64, Unbounded> {
        let dtype = self.plan.train.dtype;
        let terms = bound::output_terms(probe.width.unwrap_or(0), other.width.unwrap_or(0), dtype);
        bound::between(terms, dtype)
    }
}

/// The first probe at the start of a trace, to be changed.
#[cfg(test)]
pub(crate) fn start_probe(events: &mut [Event]) -> &mut Probe {
    let found = events.iter_mut().find_map(|event| match event {
        Event::Probe(it) if it.at.as_deref() == Some("start") => Some(it),
        _ => None,
    });
    found.expect("a probe at the start")
}
