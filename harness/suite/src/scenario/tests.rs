//! From a scenario file to literal plans, as written and on random ones.

use std::path::Path;

use rstest::rstest;
use traintrue_judge::expectation::selects;
use traintrue_protocol::plan::Plan;
use traintrue_protocol::vocabulary::Capability;

use super::*;

const SCENARIO: &str = r#"
schema = 1
id = "example"
title = "t"
class = "c"
bug = "b"
cost = "c"
[plan]
seed = 1
model = { size = "tiny" }
save_every = 2
[plan.data]
samples = 20
evaluation = 2
piece_bytes = 16
empty = [3]
batch = 2
epochs = 2
shuffle = false
padding = { policy = "longest", side = "right", multiple_of = 1 }
max_length = 32
[plan.train]
accumulation = 4
optimizer = { name = "adamw", lr = 1e-3, betas = [0.9, 0.999], eps = 1e-8, decay = 0.0 }
schedule = { name = "constant", warmup = 0 }
[[runs]]
name = "whole"
[[runs]]
name = "large"
one_batch = true
[[runs]]
name = "cut-{}"
with = { train = { dropout = 0.5 } }
each_cut_after = { epoch = 0, micro_batches = [3, 4, 7, 9] }
until = { epoch = 1, micro_batches = 8 }
[[holds]]
invariant = "determinism/repeat"
runs = "cut-*"
against = "whole"
[[faults]]
id = "fault"
what = "w"
component = "boundary"
must = ["determinism/repeat"]
runs = ["cut-7"]
[random]
"data.samples" = [9]
"data.batch" = [3]
"#;

fn scenario() -> Scenario {
    Scenario::parse(Path::new("example.toml"), SCENARIO).unwrap()
}

fn runs(scenario: &Scenario) -> Vec<ConcreteRun> {
    expand(scenario, &Corpus::shipped().unwrap(), Path::new("/scratch")).unwrap().runs
}

#[test]
fn what_a_trainer_cannot_do_and_no_scenario_needs_is_left_out_of_the_plan_and_said() {
    let mut scenario = scenario();
    let train = scenario.plan["train"].as_table_mut().unwrap();
    train.insert("heads".to_owned(), vec!["projection"].into());
    let adapters: toml::Table = "r = 4\nalpha = 16\ntargets = ['q']".parse().unwrap();
    train.insert("adapters".to_owned(), adapters.into());
    let offered = |capabilities: &[Capability]| {
        let mut expansion = expand(&scenario, &Corpus::shipped().unwrap(), Path::new("/scratch")).unwrap();
        assert_eq!(expansion.offer(capabilities), []);
        let train = expansion.runs[0].segments[0].plan.train.clone();
        (train.adapters.is_some(), train.heads.len(), expansion.notes)
    };
    assert_eq!(offered(&[Capability::Adapters, Capability::Heads, Capability::Resume]), (true, 1, vec![]));
    let note = "left out of the plans, because the trainer does not list it: adapters, heads";
    assert_eq!(offered(&[Capability::Resume]), (false, 0, vec![note.to_owned()]));
}

#[test]
fn a_plan_has_its_data_spelt_out_and_a_run_lays_its_own_over_it() {
    let runs = runs(&scenario());
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    assert_eq!(names, ["whole", "large", "cut-3", "cut-4", "cut-7", "cut-9"]);
    let whole = &runs[0].segments[0].plan;
    assert_eq!((whole.data.samples.len(), whole.data.evaluation.len()), (20, 2));
    assert!(whole.data.samples[3].is_empty());
    assert_eq!(whole.save_to.as_deref(), Some(Path::new("/scratch/whole")));
    let large = &runs[1].segments[0].plan;
    assert_eq!((large.data.batch, large.train.accumulation), (8, 1));
    assert_eq!(runs[2].segments[0].plan.train.dropout, 0.5);
}

#[test]
fn a_cut_saves_and_stops_and_the_next_process_starts_from_there() {
    let runs = runs(&scenario());
    let [first, second] = runs[2].segments.as_slice() else { panic!("two segments") };
    let stop = |plan: &Plan| plan.stop.clone().map(|stop| (stop.epoch, stop.micro_batches, stop.save));
    assert_eq!(stop(&first.plan), Some((0, 3, Some("/scratch/cut-3".into()))));
    assert_eq!(
        (first.plan.start.clone(), second.plan.start.clone().unwrap().from),
        (None, "/scratch/cut-3".into())
    );
    assert_eq!(stop(&second.plan), Some((1, 8, None)));
}

#[test]
fn the_evaluation_samples_follow_the_training_samples() {
    let plan = &runs(&scenario())[0].segments[0].plan;
    let pieces = Corpus::shipped().unwrap().samples(22, 16, 0).ids;
    assert_eq!(plan.data.evaluation, pieces[20..]);
}

#[test]
fn a_short_corpus_is_noted_once() {
    let corpus = Corpus::parse(Path::new("c"), b"{\"text\": \"one two three four five six\"}").unwrap();
    let expansion = expand(&scenario(), &corpus, Path::new("/scratch")).unwrap();
    assert_eq!(expansion.notes, ["the corpus is too short: it was repeated 10 times, in order"]);
}

#[test]
fn random_plans_are_the_seeds_own_and_stay_within_their_epochs() {
    for seed in 0..50 {
        let random = randomised(&scenario(), seed);
        assert_eq!(random, randomised(&scenario(), seed));
        assert_eq!(random.faults[0].runs, ["cut-*"]);
        let runs = runs(&random);
        let cuts: Vec<&ConcreteRun> = runs.iter().filter(|run| selects("cut-*", &run.name)).collect();
        assert!((1..=3).contains(&cuts.len()));
        for run in cuts {
            let plan = &run.segments[0].plan;
            assert_eq!((plan.data.samples.len(), plan.data.batch), (9, 3));
            assert!(plan.stop.as_ref().unwrap().micro_batches <= 3);
            assert!(run.segments[1].plan.stop.as_ref().unwrap().micro_batches <= 3);
        }
    }
    assert_ne!(randomised(&scenario(), 1).plan["seed"], randomised(&scenario(), 2).plan["seed"]);
}

#[rstest]
#[case(
    "piece_bytes = 16",
    "piece_bytes = 3",
    "example.toml:27: runs.whole: data.piece_bytes: 3, expected at least 4"
)]
#[case(
    "samples = 20",
    "samples = 2000000",
    "example.toml:27: runs.whole: data.samples: 2000000, expected at most 1000000"
)]
#[case(
    "empty = [3]",
    "empty = [20]",
    "example.toml:27: runs.whole: data.empty: 20, expected ids below data.samples, 20"
)]
#[case(
    "batch = 2",
    "batch = -2",
    "example.toml:27: runs.whole: data.batch: invalid value: integer `-2`, expected u64"
)]
#[case(
    "lr = 1e-3",
    "lr = \"nan\"",
    "example.toml:27: runs.whole: train.optimizer.lr: invalid type: string \"nan\", expected f64"
)]
#[case(
    "seed = 1",
    "sead = 1",
    "example.toml:27: runs.whole: sead: unknown field `sead`, expected one of `seed`"
)]
#[case("name = \"whole\"", "nam = \"whole\"", "example.toml:27: unknown field `nam`, expected one of `name`")]
#[case(
    "name = \"whole\"",
    "name = \"/tmp/whole\"",
    "example.toml:27: runs.name: \"/tmp/whole\", expected letters, digits, - and _"
)]
#[case("id = \"example\"", "id = \"..\"", "example.toml:3: id: \"..\", expected letters, digits, - and _")]
#[case("name = \"cut-{}\"", "name = \"cut\"", "example.toml:32: runs.name: \"cut\" is there twice")]
#[case("schema = 1", "schema = 2", "example.toml:2: schema 2, this command reads schema 1")]
#[case("class = \"c\"", "class = ", "example.toml:5: ")]
#[case(
    "runs = \"cut-*\"",
    "runs = \"kut-*\"",
    "example.toml:38: holds.runs: no run is called \"kut-*\"; nearest: cut-"
)]
#[case(
    "against = \"whole\"",
    "against = \"whol\"",
    "example.toml:39: holds.against: no run is called \"whol\"; nearest: whole"
)]
#[case(
    "against = \"whole\"",
    "against = \"whole*\"",
    "example.toml:39: holds.against: no run is called \"whole*\"; nearest: whole"
)]
#[case(
    "runs = [\"cut-7\"]",
    "runs = [\"whole\", \"cut-8\"]",
    "example.toml:45: faults.runs: no run is called \"cut-8\"; nearest: cut-"
)]
#[case(
    "component = \"boundary\"",
    "component = \"boundry\"",
    "example.toml:43: unknown component \"boundry\"; nearest: boundary"
)]
#[case(
    "cost = \"c\"",
    "cost = \"c\"\nneeds = [\"resmue\"]",
    "example.toml:8: unknown capability \"resmue\"; nearest: resume"
)]
fn a_scenario_with_a_mistake_is_one_clear_error(#[case] from: &str, #[case] to: &str, #[case] message: &str) {
    let error =
        Scenario::parse(Path::new("example.toml"), &SCENARIO.replacen(from, to, 1)).unwrap_err().to_string();
    assert!(error.starts_with(message), "{error}");
}

#[rstest]
#[case("batch = 2", "batch = 0", "example: runs.whole: plan: data.batch: found 0, expected a count")]
#[case(
    "dropout = 0.5",
    "dropout = nan",
    "example: runs.cut-3: plan: train.dropout: found NaN, expected a number from 0"
)]
#[case(
    "epoch = 1",
    "epoch = 2",
    "example: runs.cut-3: plan: stop.epoch: found 2, expected less than data.epochs, 2"
)]
#[case(
    "[3, 4, 7, 9]",
    "[7, 11]",
    "example: runs.cut-11: a stop after 11 micro-batches of epoch 0, expected at most 10: an epoch has no more"
)]
fn a_scenario_whose_plans_cannot_be_followed_is_one_clear_error(
    #[case] from: &str,
    #[case] to: &str,
    #[case] message: &str,
) {
    let scenario = Scenario::parse(Path::new("example.toml"), &SCENARIO.replacen(from, to, 1)).unwrap();
    let error =
        expand(&scenario, &Corpus::shipped().unwrap(), Path::new("/scratch")).unwrap_err().to_string();
    assert!(error.starts_with(message), "{error}");
}
