//! The page: what it says, and what it must never do.

use traintrue_judge::testing::{update_at, whole};
use traintrue_judge::verdict::Summary;
use traintrue_memory::series::{Point, Series};
use traintrue_memory::timeline::Lane;
use traintrue_protocol::number::Number;

use super::*;
use crate::report::pictures::Alone;
use crate::report::pictures::tests::pictures as compared;
use crate::report::plot::Plot;
use crate::report::plot::tests::drawn;
use crate::report::tests::{finding, report};

/// The memory of one run.
fn memory(plot: Plot) -> Pictures {
    let (scenario, run) = (plot.scenario.clone(), plot.run.clone());
    let (panels, unfinite) = (Vec::new(), Vec::new());
    Pictures {
        runs: vec![Alone { scenario, run, panels, unfinite, memory: Some(plot) }],
        ..Pictures::default()
    }
}

/// The page but for its style sheet, a tag a line.
fn body(page: &str) -> String {
    let (_, body) = page.split_once("<body>").unwrap();
    body.replace("><", ">\n<")
}

#[test]
fn a_small_page() {
    let mut plot =
        drawn(|step| vec![("heap_bytes", Some(1 << 20)), ("rss_bytes", Some((8 << 20) + (step << 16)))]);
    plot.svg = "<svg/>".into();
    let mut report = report();
    report.outcomes[1].findings.truncate(2);
    insta::assert_snapshot!(body(&run(&report, &memory(plot))));
}

#[test]
fn what_a_trainer_says_is_text() {
    let hostile = "<script>alert('a')</script> & \"><img src=x onerror=alert(1)>";
    let mut report = report();
    report.trainer = hostile.into();
    let mut broken = finding();
    for text in [
        &mut broken.invariant,
        &mut broken.run,
        &mut broken.at.event,
        &mut broken.expected,
        &mut broken.actual,
        &mut broken.cause,
        &mut broken.reproduce,
        &mut broken.trace,
    ] {
        *text = hostile.into();
    }
    let outcome = &mut report.outcomes[1];
    outcome.scenario = hostile.into();
    outcome.notes = vec![hostile.into()];
    outcome.compared.insert(hostile.into(), 1);
    outcome.findings = vec![broken];
    report.outcomes[3].reason = Some(hostile.into());
    let mut plot =
        drawn(|_| vec![("<script>alert('a')</script> & \"><img src=x onerror=alert(1)>", Some(1))]);
    plot.scenario = hostile.into();
    plot.run = hostile.into();
    let page = run(&report, &memory(plot));
    let lower = page.to_lowercase();
    assert!(!lower.contains("<script") && !lower.contains("<img"));
    assert!(page.matches("&lt;script&gt;alert('a')&lt;/script&gt; &amp; &quot;&gt;&lt;img").count() > 12);
}

#[test]
fn the_page_loads_nothing_and_runs_nothing() {
    let page = run(&report(), &memory(drawn(|step| vec![("rss_bytes", Some(step))])));
    for word in ["<script", "<link", "<img", "<iframe", " src=", "url(", "@import", "javascript:", " on"] {
        let found = page.match_indices(word).find(|(at, _)| !in_text(&page, *at));
        assert_eq!(found, None, "{:?}", found.map(|(at, _)| &page[at..(at + 60).min(page.len())]));
    }
    let targets = page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    assert!(targets.clone().all(|target| target.starts_with('#')) && targets.count() > 0);
    // A namespace is a name, and nothing is fetched from it.
    let rest = page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "");
    assert!(!rest.contains("http"));
    assert!(page.contains(POLICY));
}

/// Whether a place stands between tags.
fn in_text(page: &str, at: usize) -> bool {
    let before = &page[..at];
    before.rfind('>') > before.rfind('<') && page.as_bytes()[at] != b'<'
}

/// The whole page of two runs, the second with another gradient norm at update 2.
fn parted() -> String {
    let mut run = whole();
    update_at(&mut run, 2).grad_norm = Some(Number(0.75));
    let mut pictures = compared(&[run], &[whole()]);
    for (at, panel) in pictures.partings[0].panels.iter_mut().enumerate() {
        roxmltree::Document::parse(panel).unwrap();
        *panel = format!("<svg id=\"{at}\"></svg>");
    }
    run_page(&pictures)
}

fn run_page(pictures: &Pictures) -> String {
    let mut report = report();
    report.outcomes.truncate(1);
    report.summary = Summary::of(&report.outcomes);
    run(&report, pictures)
}

#[test]
fn where_two_runs_part() {
    let page = parted();
    let main = page.split_once("</table>").unwrap().1;
    insta::assert_snapshot!(main.replace("><", ">\n<"));
}

#[test]
fn the_page_is_well_formed() {
    let mut run = whole();
    update_at(&mut run, 2).grad_norm = Some(Number(f64::NAN));
    let page = run_page(&compared(&[run], &[whole()]));
    // HTML leaves elements without content open, and attributes without a value; the rest is XML.
    let closed = regex::Regex::new("<(meta|img|br|input)([^>]*)>").unwrap().replace_all(&page, "<$1$2/>");
    let xml = closed.replace("<!DOCTYPE html>", "").replace("<details class=\"parting\" open>", "<details>");
    if let Err(error) = roxmltree::Document::parse(&xml) {
        panic!("{error}: {:?}", xml.lines().nth(error.pos().row as usize - 1));
    }
}

#[test]
fn a_report_without_findings_and_memory_has_no_empty_sections() {
    let mut report = report();
    report.outcomes.truncate(1);
    report.summary = Summary::of(&report.outcomes);
    let page = run(&report, &Pictures::default());
    assert!(!page.contains("Findings") && !page.contains("Memory"));
}

#[test]
fn a_slope_that_is_not_judged_says_why() {
    let mut plot = drawn(|step| vec![("rss_bytes", Some(step))]);
    let Lane { series: Series { points, .. }, slope, limit } = &mut plot.lanes[0];
    *slope = traintrue_memory::slope::judge(&[Point { step: 1.0, bytes: 1.0 }], limit.unwrap());
    points.truncate(2);
    let page = run(&report(), &memory(plot));
    assert!(
        page.contains("? not judged against 4 KiB/step") && page.contains("a slope needs 24 points"),
        "{page}"
    );
}
