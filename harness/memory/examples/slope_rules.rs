//! Compares the slope verdict with simpler rules, as a Markdown table: wrong verdicts and none, on the recorded series and
//! on as many of each source of generated ones as the first argument says (1,000), of the seed that the second says (10).
//! Below it, the series on which the verdict fails.

#[path = "../tests/slope/held_out.rs"]
mod held_out;
#[path = "../tests/slope/labelled.rs"]
mod labelled;
#[path = "../tests/slope/recorded.rs"]
mod recorded;

use traintrue_memory::series::Point;
use traintrue_memory::slope::{SlopeVerdict, judge};

use labelled::{Labelled, labelled};

/// Theil and Sen's slope takes all pairs: of at most so many points.
const PAIRED: usize = 500;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let (many, seed) = (numbers.next().unwrap_or(1000), numbers.next().unwrap_or(10));
    let generated = |source: fn(u64, u64) -> Labelled| (0..many).map(|index| source(seed, index)).collect();
    let sources: [Vec<Labelled>; 3] =
        [recorded::recorded(), generated(labelled), generated(held_out::held_out)];
    println!("| wrong / not judged | 60 recorded | {many} generated | {many} held out |\n|---|--:|--:|--:|");
    let row = |name: &str, rule: &dyn Fn(&Labelled) -> SlopeVerdict| {
        let cells = sources.each_ref().map(|series| tally(series, rule));
        println!("| {name} | {} |", cells.map(|(wrong, none)| format!("{wrong} / {none}")).join(" | "));
    };
    row("least squares", &|series| two_valued(series, least_squares(&series.points)));
    row("least squares of the back half", &|series| {
        two_valued(series, least_squares(&series.points[series.points.len() / 2..]))
    });
    row("Theil-Sen", &|series| two_valued(series, theil_sen(&series.points)));
    row("traintrue gate", &|series| judge(&series.points, series.limit).verdict);
    for series in sources.iter().flatten() {
        let slope = judge(&series.points, series.limit);
        if slope.verdict != series.label {
            println!("{} ({}) deserves {:?}: {}", series.name, series.shape, series.label, slope.reason);
        }
    }
}

/// How many verdicts are wrong, and how many are none.
fn tally(series: &[Labelled], rule: &dyn Fn(&Labelled) -> SlopeVerdict) -> (usize, usize) {
    let verdicts: Vec<_> = series.iter().map(|series| (rule(series), series.label)).collect();
    let none = verdicts.iter().filter(|(verdict, _)| *verdict == SlopeVerdict::NotJudged).count();
    (verdicts.iter().filter(|(verdict, label)| verdict != label).count() - none, none)
}

fn two_valued(series: &Labelled, slope: f64) -> SlopeVerdict {
    if slope > series.limit.0 { SlopeVerdict::Exceeds } else { SlopeVerdict::Within }
}

fn least_squares(points: &[Point]) -> f64 {
    let count = points.len() as f64;
    let step = points.iter().map(|point| point.step).sum::<f64>() / count;
    let bytes = points.iter().map(|point| point.bytes).sum::<f64>() / count;
    let product: f64 = points.iter().map(|point| (point.step - step) * (point.bytes - bytes)).sum();
    product / points.iter().map(|point| (point.step - step).powi(2)).sum::<f64>()
}

fn theil_sen(points: &[Point]) -> f64 {
    let some: Vec<Point> = points.iter().copied().step_by(points.len().div_ceil(PAIRED)).collect();
    let pairs = some.iter().enumerate().flat_map(|(at, a)| some[at + 1..].iter().map(move |b| (a, b)));
    let mut slopes: Vec<f64> = pairs.map(|(a, b)| (b.bytes - a.bytes) / (b.step - a.step)).collect();
    let middle = slopes.len() / 2;
    *slopes.select_nth_unstable_by(middle, f64::total_cmp).1
}
