//! GELU, layer norm and pooling by themselves.

use burn::tensor::{Tensor, TensorData};
use rstest::rstest;
use serde::Deserialize;
use traintrue_judge::bound::unit_roundoff;
use traintrue_protocol::plan::Dtype;

use super::golden::{Bugs, apart, faulty, norm, parts, read, rounding, sees};
use crate::data::Rows;
use crate::engine::Cpu;
use crate::model::{self, Norm, Precision, to_vec};
use crate::parts::Parts;
use crate::turn::Turn;

type Matrix = Vec<Vec<f64>>;

fn matrix(rows: &Matrix) -> Tensor<Cpu, 2> {
    let values: Vec<f32> = rows.concat().iter().map(|&it| it as f32).collect();
    Tensor::from_data(TensorData::new(values, [rows.len(), rows[0].len()]), &Default::default())
}

fn leaf(rows: &Matrix, _: &Turn) -> Tensor<Cpu, 2> {
    matrix(rows).require_grad()
}

/// The distance of a tensor from its golden, relative to the golden's norm.
fn relative<const D: usize>(ours: &[f32], golden: &[[f64; D]]) -> f64 {
    apart(ours, golden.concat()) / norm(golden.concat())
}

#[derive(Deserialize)]
struct Gelu {
    x: Vec<f64>,
    y: Vec<f64>,
    slope: Vec<f64>,
    bugs: Bugs,
}

/// `y = x P(x)`: `erf` of an argument that was rounded, halved and raised by a half is off by less than `4 u`. The slope is
/// `P(x) + x p(x)`: the density's exponent is off by `2 u x^2`, and `x^3 p(x)` is below a half.
const GELU_ROUNDINGS: f64 = 8.0;

#[test]
fn gelu_and_its_slope_are_pytorchs() {
    let golden: Gelu = read("gelu");
    let turn = Turn::take();
    let x = leaf(&golden.x.iter().map(|&x| vec![x]).collect(), &turn);
    let y = model::gelu(x.clone());
    let slope = x.grad(&y.clone().sum().backward()).unwrap();
    let unit = unit_roundoff(Dtype::F32);
    for (at, (&y, &slope)) in to_vec(y).iter().zip(&to_vec(slope)).enumerate() {
        let (x, tolerance) = (golden.x[at], GELU_ROUNDINGS * unit * golden.x[at].abs().max(1.0));
        assert!((f64::from(y) - golden.y[at]).abs() <= tolerance, "gelu({x}) is {y}, not {}", golden.y[at]);
        let off = (f64::from(slope) - golden.slope[at]).abs();
        assert!(off <= tolerance, "the slope at {x} is {slope}, not {}", golden.slope[at]);
    }
    sees(&golden.bugs, GELU_ROUNDINGS * unit * 6.0);
}

#[derive(Deserialize)]
struct LayerNorm {
    x: Vec<[f64; 8]>,
    weight: Vec<f64>,
    bias: Vec<f64>,
    pull: Vec<[f64; 8]>,
    y: Vec<[f64; 8]>,
    dx: Vec<[f64; 8]>,
    dweight: [f64; 8],
    dbias: [f64; 8],
    bugs: Bugs,
}

#[test]
fn layer_norm_and_its_gradients_are_pytorchs() {
    let golden: LayerNorm = read("norm");
    let rows = |it: &[[f64; 8]]| it.iter().map(|row| row.to_vec()).collect::<Matrix>();
    let turn = Turn::take();
    let x = leaf(&rows(&golden.x), &turn);
    let weights = [leaf(&vec![golden.weight], &turn), leaf(&vec![golden.bias], &turn)];
    let y = model::norm(x.clone(), &Norm { weight: 0, bias: 1 }, &weights);
    let found = (y.clone() * matrix(&rows(&golden.pull))).sum().backward();
    let gradient = |of: &Tensor<Cpu, 2>| to_vec(of.grad(&found).unwrap());
    // Two sums of 8 forward; three of 8, and one over the 6 rows, backward.
    let tolerance = rounding(2 * 8 + 3 * 8 + 6);
    for (what, off) in [
        ("y", relative(&to_vec(y), &golden.y)),
        ("dx", relative(&gradient(&x), &golden.dx)),
        ("dweight", relative(&gradient(&weights[0]), &[golden.dweight])),
        ("dbias", relative(&gradient(&weights[1]), &[golden.dbias])),
    ] {
        assert!(off <= tolerance, "{what} is off by {off:e}, at most {tolerance:e}");
    }
    sees(&golden.bugs, tolerance);
}

#[derive(Deserialize)]
struct Pooling {
    real: Vec<[bool; 5]>,
    hidden: Vec<Vec<[f64; 4]>>,
    pull: Vec<[f64; 4]>,
    pooled: Vec<[f64; 4]>,
    unit: Vec<[f64; 4]>,
    dhidden: Vec<Vec<[f64; 4]>>,
    bugs: Bugs,
}

/// Five positions are summed and the squares of four values, forward and backward.
fn pooling_tolerance() -> f64 {
    rounding(2 * (5 + 4))
}

/// The largest relative distance of mean, unit vector and gradient from the golden's.
fn pooling_is_off(golden: &Pooling, parts: &Parts<Cpu>) -> f64 {
    let f32 = Precision(Dtype::F32);
    let real = golden.real.concat();
    let (count, width) = (golden.real.len(), 5);
    let rows = Rows { ids: vec![0; real.len()], positions: vec![0; real.len()], real, count, width };
    let turn = Turn::take();
    let hidden = leaf(&golden.hidden.concat().iter().map(|row| row.to_vec()).collect(), &turn);
    let pooled = (parts.forward.pool)(hidden.clone(), &rows, f32);
    let unit = (parts.forward.unit)(pooled.clone(), f32);
    let pull = matrix(&golden.pull.iter().map(|row| row.to_vec()).collect());
    let gradient = hidden.grad(&(unit.clone() * pull).sum().backward()).unwrap();
    let off = [
        relative(&to_vec(pooled), &golden.pooled),
        relative(&to_vec(unit), &golden.unit),
        relative(&to_vec(gradient), &golden.dhidden.concat()),
    ];
    off.into_iter().fold(0.0, f64::max)
}

#[test]
fn pooling_is_pytorchs_also_where_a_row_has_no_token() {
    let golden: Pooling = read("pooling");
    assert!(golden.real.contains(&[false; 5]));
    let off = pooling_is_off(&golden, &parts(|_| {}));
    assert!(off <= pooling_tolerance(), "{off:e}");
    sees(&golden.bugs, pooling_tolerance());
}

#[rstest]
#[case("pooling-without-a-clamp")]
#[case("zero-vector-normalised")]
fn pooling_with_a_fault_is_not_pytorchs(#[case] fault: &str) {
    assert!(pooling_is_off(&read("pooling"), &faulty(fault)) > pooling_tolerance());
}
