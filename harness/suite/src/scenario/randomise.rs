//! The same scenario on a random plan, so that neither an invariant nor a fault is tuned to the plan that was written.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::file::{Cut, RunSpec, Scenario};

/// Cuts that a random plan keeps of a run that is made at many.
const CUTS_KEPT: usize = 3;

/// Draws for one cut: a short epoch may not have another place.
const DRAWS_MOST: usize = 64;

/// The scenario with a random seed, another part of the corpus, one value for each path of its `random` table, and its cuts
/// somewhere else. The same seed gives the same scenario.
pub fn randomised(scenario: &Scenario, seed: u64) -> Scenario {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut random = scenario.clone();
    put(&mut random.plan, "seed", toml::Value::Integer(rng.random_range(0..=i64::from(u32::MAX))));
    put(&mut random.plan, "data.offset", toml::Value::Integer(rng.random_range(0..1_000_000)));
    for (path, values) in &scenario.random {
        if let Some(value) = values.choose(&mut rng) {
            put(&mut random.plan, path, value.clone());
        }
    }
    let moved: Vec<RunSpec> = random.runs.iter().map(|run| moved(&random, run, &mut rng)).collect();
    for run in moved.iter().filter(|run| run.each_cut_after.is_some()) {
        widen(&mut random, &run.name);
    }
    random.runs = moved;
    random
}

/// Sets the value at a dotted path; tables on the way are made where they are missing.
fn put(table: &mut toml::Table, path: &str, value: toml::Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// The run with its cuts redrawn, each within its epoch and before the run's end.
fn moved(scenario: &Scenario, run: &RunSpec, rng: &mut ChaCha8Rng) -> RunSpec {
    // A random plan that cannot be built is reported when it is expanded, with the field that is wrong.
    let Ok(spec) = scenario.plan_spec(run) else {
        return run.clone();
    };
    let data = &spec.data;
    let batch = data.batch.max(1);
    let batches = if data.drop_last { data.samples / batch } else { data.samples.div_ceil(batch) };
    let length = batches / spec.train.world.max(1);
    let last = Cut { epoch: data.epochs.saturating_sub(1), micro_batches: length };

    let mut run = run.clone();
    run.until = run.until.filter(|until| until.epoch <= last.epoch);
    if let Some(until) = &mut run.until {
        until.micro_batches = until.micro_batches.min(length);
    }
    let end = run.until.unwrap_or(last);
    let mut draw = |epoch: u64| {
        let epoch = epoch.min(end.epoch);
        let most = if epoch == end.epoch { end.micro_batches } else { length };
        Cut { epoch, micro_batches: rng.random_range(0..=most) }
    };
    let mut drawn: Vec<Cut> = Vec::new();
    for cut in &run.cuts {
        // Two cuts at one place leave one checkpoint, and no other to fall back on where that is damaged.
        let fresh = |it: &Cut| run.damage.is_none() || !drawn.contains(it);
        drawn.push((0..DRAWS_MOST).map(|_| draw(cut.epoch)).find(fresh).unwrap_or(*cut));
    }
    drawn.sort();
    run.cuts = drawn;
    if let Some(each) = &mut run.each_cut_after {
        each.micro_batches.truncate(CUTS_KEPT);
        for cut in &mut each.micro_batches {
            *cut = draw(each.epoch).micro_batches;
        }
        each.epoch = each.epoch.min(end.epoch);
        each.micro_batches.sort_unstable();
        each.micro_batches.dedup();
    }
    run
}

/// A run that was named with its cut is now any run of the same template.
fn widen(scenario: &mut Scenario, template: &str) {
    let Some((before, after)) = template.split_once("{}") else {
        return;
    };
    let is_one = |name: &str| {
        let cut = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        cut.is_some_and(|cut| !cut.is_empty() && cut.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let runs = scenario.faults.iter_mut().flat_map(|fault| &mut fault.runs);
    for name in runs.chain(scenario.expectations.iter_mut().map(|it| &mut it.runs)) {
        if is_one(name) {
            *name = format!("{before}*");
        }
    }
}
