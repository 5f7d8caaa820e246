//! Verdicts, limits and baselines over made runs.

use std::path::Path;

use rstest::rstest;

use super::*;
use crate::exact::phased;
use crate::series::{Point, Ran, Series};

const LIMITS: &str = r#"# Reviewed with care.
[[limit]]
scenario = "flat"
device = "cuda"
lane = "rss_bytes"
max_slope = "4KiB/step" # two pages
max_peak = "2MiB"

[[limit]]
scenario = "flat"
device = "cuda"
lane = "device_in_use_bytes"
max_slope = "0B/step"
"#;

/// A run of `scenario` on `cuda:0` whose resident size grows by so many bytes a step from 1 MiB.
fn run(scenario: &str, growth: f64) -> Recording {
    let points =
        (1..=200).map(|step| Point { step: f64::from(step), bytes: 1_048_576.0 + growth * f64::from(step) });
    let series =
        Series { file: "a.jsonl".to_owned(), lane: "rss_bytes".to_owned(), points: points.collect() };
    let run = Ran { scenario: scenario.to_owned(), run: "only".to_owned(), device: "cuda:0".to_owned() };
    Recording { series: vec![series], run: Some(run), ..Recording::default() }
}

fn limits(text: &str) -> Result<Limits, LimitsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory-limits.toml");
    std::fs::write(&path, text).unwrap();
    Limits::load(&path)
}

fn held(max_slope: &str) -> Held<'static> {
    Held { max_slope: Some(max_slope.parse().unwrap()), ..Held::default() }
}

#[rstest]
#[case(0.0, "1KiB/step", Exit::Held)]
#[case(900.0, "1KiB/step", Exit::Held)]
#[case(2000.0, "1KiB/step", Exit::Broken)]
fn the_status_is_the_worst_verdict(#[case] growth: f64, #[case] limit: &str, #[case] exit: Exit) {
    assert_eq!(Gate::of(&[run("flat", growth)], held(limit)).exit(), exit);
}

#[test]
fn nothing_and_too_little_are_not_judged() {
    let mut short = run("flat", 0.0);
    short.series[0].points.truncate(5);
    let gate = Gate::of(&[short], held("1KiB/step"));
    assert_eq!((gate.exit(), gate.series[0].further_steps), (Exit::NotJudged, Some(19)));
    assert_eq!(Gate::of(&[], held("1KiB/step")).exit(), Exit::NotJudged);
    assert_eq!(Gate::of(&[run("flat", 0.0)], Held::default()).exit(), Exit::NotJudged);
}

/// 50 to 100 MB a step cannot fill 72 GB in 30 to 50 steps.
#[rstest]
#[case(50e6, 1440)]
#[case(100e6, 720)]
fn the_steps_until_a_capacity_is_full_are_what_is_free_over_the_slope(
    #[case] growth: f64,
    #[case] steps: u64,
) {
    let mut leak = run("flat", growth);
    let full = leak.series[0].points.iter().map(|point| Point { bytes: growth * point.step, ..*point });
    leak.series[0].points = full.collect();
    let capacity = Some(Bytes(72_000_000_000));
    let gate = Gate::of(&[leak], Held { capacity, ..held("64KiB/step") });
    let found = gate.series[0].steps_to_exhaustion.unwrap() + 200;
    assert!(found.abs_diff(steps) <= 1, "{found}");
}

#[test]
fn the_document_has_the_fields_that_were_published() {
    let document = serde_json::to_value(Gate::of(&[run("flat", 2000.0)], held("1KiB/step"))).unwrap();
    assert_eq!(document["schema"], 1);
    let series = document["series"][0].as_object().unwrap();
    let published = "file lane unit verdict slope_per_step low high limit_per_step steps further_steps attribution reason";
    for field in published.split(' ') {
        assert!(series.contains_key(field), "{field}");
    }
    assert_eq!(
        (&series["verdict"], &series["unit"], &series["steps"]),
        (&"exceeds".into(), &"bytes".into(), &199.into())
    );
}

#[test]
fn exact_lanes_are_held_to_the_byte_from_epoch_to_epoch() {
    let exact = |last: u64| {
        let held = phased([(0, 1, 64), (0, 2, 80), (1, 3, 64), (1, 4, last)]);
        let points =
            held.iter().map(|sample| Point { step: sample.step as f64, bytes: sample.held as f64 }).collect();
        let lane = "heap_bytes".to_owned();
        let series = vec![Series { file: "a.csv".to_owned(), lane: lane.clone(), points }];
        let recording = Recording { series, samples: [(lane, held)].into(), ..Recording::default() };
        Gate::of(&[recording], Held { exact: true, ..Held::default() })
    };
    assert_eq!(exact(80).exit(), Exit::Held);
    let differs = exact(81);
    assert_eq!(differs.exit(), Exit::Broken);
    let reason = &differs.series[0].reason;
    assert!(
        reason.starts_with("at phase 1 it held 80 bytes in epoch 0 (step 2) and 81 in epoch 1 (step 4)"),
        "{reason}"
    );
}

#[test]
fn a_run_is_held_to_the_limits_of_its_scenario_and_device() {
    let limits = limits(LIMITS).unwrap();
    let gate = |scenario, growth| {
        Gate::of(&[run(scenario, growth)], Held { limits: Some(&limits), ..Held::default() })
    };
    let row = |gate: &Gate| gate.series.iter().map(|row| (row.lane.clone(), row.verdict)).collect::<Vec<_>>();
    let missing = ("device_in_use_bytes".to_owned(), SlopeVerdict::NotJudged);
    assert_eq!(row(&gate("flat", 0.0)), [("rss_bytes".to_owned(), SlopeVerdict::Within), missing.clone()]);
    assert_eq!(
        row(&gate("flat", 5000.0)),
        [("rss_bytes".to_owned(), SlopeVerdict::Exceeds), missing.clone()]
    );
    // Slow enough, but past 2 MiB in the end.
    let mut high = run("flat", 0.0);
    high.series[0].points[100].bytes = 3e6;
    let peak = Gate::of(&[high], Held { limits: Some(&limits), ..Held::default() });
    assert!(
        peak.series[0].reason.starts_with("its peak 2.9 MiB is above the limit 2 MiB"),
        "{}",
        peak.series[0].reason
    );
    assert!(gate("other", 0.0).series[0].reason.contains("no limit names scenario other on cuda:0"));
}

#[test]
fn a_baseline_is_written_into_the_file_and_nothing_else_changes() {
    let limits = limits(LIMITS).unwrap();
    let gate = Gate::of(&[run("flat", 100.0)], Held { limits: Some(&limits), ..Held::default() });
    let text = limits.with_baseline(&gate.series);
    let line = "baseline = { slope_bytes_per_step = 100.0, peak_bytes = 1068576 }\n";
    assert_eq!(text.replace(line, ""), LIMITS);
    assert_eq!(text.matches(line).count(), 1);
    let again = Limits::parse(Path::new("x"), &text).unwrap();
    let markdown =
        Gate::of(&[run("flat", 200.0)], Held { limits: Some(&again), ..Held::default() }).markdown();
    assert!(
        markdown.contains(
            "| within | flat · only on cuda:0 | rss\\_bytes | 200 B | 100 B | 4 KiB | 1 MiB | 1 MiB | 2 MiB |"
        ),
        "{markdown}"
    );
}

#[rstest]
#[case("", "the file has no [[limit]]")]
#[case("limit = 3", "not a limits file")]
#[case(
    "[[limit]]\nscenario = \"a\"\ndevice = \"b\"\nlane = \"c\"\n",
    "has no limit; expected max_slope or max_peak"
)]
#[case(
    "[[limit]]\nscenario = \"a\"\ndevice = \"b\"\nlane = \"c\"\nmax_slope = \"64KiB\"\n",
    "limit 1 (c, a, b): \"64KiB\" is not a limit on a slope"
)]
#[case("[[limit]]\nscenario = \"a\"\ndevice = \"b\"\nlane = \"c\"\nmax_peak = \"64\"\n", "has no unit")]
#[case("[[limit]]\nscenario = \"a\"\ndevice = \"b\"\nlane = \"c\"\nmost = \"64B\"\n", "unknown field `most`")]
fn a_wrong_limit_is_refused_and_named(#[case] text: &str, #[case] why: &str) {
    let error = limits(text).unwrap_err().to_string();
    assert!(error.contains("memory-limits.toml: ") && error.contains(why), "{error}");
    let twice = limits(&format!("{LIMITS}{LIMITS}")).unwrap_err().to_string();
    assert!(twice.contains("limit 3 (rss_bytes, flat, cuda) occurs twice"), "{twice}");
}

/// A CSV of this many rows that grows by so many bytes a row, and its one peak.
fn long(rows: u64, growth: u64) -> (usize, Judged) {
    use std::io::Write as _;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.csv");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    writeln!(file, "step,rss_bytes").unwrap();
    for step in 0..rows {
        let spike = if step == rows / 3 { 1_u64 << 40 } else { 0 };
        writeln!(file, "{step},{}", (1_u64 << 30) + growth * step + spike).unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();
    let recording = crate::series::read_csv(&path, &[]).unwrap();
    let points = recording.series[0].points.len();
    let mut gate = Gate::of(&[recording], held("1KiB/step"));
    (points, gate.series.remove(0))
}

#[rstest]
#[case::within(1_000_000, 100, SlopeVerdict::Within)]
#[case::exceeds(1_000_000, 2000, SlopeVerdict::Exceeds)]
#[ignore = "writes 200 MB"]
#[case::ten_million(10_000_000, 2000, SlopeVerdict::Exceeds)]
fn a_long_series_is_judged_in_bounded_memory(
    #[case] rows: u64,
    #[case] growth: u64,
    #[case] verdict: SlopeVerdict,
) {
    let (points, judged) = long(rows, growth);
    assert!(points <= 1 << 17, "{points}");
    assert_eq!((judged.verdict, judged.peak), (verdict, (1_u64 << 40) + (1_u64 << 30) + growth * (rows / 3)));
    assert_eq!(judged.steps, rows - 1);
}
