//! Reads the goldens, and checks that they are what their generator wrote.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use traintrue_judge::bound::unit_roundoff;
use traintrue_protocol::plan::Dtype;

use crate::checkpoint::{NamedTensor, from_safetensors};
use crate::engine::Cpu;
use crate::faults::planted;
use crate::parts::Parts;

/// Values of named tensors, in row-major order.
pub type Tensors = BTreeMap<String, Vec<f32>>;

/// The distance of each known bug from the right numbers.
pub type Bugs = BTreeMap<String, f64>;

/// A file of the goldens.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/pytorch").join(name)
}

/// The document of a golden.
pub fn read<T: DeserializeOwned>(name: &str) -> T {
    let text = fs::read_to_string(path(&format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The tensors of one file.
pub fn tensors(file: &str) -> Vec<NamedTensor> {
    from_safetensors(&fs::read(path(file)).unwrap()).unwrap()
}

/// The tensors of one set of a golden, by their names within it.
pub fn set(golden: &str, set: &str) -> Tensors {
    let all = tensors(&format!("{golden}.safetensors")).into_iter();
    let found: Tensors = all
        .filter_map(|it| Some((it.name.strip_prefix(&format!("{set}/"))?.to_owned(), it.values)))
        .collect();
    assert!(!found.is_empty(), "{golden}.safetensors has nothing in {set}");
    found
}

/// The right parts with one change.
pub fn parts(change: fn(&mut Parts<Cpu>)) -> Parts<Cpu> {
    let mut parts = Parts::textbook();
    change(&mut parts);
    parts
}

/// The right parts with a fault of the museum planted.
pub fn faulty(fault: &str) -> Parts<Cpu> {
    planted(&[fault.to_owned()]).unwrap()
}

/// The largest error of a sum of `terms`, relative to the norm of its terms.
pub fn rounding(terms: u64) -> f64 {
    6.0 * (terms as f64).sqrt() * unit_roundoff(Dtype::F32)
}

/// The L2 norm of some values.
pub fn norm(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(|it| it * it).sum::<f64>().sqrt()
}

/// The L2 distance of two lists of one length; infinite where it is NaN.
pub fn apart(ours: &[f32], golden: impl IntoIterator<Item = f64>) -> f64 {
    let golden: Vec<f64> = golden.into_iter().collect();
    assert_eq!(ours.len(), golden.len());
    let distance = norm(ours.iter().zip(golden).map(|(&ours, golden)| f64::from(ours) - golden));
    if distance.is_nan() { f64::INFINITY } else { distance }
}

/// The largest distance of two tensors of one name. Both must have the same names.
pub fn furthest(ours: &Tensors, golden: &Tensors) -> f64 {
    assert_eq!(ours.keys().collect::<Vec<_>>(), golden.keys().collect::<Vec<_>>());
    let of =
        |(name, golden): (&String, &Vec<f32>)| apart(&ours[name], golden.iter().map(|&it| f64::from(it)));
    golden.iter().map(of).fold(0.0, f64::max)
}

/// Every bug must be more than two tolerances away from the right numbers.
pub fn sees(bugs: &Bugs, tolerance: f64) {
    assert!(!bugs.is_empty());
    for (bug, &distance) in bugs {
        assert!(distance > 2.0 * tolerance, "{bug} lies {distance:e} away, the tolerance is {tolerance:e}");
    }
}

/// How a golden was made.
#[derive(Deserialize)]
struct Provenance {
    torch: String,
    transformers: String,
    peft: String,
    sources: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
}

/// The part of a golden that says how it was made.
#[derive(Deserialize)]
struct Made {
    provenance: Provenance,
}

/// The goldens by name.
fn names() -> Vec<String> {
    let entries = fs::read_dir(path("")).unwrap().map(|entry| entry.unwrap().file_name());
    let names = entries.filter_map(|name| Some(name.to_str()?.strip_suffix(".json")?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn sha256(file: &str) -> String {
    let bytes = fs::read(path(file)).unwrap();
    Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn goldens_are_what_their_generator_wrote_as_it_is_now() {
    assert_eq!(
        names(),
        ["deep", "gelu", "lora", "norm", "optimizer", "pooling", "rslora", "schedules", "tiny"]
    );
    for name in names() {
        let Provenance { sources, files, .. } = read::<Made>(&name).provenance;
        for (file, expected) in sources.iter().chain(&files) {
            assert_eq!(sha256(file), *expected, "{name}.json: {file} has changed: run generate.py again");
        }
    }
}

#[test]
fn goldens_name_every_source_of_their_generator_and_every_file_beside_them() {
    let (mut sources, mut others) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(path("")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let inside = |entry: fs::DirEntry| format!("{name}/{}", entry.file_name().to_string_lossy());
        match name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("py" | "txt") if name != "check.py" => sources.push(name),
            Some("safetensors") => others.push(name),
            None => others.extend(fs::read_dir(entry.path()).unwrap().map(|entry| inside(entry.unwrap()))),
            _ => {}
        }
    }
    sources.sort();
    others.sort();
    let mut named = Vec::new();
    for name in names() {
        let Provenance { sources: of, files, .. } = read::<Made>(&name).provenance;
        assert_eq!(of.into_keys().collect::<Vec<_>>(), sources, "{name}.json");
        named.extend(files.into_keys());
    }
    named.sort();
    assert_eq!(named, others);
}

#[test]
fn goldens_were_made_by_the_pinned_versions() {
    let requirements = fs::read_to_string(path("requirements.txt")).unwrap();
    for name in names() {
        let Provenance { torch, transformers, peft, .. } = read::<Made>(&name).provenance;
        for pinned in
            [format!("torch=={torch}"), format!("transformers=={transformers}"), format!("peft=={peft}")]
        {
            assert!(requirements.lines().any(|line| line == pinned), "{name}.json: {pinned}");
        }
    }
}
