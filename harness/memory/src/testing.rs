//! A sampled run for tests.

use std::path::Path;

use traintrue_protocol::contract::Contract;
use traintrue_protocol::plan::{Boundary, SCHEMA, example};
use traintrue_protocol::trace::TraceWriter;
use traintrue_protocol::trace::event::{Checkpoint, CheckpointEdge, Epoch, Evaluation, Event, Memory, Run};

/// A run of three epochs of 40 updates, with an evaluation after each twentieth and a checkpoint after each fortieth:
/// the lanes hold what `held` says.
pub fn sampled(to: &Path, held: impl Fn(u64) -> Vec<(&'static str, Option<u64>)>) {
    let mut events = vec![run()];
    for step in 1..=120 {
        events.push(update(step));
        let lanes = held(step).into_iter().map(|(lane, bytes)| (lane.to_owned(), bytes)).collect();
        events.push(Event::Memory(Memory { at: Boundary::Update, step, lanes }));
        if step % 20 == 0 {
            let lanes = [("rss_bytes".to_owned(), Some(u64::MAX))].into();
            events.push(Event::Memory(Memory { at: Boundary::Evaluation, step, lanes }));
            events.push(evaluation(step));
        }
        if step % 40 == 0 {
            let epoch = step / 40 - 1;
            let checkpoint = Checkpoint::new(CheckpointEdge::Saved, step, (epoch, 40), "checkpoint");
            events.push(Event::Checkpoint(checkpoint));
            events.push(Event::Epoch(Epoch::end(epoch)));
        }
    }
    let mut writer = TraceWriter::new(std::fs::File::create(to).expect("a trace file"));
    events.iter().for_each(|event| writer.write(event).expect("a written event"));
}

fn update(step: u64) -> Event {
    Event::Update(serde_json::from_value(serde_json::json!({ "step": step })).expect("an update"))
}

fn evaluation(step: u64) -> Event {
    let evaluation: Evaluation =
        serde_json::from_value(serde_json::json!({ "step": step })).expect("an evaluation");
    Event::Evaluation(evaluation)
}

fn run() -> Event {
    Event::from(Run {
        schema: SCHEMA,
        trainer: "sampled 1".to_owned(),
        device: "none".to_owned(),
        scenario: "sampled".to_owned(),
        run: "whole".to_owned(),
        plan: example(),
        recorded: None,
        contract: Contract::default(),
    })
}
