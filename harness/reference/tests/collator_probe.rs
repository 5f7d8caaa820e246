//! Report 1: a probe that calls the collator alone is flat, and the loop around the same collator keeps each batch.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use traintrue::check::check;
use traintrue::scenario::{Catalogue, Corpus, expand};
use traintrue_judge::verdict::{Outcome, Verdict};
use traintrue_memory::guard::flat_over;
use traintrue_protocol::plan::Plan;
use traintrue_protocol::trainer::record;
use traintrue_reference::{Device, Reference};

traintrue_protocol::count_heap!();

const FAULT: &str = "batch-kept-by-the-loop";

/// The short run of the memory scenario.
fn plan(catalogue: &Catalogue, folder: &Path) -> Plan {
    let scenarios = catalogue.select(&["flat-memory-1000-steps".to_owned()]).unwrap();
    let expansion = expand(scenarios[0], &Corpus::shipped().unwrap(), folder).unwrap();
    let run = expansion.runs.into_iter().find(|run| run.name == "short").unwrap();
    run.segments.into_iter().next().unwrap().plan
}

/// The verdict on the loop with these faults planted.
fn trained(catalogue: &Catalogue, plan: &Plan, faults: &[String], folder: &Path) -> Outcome {
    let path = folder.join("short.jsonl");
    let mut trace = BufWriter::new(File::create(&path).unwrap());
    record(&mut Reference::new(Device::Ndarray, faults.to_vec(), None), plan, &mut trace).unwrap();
    trace.flush().unwrap();
    let report = check(&[path], None, catalogue, &[]).unwrap();
    report.outcomes.into_iter().next().unwrap()
}

// One test: the heap that is counted is the whole process's.
#[test]
fn a_probe_of_the_collator_alone_is_flat_where_the_loop_keeps_each_batch() {
    let folder = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::load(None).unwrap();
    let plan = plan(&catalogue, folder.path());
    let faults = [FAULT.to_owned()];

    let trainer = Reference::new(Device::Ndarray, faults.to_vec(), None);
    let mut probe = trainer.collator(&plan).unwrap();
    flat_over(200, |step| assert!(probe(step) > 0)).unwrap();
    let mut kept = Vec::new();
    assert!(flat_over(200, |step| kept.push(vec![probe(step)])).is_err(), "the probe can fail");

    let broken = trained(&catalogue, &plan, &faults, folder.path());
    let named: Vec<_> = broken.findings.iter().map(|it| (&*it.invariant, it.component.name())).collect();
    assert_eq!(named, [("memory/heap-flat", "kept-each-update")]);
    let clean = trained(&catalogue, &plan, &[], folder.path());
    assert_eq!(clean.findings, []);
    assert!(clean.compared["memory/heap-flat"] > 0 && clean.verdict != Verdict::Broken, "{clean:?}");
}
