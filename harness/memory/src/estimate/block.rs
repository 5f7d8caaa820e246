//! One block as the operations of its forward pass, in order.

use super::architecture::{Activation, Order};
use super::model::{Parts, Stack};
use super::operation::{Activating, Attending, Bias, Linears, Norming, Product, Reader, Source};
use super::parameters::Linear;
use super::walk::Step;

impl Parts<'_> {
    pub(super) fn block(&self, stack: Stack) -> Vec<Step> {
        let order = self.architecture.order;
        let mut steps = Vec::new();
        if order != Order::PostNorm {
            steps.push(self.norm(stack));
        }
        steps.extend(self.attention(stack, stack.length));
        if order == Order::PostNorm {
            steps.push(self.norm(stack));
        }
        if let Some(source) = stack.attends_to {
            steps.push(self.norm(stack));
            steps.extend(self.attention(stack, source));
        }
        match order {
            Order::PreNorm => steps.push(self.norm(stack)),
            Order::Parallel => {
                steps.push(self.engine.norm(&Norming { input_is_kept: true, ..self.norming(stack) }))
            }
            Order::PostNorm | Order::SharedNorm => {}
        }
        let inner = steps.len();
        steps.extend(self.feed_forward(stack));
        steps[inner].branches = matches!(order, Order::SharedNorm | Order::Parallel);
        if order == Order::PostNorm {
            steps.push(self.norm(stack));
        }
        steps
    }

    fn attention(&self, stack: Stack, keys: u128) -> Vec<Step> {
        let architecture = self.architecture;
        let from = architecture.hidden.into();
        let projections = architecture.projections();
        let linears = |rows, of: &[Linear], source| {
            self.engine.linears(&Linears {
                rows,
                from,
                products: self.products(of),
                source,
                reader: Reader::Other,
            })
        };
        let stream = if architecture.order == Order::PostNorm { Source::Stream } else { Source::Norm };
        let crosses = stack.attends_to == Some(keys);
        let mut steps = Vec::new();
        if crosses {
            // The encoder's output is kept once, for all blocks.
            steps.push(linears(stack.positions(), &projections[..1], stream));
            steps.push(linears(stack.rows * keys, &projections[1..], Source::Kept));
        } else {
            steps.push(linears(stack.positions(), &projections, stream));
        }
        if architecture.head_norms {
            for heads in [architecture.heads, architecture.key_value_heads] {
                let width = architecture.head_width.into();
                let rows = stack.positions() * u128::from(heads);
                steps.push(self.engine.norm(&Norming {
                    rows,
                    width,
                    learns: self.norm_learns(width),
                    ..self.norming(stack)
                }));
            }
        }
        let attending = Attending {
            rows: stack.rows,
            queries: stack.length,
            keys,
            heads: architecture.heads.into(),
            key_value_heads: architecture.key_value_heads.into(),
            width: architecture.head_width.into(),
            bias: self.bias(crosses),
            drops: architecture.dropout,
            rotary: architecture.rotary,
            fused: architecture.fused_qkv,
            by_heads: architecture.queries_by_heads,
        };
        steps.push(self.engine.attention(&attending));
        let output = architecture.output();
        steps.push(self.engine.linears(&Linears {
            rows: stack.positions(),
            from: output.from,
            products: self.products(&[output]),
            source: if self.engine.keeps_attended(&attending) { Source::Kept } else { Source::Stream },
            reader: self.reader(),
        }));
        steps.extend(self.dropped(self.hidden(stack)));
        steps
    }

    fn bias(&self, crosses: bool) -> Bias {
        match (self.architecture.distance_buckets, crosses) {
            (0, _) => Bias::None,
            // T5 attends to its encoder with a bias of zeros, which needs a gradient when blocks are computed again.
            (_, true) if self.recomputes_blocks() => Bias::Learns,
            (_, true) => Bias::None,
            (_, false) if self.learns_all() => Bias::Learns,
            (_, false) => Bias::Fixed,
        }
    }

    fn feed_forward(&self, stack: Stack) -> Vec<Step> {
        let architecture = self.architecture;
        // Where a router picks among experts, a position goes through several, and each reads a copy of it.
        let copies = architecture.experts.map_or(1, |it| u128::from(it.per_position));
        let rows = stack.positions() * copies;
        let source = match architecture.order {
            // The output of the attention's norm is kept once.
            Order::SharedNorm => Source::Kept,
            Order::PostNorm => Source::Stream,
            Order::PreNorm | Order::Parallel => Source::Norm,
        };
        let mut steps = Vec::new();
        if let Some(experts) = architecture.experts {
            let router = Product {
                to: experts.count.into(),
                learns: [self.if_learns(u128::from(experts.count * architecture.hidden)), 0],
                rank: 0,
            };
            let from = architecture.hidden.into();
            steps.push(self.engine.linears(&Linears {
                rows: stack.positions(),
                from,
                products: vec![router],
                source,
                reader: Reader::Other,
            }));
        }
        let from = architecture.hidden.into();
        let products = self.products(&architecture.widening());
        steps.push(self.engine.linears(&Linears {
            rows,
            from,
            products,
            source,
            reader: Reader::Activation,
        }));
        let elements = rows * u128::from(architecture.inner);
        steps.push(self.engine.activation(&Activating {
            kind: architecture.activation,
            gated: architecture.gated,
            elements,
        }));
        let narrowing = architecture.narrowing();
        let products = self.products(&[narrowing]);
        // The gradient of a ReLU needs its result, which the linear after it reads.
        let is_kept = architecture.activation == Activation::Relu && !architecture.gated;
        let source = if is_kept { Source::Kept } else { Source::Stream };
        steps.push(self.engine.linears(&Linears {
            rows,
            from: narrowing.from,
            products,
            source,
            reader: self.reader(),
        }));
        if architecture.experts.is_some() {
            steps.push(self.engine.weighted(rows * u128::from(architecture.hidden)));
        }
        steps.extend(self.dropped(self.hidden(stack)));
        steps
    }
}
