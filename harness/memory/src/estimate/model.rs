//! A model as the operations of its training step, in order.

use super::architecture::{Architecture, Head, Input, Order};
use super::engine::Keeps;
use super::operation::{Activating, Linears, Norming, Product, Reader, Source};
use super::parameters::Linear;
use super::request::Request;
use super::tensors::Tensors;
use super::walk::{Group, Step};

/// One stack of blocks: how many rows go through it, and how long they are.
#[derive(Clone, Copy)]
pub(super) struct Stack {
    pub rows: u128,
    pub length: u128,
    /// Positions of an encoder's output that the blocks attend to as well.
    pub attends_to: Option<u128>,
}

/// Keys and values of every block of the decoder, and those of the encoder's output.
pub(super) fn cache(architecture: &Architecture, request: &Request) -> Tensors {
    let decoder = Stack::decoder(architecture, request);
    let positions = decoder.positions() + decoder.attends_to.map_or(0, |length| decoder.rows * length);
    let mut all = Tensors::default();
    let layers = u128::from(architecture.layers);
    all.add(2 * layers, positions * architecture.key_width(), request.dtype.bytes().into());
    all
}

impl Stack {
    fn encoder(request: &Request) -> Self {
        Self { rows: request.rows(), length: request.length.into(), attends_to: None }
    }

    /// The decoder, or the only stack.
    fn decoder(architecture: &Architecture, request: &Request) -> Self {
        let attends_to = architecture.has_encoder().then(|| request.length.into());
        Self { rows: request.rows(), length: request.decoder_length(), attends_to }
    }

    pub fn positions(self) -> u128 {
        self.rows * self.length
    }
}

/// Takes a model apart into operations.
pub(super) struct Parts<'a> {
    pub architecture: &'a Architecture,
    pub request: &'a Request,
    pub engine: &'a dyn Keeps,
}

impl Parts<'_> {
    /// The operations of a forward pass, in order.
    pub fn groups(&self) -> Vec<Group> {
        let decoder = Stack::decoder(self.architecture, self.request);
        let mut groups = Vec::new();
        if self.architecture.has_encoder() {
            let encoder = Stack::encoder(self.request);
            groups.push(self.embedding("the encoder's embedding", encoder, self.architecture.input));
            groups.push(self.blocks("an encoder block", encoder, self.architecture.encoder_layers));
            groups.push(self.encoded(encoder));
            groups.push(self.embedding("the embedding", decoder, Input::Tokens));
        } else {
            groups.push(self.embedding("the embedding", decoder, self.architecture.input));
        }
        groups.push(self.blocks("a block", decoder, self.architecture.layers));
        groups.push(self.head(decoder));
        if self.learns_all() || self.recomputes_blocks() { groups } else { only_what_learns(groups) }
    }

    fn embedding(&self, name: &'static str, stack: Stack, input: Input) -> Group {
        let mut step = Step::default();
        if self.learns_all() {
            let mut tables = self.architecture.embedding(input);
            // A table that the head or another stack shares has its gradient already; another is added to it.
            let shares = stack.attends_to.is_none() && self.architecture.has_encoder();
            if input == Input::Tokens && (self.architecture.tied || shares) {
                step.backward.add(1, tables.remove(0), self.width());
            }
            tables.into_iter().for_each(|it| step.learns.add(1, it, self.width()));
        }
        let mut convolved =
            |positions: u128, channels: u128| step.keeps.add(1, positions * channels, self.width());
        match input {
            // Checkpointing makes the first convolution's result need a gradient, under adapters too.
            Input::Frames { .. } if self.learns_all() || self.recomputes_blocks() => {
                // Two frames a position: what the first convolution gives, before and after its activation; the
                // second's before its activation.
                let hidden = u128::from(self.architecture.hidden);
                convolved(2 * stack.positions(), 2 * hidden);
                convolved(stack.positions(), hidden);
            }
            _ => {}
        }
        if self.architecture.distance_buckets > 0 && self.recomputes_blocks() {
            // The bias by distance is computed once, and is there as long as blocks are computed again.
            let heads = u128::from(self.architecture.heads);
            step.keeps.add(1, heads * stack.length * stack.length, self.width());
        }
        let hidden = self.hidden(stack);
        step.forward.add(2, hidden, self.width());
        step.backward.add(2, hidden, self.width());
        let mut steps = vec![step];
        if self.architecture.segments > 0 {
            steps.push(self.norm(stack));
        }
        steps.extend(self.dropped(hidden));
        Group { name, times: 1, steps, input: None }
    }

    fn blocks(&self, name: &'static str, stack: Stack, count: u64) -> Group {
        let mut steps = self.block(stack);
        // What is added to the parts' results waits for their gradients.
        for step in &mut steps {
            step.backward.add(1, self.hidden(stack), self.width());
        }
        let input = self.recomputes_blocks().then(|| {
            let mut input = Tensors::default();
            input.add(1, self.hidden(stack), self.width());
            input
        });
        Group { name, times: count.into(), steps, input }
    }

    /// The end of the encoder: its norm, and its output, which every block of the decoder reads.
    fn encoded(&self, stack: Stack) -> Group {
        let mut output = Step::default();
        output.keeps.add(1, self.hidden(stack), self.width());
        Group { name: "the encoder's output", times: 1, steps: vec![self.norm(stack), output], input: None }
    }

    /// The end of the decoder: its norm, the logits and the loss.
    fn head(&self, stack: Stack) -> Group {
        let architecture = self.architecture;
        let from = u128::from(architecture.hidden);
        let mut steps = Vec::new();
        if architecture.order != Order::PostNorm {
            steps.push(self.norm(stack));
        }
        let rows = match architecture.head {
            Head::Classes(_) => stack.rows,
            _ => u128::from(self.request.batch * self.request.labelled_rows()) * stack.length,
        };
        let linear = |to: u128, learns: [u128; 2]| {
            let products = vec![Product { to, learns: learns.map(|it| self.if_learns(it)), rank: 0 }];
            let mut step = self.engine.linears(&Linears {
                rows,
                from,
                products,
                source: Source::Norm,
                reader: Reader::Other,
            });
            if self.learns_all() && rows < stack.positions() {
                // The class token is a part of the last norm's output, and keeps all of it.
                step.keeps.add(1, self.hidden(stack) - rows * from, self.width());
            }
            step
        };
        if architecture.head == Head::Transformed {
            steps.push(linear(from, [from * from, from]));
            steps.push(self.engine.activation(&Activating {
                kind: architecture.activation,
                gated: false,
                elements: self.hidden(stack),
            }));
            steps.push(self.norm(stack));
        }
        let classes = match architecture.head {
            Head::Classes(classes) => classes.into(),
            _ => u128::from(architecture.vocabulary),
        };
        let bias = if architecture.biases.head { classes } else { 0 };
        steps.push(linear(classes, [classes * from, bias]));
        steps.push(self.engine.loss(rows, classes));
        Group { name: "the loss", times: 1, steps, input: None }
    }

    pub(super) fn norming(&self, stack: Stack) -> Norming {
        let width = u128::from(self.architecture.hidden);
        let learns = self.norm_learns(width);
        Norming { kind: self.architecture.norm, rows: stack.positions(), width, learns, input_is_kept: false }
    }

    pub(super) fn norm(&self, stack: Stack) -> Step {
        self.engine.norm(&self.norming(stack))
    }

    pub(super) fn products(&self, linears: &[Linear]) -> Vec<Product> {
        let adapters = self.request.adapters.as_ref();
        let product = |it: &Linear| Product {
            to: it.to,
            learns: [it.matrix(), it.shift()].map(|learnt| self.if_learns(learnt)),
            rank: adapters
                .filter(|adapters| it.is_in(&adapters.targets))
                .map_or(0, |adapters| adapters.r.into()),
        };
        linears.iter().map(product).collect()
    }

    pub(super) fn dropped(&self, elements: u128) -> Option<Step> {
        self.architecture.dropout.then(|| self.engine.dropout(elements))
    }

    /// What reads the result of an attention's or a feed-forward part's last linear.
    pub(super) fn reader(&self) -> Reader {
        if self.architecture.dropout { Reader::Dropout } else { Reader::Other }
    }

    pub(super) fn norm_learns(&self, width: u128) -> u128 {
        self.if_learns(self.architecture.norm_parameters(width))
    }

    pub(super) fn if_learns(&self, parameters: u128) -> u128 {
        if self.learns_all() { parameters } else { 0 }
    }

    pub(super) fn recomputes_blocks(&self) -> bool {
        self.request.checkpointing && self.request.engine.recomputes_blocks()
    }

    pub(super) fn learns_all(&self) -> bool {
        self.request.adapters.is_none()
    }

    pub(super) fn hidden(&self, stack: Stack) -> u128 {
        stack.positions() * u128::from(self.architecture.hidden)
    }

    fn width(&self) -> u128 {
        self.request.dtype.bytes().into()
    }
}

/// The groups without what is kept before the first weight that learns: no gradient goes there. Checkpointing of
/// whole blocks makes the embedding's output need one.
fn only_what_learns(groups: Vec<Group>) -> Vec<Group> {
    let mut found = Vec::new();
    let mut learns = false;
    for group in groups {
        if learns {
            found.push(group);
            continue;
        }
        let mut first = Group { times: 1, ..group.clone() };
        let mut here = false;
        for step in &mut first.steps {
            here = (here && !step.branches) || step.learns.bytes() > 0;
            learns |= here;
            if !here {
                *step = Step { forward: step.forward.clone(), ..Step::default() };
            }
        }
        found.push(first);
        if group.times > 1 {
            found.push(Group { times: group.times - 1, ..group });
        }
    }
    found
}
