//! The labelled series of golden/memory-series: one a line, its first value, then differences; `0x12` is twelve zeros.

use std::path::Path;

use traintrue_memory::bytes::BytesPerStep;
use traintrue_memory::series::Point;
use traintrue_memory::slope::SlopeVerdict;

use super::labelled::Labelled;

/// All of them, in the order of their names.
pub fn recorded() -> Vec<Labelled> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/memory-series");
    let text = |name: &str| {
        std::fs::read_to_string(folder.join(name)).expect("the golden series are in the checkout")
    };
    let (labels, series) = (text("labels.csv"), text("series.txt"));
    labels.lines().skip(1).zip(series.lines()).map(|(label, series)| one(label, series)).collect()
}

fn one(label: &str, series: &str) -> Labelled {
    let fields: Vec<&str> = label.split(',').collect();
    let mut tokens = series.split(' ');
    assert_eq!(tokens.next(), Some(fields[0]), "labels and series go together");
    let (mut points, mut bytes): (Vec<Point>, f64) = (Vec::new(), 0.0);
    for token in tokens {
        let (times, gained) = match token.strip_prefix("0x") {
            Some(zeros) => (zeros.parse().expect("a count"), 0.0),
            None => (1, token.parse().expect("a difference")),
        };
        for _ in 0..times {
            bytes += gained;
            points.push(Point { step: points.len() as f64, bytes });
        }
    }
    Labelled {
        name: fields[0].to_owned(),
        points,
        limit: BytesPerStep(fields[1].parse().expect("a limit")),
        label: if fields[2] == "exceeds" { SlopeVerdict::Exceeds } else { SlopeVerdict::Within },
        shape: fields[3].to_owned(),
    }
}
