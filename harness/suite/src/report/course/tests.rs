//! What is read of a run: the loss of each update, its place among processes, and the exact values at one place.

use std::path::{Path, PathBuf};

use rstest::rstest;
use traintrue_judge::testing::{at, cut_at, state_at, update_at, whole};
use traintrue_protocol::trace::TraceWriter;
use traintrue_protocol::trace::event::Loss;
use traintrue_protocol::vocabulary::Moment;

use super::*;

/// Writes the segments of a run.
pub(in crate::report) fn written(folder: &Path, name: &str, segments: &[Vec<Event>]) -> RunEvidence {
    let write = |(number, events): (usize, &Vec<Event>)| -> PathBuf {
        let path = folder.join(format!("{name}.{number}.jsonl"));
        let mut writer = TraceWriter::new(std::fs::File::create(&path).unwrap());
        events.iter().for_each(|event| writer.write(event).unwrap());
        path
    };
    let segments = segments.iter().enumerate().map(write).collect();
    RunEvidence { name: name.into(), segments, repeats: Vec::new() }
}

fn read(segments: &[Vec<Event>], place: Option<Place>) -> Course {
    let folder = tempfile::tempdir().unwrap();
    let wanted = Reading { place, ..Reading::default() };
    Course::read(&written(folder.path(), "run", segments), &wanted).unwrap()
}

/// The line of an event, from 1.
fn line(events: &[Event], is: impl Fn(&Event) -> bool) -> u64 {
    events.iter().position(is).unwrap() as u64 + 1
}

fn micro_batch(losses: &[(&str, f64, u64)], backward: Option<f64>) -> MicroBatch {
    let losses = losses.iter().map(|(name, sum, weight)| Loss::new(*name, *sum, *weight)).collect();
    MicroBatch { losses, backward: backward.map(Number), ..MicroBatch::default() }
}

#[rstest]
#[case::mean_over_targets(&[micro_batch(&[("lm", 6.0, 2)], None), micro_batch(&[("lm", 2.0, 2)], None)], Some(2.0))]
#[case::a_head_beside(&[micro_batch(&[("lm", 6.0, 2), ("head", 1.0, 2)], None)], Some(3.5))]
#[case::what_backward_ran_on(&[micro_batch(&[("lm", 6.0, 2)], Some(0.5)), micro_batch(&[], Some(0.25))], Some(0.75))]
#[case::no_target(&[micro_batch(&[("lm", 0.0, 0)], None)], None)]
#[case::no_loss(&[micro_batch(&[], None)], None)]
#[case::nothing(&[], None)]
fn the_loss_of_an_update_is_what_it_is_made_from(#[case] window: &[MicroBatch], #[case] loss: Option<f64>) {
    let mut open = Window::default();
    window.iter().for_each(|it| open.add(it));
    assert_eq!(open.close(), loss);
    assert_eq!(open.close(), None, "the next window is empty");
}

#[test]
fn a_run_has_a_loss_a_rate_and_a_norm_after_every_update() {
    let course = read(&[whole()], None);
    let updates = whole().iter().filter(|event| matches!(event, Event::Update(_))).count() as u64;
    assert_eq!(course.span(), Some((1, updates)));
    for quantity in Quantity::ALL {
        let (curves, all) = course.of(quantity);
        assert_eq!((curves.len(), all), (1, 1), "{quantity:?}");
        assert_eq!(curves[0].lines().concat().len() as u64, updates, "{quantity:?}");
    }
}

#[test]
fn a_cut_run_goes_on_where_it_was_cut() {
    let course = read(&cut_at(at(0, 3)), None);
    assert_eq!(course.span(), read(&[whole()], None).span());
    let updates = |segment: &[Event]| segment.iter().filter(|it| matches!(it, Event::Update(_))).count();
    assert_eq!(course.seams, [updates(&cut_at(at(0, 3))[0]) as u64]);
    assert_eq!(course.of(Quantity::Loss).0[0].lines().len(), 1);
}

#[test]
fn a_place_belongs_to_an_update_and_its_values_are_exact() {
    let mut events = whole();
    let rate = update_at(&mut events, 2).lr[0].0;
    let update = line(&events, |it| matches!(it, Event::Update(it) if it.step == 2));
    let course = read(std::slice::from_ref(&events), Some((0, update)));
    assert_eq!((course.update, course.at(2, Quantity::Rate)), (Some(2), vec![rate]));
    // A micro-batch is for the update that comes.
    let before = (update - 1).max(1);
    assert!(matches!(events[before as usize - 1], Event::MicroBatch(_)));
    let course = read(std::slice::from_ref(&events), Some((0, before)));
    assert_eq!((course.update, course.at(2, Quantity::Rate)), (Some(2), vec![rate]));
    assert!(course.at(1, Quantity::Rate).is_empty(), "nobody asked");
    let start = line(&events, |it| matches!(it, Event::State(it) if it.at == Moment::Start));
    assert_eq!(read(&[events], Some((0, start))).update, Some(0));
}

#[test]
fn a_recording_that_counts_from_1_again_goes_on_from_the_update_that_it_was_resumed_from() {
    let recorded = |mut events: Vec<Event>| {
        let Event::Run(run) = &mut events[0] else { panic!("a trace begins with its run") };
        run.recorded = Some(Default::default());
        events
    };
    let folder = tempfile::tempdir().unwrap();
    let run = written(folder.path(), "run", &[recorded(whole()), recorded(whole())]);
    let (_, all) = read(&[whole()], None).span().unwrap();
    let read = |resumed_from| Course::read(&run, &Reading { resumed_from, ..Reading::default() }).unwrap();
    assert_eq!((read(Some(2)).span(), read(Some(2)).seams), (Some((1, all + 2)), vec![2]));
    assert_eq!((read(None).span(), read(None).seams), (Some((1, 2 * all)), vec![all]));
}

#[test]
fn a_trace_that_breaks_off_is_read_up_to_there() {
    let folder = tempfile::tempdir().unwrap();
    let run = written(folder.path(), "run", &[whole()]);
    let text = std::fs::read_to_string(&run.segments[0]).unwrap();
    std::fs::write(&run.segments[0], &text[..text.len() * 2 / 3]).unwrap();
    let half = Course::read(&run, &Reading::default()).unwrap().span().unwrap();
    assert!(half.1 < read(&[whole()], None).span().unwrap().1);
    std::fs::remove_file(&run.segments[0]).unwrap();
    assert!(Course::read(&run, &Reading::default()).is_err());
}

#[test]
fn groups_with_one_course_are_one_curve() {
    let mut events = whole();
    for event in &mut events {
        if let Event::Update(it) = event {
            let rate = it.lr[0].0;
            it.lr = [1.0, 1.0, 0.1, 0.01, 0.001, 0.0001].map(|factor| Number(rate * factor)).to_vec();
        }
    }
    let (shown, all) = (read(&[events], None).of(Quantity::Rate).0.len(), 5);
    assert_eq!((shown, all), (CURVES_MOST, 5));
}

#[test]
fn a_state_is_after_the_updates_that_are_done() {
    let mut events = whole();
    let step = state_at(&mut events, Moment::End).step;
    let end = line(&events, |it| matches!(it, Event::State(it) if it.at == Moment::End));
    let course = read(&[events], Some((0, end)));
    assert_eq!((course.update, course.at(step, Quantity::Rate).len()), (Some(step), 1));
}

#[test]
fn a_range_of_updates_is_read_alone() {
    let folder = tempfile::tempdir().unwrap();
    let run = written(folder.path(), "run", &[whole()]);
    let wanted = Reading { within: Some(2..=3), asked: [1].into(), ..Reading::default() };
    let course = Course::read(&run, &wanted).unwrap();
    assert_eq!((course.span(), course.at(1, Quantity::Loss).len()), (Some((2, 3)), 1));
}
