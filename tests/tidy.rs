//! What is true of the sources themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
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
pub fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("harness"), root().join("tests")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            // Trainers outside of the workspace build in folders of their own.
            if path.ends_with("target") {
                continue;
            }
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
    let homes = ["harness/reference", "harness/trainers", "tests/tidy.rs"];
    // A module of ours may be called after the engine that it describes.
    let of_burn = Regex::new(r"(^|[^:\w])burn(_\w+)?::|\buse burn").unwrap();
    let is_elsewhere = |path: &Path| !homes.iter().any(|home| path.starts_with(home));
    for (path, text) in sources().into_iter().filter(|(path, _)| is_elsewhere(path)) {
        for code in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            assert!(!of_burn.is_match(code), "{}: {code}", path.display());
        }
    }
}

/// What each crate may import of ours: the arrows of `harness/README.md`.
const ARROWS: [(&str, &[&str]); 6] = [
    ("protocol", &[]),
    ("logs", &["protocol"]),
    ("memory", &["logs", "protocol"]),
    ("judge", &["logs", "memory", "protocol"]),
    ("suite", &["judge", "memory", "protocol"]),
    ("reference", &["memory", "protocol"]),
];

#[test]
fn each_crate_imports_only_what_the_architecture_allows() {
    for (folder, allowed) in ARROWS {
        let Ok(manifest) = fs::read_to_string(root().join("harness").join(folder).join("Cargo.toml")) else {
            continue;
        };
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        for line in dependencies.lines().filter(|line| line.starts_with("traintrue")) {
            let name = line.split(['.', ' ']).next().unwrap_or_default();
            let of_ours = name.strip_prefix("traintrue-").unwrap_or("suite");
            assert!(allowed.contains(&of_ours), "{folder} imports {name}");
        }
    }
}

/// The modules at the top of a crate, each with those that its code names, tests aside.
fn modules(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let path = Regex::new(r"crate::(\{[^;]*?\}|[a-z_]+)").unwrap();
    let name = Regex::new(r"(?:^|[{,])\s*([a-z_]+)").unwrap();
    let home = Path::new("harness").join(folder).join("src");
    let mut modules: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, text) in sources() {
        let Ok(inside) = file.strip_prefix(&home) else { continue };
        let Some(top) = inside.iter().next().and_then(|it| it.to_str()) else { continue };
        let (top, last) = (top.trim_end_matches(".rs").to_owned(), inside.file_name().unwrap_or_default());
        let of_tests = ["testing.rs", "tests.rs", "hostile.rs", "not_finite.rs"].iter().any(|it| last == *it);
        if top == "lib" || of_tests {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code: String = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|it| format!("{it}\n"))
            .collect();
        let named = modules.entry(top.clone()).or_default();
        for found in path.captures_iter(&code) {
            named.extend(name.captures_iter(&found[1]).map(|it| it[1].to_owned()).filter(|it| *it != top));
        }
    }
    modules
}

#[rstest]
#[case("protocol")]
#[case("logs")]
#[case("memory")]
#[case("judge")]
#[case("suite")]
#[case("reference")]
fn no_two_modules_of_a_crate_import_each_other(#[case] folder: &str) {
    let mut modules = modules(folder);
    assert!(modules.len() > 3, "{modules:?}");
    // What names no module that is left can be taken away; what remains at the end goes round in a circle.
    loop {
        let left: BTreeSet<String> = modules.keys().cloned().collect();
        let free = modules.iter().find(|(_, named)| named.is_disjoint(&left)).map(|(name, _)| name.clone());
        match free {
            Some(name) => modules.remove(&name),
            None => break,
        };
    }
    assert_eq!(modules.keys().collect::<Vec<_>>(), [""; 0], "{modules:?}");
}

#[test]
fn the_crates_have_one_version_and_the_changelog_has_it() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    for line in manifest.lines().filter(|line| line.contains("path = \"harness/") && line.contains("version"))
    {
        assert!(line.contains(&format!("version = \"{version}\"")), "{line}");
    }
    for folder in ["protocol", "memory", "judge", "suite", "reference"] {
        let text = fs::read_to_string(root().join("harness").join(folder).join("Cargo.toml")).unwrap();
        assert!(text.contains("version.workspace = true"), "{folder}");
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

/// What `cargo tree` says of a package.
fn tree(package: &str, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--package", package])
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Every trainer in Rust compiles the protocol crate: what it depends on is paid for by all of them.
#[test]
fn a_trainer_in_rust_compiles_at_most_60_crates_for_its_traces() {
    let tree = tree("traintrue-protocol", &["--edges", "normal", "--prefix", "none"]);
    let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(crates.contains("serde_json"), "{tree}");
    assert!(crates.len() <= 60, "{}: {crates:?}", crates.len());
}

/// burn-ndarray's `multi-threads` hands the sum of a matrix product to as many threads as the machine has: the order of the
/// sum, and with it the last bits of every number, would depend on the machine and on its load.
#[rstest]
#[case("traintrue-reference")]
#[case("traintrue-cli")]
fn the_backend_sums_in_one_order_because_multi_threads_is_off(#[case] package: &str) {
    let tree = tree(package, &["--edges", "features"]);
    assert!(tree.contains("burn-ndarray"), "{tree}");
    let switched_on = tree.lines().find(|line| line.contains("burn-ndarray feature \"multi-threads\""));
    assert_eq!(switched_on, None);
}
