//! What the pictures hold; what they look like is for eyes.

use roxmltree::{Document, Node};
use rstest::rstest;
use traintrue_memory::testing::sampled;
use traintrue_memory::timeline::usual_limit;

use super::*;

type Held = fn(u64) -> Vec<(&'static str, Option<u64>)>;

/// The picture of a run whose lanes hold what `held` says.
pub(in crate::report) fn drawn(held: Held) -> Plot {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.jsonl");
    sampled(&path, held);
    Plot::draw("flat-memory", "thousand", Timeline::read(&path, usual_limit).unwrap()).unwrap().unwrap()
}

/// The points of everything that is drawn with this role's colour.
fn paths(svg: &Document, role: Role) -> Vec<Vec<(f64, f64)>> {
    let colour = style::written(role);
    let is = |node: &Node| node.has_tag_name("polyline") && node.attribute("stroke") == Some(&*colour);
    let point = |point: &str| {
        let (x, y) = point.split_once(',').unwrap();
        (x.parse().unwrap(), y.parse().unwrap())
    };
    let points = |node: Node| node.attribute("points").unwrap().split_whitespace().map(point).collect();
    svg.descendants().filter(is).map(points).collect()
}

fn texts<'a>(svg: &'a Document) -> Vec<&'a str> {
    svg.descendants().filter(|it| it.has_tag_name("text")).filter_map(|it| it.text()).map(str::trim).collect()
}

#[rstest]
#[case::flat(|_| vec![("heap_bytes", Some(1 << 20)), ("threads", Some(4))])]
#[case::nothing(|_| vec![("heap_bytes", Some(0))])]
#[case::falling(|step| vec![("rss_bytes", Some((9_u64 << 20) - (step << 16)))])]
#[case::vast(|step| vec![("rss_bytes", Some(u64::MAX - step)), ("heap_bytes", Some(step << 40))])]
#[case::strange_names(|step| vec![("<lane> & \"co\" \u{1}\u{ffff}", Some(step))])]
fn every_picture_is_well_formed_and_stays_within_its_frame(#[case] held: Held) {
    let plot = drawn(held);
    let svg = Document::parse(&plot.svg).unwrap();
    let size = |name| svg.root_element().attribute(name).unwrap().parse::<f64>().unwrap();
    let (width, height) = (size("width"), size("height"));
    for node in svg.descendants().filter(|it| it.has_tag_name("polyline")) {
        for point in node.attribute("points").unwrap().split_whitespace() {
            let (x, y) = point.split_once(',').unwrap();
            assert!((0.0..=width).contains(&x.parse().unwrap()), "{point}");
            assert!((0.0..=height).contains(&y.parse().unwrap()), "{point}");
        }
    }
}

#[test]
fn a_picture_shows_each_lane_its_slope_its_limit_and_the_places_in_training() {
    let plot =
        drawn(|step| vec![("heap_bytes", Some(1 << 20)), ("rss_bytes", Some((8 << 20) + (step << 16)))]);
    let svg = Document::parse(&plot.svg).unwrap();
    assert_eq!(paths(&svg, Role::Lane).len(), 2);
    assert_eq!(paths(&svg, Role::Slope).len(), 2);
    assert_eq!(paths(&svg, Role::Limit).len(), 1, "the heap has no limit");
    assert_eq!(paths(&svg, Role::Epoch).len(), 2 * 3);
    assert_eq!(paths(&svg, Role::Evaluation).len(), 2 * 6);
    let texts = texts(&svg);
    for text in ["heap_bytes, above 1 MiB", "rss_bytes, above 8.1 MiB", "+4 MiB", "limit on it", "warm-up"] {
        assert!(texts.contains(&text), "{text}: {texts:?}");
    }
    let rises = |path: &[(f64, f64)]| path[0].1 - path[path.len() - 1].1;
    let (flat, rising) = (&paths(&svg, Role::Slope)[0], &paths(&svg, Role::Slope)[1]);
    assert_eq!(rises(flat), 0.0);
    assert!(rises(rising) > 50.0, "{rising:?}");
}

#[test]
fn every_colour_has_one_for_the_dark() {
    let plot = drawn(|step| vec![("rss_bytes", Some(step))]);
    let svg = Document::parse(&plot.svg).unwrap();
    let sheet = svg.descendants().find(|it| it.has_tag_name("style")).unwrap().text().unwrap();
    for paint in ["fill", "stroke"] {
        for colour in svg.descendants().filter_map(|it| it.attribute(paint)).filter(|it| *it != "none") {
            assert!(sheet.contains(&format!("[{paint}=\"{colour}\"]")), "{paint} {colour}");
        }
    }
}

#[test]
fn a_run_that_was_sampled_once_has_no_picture() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.jsonl");
    sampled(&path, |step| vec![("heap_bytes", (step == 3).then_some(1))]);
    let timeline = Timeline::read(&path, usual_limit).unwrap();
    assert_eq!(Plot::draw("flat-memory", "once", timeline).unwrap(), None);
}
