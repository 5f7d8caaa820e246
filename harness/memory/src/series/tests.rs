//! What a file of series may say, and what it may not.

use std::path::PathBuf;

use rstest::rstest;
use traintrue_logs::Layout;

use super::*;

/// A file of this text, in a folder that goes when it is dropped.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.csv");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

#[rstest]
#[case("", "the file is empty")]
#[case("step\n1\n", "no lane beside step")]
#[case("time,bytes\n1,2\n", "the first column is \"time\"")]
#[case("step,bytes\n", "lane bytes has no row")]
#[case("step,bytes\n1,2\n3,4\n2,5\n", "memory.csv:4: step 2 comes after step 3")]
#[case("step,bytes\n1,2\n1,4\n", ":3: step 1 comes after step 1")]
#[case("step,bytes\n1,2\n2,-4\n", ":3: column bytes: -4 is negative")]
#[case("step,bytes\n-1,2\n2,4\n", ":2: column step: -1 is negative")]
#[case("step,bytes\n1,2\n2,many\n", ":3: column bytes: \"many\" is not a number of bytes")]
#[case("step,bytes\n1,2\n2,nan\n", ":3: column bytes: \"nan\" is not a number of bytes")]
#[case("step,bytes\n1,2\n2,inf\n", ":3: column bytes: \"inf\" is not a number of bytes")]
#[case("step,bytes\n1,2048\n2,12MiB\n", ":3: column bytes: \"12MiB\" has a unit")]
#[case("step,bytes\n1,2\n,3\n", ":3: column step: \"\" is not a step")]
#[case("step,bytes\n1,2\n2\n", "memory.csv:3: not CSV")]
#[case("step,a,a\n1,2,3\n", "column 3 is \"a\", which is empty or occurs twice")]
#[case("step,epoch,a,a\n1,0,2,3\n", "column 4 is \"a\", which is empty or occurs twice")]
fn what_is_no_series_is_refused_at_its_line_and_column(#[case] text: &str, #[case] why: &str) {
    let (_folder, path) = file(text);
    let error = record(&path, &Layout::default(), None, &[]).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = record(Path::new("nowhere.csv"), &Layout::default(), None, &[]).unwrap_err().to_string();
    assert!(error.starts_with("nowhere.csv: cannot read the series"), "{error}");
}

#[test]
fn each_lane_is_a_series_and_an_empty_cell_is_a_missing_sample() {
    let (_folder, path) = file("step, rss_bytes, heap_bytes, gpu\n0, 10, 1,\n5, , 2,\n6, 30, 3,\n");
    let series = record(&path, &Layout::default(), None, &[]).unwrap().series;
    let steps = |at: usize| series[at].points.iter().map(|point| point.step).collect::<Vec<_>>();
    assert_eq!(
        series.iter().map(|series| series.lane.as_str()).collect::<Vec<_>>(),
        ["rss_bytes", "heap_bytes"]
    );
    assert_eq!((steps(0), steps(1)), (vec![0.0, 6.0], vec![0.0, 5.0, 6.0]));
}

#[test]
fn only_the_lanes_that_are_named_are_read() {
    let (_folder, path) = file("step,a,b\n1,2,3\n2,3,4\n");
    assert_eq!(record(&path, &Layout::default(), None, &["b".to_owned()]).unwrap().series[0].lane, "b");
    let error = record(&path, &Layout::default(), None, &["c".to_owned()]).unwrap_err().to_string();
    assert!(error.ends_with("no lane \"c\"; it has a, b"), "{error}");
}

#[test]
fn an_epoch_column_is_no_lane_but_tells_the_edges() {
    let (_folder, path) = file("step,epoch,heap_bytes\n1,0,5\n2,0,6\n3,1,5\n4,1,7\n");
    let found = record(&path, &Layout::default(), None, &[]).unwrap();
    assert_eq!((found.series.len(), found.edges.as_slice()), (1, [2.0].as_slice()));
    assert_eq!(crate::exact::exact(&found.samples["heap_bytes"]).differ.unwrap().1.step, 4);
}

#[test]
fn what_is_written_is_read_again_as_it_was() {
    let (_folder, path) = file("step,\"gpu,0\",heap_bytes\n1,10,5\n2.5,,6\n6,30,\n");
    let series = record(&path, &Layout::default(), None, &[]).unwrap().series;
    assert_eq!(write_csv(&series).unwrap(), std::fs::read(&path).unwrap());
}
