//! The operations that a transformer is made of, by their extents. What each keeps and holds is an engine's affair.

use super::architecture::{Activation, Norm};

/// A norm over the last dimension.
#[derive(Clone, Copy, Debug)]
pub(super) struct Norming {
    pub kind: Norm,
    /// Vectors.
    pub rows: u128,
    /// Elements of each.
    pub width: u128,
    /// Parameters that learn: those of the norm, or 0.
    pub learns: u128,
    /// Whether another operation keeps the input anyway.
    pub input_is_kept: bool,
}

/// One of the linears that read the same input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    /// Elements of a row of the result.
    pub to: u128,
    /// Parameters of the matrix and of the bias that learn.
    pub learns: [u128; 2],
    /// The rank of its adapter; 0 where it has none.
    pub rank: u128,
}

/// What linears read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The output of a norm.
    Norm,
    /// What another operation keeps already.
    Kept,
    /// Anything else.
    Stream,
}

/// What reads the results of linears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    Activation,
    Dropout,
    /// Anything else.
    Other,
}

/// Linears that read the same input.
#[derive(Clone, Debug)]
pub(super) struct Linears {
    /// Rows of the input.
    pub rows: u128,
    /// Elements of each.
    pub from: u128,
    pub products: Vec<Product>,
    pub source: Source,
    pub reader: Reader,
}

impl Linears {
    /// Whether the gradient of a matrix needs the input.
    pub fn need_input(&self) -> bool {
        self.products.iter().any(|it| it.learns[0] + it.rank > 0)
    }
}

/// What is added to scores by the distance of a query and a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bias {
    None,
    /// A table that does not learn.
    Fixed,
    /// A table that learns: scores need a gradient of their own.
    Learns,
}

/// Softmax of queries on keys, and the values under its weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attending {
    /// Rows of the batch.
    pub rows: u128,
    /// Positions that ask, in a row.
    pub queries: u128,
    /// Positions that are asked, in a row.
    pub keys: u128,
    /// Heads of the queries.
    pub heads: u128,
    /// Heads of keys and values.
    pub key_value_heads: u128,
    /// Width of a head.
    pub width: u128,
    /// What is added to the scores by distance.
    pub bias: Bias,
    /// Whether weights are dropped.
    pub drops: bool,
    /// Whether positions turn queries and keys: they are new tensors then.
    pub rotary: bool,
    /// Whether queries, keys and values are parts of one tensor.
    pub fused: bool,
    /// Whether queries are copied into the order of the heads before they are used.
    pub by_heads: bool,
}

impl Attending {
    /// Elements of all queries, and of what is attended.
    pub fn asked(&self) -> u128 {
        self.rows * self.queries * self.heads * self.width
    }

    /// Elements of all keys, and of all values.
    pub fn answered(&self) -> u128 {
        self.rows * self.keys * self.key_value_heads * self.width
    }

    /// The same where every query head has a copy of its own.
    pub fn repeated(&self) -> u128 {
        self.rows * self.keys * self.heads * self.width
    }

    /// A bias of every head on every pair of positions, for all rows together.
    pub fn bias(&self) -> u128 {
        if self.bias == Bias::None { 0 } else { self.heads * self.queries * self.keys }
    }

    /// Weights of all queries on all keys.
    pub fn weights(&self) -> u128 {
        self.rows * self.heads * self.queries * self.keys
    }
}

/// The activation of a feed-forward part, with the product of its gate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Activating {
    pub kind: Activation,
    pub gated: bool,
    /// Elements of its input.
    pub elements: u128,
}
