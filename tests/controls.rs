//! What holds memory and does not leak it is not accused: an insert under a key that comes again, a batch that is held until
//! the next, a pool that is kept, a cache of few shapes.

use std::fs;

use rstest::rstest;
use traintrue::scenario::{Catalogue, Corpus, expand};
use traintrue_judge::verdict::Verdict;

use crate::binary::traintrue_reading;
use crate::in_process::{Bench, judge};

#[test]
fn every_control_is_tried() {
    let tried = [
        "gradients-kept-by-name",
        "batch-held-until-the-next",
        "pool-never-cleared",
        "compile-cache-of-few-shapes",
    ];
    assert_eq!(traintrue_reference::controls(), tried);
}

#[rstest]
#[case::by_name("gradients-kept-by-name", true)]
#[case::by_step("gradients-kept-by-step", false)]
#[case::last_batch("batch-held-until-the-next", true)]
#[case::every_batch("batch-kept-by-the-loop", false)]
#[case::pool("pool-never-cleared", true)]
#[case::few_shapes("compile-cache-of-few-shapes", true)]
#[case::every_shape("compile-cache-never-cleared", false)]
fn what_is_held_is_an_offset_and_what_is_kept_a_leak(#[case] planted: &str, #[case] flat: bool) {
    let bench = Bench::new();
    let catalogue = Catalogue::load(None).unwrap();
    let scenarios = catalogue.select(&["flat-memory-1000-steps".to_owned()]).unwrap();
    let runs = expand(scenarios[0], &Corpus::shipped().unwrap(), &bench.path("checkpoints")).unwrap().runs;
    let plan = &runs.iter().find(|run| run.name == "short").unwrap().segments[0].plan;
    let ran =
        traintrue_reading(&serde_json::to_vec(plan).unwrap(), &["train", "--fault", planted]).with_exit(0);
    let trace = bench.path("short.jsonl");
    fs::write(&trace, &ran.stdout).unwrap();
    let report = judge(&[trace], None);
    let outcome = &report.outcomes[0];
    assert!(outcome.compared["memory/heap-flat"] > 0, "{outcome:#?}");
    let leaks = outcome.findings.iter().any(|finding| finding.invariant == "memory/heap-flat");
    assert_eq!((leaks, outcome.verdict == Verdict::Broken), (!flat, !flat), "{outcome:#?}");
}
