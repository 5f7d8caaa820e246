//! The example trainers with a planted bug are caught, by the tests that their authors would have.

#[path = "../examples/lost_window.rs"]
mod lost_window;
#[path = "../examples/unseeded_order.rs"]
mod unseeded_order;

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

/// Names the broken trainer whose tests this binary is to be; where it is not set, the binary is the test of those.
const TRAINER: &str = "TRAINTRUE_TEST_TRAINER";

fn main() -> ExitCode {
    match std::env::var(TRAINER).as_deref() {
        Ok("lost-window") => traintrue::test_main(lost_window::trainer),
        Ok("own-scenarios") => traintrue::test_main_with(unseeded_order::trainer, &["tests/scenarios"]),
        Ok("no-scenarios") => traintrue::test_main_with(unseeded_order::trainer, &["tests/absent"]),
        Ok(_) => traintrue::test_main(unseeded_order::trainer),
        Err(_) => {}
    }
    let tests = vec![
        Trial::test("a_window_lost_at_a_resume_fails_the_test_with_its_finding", a_lost_window_fails),
        Trial::test("what_a_lost_window_does_not_touch_still_passes", the_rest_passes),
        Trial::test("an_order_that_nobody_seeded_fails_the_test_with_its_finding", an_unseeded_order_fails),
        Trial::test("a_scenario_of_ones_own_is_a_test_beside_those_that_are_shipped", ones_own_is_a_test),
        Trial::test("a_folder_that_is_not_there_is_said_before_a_test_runs", a_folder_is_missing),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

fn a_lost_window_fails() -> Result<(), Failed> {
    let expected = [
        "test resume-mid-window ... FAILED",
        "resume-mid-window: window/closes-as-declared is broken in cut-1593",
        "cause      the partial window was lost: micro-batch 1592 of epoch 0 never reaches an update",
        "seam/identical is broken in cut-1593",
        "component  boundary",
        "--as-trainer",
    ];
    says("lost-window", "resume-mid-window", 101, &expected)
}

fn the_rest_passes() -> Result<(), Failed> {
    says("lost-window", "determinism", 0, &["test determinism ... ok"])
}

fn an_unseeded_order_fails() -> Result<(), Failed> {
    let expected = [
        "test determinism ... FAILED",
        "determinism: determinism/repeat is broken in again",
        "component  seeding",
    ];
    says("unseeded-order", "determinism", 101, &expected)
}

fn ones_own_is_a_test() -> Result<(), Failed> {
    let expected = [
        "running 2 tests",
        "determinism: determinism/repeat is broken in again",
        "test determinism-of-one-epoch ... FAILED",
        "determinism-of-one-epoch: determinism/repeat is broken in again",
        "--scenarios",
        "tests/scenarios",
    ];
    says("own-scenarios", "determinism", 101, &expected)
}

fn a_folder_is_missing() -> Result<(), Failed> {
    says("no-scenarios", "determinism", 2, &["tests/absent: cannot read the scenarios: "])
}

/// The broken trainer's tests of this name end with a status, and say all of this.
fn says(trainer: &str, test: &str, status: i32, expected: &[&str]) -> Result<(), Failed> {
    let own = std::env::current_exe()?;
    let output = Command::new(own).arg(test).env(TRAINER, trainer).env_remove("NEXTEST").output()?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let missing = expected.iter().find(|it| !said.contains(**it));
    if output.status.code() == Some(status) && missing.is_none() {
        Ok(())
    } else {
        Err(format!("{:?}: {missing:?} in {said}", output.status).into())
    }
}
