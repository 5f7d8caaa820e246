//! What a person reads: the table, the pages of `explain`, a finding, error messages. Times are filtered out, and so
//! is every computed number, whose last bits are the machine's.
//!
//! The snapshots are in golden/snapshots; `cargo insta review` shows what changed and accepts it.

use insta::{Settings, assert_snapshot};

use crate::binary::traintrue;

/// Settings under which nothing of the machine shows.
fn settled(check: impl FnOnce()) {
    let mut settings = Settings::clone_current();
    settings.set_snapshot_path("../golden/snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.add_filter(r" +\d+\.\d s\n", "  [time] s\n");
    settings.add_filter(r"\d+\.\d{5,}", "[number]");
    settings.bind(check);
}

#[test]
fn the_table() {
    let ran = traintrue(&["run", "determinism", "checkpoint-is-pure"]).with_exit(0);
    settled(|| assert_snapshot!("table", ran.stdout));
}

#[test]
fn a_finding() {
    let fault = "saving-leaves-evaluation-mode";
    let ran = traintrue(&["run", "checkpoint-is-pure", "--fault", fault]).with_exit(1);
    settled(|| assert_snapshot!("finding", ran.stdout));
}

#[test]
fn the_pages_of_explain() {
    for (name, id) in [
        ("explain-scenario", "determinism"),
        ("explain-fault", "unseeded-order"),
        ("explain-invariant", "seam/identical"),
    ] {
        let ran = traintrue(&["explain", id]).with_exit(0);
        settled(|| assert_snapshot!(name, ran.stdout));
    }
}

#[test]
fn errors() {
    let requests: [&[&str]; 6] = [
        &["run", "determinsm"],
        &["run", "--fault", "unseeded-ordr"],
        &["run", "--device", "tpu"],
        &["explain", "seam/identicle"],
        &["check", "no-such.jsonl"],
        &["run", "--trainer", "python 'my trainer.py"],
    ];
    let said: String = requests
        .iter()
        .map(|arguments| {
            format!("$ traintrue {}\n{}\n", arguments.join(" "), traintrue(arguments).with_exit(2).stderr)
        })
        .collect();
    settled(|| assert_snapshot!("errors", said));
}
