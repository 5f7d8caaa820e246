//! What a configuration file says, and what is refused.

use rstest::rstest;
use traintrue_protocol::contract::Tail;

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    let catalogue = Catalogue::load(None).unwrap();
    let config = Config::parse(Path::new("repo/traintrue.toml"), text);
    let checked = config.and_then(|config| config.check(&catalogue).map(|()| config));
    checked.map_err(|error| error.to_string())
}

const WHOLE: &str = r#"catalogue = "0.1"
scenarios = "mine"

[trainer]
command = "python train.py"
contract = { tail = "carry", deterministic = false }

[limits]
timeout_seconds = 120
jobs = 2
trace = "1MiB"

[[waive]]
scenario = "determinism"
reason = "known"
until = 2027-03-31

[[waive]]
invariant = "seam/identical"
scenario = "resume-mid-window"
reason = "also known"
until = 2027-04-01
"#;

#[test]
fn a_file_says_it_once() {
    let config = parse(WHOLE).unwrap();
    assert_eq!(config.trainer.as_deref(), Some("python train.py"));
    let stated = Stated { tail: Some(Tail::Carry), deterministic: Some(false), ..Stated::default() };
    assert_eq!(config.contract, stated);
    assert_eq!(config.contract.to_string(), "deterministic false, tail carry");
    assert_eq!(config.scenarios, Some(PathBuf::from("repo/mine")));
    assert_eq!(config.catalogue.unwrap().to_string(), "0.1");
    assert_eq!((config.timeout_seconds.unwrap().get(), config.jobs.unwrap().get()), (120, 2));
    assert_eq!(config.trace, Some(Bytes(1 << 20)));
    let lines: Vec<u64> = config.waivers.iter().map(|waiver| waiver.line).collect();
    assert_eq!(lines, [13, 18]);
    assert_eq!(config.waivers[1].until.to_string(), "2027-04-01");
}

#[test]
fn an_empty_file_says_nothing() {
    let config = parse("").unwrap();
    assert_eq!((config.trainer, config.contract, config.waivers), (None, Stated::default(), Vec::new()));
}

#[rstest]
#[case::unknown_key("jobs = 2", "job = 2", "10: unknown field `job`, expected one of ")]
#[case::unknown_table("[limits]", "[limit]", "8: unknown field `limit`")]
#[case::unknown_convention("tail =", "tial =", "6: unknown field `tial`")]
#[case::other_convention("\"carry\"", "\"keep\"", "6: unknown variant `keep`, expected one of ")]
#[case::no_time("= 120", "= 0", "9: ")]
#[case::no_unit("\"1MiB\"", "\"1000000\"", "11: limits.trace: \"1000000\" has no unit")]
#[case::no_version("\"0.1\"", "\"newest\"", "1: catalogue: \"newest\" is no version")]
#[case::to_come("\"0.1\"", "\"99.0\"", "1: catalogue: 99.0 is to come: this is traintrue ")]
#[case::not_toml("[limits]", "[limits", "8: ")]
#[case::waives_nothing("scenario = \"determinism\"\n", "", "13: waive: it waives nothing")]
#[case::no_reason("reason = \"known\"", "reason = \" \"", "13: waive.reason: it is empty")]
#[case::reason_missing("reason = \"known\"\n", "", "13: missing field `reason`")]
#[case::no_such_day("2027-03-31", "2027-02-30", "16: ")]
#[case::a_moment("2027-03-31", "2027-03-31T12:00:00Z", "13: waive.until: 2027-03-31T12:00:00Z is no day")]
#[case::no_scenario(
    "\"determinism\"",
    "\"determinsm\"",
    "13: waive.scenario: nothing is called \"determinsm\"; nearest: determinism"
)]
#[case::no_invariant(
    "\"seam/identical\"",
    "\"seam/identicle\"",
    "18: waive.invariant: nothing is called \"seam/identicle\"; nearest: seam/identical"
)]
fn a_file_with_a_mistake_is_one_clear_error(#[case] from: &str, #[case] to: &str, #[case] message: &str) {
    assert!(WHOLE.contains(from));
    let error = parse(&WHOLE.replacen(from, to, 1)).unwrap_err();
    assert!(error.starts_with(&format!("repo/traintrue.toml:{message}")), "{error}");
}

#[test]
fn a_file_that_is_asked_for_and_not_there_is_an_error() {
    let error = Config::find(Some(Path::new("/no/such/traintrue.toml"))).unwrap_err().to_string();
    assert!(error.starts_with("/no/such/traintrue.toml: cannot read the configuration: "), "{error}");
}
