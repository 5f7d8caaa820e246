//! What is true of the sources themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rstest::rstest;

const LINES_MOST: usize = 450;
/// Code is kept to 110 by rustfmt; prose has a little more.
const COLUMNS_MOST: usize = 125;

/// What must not be left in a source; spelt so that this file does not hold it.
const FORBIDDEN: [&str; 4] =
    [concat!("todo", "!("), concat!("dbg", "!("), concat!("unimplemented", "!("), concat!("FIX", "ME")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust source of the project.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("harness"), root().join("tests")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(found.len() > 50);
    found
}

#[test]
fn every_source_opens_with_what_it_is_for() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{}: no module doc", path.display());
    }
}

#[test]
fn every_source_is_short_and_so_is_each_line() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LINES_MOST, "{}: {lines} lines, at most {LINES_MOST}", path.display());
        let prose = |line: &&str| !line.contains('"');
        for line in text.lines().filter(prose) {
            assert!(line.chars().count() <= COLUMNS_MOST, "{}: {line}", path.display());
        }
    }
}

#[test]
fn nothing_is_left_undone() {
    for (path, text) in sources() {
        for forbidden in FORBIDDEN {
            assert!(!text.contains(forbidden), "{}: {forbidden}", path.display());
        }
    }
}

#[test]
fn burn_is_named_by_the_reference_trainer_and_by_burns_own_loop_alone() {
    let homes = ["harness/reference", "harness/burn-threads", "harness/burn-train", "tests/tidy.rs"];
    let is_elsewhere = |path: &Path| !homes.iter().any(|home| path.starts_with(home));
    for (path, text) in sources().into_iter().filter(|(path, _)| is_elsewhere(path)) {
        for code in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            assert!(!code.contains("burn::") && !code.contains("use burn"), "{}: {code}", path.display());
        }
    }
    let core = fs::read_to_string(root().join("harness/core/Cargo.toml")).unwrap();
    assert!(!core.contains("burn"));
}

#[test]
fn the_crates_have_one_version_and_the_changelog_has_it() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    for line in manifest.lines().filter(|line| line.contains("path = \"harness/") && line.contains("version"))
    {
        assert!(line.contains(&format!("version = \"{version}\"")), "{line}");
    }
    for manifest in ["Cargo.toml", "harness/core/Cargo.toml", "harness/reference/Cargo.toml"] {
        let text = fs::read_to_string(root().join(manifest)).unwrap();
        assert!(text.contains("version.workspace = true"), "{manifest}");
    }
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let known = changelog.contains(version) || changelog.contains("Unreleased");
    assert!(known, "CHANGELOG.md does not mention {version}");
}

#[test]
fn the_readme_mentions_every_verb() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let help = Command::new(env!("CARGO_BIN_EXE_traintrue")).arg("help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let of_clap =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let verbs: Vec<&str> = of_clap.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(verbs.contains(&"run"), "{help}");
    for verb in verbs.into_iter().filter(|verb| *verb != "help") {
        let written = [format!("traintrue {verb}"), format!("-- {verb}"), format!("CMD {verb}")];
        assert!(written.iter().any(|it| readme.contains(it)), "{verb}");
    }
}

/// burn-ndarray's `multi-threads` hands the sum of a matrix product to as many threads as the machine has: the order of the
/// sum, and with it the last bits of every number, would depend on the machine and on its load.
#[rstest]
#[case("traintrue-reference")]
#[case("traintrue-command")]
fn the_backend_sums_in_one_order_because_multi_threads_is_off(#[case] package: &str) {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges", "features", "--package", package])
        .current_dir(root())
        .output()
        .unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("burn-ndarray"), "{}", String::from_utf8_lossy(&output.stderr));
    let switched_on = tree.lines().find(|line| line.contains("burn-ndarray feature \"multi-threads\""));
    assert_eq!(switched_on, None);
}
