//! Tensors without values on a tape: what burn-autodiff keeps of a forward pass.
//!
//! As there, an operation keeps the operands that its gradient needs. Under checkpointing (burn's balanced strategy) the
//! result of a light operation is not kept but computed again from its operands, which are kept instead; where one of them
//! is untracked burn keeps the result after all.

use std::cell::RefCell;
use std::rc::Rc;

use super::array::{Array, Block, Heap, broadcast};

// What burn-autodiff 0.21 holds beside tensors, by the sizes of its types on a 64-bit machine. It is little, but it is all
// that a small model has.

/// Of an operation: the node (88), its step with two parents and two shapes (120), its parents' ids in the node, in the
/// graph and in the tree that the backward pass walks (32 each).
const NODE_BYTES: u64 = 88 + 120 + 3 * 32;
/// Of a leaf beside that: the tensor among the weights (160), its reference count (24) and a graph of its own (272).
const LEAF_BYTES: u64 = 160 + 24 + 272;
/// Of a light operation: what computes it again.
const LIGHT_BYTES: u64 = 48;
/// Of a kept result: its box.
const KEPT_BYTES: u64 = 104;
/// Of a bucket in the tables by node: steps (8 + 16), actions (8 + 48), nodes (8 + 24), tree (8 + 24), graphs (8 + 8),
/// leaves and keys (8 each), with a control byte each.
const BUCKET_BYTES: u64 = 24 + 56 + 32 + 32 + 16 + 8 + 8 + 7;

/// Operations, as far as they differ in what they take and keep.
#[derive(Clone)]
pub enum Op {
    /// A weight or a constant.
    Leaf,
    /// A sum.
    Add,
    /// A difference.
    Sub,
    /// A product, or a quotient by a constant.
    Mul,
    /// A product of matrices.
    Matmul,
    /// A function whose slope needs its operand: exp, log, sqrt.
    Pointwise,
    /// Such a function that never works in place: recip.
    Recip,
    /// Times a number.
    Scale,
    /// Plus a number.
    Shift,
    /// Sum or mean over a dimension, which stays with an extent of 1.
    Reduce(usize),
    /// To another shape.
    Reshape(Vec<usize>),
    /// Two dimensions swapped.
    Swap(usize, usize),
    /// A part of this shape.
    Slice(Vec<usize>),
    /// One tensor after the other.
    Cat,
    /// So many rows of a table.
    Select(usize),
    /// One element of the last dimension.
    Gather,
    /// Some elements replaced by a number.
    MaskFill,
    /// The second operand written into the first.
    Assign,
}

impl Op {
    /// Whether burn holds it for cheaper to compute again than to keep.
    fn is_light(&self) -> bool {
        !matches!(
            self,
            Self::Leaf | Self::Matmul | Self::Reduce(_) | Self::Cat | Self::Gather | Self::MaskFill
        )
    }

    /// Whether its gradient needs the operand `at`, given which operands are tracked.
    pub fn needs(&self, at: usize, tracked: &[bool]) -> bool {
        match self {
            Self::Mul | Self::Matmul => tracked[1 - at],
            Self::Pointwise | Self::Recip => true,
            _ => false,
        }
    }

    /// Its result. The operands are given up.
    pub fn apply(&self, first: Array, others: Vec<Array>) -> Array {
        match (self, others.into_iter().next()) {
            (Self::Add, Some(other)) => first.add(other),
            (Self::Sub | Self::Mul, Some(other)) => {
                let shape = broadcast(&first.shape, &other.shape);
                if shape == first.shape { first.in_place() } else { first.fresh(&shape) }
            }
            (Self::Matmul, Some(other)) => first.matmul(other),
            (Self::Recip, _) => first.fresh(&first.shape),
            (Self::Reduce(dim), _) => first.sum(*dim),
            (Self::Reshape(shape), _) => first.reshape(shape),
            (Self::Swap(one, other), _) => first.swap(*one, *other),
            (Self::Slice(shape), _) => first.fresh(shape),
            (Self::Select(rows), _) => first.fresh(&[*rows, first.shape[1]]),
            (Self::Gather, _) => first.gather(),
            _ => first.in_place(),
        }
    }
}

/// An operation on the tape.
pub struct Node {
    /// What it does.
    pub op: Op,
    /// The nodes of its operands.
    pub operands: Vec<usize>,
    /// Their shapes.
    pub shapes: Vec<Vec<usize>>,
    /// Which of them gradients go to.
    pub tracked: Vec<bool>,
    /// Whether gradients come to it.
    pub is_tracked: bool,
    /// Whether its result is computed again.
    pub is_light: bool,
    /// Steps from the leaves.
    pub depth: usize,
    _record: Block,
}

/// What an operation asks to be there in the backward pass.
pub enum Kept {
    /// The result of a node.
    Result(usize, Array, Block),
    /// The result of a node, computed again.
    Again(usize),
}

impl Kept {
    /// The node.
    pub fn node(&self) -> usize {
        match self {
            Self::Result(node, ..) | Self::Again(node) => *node,
        }
    }
}

/// The tape of one forward pass.
pub struct Tape {
    /// Where its arrays are.
    pub heap: Heap,
    checkpointing: bool,
    tables: RefCell<Option<Block>>,
    /// The operations, in order.
    pub nodes: RefCell<Vec<Node>>,
    /// What gradients need.
    pub needed: RefCell<Vec<Kept>>,
    /// What light operations would be computed from.
    pub spare: RefCell<Vec<Kept>>,
}

impl Tape {
    /// An empty tape.
    pub fn new(heap: &Heap, checkpointing: bool) -> Rc<Self> {
        Rc::new(Self {
            heap: heap.clone(),
            checkpointing,
            tables: RefCell::default(),
            nodes: RefCell::default(),
            needed: RefCell::default(),
            spare: RefCell::default(),
        })
    }

    fn push(&self, node: Node) -> usize {
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(node);
        // A table has a power of two of buckets, and fills seven eighths of them.
        let buckets = (nodes.len() * 8).div_ceil(7).next_power_of_two();
        self.tables.replace(None);
        self.tables.replace(Some(self.heap.hold(buckets as u64 * BUCKET_BYTES)));
        nodes.len() - 1
    }

    /// An array that begins a graph; gradients reach it where it is tracked.
    pub fn leaf(self: &Rc<Self>, array: Array, is_tracked: bool) -> Tensor {
        let node = self.push(Node {
            op: Op::Leaf,
            operands: Vec::new(),
            shapes: Vec::new(),
            tracked: Vec::new(),
            is_tracked,
            is_light: false,
            depth: 0,
            _record: self.heap.hold(NODE_BYTES + LEAF_BYTES),
        });
        Tensor { tape: self.clone(), array, node }
    }

    /// A new array as a constant.
    pub fn constant(self: &Rc<Self>, shape: &[usize]) -> Tensor {
        self.leaf(Array::new(&self.heap, shape), false)
    }
}

/// A tensor on a tape.
#[derive(Clone)]
pub struct Tensor {
    /// Where it is recorded.
    pub tape: Rc<Tape>,
    /// Its array.
    pub array: Array,
    /// The operation that made it.
    pub node: usize,
}

impl Tensor {
    /// Its shape.
    pub fn shape(&self) -> Vec<usize> {
        self.array.shape.clone()
    }

    /// Whether gradients come to it.
    pub fn is_tracked(&self) -> bool {
        self.tape.nodes.borrow()[self.node].is_tracked
    }

    /// The same values as a constant.
    pub fn detach(self) -> Self {
        self.tape.clone().leaf(self.array, false)
    }

    fn kept(&self) -> Kept {
        let is_light = self.tape.nodes.borrow()[self.node].is_light;
        if is_light {
            return Kept::Again(self.node);
        }
        Kept::Result(self.node, self.array.clone(), self.tape.heap.hold(KEPT_BYTES))
    }

    /// Records an operation on this tensor and others.
    pub fn record(self, op: Op, others: Vec<Self>) -> Self {
        let tape = self.tape.clone();
        let operands: Vec<&Self> = std::iter::once(&self).chain(&others).collect();
        let tracked: Vec<bool> = operands.iter().map(|it| it.is_tracked()).collect();
        let is_tracked = tracked.contains(&true);
        let is_light = tape.checkpointing && op.is_light() && !tracked.contains(&false);
        if is_light {
            tape.spare.borrow_mut().extend(operands.iter().map(|it| it.kept()));
        }
        if is_tracked {
            let needed = operands.iter().enumerate().filter(|(at, _)| op.needs(*at, &tracked));
            tape.needed.borrow_mut().extend(needed.map(|(_, it)| it.kept()));
        }
        let depth = {
            let nodes = tape.nodes.borrow();
            1 + operands.iter().map(|it| nodes[it.node].depth).max().unwrap_or(0)
        };
        let node = Node {
            op: op.clone(),
            operands: operands.iter().map(|it| it.node).collect(),
            shapes: operands.iter().map(|it| it.shape()).collect(),
            tracked,
            is_tracked,
            is_light,
            depth,
            _record: tape.heap.hold(NODE_BYTES + if is_light { LIGHT_BYTES } else { 0 }),
        };
        let array = match op {
            Op::Cat => cat(self, others),
            _ => op.apply(self.array, others.into_iter().map(|it| it.array).collect()),
        };
        Self { node: tape.push(node), array, tape }
    }

    /// This tensor and another.
    pub fn with(self, op: Op, other: Self) -> Self {
        self.record(op, vec![other])
    }

    /// This tensor alone.
    pub fn by(self, op: Op) -> Self {
        self.record(op, Vec::new())
    }

    /// The largest along the last dimension: found by its place, then gathered.
    pub fn largest(self) -> Self {
        self.tape.clone().leaf(self.array.gather(), false)
    }
}

/// One array after the other, and a copy of it in standard layout.
fn cat(first: Tensor, others: Vec<Tensor>) -> Array {
    let rows = first.array.shape[0] + others.iter().map(|it| it.array.shape[0]).sum::<usize>();
    let all = first.array.fresh(&[rows, first.array.shape[1]]);
    all.fresh(&[rows, first.array.shape[1]])
}
