//! A trainer that does not give the same bits twice is held to the spread of its repeats; a bug in it still breaks.

use std::fs;
use std::path::{Path, PathBuf};

use rstest::rstest;
use traintrue_judge::verdict::{RunReport, Verdict};

use crate::binary::traintrue;

/// A trainer whose sums have no order, with more faults beside, that declares what `declares` says.
fn noisy(folder: &Path, declares_deterministic: bool, faults: &[&str]) -> PathBuf {
    let binary = env!("CARGO_BIN_EXE_traintrue");
    let planted: String = faults.iter().map(|fault| format!(" --fault {fault}")).collect();
    let path = folder.join("noisy.sh");
    fs::write(
        &path,
        format!(
            "case $1 in\n\
             describe) '{binary}' describe | sed 's/\"deterministic\":true/\"deterministic\":{declares_deterministic}/';;\n\
             run) exec '{binary}' train --fault unordered-sums{planted};;\n\
             esac\n"
        ),
    )
    .unwrap();
    path
}

fn judged(scenario: &str, declares_deterministic: bool, faults: &[&str]) -> RunReport {
    let folder = tempfile::tempdir().unwrap();
    let trainer = format!("sh {}", noisy(folder.path(), declares_deterministic, faults).display());
    traintrue(&["run", scenario, "--trainer", &trainer, "--format", "json"]).document()
}

#[rstest]
fn noise_is_no_bug(
    #[values("evaluation-is-pure", "checkpoint-is-pure", "concat-multiplier", "accumulation-equivalence")]
    scenario: &str,
    #[values(true, false)] declares_deterministic: bool,
) {
    let report = judged(scenario, declares_deterministic, &[]);
    assert_eq!(report.outcomes[0].verdict, Verdict::Held, "{:#?}", report.outcomes[0]);
}

#[rstest]
#[case("evaluation-is-pure", "dropout-stays-off")]
#[case("checkpoint-is-pure", "saving-leaves-evaluation-mode")]
#[case("concat-multiplier", "divided-by-three-twice")]
#[case("accumulation-equivalence", "mean-of-token-means")]
fn a_bug_breaks_a_noisy_trainer_too(
    #[case] scenario: &str,
    #[case] fault: &str,
    #[values(true, false)] declares_deterministic: bool,
) {
    let report = judged(scenario, declares_deterministic, &[fault]);
    assert_eq!(report.outcomes[0].verdict, Verdict::Broken, "{:#?}", report.outcomes[0]);
}

#[test]
fn a_trainer_that_says_it_repeats_and_does_not_is_broken_for_that_alone() {
    let report = judged("determinism", true, &[]);
    let broke: Vec<_> = report.outcomes[0].findings.iter().map(|it| it.invariant.as_str()).collect();
    assert_eq!(broke, ["determinism/repeat"]);
    let pure = judged("checkpoint-is-pure", true, &[]);
    let notes = pure.outcomes[0].notes.concat();
    assert!(notes.contains("declares that it is deterministic, and"), "{notes}");
}

#[test]
fn the_spread_is_told_where_the_trainer_says_that_it_does_not_repeat() {
    let report = judged("determinism", false, &[]);
    let outcome = &report.outcomes[0];
    assert_eq!(outcome.verdict, Verdict::Held, "{outcome:#?}");
    assert!(outcome.notes.concat().contains("the repeats of once differ by up to"), "{outcome:#?}");
}
