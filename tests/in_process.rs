//! The reference trainer in this process: a plan in, a trace file out, judged as any recorded trace.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use traintrue::check::{Relation, check};
use traintrue::scenario::Catalogue;
use traintrue_judge::verdict::{RunReport, Verdict};
use traintrue_protocol::plan::Plan;
use traintrue_protocol::trace::event::{State, Update};
use traintrue_protocol::trace::{Event, TraceReader};
use traintrue_protocol::trainer::record;
use traintrue_protocol::vocabulary::Moment;
use traintrue_reference::Reference;

/// A folder for the traces and checkpoints of one case.
pub struct Bench {
    folder: TempDir,
}

impl Bench {
    /// An empty folder.
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Trains `plan` and returns its trace, which is called `name`.
    pub fn train(&self, name: &str, plan: &Plan) -> PathBuf {
        plan.check().unwrap();
        let path = self.path(name);
        let mut trace = BufWriter::new(File::create(&path).unwrap());
        record(&mut Reference::default(), plan, &mut trace).unwrap();
        trace.flush().unwrap();
        path
    }
}

/// The events of a trace.
pub fn events(trace: &Path) -> Vec<Event> {
    TraceReader::open(trace).unwrap().map(|line| line.unwrap().event).collect()
}

/// The updates of a trace.
pub fn updates(trace: &Path) -> Vec<Update> {
    let update = |event| if let Event::Update(it) = event { Some(it) } else { None };
    events(trace).into_iter().filter_map(update).collect()
}

/// The state that a trace shows at `at`.
pub fn state(trace: &Path, at: Moment) -> State {
    let state = |event| if let Event::State(it) = event { Some(*it) } else { None };
    events(trace).into_iter().filter_map(state).find(|state| state.at == at).unwrap()
}

/// Judges recorded traces; with `against` they are the segments of one run that is held against another.
pub fn judge(traces: &[PathBuf], against: Option<(&Path, Relation)>) -> RunReport {
    check(traces, against, &Catalogue::load(None).unwrap(), &[]).unwrap()
}

/// How much each invariant compared, where every one of them held.
pub fn held(report: &RunReport) -> BTreeMap<String, u64> {
    let mut compared = BTreeMap::new();
    for outcome in &report.outcomes {
        assert_eq!(outcome.verdict, Verdict::Held, "{outcome:#?}");
        for (name, more) in &outcome.compared {
            *compared.entry(name.clone()).or_default() += more;
        }
    }
    compared
}
