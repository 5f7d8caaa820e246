//! What the README shows is what the code does: counts, tables, blocks and links.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use rstest::rstest;
use traintrue::check::{Relation, check};
use traintrue::kill_matrix::GoldenRow;
use traintrue::report::text;
use traintrue::scenario::{Catalogue, Corpus, Segment, expand};
use traintrue_protocol::plan::Stop;
use traintrue_protocol::trainer::record;
use traintrue_protocol::vocabulary::Component;
use traintrue_reference::{Device, Reference};

use crate::binary::traintrue;

const LINES_MOST: usize = 160;

static README: LazyLock<String> =
    LazyLock::new(|| fs::read_to_string(root().join("README.md")).expect("there is a README"));
static CATALOGUE: LazyLock<Catalogue> =
    LazyLock::new(|| Catalogue::load(None).expect("the shipped scenarios are a catalogue"));

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_readme_is_short() {
    let lines = README.lines().count();
    assert!(lines <= LINES_MOST, "{lines} lines, at most {LINES_MOST}");
}

#[test]
fn the_readme_counts_scenarios_and_faults_as_the_catalogue_does() {
    let counted = |noun: &str| -> Vec<usize> {
        let number = Regex::new(&format!(r"(\d+) {noun}")).unwrap();
        number.captures_iter(&README).map(|found| found[1].parse().unwrap()).collect()
    };
    assert_eq!(counted("scenarios"), [CATALOGUE.all().len()]);
    assert_eq!(counted("faults"), [CATALOGUE.faults().count()]);
    let peers = fs::read_to_string(root().join("golden/peers.md")).unwrap();
    let own = peers.lines().find(|line| line.starts_with("| traintrue |")).unwrap();
    assert!(own.contains(&format!("| {} |", CATALOGUE.faults().count())), "{own}");
}

/// Scenarios, planted faults and caught ones of each class; a fault is caught when all that must break did, and nothing
/// unlisted.
#[test]
fn the_kill_matrix_in_the_readme_is_the_golden_one() {
    let golden = fs::read(root().join("golden/kill-matrix.json")).unwrap();
    let golden: Vec<GoldenRow> = serde_json::from_slice(&golden).unwrap();
    let mut expected: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    for scenario in CATALOGUE.all() {
        expected.entry(scenario.class.clone()).or_default()[0] += 1;
    }
    for row in golden {
        let listed = |name: &String| row.must.contains(name) || row.may.contains(name);
        let caught = row.must.iter().all(|name| row.broke.contains(name)) && row.broke.iter().all(listed);
        let counts = expected.entry(row.class).or_default();
        counts[1] += 1;
        counts[2] += usize::from(caught);
    }
    let row = Regex::new(r"(?m)^\| (\w+) \| [^|]+ \| (\d+) \| (\d+) \| (\d+) \|$").unwrap();
    let shown = row.captures_iter(&README).map(|found| {
        let count = |at: usize| found[at].parse().unwrap();
        (found[1].to_owned(), [count(2), count(3), count(4)])
    });
    assert_eq!(shown.collect::<BTreeMap<_, _>>(), expected);
}

#[test]
fn the_line_of_a_run_in_the_readme_is_what_run_prints() {
    let mark = README.lines().find(|line| line.starts_with("    ✓ held")).unwrap();
    let without_time = |line: &str| line.trim().rsplit_once("  ").unwrap().0.trim_end().to_owned();
    let ran = traintrue(&["run", mark.split_whitespace().nth(2).unwrap()]).with_exit(0);
    let printed = ran.stdout.lines().find(|line| line.starts_with("✓ held")).unwrap();
    assert_eq!(without_time(mark), without_time(printed));
}

/// The runs `whole` and `cut-1593`, each only as far as update 202: the first difference is at update 200.
#[test]
fn the_failure_in_the_readme_is_what_the_judge_finds() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = CATALOGUE.find("resume-mid-window").unwrap();
    let runs = expand(scenario, &Corpus::shipped().unwrap(), folder.path()).unwrap().runs;
    let faults = ["boundary-from-batch-index".to_owned()];
    let traces_of = |name: &str, faults: &[String]| -> Vec<PathBuf> {
        let run = runs.iter().find(|run| run.name == name).unwrap();
        let last = run.segments.len() - 1;
        let trace = |(at, segment): (usize, &Segment)| {
            let mut plan = segment.plan.clone();
            if at == last {
                plan.stop = Some(Stop { epoch: 0, micro_batches: 1616, save: None });
            }
            let path = folder.path().join(format!("{name}.{}.jsonl", at + 1));
            let mut trainer = Reference::new(Device::Ndarray, faults.to_vec(), None);
            record(&mut trainer, &plan, fs::File::create(&path).unwrap()).unwrap();
            path
        };
        run.segments.iter().enumerate().map(trace).collect()
    };
    let whole = traces_of("whole", &faults);
    let cut = traces_of("cut-1593", &faults);
    let colours = Regex::new(r"\x1b\[[0-9;]*m").unwrap();
    let report = check(&cut, Some((&whole[0], Relation::Seam)), &CATALOGUE, &[]).unwrap();
    let printed =
        colours.replace_all(&text::run(&report), "").replace(&format!("{}/", folder.path().display()), "");
    let shown: Vec<&str> = block("resume-mid-window: window/closes-as-declared").collect();
    assert_eq!(shown.len(), 9, "{shown:?}");
    let (_, following) = shown[8].split_once("runs: ").unwrap();
    for line in shown[1..6].iter().copied().chain([following.trim_end_matches('…')]) {
        assert!(printed.contains(line), "the README has\n{line}\nand check prints\n{printed}");
    }
}

/// The lines of the indented block that begins so, without the indentation.
fn block(start: &str) -> impl Iterator<Item = &'static str> {
    let lines = README.lines().skip_while(move |line| !line.trim_start().starts_with(start));
    lines.map_while(|line| line.strip_prefix("    "))
}

#[rstest]
#[case::a_resume("resume-mid-window: window/closes-as-declared", "boundary-from-batch-index")]
#[case::a_leak("flat-memory-1000-steps: memory/heap-flat", "metrics-never-reset")]
fn a_block_of_a_finding_names_what_its_fault_must_break(#[case] start: &str, #[case] fault: &str) {
    assert!(README.contains(&format!("--fault {fault}`")), "{fault}");
    let (scenario, planted) = CATALOGUE.faults().find(|(_, planted)| planted.id == fault).unwrap();
    let (id, invariant) = start.split_once(": ").unwrap();
    assert_eq!(scenario.id, id);
    assert!(planted.must.iter().any(|must| must == invariant), "{:?}", planted.must);
    let component = block(start).find_map(|line| line.trim().strip_prefix("component")).unwrap();
    assert_eq!(component.trim().parse::<Component>(), Ok(planted.component));
}

#[rstest]
fn every_link_is_to_a_file_that_is_there(
    #[include_dot_files]
    #[files("README.md")]
    #[files("CHANGELOG.md")]
    #[files(".github/CONTRIBUTING.md")]
    #[files("harness/README.md")]
    #[files("harness/protocol/README.md")]
    #[files("harness/python/README.md")]
    #[files("scenarios/README.md")]
    #[files("ci/README.md")]
    #[files("golden/*.md")]
    page: PathBuf,
) {
    let link = Regex::new(r"\]\(([^)#]+)(?:#[^)]*)?\)").unwrap();
    let text = fs::read_to_string(&page).unwrap();
    let links: BTreeSet<&str> =
        link.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()).collect();
    for link in links.into_iter().filter(|link| !link.contains("://")) {
        assert!(page.parent().unwrap().join(link).exists(), "{}: {link}", page.display());
    }
}
