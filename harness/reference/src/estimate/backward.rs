//! Runs a tape backwards as burn-autodiff does: which arrays live, from the last operation to the first.

use std::collections::{HashMap, HashSet};

use super::array::Array;
use super::tape::{Kept, Node, Op, Tape, Tensor};

/// Gradients by node.
pub type Gradients = HashMap<usize, Array>;

/// The gradients of the leaves, from a tensor of one element.
pub fn backward(root: Tensor) -> Gradients {
    let tape = root.tape.clone();
    let nodes = tape.nodes.borrow();
    let order = order(&nodes, root.node);
    let mut states = States::of(&tape, &nodes);
    let mut gradients = Gradients::from([(root.node, root.array.fresh(&root.array.shape))]);
    drop(root);
    for at in order {
        let node = &nodes[at];
        let is_leaf = matches!(node.op, Op::Leaf);
        if let Some(gradient) = if is_leaf { None } else { gradients.remove(&at) } {
            step(node, gradient, &mut gradients, &mut states);
        }
    }
    gradients
}

/// The nodes that gradients reach, the deepest first; in one depth as a walk over the parents meets them.
fn order(nodes: &[Node], root: usize) -> Vec<usize> {
    let mut seen = HashSet::new();
    let mut next = vec![root];
    let mut found = Vec::new();
    while let Some(at) = next.pop() {
        if seen.insert(at) {
            found.push(at);
            let node = &nodes[at];
            next.extend(
                node.operands.iter().zip(&node.tracked).filter(|(_, tracked)| **tracked).map(|(it, _)| *it),
            );
        }
    }
    found.sort_by_key(|&at| std::cmp::Reverse(nodes[at].depth));
    found
}

/// One operation: takes the gradient of its result to its operands.
fn step(node: &Node, gradient: Array, gradients: &mut Gradients, states: &mut States) {
    let mut kept: Vec<Option<Array>> = node
        .operands
        .iter()
        .enumerate()
        .map(|(at, &operand)| states.take_if_needed(node, at, operand))
        .collect();
    // Each operand has a share in the gradient until it is its turn.
    let mut copies = vec![gradient; node.tracked.iter().filter(|tracked| **tracked).count()];
    for (at, &operand) in node.operands.iter().enumerate().filter(|(at, _)| node.tracked[*at]) {
        let Some(gradient) = copies.pop() else { return };
        let partner = match node.op {
            Op::Mul | Op::Matmul => kept[1 - at].take(),
            _ => kept[at].take(),
        };
        let new = towards(node, at, gradient, partner);
        let sum = match gradients.remove(&operand) {
            Some(old) => new.add(old),
            None => new,
        };
        gradients.insert(operand, sum);
    }
}

/// The gradient of the operand `at`.
fn towards(node: &Node, at: usize, gradient: Array, partner: Option<Array>) -> Array {
    let shape = &node.shapes[at];
    match (&node.op, partner) {
        (Op::Add, _) => gradient.unbroadcast(shape),
        (Op::Sub, _) => if at == 0 { gradient } else { gradient.in_place() }.unbroadcast(shape),
        (Op::Mul, _) => gradient.in_place().unbroadcast(shape),
        (Op::Matmul, Some(other)) if at == 0 => gradient.matmul(other.transpose()),
        (Op::Matmul, Some(other)) => other.transpose().matmul(gradient),
        (Op::Pointwise | Op::Recip, Some(operand)) => {
            let _slope = operand.in_place();
            gradient.in_place()
        }
        (Op::Reduce(_), _) => gradient.fresh(shape),
        (Op::Reshape(_), _) => gradient.reshape(shape),
        (Op::Swap(one, other), _) => gradient.swap(*one, *other),
        (Op::Slice(_) | Op::Select(_) | Op::Cat, _) => gradient.fresh(shape),
        (Op::Gather, _) => gradient.fresh(shape).scatter(),
        (Op::Assign, _) => {
            if at == 0 {
                gradient.in_place()
            } else {
                gradient.fresh(shape)
            }
        }
        (Op::Shift | Op::Leaf, _) => gradient,
        _ => gradient.in_place(),
    }
}

/// What the backward pass can still ask for.
struct States<'a> {
    nodes: &'a [Node],
    by_node: HashMap<usize, State>,
}

struct State {
    /// How often it will be asked for.
    required: usize,
    /// None until it is computed again.
    result: Option<Array>,
}

impl<'a> States<'a> {
    /// Keeps what is needed, and of the spare only what the rest is computed from.
    fn of(tape: &Tape, nodes: &'a [Node]) -> Self {
        let (needed, spare) = (tape.needed.take(), tape.spare.take());
        let is_result = |kept: &&Kept| matches!(kept, Kept::Result(..));
        let results: HashSet<usize> = needed.iter().chain(&spare).filter(is_result).map(Kept::node).collect();
        let mut required = HashMap::new();
        for kept in &needed {
            match kept {
                Kept::Result(node, ..) => *required.entry(*node).or_insert(0) += 1,
                Kept::Again(node) => require(*node, nodes, &results, &mut required),
            }
        }
        let mut by_node: HashMap<usize, State> =
            required.into_iter().map(|(node, required)| (node, State { required, result: None })).collect();
        for kept in needed.into_iter().chain(spare) {
            if let Kept::Result(node, array, _box) = kept
                && let Some(state) = by_node.get_mut(&node)
            {
                state.result = Some(array);
            }
        }
        Self { nodes, by_node }
    }

    fn take_if_needed(&mut self, node: &Node, at: usize, operand: usize) -> Option<Array> {
        node.op.needs(at, &node.tracked).then(|| self.take(operand)).flatten()
    }

    /// The result of a node, computed again where it has to be.
    fn take(&mut self, at: usize) -> Option<Array> {
        self.compute(at);
        self.get(at)
    }

    fn compute(&mut self, at: usize) {
        if self.by_node.get(&at).is_none_or(|state| state.result.is_some()) {
            return;
        }
        let node = &self.nodes[at];
        for &operand in &node.operands {
            self.compute(operand);
        }
        let mut operands = node.operands.iter().filter_map(|&operand| self.get(operand)).collect::<Vec<_>>();
        if operands.is_empty() {
            return;
        }
        let first = operands.remove(0);
        let result = node.op.apply(first, operands);
        if let Some(state) = self.by_node.get_mut(&at) {
            state.result = Some(result);
        }
    }

    /// The computed result; it is given up where nobody asks again.
    fn get(&mut self, at: usize) -> Option<Array> {
        let state = self.by_node.get_mut(&at)?;
        state.required -= 1;
        if state.required > 0 { state.result.clone() } else { self.by_node.remove(&at)?.result }
    }
}

/// Counts a node that is computed again, and all that it is computed from.
fn require(at: usize, nodes: &[Node], results: &HashSet<usize>, required: &mut HashMap<usize, usize>) {
    let known = required.contains_key(&at);
    *required.entry(at).or_insert(0) += 1;
    if !known && !results.contains(&at) {
        for &operand in &nodes[at].operands {
            require(operand, nodes, results, required);
        }
    }
}
