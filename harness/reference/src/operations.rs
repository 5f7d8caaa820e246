//! Each operation of the model by itself, on values drawn from the plan's seed: its output, and the gradient of each input.
//!
//! Two backends get the same values, so a kernel that computes something else is named by its operation, before training
//! mixes it with everything else.

use burn::tensor::{Int, Tensor, activation};
use rand::Rng;
use traintrue_protocol::digest::sketch;
use traintrue_protocol::number::Number;
use traintrue_protocol::plan::{Dtype, Plan};
use traintrue_protocol::trace::event::{Operation, OperationTensor};

use crate::data::{Batch, collate};
use crate::engine::{Engine, Inner};
use crate::events::SKETCHES;
use crate::model::{AttentionMask, Norm, Precision, from_vec, to_vec};
use crate::optimizer::norm;
use crate::parts::Parts;
use crate::rng;
use crate::turn::Turn;

/// Samples of the batch whose masks and targets the operations get.
const SAMPLES: u64 = 4;
/// A width that is no multiple of a vector's or a tile's.
const WIDTH: usize = 70;
/// Rows, as odd.
const ROWS: usize = 33;
/// The inner extent of a product that is computed in tiles.
const LARGE: usize = 512;

/// What an operation gets besides its inputs.
struct Given<'a, E: Engine> {
    parts: &'a Parts<E>,
    batch: &'a Batch,
    mask: &'a AttentionMask<E>,
    device: &'a E::Device,
}

/// An operation on matrices.
struct Asked<E: Engine> {
    name: &'static str,
    terms: usize,
    /// The inputs, by name, with their extents.
    inputs: Vec<(&'static str, [usize; 2])>,
    does: fn(&Given<E>, Vec<Tensor<E, 2>>) -> Tensor<E, 2>,
}

/// Does every operation of the model once.
pub fn operations<E: Engine>(plan: &Plan, parts: &Parts<E>, device: &E::Device) -> Vec<Operation> {
    let ids: Vec<u64> = (0..SAMPLES.min(plan.data.samples.len() as u64)).collect();
    let batch = collate(&parts.collate, &plan.data, &plan.data.samples, &plan.data.padding, &ids, false);
    let mask = AttentionMask::new(&batch.rows, parts.forward.allows, device);
    let given = Given { parts, batch: &batch, mask: &mask, device };
    let mut rng = rng::operations(plan.seed);
    let mut draw = |extents: [usize; 2]| {
        let values = (0..extents[0] * extents[1]).map(|_| rng.random_range(-2.0..2.0));
        from_vec::<Inner<E>>(values.collect(), extents, device)
    };
    let asked = asked::<E>(&batch, plan.data.tokens.vocabulary as usize);
    asked.into_iter().map(|asked| told(&asked, &given, &mut draw)).collect()
}

fn asked<E: Engine>(batch: &Batch, vocabulary: usize) -> Vec<Asked<E>> {
    let (rows, width) = (batch.rows.count, batch.rows.width);
    let places = rows * width;
    vec![
        Asked {
            name: "product",
            terms: WIDTH,
            inputs: vec![("x", [ROWS, WIDTH]), ("weight", [WIDTH, 45])],
            does: |given, inputs| pair(given.parts.forward.product, inputs),
        },
        Asked {
            name: "large product",
            terms: LARGE,
            inputs: vec![("x", [96, LARGE]), ("weight", [LARGE, 64])],
            does: |given, inputs| pair(given.parts.forward.product, inputs),
        },
        Asked {
            name: "sum over rows",
            terms: ROWS,
            inputs: vec![("x", [ROWS, WIDTH]), ("bias", [1, WIDTH])],
            does: |_, inputs| pair(|x, bias| x + bias, inputs),
        },
        Asked {
            name: "embedding",
            terms: places,
            inputs: vec![("table", [vocabulary, 24])],
            does: |given, inputs| {
                let ids: Vec<i64> = given.batch.rows.ids.iter().map(|&id| i64::from(id)).collect();
                let ids = Tensor::<E, 1, Int>::from_data(ids.as_slice(), given.device);
                one(inputs).select(0, ids)
            },
        },
        Asked {
            name: "layer norm",
            terms: 4 * WIDTH,
            inputs: vec![("x", [ROWS, WIDTH]), ("scale", [1, WIDTH]), ("shift", [1, WIDTH])],
            does: |given, inputs| {
                (given.parts.forward.norm)(inputs[0].clone(), &Norm { weight: 1, bias: 2 }, &inputs)
            },
        },
        Asked {
            name: "gelu",
            terms: 1,
            inputs: vec![("x", [ROWS, WIDTH])],
            does: |given, inputs| (given.parts.forward.gelu)(one(inputs)),
        },
        Asked {
            name: "attention softmax",
            terms: 2 * width,
            inputs: vec![("scores", [places, width])],
            does: |given, inputs| {
                let (rows, width) = (given.batch.rows.count, given.batch.rows.width);
                let scores = one(inputs).reshape([rows, 1, width, width]);
                (given.parts.forward.softmax)(scores, given.mask).reshape([rows * width, width])
            },
        },
        Asked {
            name: "cross-entropy",
            terms: vocabulary + places,
            inputs: vec![("logits", [places, vocabulary])],
            does: |given, inputs| {
                let losses =
                    (given.parts.forward.loss)(one(inputs), &given.batch.targets, given.batch.rows.width);
                losses.unsqueeze()
            },
        },
        Asked {
            name: "pooling",
            terms: width,
            inputs: vec![("hidden", [places, WIDTH])],
            does: |given, inputs| {
                (given.parts.forward.pool)(one(inputs), &given.batch.rows, Precision(Dtype::F32))
            },
        },
        Asked {
            name: "unit length",
            terms: 2 * WIDTH,
            inputs: vec![("x", [ROWS, WIDTH])],
            does: |given, inputs| (given.parts.forward.unit)(one(inputs), Precision(Dtype::F32)),
        },
        Asked {
            name: "softplus",
            terms: 1,
            inputs: vec![("x", [ROWS, WIDTH])],
            does: |_, inputs| activation::softplus(one(inputs), 1.0),
        },
    ]
}

fn one<E: Engine>(inputs: Vec<Tensor<E, 2>>) -> Tensor<E, 2> {
    inputs[0].clone()
}

fn pair<E: Engine>(
    does: fn(Tensor<E, 2>, Tensor<E, 2>) -> Tensor<E, 2>,
    inputs: Vec<Tensor<E, 2>>,
) -> Tensor<E, 2> {
    does(inputs[0].clone(), inputs[1].clone())
}

/// Does one operation, and takes the gradient of a weighted sum of its output: under equal weights many mistakes cancel.
fn told<E: Engine>(
    asked: &Asked<E>,
    given: &Given<E>,
    draw: &mut impl FnMut([usize; 2]) -> Tensor<Inner<E>, 2>,
) -> Operation {
    let _turn = Turn::take();
    let inputs: Vec<Tensor<E, 2>> =
        asked.inputs.iter().map(|(_, extents)| Tensor::from_inner(draw(*extents)).require_grad()).collect();
    let output = (asked.does)(given, inputs.clone());
    let weights = Tensor::from_inner(draw(output.dims()));
    let mut gradients = (output.clone() * weights).sum().backward();
    let mut tensors = vec![tensor::<E>("output".to_owned(), &output.inner())];
    for ((name, _), input) in asked.inputs.iter().zip(&inputs) {
        tensors.extend(
            input.grad_remove(&mut gradients).map(|it| tensor::<E>(format!("gradient of {name}"), &it)),
        );
    }
    Operation { name: asked.name.to_owned(), terms: asked.terms as u64, tensors }
}

fn tensor<E: Engine>(name: String, values: &Tensor<Inner<E>, 2>) -> OperationTensor {
    let sketch = sketch(&to_vec(values.clone()), SKETCHES);
    OperationTensor { name, norm: Number(norm(values)), sketch: sketch.into_iter().map(Number).collect() }
}
