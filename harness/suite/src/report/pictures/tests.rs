//! Pairs of runs as pictures, from synthetic traces: what stands where, and what is said.

use std::collections::BTreeSet;

use roxmltree::Document;
use rstest::rstest;
use traintrue_judge::case::compare;
use traintrue_judge::rules::find;
use traintrue_judge::testing::{at, cut_at, update_at, whole};
use traintrue_judge::verdict::Pair;
use traintrue_memory::timeline::usual_limit;
use traintrue_protocol::number::Number;
use traintrue_protocol::trace::Event;
use traintrue_protocol::trace::event::Update;

use super::*;
use crate::report::course::tests::written;
use crate::report::plot::style::written as colour;
use crate::report::tests::report;

/// A report on one run that was held against another.
pub(in crate::report) fn pictures(run: &[Vec<Event>], against: &[Vec<Event>]) -> Pictures {
    let folder = tempfile::tempdir().unwrap();
    Pictures::of(&judged(folder.path(), run, against), usual_limit).unwrap()
}

fn judged(folder: &Path, run: &[Vec<Event>], against: &[Vec<Event>]) -> RunReport {
    let (run, against) = (written(folder, "cut-3", run), written(folder, "whole", against));
    let rule = find("seam/identical").unwrap();
    let sheet = compare(rule, &run, Some(&against));
    let mut report = report();
    report.outcomes.truncate(1);
    report.outcomes[0].traces = [run.segments.clone(), against.segments.clone()].concat();
    report.outcomes[0].pairs = vec![Pair {
        invariant: rule.name.into(),
        run,
        against,
        compared: sheet.compared,
        resumed_from: sheet.resumed_from,
        broken: sheet.broken,
    }];
    report
}

fn with_norm(step: u64, norm: f64) -> Vec<Event> {
    let mut events = whole();
    update_at(&mut events, step).grad_norm = Some(Number(norm));
    events
}

/// The lines of one role in a picture, as points.
fn lines(svg: &str, role: Role) -> Vec<Vec<(f64, f64)>> {
    let document = Document::parse(svg).unwrap();
    let of_role = document
        .descendants()
        .filter(|it| it.has_tag_name("polyline") && it.attribute("stroke") == Some(&*colour(role)));
    let point = |point: &str| {
        let (x, y) = point.split_once(',').unwrap();
        (x.parse().unwrap(), y.parse().unwrap())
    };
    let points =
        |it: roxmltree::Node| it.attribute("points").unwrap().split_whitespace().map(point).collect();
    of_role.map(points).collect()
}

#[test]
fn equal_runs_have_no_difference_and_no_mark() {
    let pictures = pictures(&cut_at(at(0, 3)), &[whole()]);
    let it = &pictures.partings[0];
    assert_eq!((it.run.as_str(), it.against.as_str(), it.first.as_ref()), ("cut-3", "whole", None));
    assert!(it.compared[0].1 > 0 && it.panels.len() == 3 && it.unfinite.is_empty());
    for panel in &it.panels {
        assert_eq!(lines(panel, Role::Judged), lines(panel, Role::Reference));
        assert_eq!((lines(panel, Role::Seam).len(), lines(panel, Role::Parted).len()), (1, 0));
    }
}

#[test]
fn the_first_difference_is_the_one_of_the_finding_with_the_values_of_both_runs() {
    let pictures = pictures(&[with_norm(2, 0.75)], &[with_norm(2, 0.5)]);
    let first = pictures.partings[0].first.as_ref().unwrap();
    assert_eq!((first.update, first.place.as_str()), (Some(2), "at update 2"));
    let norm = first.figures.iter().find(|it| it.quantity == "gradient norm").unwrap();
    assert_eq!((norm.against.as_str(), norm.run.as_str()), ("0.500000", "0.750000"));
    let loss = first.figures.iter().find(|it| it.quantity == "loss").unwrap();
    assert_eq!(loss.against, loss.run);
    let marks = pictures.partings[0].panels.iter().map(|panel| lines(panel, Role::Parted)[0][0].0);
    assert_eq!(marks.map(|it| it as u64).collect::<BTreeSet<_>>().len(), 1, "at one place in every panel");
}

#[test]
fn a_difference_before_the_first_update_is_marked_at_0() {
    let (mut cut, start) = (cut_at(at(0, 0)), [whole()]);
    for event in &mut cut[1] {
        if let Event::State(it) = event {
            it.step = 0;
            it.tensors[0].digest = "another".into();
            break;
        }
    }
    let pictures = pictures(&cut, &start);
    let first = pictures.partings[0].first.as_ref().unwrap();
    assert_eq!((first.update, first.place.as_str()), (Some(0), "before the first update"));
    let panel = &pictures.partings[0].panels[0];
    assert!(lines(panel, Role::Parted)[0][0].0 < lines(panel, Role::Judged)[0][0].0);
}

#[test]
fn a_value_that_is_not_finite_is_a_gap_a_mark_and_a_sentence() {
    let pictures = pictures(&[with_norm(2, f64::NAN)], &[whole()]);
    let it = &pictures.partings[0];
    assert_eq!(it.unfinite, ["The gradient norm of cut-3 is not finite after update 2."]);
    let marks: Vec<usize> = it.panels.iter().map(|panel| lines(panel, Role::Unfinite).len()).collect();
    assert_eq!(marks, [0, 0, 2], "the two strokes of one cross");
    assert!(it.panels[2].contains("not finite after 1 update."), "{}", it.panels[2]);
}

#[test]
fn runs_of_different_length_share_one_axis() {
    let all = whole();
    let third = all.iter().position(|it| matches!(it, Event::Update(it) if it.step == 3)).unwrap();
    let pictures = pictures(&[all[..=third].to_vec()], &[all]);
    let panel = &pictures.partings[0].panels[0];
    let end = |role| lines(panel, role)[0].last().unwrap().0;
    let begin = |role| lines(panel, role)[0][0].0;
    assert_eq!(begin(Role::Judged), begin(Role::Reference));
    assert!(end(Role::Judged) < end(Role::Reference));
}

#[rstest]
#[case::one_update(1)]
#[case::two(2)]
fn a_short_run_is_seen(#[case] updates: u64) {
    let all = whole();
    let last = all.iter().position(|it| matches!(it, Event::Update(it) if it.step == updates)).unwrap();
    let pictures = pictures(&[all[..=last].to_vec()], &[all[..=last].to_vec()]);
    let svg = Document::parse(&pictures.partings[0].panels[0]).unwrap();
    let dots = svg.descendants().filter(|it| it.has_tag_name("circle")).count();
    assert_eq!(dots, if updates == 1 { 2 } else { 0 });
}

#[test]
fn every_picture_stays_within_its_frame_and_says_what_it_shows() {
    let mut spiked = with_norm(2, 1e30);
    update_at(&mut spiked, 3).grad_norm = Some(Number(f64::MAX));
    let pictures = pictures(&[spiked], &[with_norm(3, -f64::MAX)]);
    for panel in &pictures.partings[0].panels {
        let svg = Document::parse(panel).unwrap();
        let text = |name| svg.descendants().find(|it| it.has_tag_name(name)).unwrap().text().unwrap();
        assert!(text("title").ends_with(" over updates: whole and cut-3"), "{}", text("title"));
        assert!(text("desc").contains("whole: from ") && text("desc").ends_with("at update 2."));
        for role in [Role::Reference, Role::Judged, Role::Parted, Role::Grid] {
            for (x, y) in lines(panel, role).concat() {
                assert!((0.0..=720.0).contains(&x) && (0.0..=400.0).contains(&y), "{x} {y}");
            }
        }
    }
}

#[test]
fn a_run_that_is_not_compared_shows_its_curves_alone() {
    let folder = tempfile::tempdir().unwrap();
    let run = written(folder.path(), "train", &[whole()]);
    let mut report = report();
    report.outcomes.truncate(1);
    report.outcomes[0].traces = run.segments;
    let pictures = Pictures::of(&report, usual_limit).unwrap();
    assert!(pictures.partings.is_empty());
    assert_eq!((pictures.runs[0].run.as_str(), pictures.runs[0].panels.len()), ("train.0", 3));
}

#[test]
fn a_long_run_is_shown_near_the_first_difference_update_by_update() {
    let long = |norm: f64| {
        let mut events = whole();
        let Some(Event::Update(update)) = events.iter().find(|it| matches!(it, Event::Update(_))).cloned()
        else {
            panic!("a run has updates")
        };
        events.truncate(1);
        let grad_norm = |step| Some(Number(if step == 600 { norm } else { 1.0 }));
        events.extend(
            (1..=1_000)
                .map(|step| Event::Update(Update { step, grad_norm: grad_norm(step), ..update.clone() })),
        );
        events
    };
    let pictures = pictures(&[long(9.0)], &[long(2.0)]);
    let (updates, near) = pictures.partings[0].near.as_ref().unwrap();
    assert_eq!((updates.clone(), near.len()), (580..=620, 2));
    let points: Vec<usize> = near.iter().map(|panel| lines(panel, Role::Judged)[0].len()).collect();
    assert_eq!(points, [41, 41]);
    assert_ne!(lines(&near[1], Role::Judged), lines(&near[1], Role::Reference));
    assert!(lines(&pictures.partings[0].panels[1], Role::Judged)[0].len() <= 480);
}

#[test]
fn two_invariants_over_the_same_runs_are_one_picture_of_the_earlier_difference() {
    let folder = tempfile::tempdir().unwrap();
    let mut report = judged(folder.path(), &[with_norm(3, 0.75)], &[whole()]);
    let pairs = &mut report.outcomes[0].pairs;
    let mut earlier = pairs[0].clone();
    earlier.invariant = "determinism/repeat".into();
    earlier.broken.as_mut().unwrap().line -= 4;
    pairs.push(earlier);
    let pictures = Pictures::of(&report, usual_limit).unwrap();
    let [it] = pictures.partings.as_slice() else { panic!("{:?}", pictures.partings) };
    assert_eq!(it.compared.len(), 2);
    assert_eq!(it.first.as_ref().unwrap().invariant, "determinism/repeat");
}
