//! A log as trace events, as far as a trace can express it: learning rates, gradient norms and evaluation losses.

use traintrue_logs::{Counts, Entry, Log, Precision};
use traintrue_protocol::contract::{Contract, FirstLr};
use traintrue_protocol::number::Number;
use traintrue_protocol::plan::Plan;
use traintrue_protocol::trace::event::{Evaluation, Loss, Update};
use traintrue_protocol::trace::{Event, Line};

use crate::arithmetic::Rates;
use crate::invariants::training::schedule::TOLERANCE;

/// Which update an entry's learning rate belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Whether the entry has the rate of its own update, or already the next one's.
    pub(crate) first: FirstLr,
    /// Whether the steps count from 0: step 0 is the first update.
    pub(crate) from_zero: bool,
}

impl Reading {
    const OWN_RATE: Self = Self { first: FirstLr::Zero, from_zero: false };
    /// Logged after scheduler.step(). Steps from 0 with their own rates look the same.
    const NEXT_RATE: Self = Self { first: FirstLr::Nonzero, from_zero: false };
    const NEXT_RATE_FROM_ZERO: Self = Self { first: FirstLr::Nonzero, from_zero: true };

    /// The reading that explains the most of the log: no log says which it follows. Transformers' Trainer counts from 1.
    pub(crate) fn of(log: &Log, plan: &Plan) -> Self {
        let readings = match log.counts {
            Counts::Updates => &[Self::OWN_RATE, Self::NEXT_RATE][..],
            Counts::Own => &[Self::OWN_RATE, Self::NEXT_RATE, Self::NEXT_RATE_FROM_ZERO],
        };
        let precision = log.precision_of_rates();
        let explained = |reading: &&Self| {
            let rates = reading.rates(plan);
            let fits = |(step, lr): &(u64, f64)| fits(rates.at(*step), *lr, &rates, precision);
            reading.logged(log).filter(fits).count()
        };
        // Of equals the first, and `max_by_key` returns the last.
        readings.iter().rev().max_by_key(explained).copied().unwrap_or(Self::OWN_RATE)
    }

    pub(crate) fn rates(self, plan: &Plan) -> Rates {
        Rates::of(plan, &Contract { first_lr: self.first, ..Contract::default() })
    }

    /// Updates, from 1, and their logged rates.
    fn logged(self, log: &Log) -> impl Iterator<Item = (u64, f64)> {
        let update = move |it: &Entry| it.step + u64::from(self.from_zero);
        log.entries.iter().filter_map(move |it| Some((update(it), it.lr()?.0)))
    }

    /// The learning rates as trace events.
    pub(crate) fn updates(self, log: &Log) -> Vec<Line> {
        let update = |it: &Entry| {
            let lr = it.lr()?;
            let step = it.step + u64::from(self.from_zero);
            let update = Update { step, lr: vec![lr], applied: true, ..Default::default() };
            Some(Line { number: it.line, event: Event::Update(update) })
        };
        log.entries.iter().filter_map(update).collect()
    }

    /// How many updates a loss scaler must have skipped, if that explains every rate of the log: each skipped update
    /// delays the schedule by one. A scaler skips a few updates at its start, and then about one in 2,000.
    pub(crate) fn skipped(self, log: &Log, plan: &Plan) -> Option<u64> {
        const AT_ITS_START: u64 = 16;
        const ONE_IN: u64 = 500;
        let (rates, precision) = (self.rates(plan), log.precision_of_rates());
        let mut skipped = 0;
        for (update, lr) in self.logged(log) {
            let most = AT_ITS_START + update / ONE_IN;
            let delayed =
                |skipped: &u64| fits(rates.at(update.saturating_sub(*skipped)), lr, &rates, precision);
            skipped = (skipped..=most.min(update)).find(delayed)?;
        }
        Some(skipped)
    }
}

fn fits(expected: f64, found: f64, rates: &Rates, precision: Precision) -> bool {
    (expected - found).abs() <= TOLERANCE * rates.peak.abs() + precision.half_unit(found)
}

/// The gradient norms and evaluation losses as trace events.
pub(crate) fn finite_figures(log: &Log) -> Vec<Line> {
    let mut lines = Vec::new();
    for it in &log.entries {
        if let Some(norm) = it.norm() {
            // A loss scaler skips the update of gradients that overflowed, and a log may not say if there is one.
            let applied = log.scaled == Some(false) || norm.is_finite();
            let update = Update { step: it.step, grad_norm: Some(norm), applied, ..Default::default() };
            lines.push(Line { number: it.line, event: Event::Update(update) });
        }
        let losses = losses(it);
        if !losses.is_empty() && log.counts == Counts::Updates {
            let evaluation = Evaluation { step: it.step, losses, ..Default::default() };
            lines.push(Line { number: it.line, event: Event::Evaluation(evaluation) });
        }
    }
    lines
}

fn losses(it: &Entry) -> Vec<Loss> {
    let losses = it.figures.iter().filter(|(name, _)| is_evaluation_loss(name));
    losses.map(|(name, sum)| Loss::new(name, sum.0, 1)).collect()
}

/// The numbers that trace events cannot express.
pub(crate) fn beside_events(it: &Entry) -> impl Iterator<Item = (&str, Number)> {
    let event = |name: &str| matches!(name, "learning_rate" | "grad_norm") || is_evaluation_loss(name);
    it.figures.iter().map(|(name, it)| (name.as_str(), *it)).filter(move |(name, _)| !event(name))
}

fn is_evaluation_loss(name: &str) -> bool {
    name.starts_with("eval_") && name.ends_with("loss")
}
