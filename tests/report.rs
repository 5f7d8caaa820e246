//! The page that `--report` leaves, and the pictures of the runs that sample their memory.

use std::fs;

use crate::binary::traintrue;
use crate::inputs::own_scenario;

#[test]
fn a_run_leaves_a_page_and_a_picture_of_each_memory() {
    let scenarios =
        own_scenario("mine", |text| text.replace("seed = 11", "seed = 11\nsample_memory = [\"update\"]"));
    let kept = tempfile::tempdir().unwrap();
    let (from, to) = (scenarios.path().to_str().unwrap(), kept.path().to_str().unwrap());
    traintrue(&["run", "mine", "checkpoint-is-pure", "--scenarios", from, "--report", to]).with_exit(0);
    let page = fs::read_to_string(kept.path().join("report.html")).unwrap();
    assert!(page.contains("✓ 2 held") && page.contains("Contract: "), "{page}");
    let drawn = fs::read_dir(kept.path().join("plots")).unwrap().map(|it| it.unwrap().file_name());
    let mut drawn: Vec<String> = drawn.map(|name| name.into_string().unwrap()).collect();
    drawn.sort();
    assert_eq!(drawn, ["mine-again.svg", "mine-once.svg"]);
    for name in drawn {
        let picture = fs::read_to_string(kept.path().join("plots").join(name)).unwrap();
        let svg = roxmltree::Document::parse(&picture).unwrap();
        let lane =
            |it: roxmltree::Node| it.text().is_some_and(|text| text.trim().starts_with("heap_bytes, above "));
        assert!(svg.descendants().any(lane), "{picture}");
        assert!(page.contains(&picture), "the page shows the picture itself");
    }
}

#[test]
fn a_page_shows_what_broke() {
    let kept = tempfile::tempdir().unwrap();
    let to = kept.path().to_str().unwrap();
    let fault = crate::command::fault_of("checkpoint-is-pure");
    traintrue(&["run", "checkpoint-is-pure", "--fault", fault, "--report", to]).with_exit(1);
    let page = fs::read_to_string(kept.path().join("report.html")).unwrap();
    assert!(page.contains("✗ 1 broken") && page.contains("is broken in"), "{page}");
    assert!(page.contains(&format!("--fault {fault}")), "the command that shows it again");
    assert!(page.contains("Where two runs part") && page.contains("✗ first difference"), "{page}");
    assert!(!kept.path().join("plots").exists());
}
