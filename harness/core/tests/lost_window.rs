//! The example trainer with its planted bug is caught, by the tests that its author would have.

#[path = "../examples/lost_window.rs"]
mod lost_window;

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

/// Set where this binary is to be the tests of the broken trainer, and not the test of those.
const BROKEN: &str = "TRAINTRUE_TEST_LOST_WINDOW";

fn main() -> ExitCode {
    if std::env::var_os(BROKEN).is_some() {
        traintrue::test_main(lost_window::trainer);
    }
    let tests = vec![
        Trial::test("a_window_lost_at_a_resume_fails_the_test_with_its_finding", a_lost_window_fails),
        Trial::test("what_the_bug_does_not_touch_still_passes", the_rest_passes),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// The status and the output of the broken trainer's tests of this name.
fn broken(filter: &str) -> Result<(Option<i32>, String), Failed> {
    let own = std::env::current_exe()?;
    let output = Command::new(own).arg(filter).env(BROKEN, "1").env_remove("NEXTEST").output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn a_lost_window_fails() -> Result<(), Failed> {
    let (status, said) = broken("resume-mid-window")?;
    let expected = [
        "test resume-mid-window ... FAILED",
        "resume-mid-window: seam/identical is broken in cut-1593",
        "the partial window was lost at the cut: 1 micro-batch",
        "component  boundary",
        "--as-trainer",
    ];
    let missing = expected.iter().find(|it| !said.contains(**it));
    if status == Some(101) && missing.is_none() {
        Ok(())
    } else {
        Err(format!("{status:?}: {missing:?} in {said}").into())
    }
}

fn the_rest_passes() -> Result<(), Failed> {
    let (status, said) = broken("determinism")?;
    let passed = status == Some(0) && said.contains("test determinism ... ok");
    if passed { Ok(()) } else { Err(format!("{status:?}: {said}").into()) }
}
