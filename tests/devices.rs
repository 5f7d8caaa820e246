//! What `traintrue train` does on the devices that a plan names, through the real binary, which counts its heap.

use rstest::rstest;
use serde_json::{Value, json};

use crate::binary::{Ran, traintrue_reading};
use crate::inputs::PLAN;

fn train(devices: Value) -> Ran {
    let mut plan: Value = serde_json::from_str(PLAN).unwrap();
    plan["devices"] = devices;
    traintrue_reading(plan.to_string().as_bytes(), &["train"])
}

/// What the model of the plan needs: its parameters, and for each, as all of them learn, two moments and a gradient.
fn needed_bytes() -> u64 {
    let state = train(json!([{}])).events("state").remove(0);
    let elements = |tensor: &Value| -> u64 {
        tensor["shape"].as_array().unwrap().iter().map(|extent| extent.as_u64().unwrap()).product()
    };
    4 * 4 * state["tensors"].as_array().unwrap().iter().map(elements).sum::<u64>()
}

#[test]
fn a_model_fits_into_what_it_needs_and_into_not_a_byte_less() {
    let needed = needed_bytes();
    let moved = |budget: u64| {
        let ran = train(json!([{"budget_bytes": budget}, {"device": "ndarray"}]));
        (ran.events("adapted").len(), ran.exit)
    };
    assert_eq!(moved(needed - 1), (1, 0));
    // It fits, and has no room for an activation.
    assert_eq!(moved(needed), (0, 1));
}

#[test]
fn a_run_that_is_out_of_memory_says_so_and_is_exit_1() {
    let needed = needed_bytes();
    let ran = train(json!([{"budget_bytes": needed}])).with_exit(1);
    let oom = ran.events("oom").remove(0);
    assert!(oom["requested_bytes"].as_u64().unwrap() > needed, "{oom}");
    assert_eq!(ran.events("end")[0]["reason"], "error");
    assert!(ran.stderr.starts_with("traintrue: out of memory: ndarray has no room for "), "{}", ran.stderr);
}

#[rstest]
#[case(json!([{"device": "tpu"}]), "tpu: unknown device \"tpu\": expected ndarray, flex, cuda:N or wgpu:N; the plan names no other")]
#[case(json!([{"device": "cuda:99"}, {"budget_bytes": 1}]), "ndarray within 1 B: the model needs ")]
fn a_run_without_a_device_is_refused_before_anything_is_loaded(#[case] devices: Value, #[case] said: &str) {
    let ran = train(devices).with_exit(2);
    assert!(ran.stderr.starts_with(&format!("traintrue: {said}")), "{}", ran.stderr);
    assert!(ran.events("state").is_empty() && ran.events("oom").is_empty());
    let end = ran.events("end").remove(0);
    assert!(end["message"].as_str().unwrap().starts_with(said), "{end}");
}
