//! The examples of the protocol's documentation are run as they are printed, and its configuration is read.

use std::fs;
use std::path::Path;
use std::process::Command;

use traintrue::config::Config;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The fenced blocks of this kind, in order.
fn blocks(kind: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(ROOT).join("harness/protocol/README.md")).unwrap();
    let mut blocks = Vec::new();
    let mut rest = text.as_str();
    while let Some((_, after)) = rest.split_once(&format!("\n```{kind}\n")) {
        let (block, after) = after.split_once("\n```").unwrap();
        blocks.push(block.to_owned());
        rest = after;
    }
    blocks
}

/// What a shell at the root of the project writes, `traintrue` being the one that was built.
fn shell(command: &str) -> String {
    let built = Path::new(env!("CARGO_BIN_EXE_traintrue")).parent().unwrap();
    let path = format!("{}:{}", built.display(), std::env::var("PATH").unwrap());
    let output =
        Command::new("sh").args(["-c", command]).current_dir(ROOT).env("PATH", path).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a line is as shown, where `…` is anything.
fn is_as_shown(text: &str, shown: &str) -> bool {
    let parts: Vec<&str> = shown.split('…').collect();
    let [first, middle @ .., last] = parts.as_slice() else { return text == shown };
    let after = |rest: &'_ str, part: &str| rest.find(part).map(|at| at + part.len());
    let mut from = if text.starts_with(first) { Some(first.len()) } else { None };
    for part in middle {
        from = from.and_then(|from| Some(from + after(&text[from..], part)?));
    }
    from.is_some_and(|from| text[from..].ends_with(last))
}

#[test]
fn every_example_gives_what_is_printed() {
    let blocks = blocks("console");
    assert_eq!(blocks.len(), 3);
    for block in blocks {
        for example in block.split("$ ").filter(|example| !example.is_empty()) {
            let (command, shown) = example.split_once('\n').unwrap();
            let text = shell(command);
            let (shown, text): (Vec<&str>, Vec<&str>) =
                (shown.trim_end().lines().collect(), text.trim_end().lines().collect());
            for (shown, text) in shown.iter().zip(&text) {
                assert!(is_as_shown(text, shown), "$ {command}\nprinted: {shown}\nis:      {text}");
            }
            assert_eq!(shown.len(), text.len(), "$ {command}: {text:#?}");
        }
    }
}

#[test]
fn what_is_elided_is_anything_and_the_rest_is_exact() {
    assert!(is_as_shown("a 12 b 3", "a … b 3") && is_as_shown("a 12", "a …") && is_as_shown("a", "a"));
    assert!(
        !is_as_shown("a 12 b 3", "a … c 3") && !is_as_shown("a 12 b", "a 12") && !is_as_shown("b 1", "a …")
    );
}

#[test]
fn the_configuration_is_one() {
    let blocks = blocks("toml");
    assert_eq!(blocks.len(), 1);
    let config = Config::parse(Path::new("traintrue.toml"), &blocks[0]).unwrap();
    assert_eq!((config.waivers.len(), config.trainer.is_some(), config.catalogue.is_some()), (1, true, true));
}
