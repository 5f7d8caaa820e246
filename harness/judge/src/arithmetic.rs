//! The counts and rates that follow from a plan and a contract: micro-batches, updates, open windows, learning rates.
//!
//! The judge derives them itself. Nothing here is shared with a trainer, on purpose: a trainer that counted with the
//! same code would agree with the judge in its errors too.

use traintrue_protocol::contract::{Contract, FirstLr, Tail, Targets};
use traintrue_protocol::plan::{Data, Plan, ScheduleName};
use traintrue_protocol::trace::event::{Adapted, Cursor};

/// Micro-batches per epoch over all ranks. The last may be smaller, unless the plan drops it.
pub fn batches(data: &Data) -> u64 {
    in_batches_of(data.batch, data.samples.len() as u64, data.drop_last)
}

fn in_batches_of(batch: u64, samples: u64, drop_last: bool) -> u64 {
    let batch = batch.max(1);
    if drop_last { samples / batch } else { samples.div_ceil(batch) }
}

/// Tokens of a training sample after truncation. 0 for an id that is not in the plan.
pub fn length(data: &Data, id: u64) -> u64 {
    let tokens = usize::try_from(id).ok().and_then(|id| data.samples.get(id)).map_or(0, Vec::len);
    (tokens as u64).min(data.max_length)
}

/// A sample after truncation: its first tokens, and its last.
pub fn truncated(sample: &[u32], max_length: u64) -> Vec<u32> {
    let most = usize::try_from(max_length).unwrap_or(usize::MAX);
    match sample.last() {
        Some(last) if sample.len() > most => [&sample[..most.saturating_sub(1)], &[*last]].concat(),
        _ => sample.to_vec(),
    }
}

/// Targets of a sample of this many tokens. The usual ones: each token but the first is predicted from those before it.
pub fn targets(length: u64, counted: Targets) -> u64 {
    match counted {
        Targets::NextTokens => length.saturating_sub(1),
        Targets::Tokens => length,
        Targets::Samples => length.min(1),
    }
}

/// How micro-batches become updates.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Micro-batches per epoch of this rank. Ranks run in step, so micro-batches that do not fill all ranks are left
    /// out.
    pub micro_batches: u64,
    /// Micro-batches per accumulation window.
    pub accumulation: u64,
    /// Passes over the samples.
    pub epochs: u64,
    /// What happens to a window that is open at an epoch's end.
    pub tail: Tail,
    /// Samples per micro-batch.
    pub batch: u64,
    samples: u64,
    drop_last: bool,
    world: u64,
}

impl Counts {
    /// The counts of one plan under one contract.
    pub fn of(plan: &Plan, contract: &Contract) -> Self {
        Self {
            micro_batches: batches(&plan.data) / plan.train.world.max(1),
            accumulation: plan.train.accumulation.max(1),
            epochs: plan.data.epochs,
            tail: contract.tail,
            batch: plan.data.batch,
            samples: plan.data.samples.len() as u64,
            drop_last: plan.data.drop_last,
            world: plan.train.world.max(1),
        }
    }

    /// Switches to the grouping that a run has adapted to, and returns the place of `next` in it.
    pub fn adapt(&mut self, it: &Adapted, next: Cursor) -> Cursor {
        let Some((from, to)) = it.batches().filter(|(from, to)| *from > 0 && *to > 0) else { return next };
        self.batch = to;
        self.accumulation = it.accumulation.unwrap_or(self.accumulation).max(1);
        self.micro_batches = in_batches_of(to, self.samples, self.drop_last) / self.world;
        let done = next.micro_batches.saturating_mul(from) / to;
        Cursor { micro_batches: done.min(self.micro_batches), ..next }
    }

    /// Samples of an epoch's last micro-batch, which may be smaller.
    pub fn in_last_batch(&self) -> u64 {
        match self.samples % self.batch.max(1) {
            0 => self.batch,
            remainder => remainder,
        }
    }

    /// Updates of a whole run. Under `carry` a window still open when training ends is never applied.
    pub fn updates_total(&self) -> u64 {
        self.updates_at(Cursor { epoch: self.epochs, micro_batches: 0 })
    }

    /// Updates done at the cursor. At an epoch's edge, the partial last window has been dealt with.
    pub fn updates_at(&self, at: Cursor) -> u64 {
        let (n, window) = (self.micro_batches, self.accumulation);
        let Cursor { epoch, micro_batches } = self.settle(at);
        match self.tail {
            Tail::Flush => epoch.saturating_mul(n.div_ceil(window)).saturating_add(micro_batches / window),
            Tail::Drop => epoch.saturating_mul(n / window).saturating_add(micro_batches / window),
            Tail::Carry => epoch.saturating_mul(n).saturating_add(micro_batches) / window,
        }
    }

    /// Micro-batches in the open window at the cursor. At an epoch's edge, the partial last window has been dealt with.
    pub fn open_window(&self, at: Cursor) -> u64 {
        let Cursor { epoch, micro_batches } = self.settle(at);
        match self.tail {
            Tail::Flush | Tail::Drop => micro_batches % self.accumulation,
            Tail::Carry => {
                epoch.saturating_mul(self.micro_batches).saturating_add(micro_batches) % self.accumulation
            }
        }
    }

    /// One name for an epoch's edge: the end of an epoch is the beginning of the next.
    pub fn settle(&self, at: Cursor) -> Cursor {
        if at.micro_batches < self.micro_batches.max(1) {
            at
        } else {
            Cursor { epoch: at.epoch.saturating_add(1), micro_batches: 0 }
        }
    }
}

/// The learning rate of every update, in closed form.
///
/// The forms are those of `get_constant_schedule_with_warmup`, `get_linear_schedule_with_warmup` and
/// `get_cosine_schedule_with_warmup` in the transformers library, except that the cosine stays at 0 after its end,
/// where theirs rises again.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// The highest rate.
    pub peak: f64,
    /// The form after the warm-up.
    pub form: ScheduleName,
    /// Updates of the warm-up.
    pub warmup: u64,
    /// Updates until the rate has fallen to 0, warm-up included.
    pub total: u64,
    /// Whether the first update of a warm-up has a rate of 0.
    pub first: FirstLr,
}

impl Rates {
    /// The rates of one plan under one contract.
    pub fn of(plan: &Plan, contract: &Contract) -> Self {
        let schedule = &plan.train.schedule;
        Self {
            peak: plan.train.optimizer.lr,
            form: schedule.name,
            warmup: schedule.warmup,
            total: schedule.updates.unwrap_or_else(|| Counts::of(plan, contract).updates_total()),
            first: contract.first_lr,
        }
    }

    /// The rate of update `step`; the first is 1.
    pub fn at(&self, step: u64) -> f64 {
        // The two conventions differ by one step: whether the scheduler runs before or after the optimizer.
        let taken = match self.first {
            FirstLr::Zero => step.saturating_sub(1),
            FirstLr::Nonzero => step,
        };
        self.peak * self.multiplier(taken)
    }

    fn multiplier(&self, taken: u64) -> f64 {
        if taken < self.warmup {
            return taken as f64 / self.warmup as f64;
        }
        // At least 1: a schedule that is all warm-up must not divide by zero.
        let fall = self.total.saturating_sub(self.warmup).max(1) as f64;
        let progress = ((taken - self.warmup) as f64 / fall).min(1.0);
        match self.form {
            ScheduleName::Constant => 1.0,
            ScheduleName::Linear => 1.0 - progress,
            ScheduleName::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::testing;

    fn counts(samples: usize, batch: u64, k: u64, epochs: u64, world: u64, tail: Tail) -> Counts {
        let mut plan = testing::plan();
        plan.data.samples = vec![vec![1, 2]; samples];
        plan.data.batch = batch;
        plan.data.epochs = epochs;
        plan.train.accumulation = k;
        plan.train.world = world;
        Counts::of(&plan, &Contract { tail, ..Contract::default() })
    }

    #[rstest]
    // 7152 / 2 = 3576 micro-batches = 447 windows of 8, nothing over: 3 x 447 = 1341 under every tail.
    #[case(7152, 2, 8, 3, 1, [3576, 1341, 1341, 1341])]
    // 7158 / 2 = 3579 = 447 x 8 + 3: flush 3 x 448, drop 3 x 447, carry 10737 / 8 = 1342 and 1 over.
    #[case(7158, 2, 8, 3, 1, [3579, 1344, 1341, 1342])]
    // An odd sample makes a micro-batch of its own: 7157 / 2 rounds up.
    #[case(7157, 2, 8, 3, 1, [3579, 1344, 1341, 1342])]
    // Four ranks share 3576 micro-batches: 894 each = 111 x 8 + 6; carry 2682 / 8 = 335 and 2 over.
    #[case(7152, 2, 8, 3, 4, [894, 336, 333, 335])]
    // 3579 over two ranks: 1789 each, one is left out; 1789 = 223 x 8 + 5; carry 5367 / 8 = 670 and 7 over.
    #[case(7158, 2, 8, 3, 2, [1789, 672, 669, 670])]
    // Fewer micro-batches than a window.
    #[case(6, 2, 8, 2, 1, [3, 2, 0, 0])]
    fn updates_are_those_worked_out_by_hand(
        #[case] samples: usize,
        #[case] batch: u64,
        #[case] k: u64,
        #[case] epochs: u64,
        #[case] world: u64,
        #[case] expected: [u64; 4],
    ) {
        let of = |tail| counts(samples, batch, k, epochs, world, tail);
        let actual = [
            of(Tail::Flush).micro_batches,
            of(Tail::Flush).updates_total(),
            of(Tail::Drop).updates_total(),
            of(Tail::Carry).updates_total(),
        ];
        assert_eq!(actual, expected);
    }

    #[rstest]
    #[case(Tail::Flush, 0, 1603, 200, 3)]
    #[case(Tail::Flush, 0, 1600, 200, 0)]
    #[case(Tail::Flush, 0, 3579, 448, 0)]
    #[case(Tail::Flush, 1, 0, 448, 0)]
    #[case(Tail::Drop, 0, 3579, 447, 0)]
    #[case(Tail::Drop, 1, 9, 448, 1)]
    #[case(Tail::Carry, 0, 3579, 447, 3)]
    #[case(Tail::Carry, 1, 0, 447, 3)]
    #[case(Tail::Carry, 1, 5, 448, 0)]
    fn a_place_has_its_updates_and_its_open_window(
        #[case] tail: Tail,
        #[case] epoch: u64,
        #[case] micro_batches: u64,
        #[case] updates: u64,
        #[case] window: u64,
    ) {
        let counts = counts(7158, 2, 8, 3, 1, tail);
        let at = Cursor { epoch, micro_batches };
        assert_eq!((counts.updates_at(at), counts.open_window(at)), (updates, window));
    }

    #[rstest]
    #[case(ScheduleName::Linear, FirstLr::Nonzero, 1, 0.1)]
    #[case(ScheduleName::Linear, FirstLr::Nonzero, 10, 1.0)]
    #[case(ScheduleName::Linear, FirstLr::Nonzero, 60, 0.5)]
    #[case(ScheduleName::Linear, FirstLr::Nonzero, 110, 0.0)]
    #[case(ScheduleName::Linear, FirstLr::Nonzero, 200, 0.0)]
    #[case(ScheduleName::Linear, FirstLr::Zero, 1, 0.0)]
    #[case(ScheduleName::Linear, FirstLr::Zero, 11, 1.0)]
    #[case(ScheduleName::Linear, FirstLr::Zero, 110, 0.01)]
    #[case(ScheduleName::Cosine, FirstLr::Nonzero, 60, 0.5)]
    #[case(ScheduleName::Cosine, FirstLr::Nonzero, 35, 0.853_553_390_593_273_8)]
    #[case(ScheduleName::Cosine, FirstLr::Nonzero, 200, 0.0)]
    #[case(ScheduleName::Constant, FirstLr::Nonzero, 5, 0.5)]
    #[case(ScheduleName::Constant, FirstLr::Nonzero, 200, 1.0)]
    fn rates_follow_the_closed_form(
        #[case] form: ScheduleName,
        #[case] first: FirstLr,
        #[case] step: u64,
        #[case] expected: f64,
    ) {
        let rates = Rates { peak: 1.0, form, warmup: 10, total: 110, first };
        assert!((rates.at(step) - expected).abs() < 1e-12, "{}", rates.at(step));
    }

    proptest! {
        #[test]
        fn closed_forms_count_what_a_loop_counts(
            micro_batches in 1u64..40,
            accumulation in 1u64..9,
            epochs in 1u64..4,
            tail in prop_oneof![Just(Tail::Flush), Just(Tail::Drop), Just(Tail::Carry)],
        ) {
            let samples = micro_batches;
            let counts = Counts { micro_batches, accumulation, epochs, tail, batch: 1, samples, drop_last: false, world: 1 };
            let (mut updates, mut window) = (0, 0);
            for epoch in 0..epochs {
                for index in 0..micro_batches {
                    let at = Cursor { epoch, micro_batches: index };
                    prop_assert_eq!((counts.updates_at(at), counts.open_window(at)), (updates, window));
                    window += 1;
                    let tail = tail == Tail::Flush && index + 1 == micro_batches;
                    if window == accumulation || tail {
                        (updates, window) = (updates + 1, 0);
                    }
                }
                if tail == Tail::Drop {
                    window = 0;
                }
            }
            prop_assert_eq!(counts.updates_total(), updates);
        }
    }

    #[test]
    fn a_schedule_that_is_all_warm_up_does_not_divide_by_zero() {
        let rates =
            Rates { peak: 1.0, form: ScheduleName::Linear, warmup: 10, total: 10, first: FirstLr::Nonzero };
        assert_eq!([rates.at(10), rates.at(11)], [1.0, 0.0]);
    }
}
