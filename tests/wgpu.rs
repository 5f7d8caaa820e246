//! The reference trainer on an adapter of wgpu: what there is, what does not fit, what is given back. `ci/device` runs it.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::binary::{Ran, traintrue};
use crate::inputs::PLAN;

const LARGEST_LEAST: u64 = 128 << 20;

/// Trains `plan` in a shell whose first command is `before`.
fn train_after(before: &str, plan: &Value) -> Ran {
    let command = format!("{before}; exec {} train --device wgpu:0", env!("CARGO_BIN_EXE_traintrue"));
    let mut shell = Command::new("sh")
        .args(["-c", &command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = shell.stdin.take().unwrap().write_all(plan.to_string().as_bytes());
    let output = shell.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran {
        // A driver without memory may end the process by a signal.
        exit: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

fn plan(change: impl Fn(&mut Value)) -> Value {
    let mut plan: Value = serde_json::from_str(PLAN).unwrap();
    change(&mut plan);
    plan
}

/// One line, without the name of the thread or of a file.
fn said(ran: &Ran) -> &str {
    let said = ran.stderr.trim_end();
    assert!(!said.contains('\n') && !said.contains("panicked"), "{}", ran.stderr);
    said
}

#[test]
fn an_adapter_that_is_not_there_is_told_with_those_that_are() {
    let ran = traintrue(&["describe", "--device", "wgpu:99"]).with_exit(2);
    assert!(
        said(&ran).starts_with("traintrue: wgpu:99 is not available: wgpu finds wgpu:0 ("),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_machine_without_an_adapter_is_told_so() {
    let ran = train_after("export VK_ICD_FILENAMES=/nonexistent VK_DRIVER_FILES=/nonexistent", &plan(|_| ()));
    assert_eq!(ran.exit, 2, "{ran:?}");
    assert!(said(&ran).ends_with("wgpu finds no adapter on this machine"), "{}", ran.stderr);
}

#[test]
fn a_tensor_that_the_device_cannot_hold_is_out_of_memory_before_it_is_made() {
    let long: Vec<u64> = [1].into_iter().chain((0..6000).map(|at| 10 + at % 20)).chain([2]).collect();
    let plan = plan(|plan| {
        plan["data"]["samples"] = json!([long]);
        plan["data"]["max_length"] = json!(6002);
    });
    let ran = train_after("true", &plan);
    assert_eq!(ran.exit, 1, "{ran:?}");
    let oom = ran.events("oom").remove(0);
    assert!(oom["requested_bytes"].as_u64().unwrap() > LARGEST_LEAST, "{oom}");
    assert!(said(&ran).starts_with("traintrue: out of memory: wgpu:0 has no room for "), "{}", ran.stderr);
    assert!(ran.events("update").is_empty());
}

/// Where a driver fails depends on the machine, so a few sizes are tried.
#[test]
fn an_address_space_that_is_too_small_never_ends_with_other_numbers() {
    let long: Vec<u64> = [1].into_iter().chain((0..2000).map(|at| 10 + at % 20)).chain([2]).collect();
    let plan = plan(|plan| {
        plan["data"]["samples"] = json!(vec![long.clone(); 4]);
        plan["data"]["max_length"] = json!(2002);
    });
    let last_state = |ran: &Ran| ran.events("state").pop().map(|state| state["tensors"].clone());
    let whole = train_after("true", &plan);
    let mut failed = 0;
    for kib in [1_200_000, 1_100_000, 1_000_000, 900_000] {
        let ran = train_after(&format!("ulimit -v {kib}"), &plan);
        if ran.exit == 0 {
            assert!(last_state(&ran) == last_state(&whole), "other parameters within {kib} KiB");
        } else {
            assert!(ran.events("end").iter().all(|end| end["reason"] == "error"), "{kib} KiB");
            failed += 1;
        }
    }
    assert!(failed > 0, "every size was enough");
}

#[test]
fn an_unload_gives_everything_back() {
    let plan = plan(|plan| {
        plan["sample_memory"] = json!(["load", "unload"]);
        plan["cycles"] = json!([{"size": "small"}, {"size": "tiny"}]);
        plan["probes"] = json!([{"name": "rows", "samples": [0]}]);
    });
    let ran = train_after("true", &plan);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let held = |at: &str, lane: &str| -> Vec<u64> {
        let samples = ran.events("memory").into_iter().filter(|it| it["at"] == at);
        samples.map(|it| it["lanes"][lane].as_u64().unwrap()).collect()
    };
    assert!(held("load", "device_in_use_bytes").iter().all(|&bytes| bytes > 0));
    assert_eq!(held("unload", "device_in_use_bytes"), [0, 0]);
    assert_eq!(held("unload", "device_reserved_bytes"), [0, 0]);
}
