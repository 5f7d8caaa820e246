//! `artefact/continues`: a later checkpoint's log continues where an earlier one's ended.

use traintrue_logs::Log;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::vocabulary::Component;

use super::entry;
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule};

pub(crate) static RULE: Rule = Rule {
    name: "artefact/continues",
    says: "a later checkpoint's log begins with the whole log of an earlier one",
    verifies: "Every entry of the earlier log is at the same place of the later one, with the same values, bit for \
               bit.",
    does_not_verify: "The later log's further entries (artefact/log).",
    kind: Kind::Artefact,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

pub(crate) fn judge(later: &Log, earlier: &Log, sheet: &mut Sheet) {
    for (at, was) in earlier.entries.iter().enumerate() {
        let is = later.entries.get(at);
        let line = is.map_or(0, |is| is.line);
        let same = is.is_some_and(|is| is.figures == was.figures);
        sheet.check_at(
            same,
            line,
            || entry(was.step),
            || Difference {
                expected: format!("the entry of line {} of {}", was.line, earlier.path.display()),
                actual: match is {
                    None => "the log ends before it".into(),
                    Some(is) if is.step != was.step => format!("an entry of step {}", is.step),
                    Some(_) => "other values at the same step".into(),
                },
                component: Component::Log,
                cause:
                    "the checkpoints are of different runs, or a resumed run did not restore the log of its checkpoint"
                        .into(),
            },
        );
    }
    if earlier.entries.is_empty() {
        sheet.cannot("the earlier log is empty");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;
    use serde_json::{Value, json};

    use super::super::testing::{broke, holds};
    use super::*;
    use crate::artefact::testing::state_text;

    fn judged(earlier: fn(&mut Value)) -> Sheet {
        let read =
            |text: &str| traintrue_logs::trainer_state::parse(Path::new("s.json"), text, false).unwrap();
        let mut sheet = Sheet::default();
        judge(&read(&state_text(|_| {})), &read(&state_text(earlier)), &mut sheet);
        sheet
    }

    #[test]
    fn a_log_that_goes_on_holds() {
        holds(&judged(|it| it["log_history"].as_array_mut().unwrap().truncate(6)));
    }

    #[rstest]
    #[case::longer(|it: &mut Value| it["log_history"].as_array_mut().unwrap().push(json!({"step": 11})), "the log ends before it")]
    #[case::another(|it: &mut Value| it["log_history"][2]["loss"] = json!(7.5), "found other values at the same step")]
    #[case::shifted(|it: &mut Value| { it["log_history"].as_array_mut().unwrap().remove(0); }, "found an entry of step 1")]
    fn another_log_breaks(#[case] earlier: fn(&mut Value), #[case] expected: &str) {
        let found = broke(&judged(earlier));
        assert!(found.contains(expected), "{found}");
    }
}
