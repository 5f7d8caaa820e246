//! `loop/samples`: an epoch trains its samples once each, in an order of its own.

mod pass;

use std::collections::BTreeMap;

use traintrue_protocol::trace::event::{Edge, Epoch, MicroBatch};
use traintrue_protocol::trace::recorded::{Fact, Order, Recorded};
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use self::pass::{Order as Seen, Pass};
use super::seen::is_done;
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

/// Fewer samples are in the same order again by chance, and a batch that comes again is soon the only one.
const DISTINCT_LEAST: u64 = 8;
/// Fewer batches do not show that the loop always trains the same one.
const BATCHES_LEAST: u64 = 3;
/// Fewer updates on one drawn batch are an inner loop.
const UPDATES_LEAST: u64 = 8;

pub(crate) static RULE: Rule = Rule {
    name: "loop/samples",
    says: "an epoch trains each of its samples once, a shuffled one in another order than the epoch before",
    verifies: "In a whole epoch of a shuffled or sequential loader, no sample comes twice. Two consecutive shuffled \
               epochs differ in their order. The workers of an iterable dataset do not all give the same samples. The \
               loop does not train one batch of a larger dataset again and again. A finished run makes the declared \
               number of epochs.",
    does_not_verify: "Samplers that draw with replacement or weights. Epochs that the loop leaves before their end. \
                      Which samples a resumed run skips.",
    kind: Kind::Trace(|opening| Box::new(Samples::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Samples,
    needs: &[Fact::Observed],
};

struct Samples {
    recorded: Recorded,
    open: BTreeMap<u64, Pass>,
    /// The last whole pass of any loader: some loops make a loader per epoch.
    last: Option<Seen>,
    /// Whole passes by loader.
    ended: BTreeMap<u64, u64>,
    anew: BTreeMap<u64, Anew>,
    unloaded: Unloaded,
    drawn_once: DrawnOnce,
    loaded: bool,
    /// The seed that was set last at an evaluation, and how often one was.
    seeded: Option<u64>,
}

/// A run that trains on one drawn batch only.
#[derive(Default)]
struct DrawnOnce {
    /// Loader, epoch and index of the first batch, with its line.
    first: Option<((u64, u64, u64), Line)>,
    differs: bool,
    updates: u64,
}

impl DrawnOnce {
    fn add(&mut self, draw: (u64, u64, u64), line: &Line) {
        match &self.first {
            None => self.first = Some((draw, line.clone())),
            Some((first, _)) => self.differs |= *first != draw,
        }
    }
}

/// The passes of a loader that gave one batch each, as `next(iter(loader))` does.
#[derive(Default)]
struct Anew {
    passes: u64,
    epoch: Option<u64>,
    /// Whether some pass gave more, or another batch.
    differs: bool,
    first: Option<(Vec<u64>, Line)>,
}

/// Micro-batches that no loader gave.
#[derive(Default)]
struct Unloaded {
    micro_batches: u64,
    differs: bool,
    first: Option<(Vec<u64>, Line)>,
    /// Updates from several of them.
    windows: u64,
    held: u64,
}

impl Samples {
    fn new(opening: &Opening) -> Self {
        Self {
            recorded: opening.recorded.cloned().unwrap_or_default(),
            open: BTreeMap::new(),
            last: None,
            ended: BTreeMap::new(),
            anew: BTreeMap::new(),
            unloaded: Unloaded::default(),
            drawn_once: DrawnOnce::default(),
            loaded: false,
            seeded: None,
        }
    }

    fn micro_batch(&mut self, it: &MicroBatch, line: &Line, sheet: &mut Sheet) {
        let Some(samples) = &it.samples else { return sheet.missing("samples of a micro-batch") };
        let Some(loader) = it.loader else { return self.unloaded.add(samples, line) };
        self.drawn_once.add((loader, it.epoch, it.index), line);
        let last = self.last;
        let pass = self.open.entry(loader).or_insert_with(|| Pass::new(it.epoch, None));
        if pass.epoch != it.epoch {
            *pass = Pass::new(it.epoch, last);
        }
        pass.add(it, samples, line);
        self.anew.entry(loader).or_default().add(pass, samples, line);
    }

    fn edge(&mut self, it: Epoch, line: &Line, sheet: &mut Sheet) {
        let Some(loader) = it.loader else { return };
        if it.edge == Edge::Begin {
            // Without its own word, the order is the one that the first line tells of the first loader.
            let order = it.order.or(self.recorded.order.filter(|_| loader == 0));
            self.open.insert(loader, Pass::begun(it.epoch, order, self.last));
            return;
        }
        let Some(pass) = self.open.remove(&loader).filter(|pass| pass.whole && pass.batches > 0) else {
            return;
        };
        *self.ended.entry(loader).or_default() += 1;
        self.ended_pass(loader, &pass, line, sheet);
        self.last = pass.order();
    }

    fn ended_pass(&self, loader: u64, pass: &Pass, line: &Line, sheet: &mut Sheet) {
        if self.one_batch(pass, sheet) {
            return;
        }
        // The facts are those of the first loader.
        let (workers, stream) = match loader {
            0 => (self.recorded.workers, self.recorded.stream == Some(true)),
            _ => (None, false),
        };
        if pass.drawn.is_none() {
            return sheet.cannot("the samples of an epoch: there are too many to count each");
        }
        match pass.kind.filter(|_| loader == 0) {
            _ if stream => of_workers(workers.unwrap_or(0), pass, line, sheet),
            // Hashes of the samples' values are large, and two samples may have the same values.
            Some(_) if self.recorded.samples.is_some_and(|samples| pass.largest >= samples) => {
                sheet.cannot("whether samples come once per epoch: they are not known by their indices");
            }
            Some(Order::Shuffled | Order::Sequential) => once_each(pass, sheet),
            Some(Order::Other) => {
                sheet.cannot("whether samples come once per epoch: the sampler may repeat them")
            }
            None => sheet.cannot("whether samples come once per epoch: the order of the loader is unknown"),
        }
        let is_shuffled = pass.kind == Some(Order::Shuffled);
        if let Some(before) = pass.before.filter(|_| is_shuffled && pass.distinct() >= DISTINCT_LEAST) {
            sheet.check(!pass.has_order_of(before), line, || Difference {
                expected: format!("epoch {} in another order than epoch {}", pass.epoch, before.epoch),
                actual: format!("all {} samples in the same order", pass.distinct()),
                component: Component::Order,
                cause: match self.seeded {
                    Some(seed) => format!(
                        "the evaluation seeds the global random generator with {seed}, and each shuffle after it begins there: \
                         an evaluation that wants a fixed seed needs a generator of its own"
                    ),
                    _ => "the shuffle is seeded anew for each epoch: check for manual_seed() in the loop, a generator made \
                          per epoch, and DistributedSampler without set_epoch()".into(),
                },
            });
        }
    }

    /// Whether a whole pass trains one batch of a larger dataset.
    fn one_batch(&self, pass: &Pass, sheet: &mut Sheet) -> bool {
        let Some((samples, line)) = pass.first.as_ref().filter(|_| pass.is_one_batch) else { return false };
        if pass.batches < BATCHES_LEAST {
            return false;
        }
        !sheet.check(false, line, || Difference {
            expected: format!(
                "other samples in each of the {} micro-batches of epoch {}",
                pass.batches, pass.epoch
            ),
            actual: format!("the same {} samples in all of them", samples.len()),
            component: Component::Data,
            cause: "the sampler or the dataset gives one batch again and again".into(),
        })
    }

    fn drawn_once(&self, sheet: &mut Sheet) {
        let is_larger =
            self.recorded.samples.zip(self.recorded.batch).is_some_and(|(all, batch)| all > batch);
        let once = &self.drawn_once;
        let Some((_, line)) = once.first.as_ref().filter(|_| is_larger && !once.differs) else { return };
        if once.updates < UPDATES_LEAST {
            return;
        }
        sheet.check(false, line, || Difference {
            expected: "the batches of the loader one after the other".into(),
            actual: format!("one batch, trained in all {} updates", once.updates),
            component: Component::Data,
            cause: "the loop draws one batch and trains it again and again: the next batch is not drawn inside the loop".into(),
        });
    }

    fn anew(&self, sheet: &mut Sheet) {
        let is_larger =
            self.recorded.samples.zip(self.recorded.batch).is_some_and(|(all, batch)| all > batch);
        let Some(anew) =
            self.anew.get(&0).filter(|it| is_larger && !it.differs && it.passes >= BATCHES_LEAST)
        else {
            return;
        };
        let Some((samples, line)) = &anew.first else { return };
        sheet.check(false, line, || Difference {
            expected: "the batches of the loader one after the other".into(),
            actual: format!("its first {} samples, {} times", samples.len(), anew.passes),
            component: Component::Data,
            cause: "the loader begins anew for every batch: next(iter(loader)) runs inside the loop".into(),
        });
    }

    fn epochs(&self, sheet: &mut Sheet, last: &Line) {
        let Some(epochs) = self.recorded.epochs.filter(|_| is_done(last) && !self.loaded) else { return };
        let (most, all) = (self.ended.values().max().copied().unwrap_or(0), self.ended.values().sum::<u64>());
        if self.open.is_empty() && all == 0 {
            return sheet.cannot("the declared number of epochs: no loader was gone through");
        }
        // One process may train several times by a framework's settings.
        let repeats = self.recorded.read.contains_key("epochs") && most.is_multiple_of(epochs);
        // A loop makes one loader, or one per epoch.
        sheet.check(most == epochs || all == epochs || repeats, last, || Difference {
            expected: format!("{epochs} whole epochs"),
            actual: most.to_string(),
            component: Component::Loader,
            cause: "the loop ends before its loader is exhausted, or makes another number of passes over it"
                .into(),
        });
    }
}

fn once_each(pass: &Pass, sheet: &mut Sheet) {
    match &pass.again {
        None => sheet.compared += pass.distinct(),
        Some((id, line)) => {
            sheet.check(false, line, || Difference {
                expected: format!("each sample once in epoch {}", pass.epoch),
                actual: format!("sample {id} again"),
                component: Component::Data,
                cause: "the loop trains samples of this epoch a second time: check what restarts the loader"
                    .into(),
            });
        }
    }
}

fn of_workers(workers: u64, pass: &Pass, line: &Line, sheet: &mut Sheet) {
    if workers < 2 || pass.distinct() < DISTINCT_LEAST {
        return sheet.cannot("whether samples come once per epoch: a stream has no indices");
    }
    sheet.check(!pass.comes_each(workers), line, || Difference {
        expected: format!("the samples of epoch {} divided among {workers} workers", pass.epoch),
        actual: format!("each of the {} samples {workers} times, or a multiple", pass.distinct()),
        component: Component::Loader,
        cause:
            "every worker reads the whole dataset: its __iter__ must divide the samples by get_worker_info()"
                .into(),
    });
}

impl Anew {
    fn add(&mut self, pass: &Pass, samples: &[u64], line: &Line) {
        // One drawn batch that is trained many times is one pass.
        if self.epoch != Some(pass.epoch) {
            (self.epoch, self.passes) = (Some(pass.epoch), self.passes + 1);
        }
        match &self.first {
            None => self.first = Some((samples.to_vec(), line.clone())),
            Some((first, _)) => self.differs |= first != samples,
        }
        self.differs |= pass.batches > 1;
    }
}

impl Unloaded {
    fn add(&mut self, samples: &[u64], line: &Line) {
        self.micro_batches += 1;
        self.held += 1;
        match &self.first {
            None => self.first = Some((samples.to_vec(), line.clone())),
            Some((first, _)) => self.differs |= first != samples,
        }
    }

    fn judge(&self, sheet: &mut Sheet) {
        let Some((samples, line)) = &self.first else { return };
        // One batch in each update may be the whole dataset. Nobody accumulates the whole dataset several times.
        let is_meant = self.windows < BATCHES_LEAST;
        if !self.differs && is_meant && self.micro_batches >= BATCHES_LEAST {
            return sheet.remark(format!("every update trains the same {} samples", samples.len()));
        }
        sheet.check(self.differs || is_meant, line, || Difference {
            expected: format!("other samples in each of {} micro-batches", self.micro_batches),
            actual: format!("the same {} samples in all of them", samples.len()),
            component: Component::Data,
            cause: "the loop draws one batch and trains it again and again: the next batch is not drawn inside the loop".into(),
        });
    }
}

impl TraceRule for Samples {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        match &line.event {
            Event::MicroBatch(it) => self.micro_batch(it, line, sheet),
            Event::Epoch(it) => self.edge(*it, line, sheet),
            Event::Update(it) => {
                self.drawn_once.updates += 1;
                self.seeded = it.since.as_ref().and_then(|since| since.evaluation_seed).or(self.seeded);
                self.loaded |= it.since.as_ref().is_some_and(|since| since.loaded);
                // A closure goes over its batch as often as the optimizer needs.
                let closure = it.since.as_ref().is_some_and(|since| since.closure);
                let held = std::mem::take(&mut self.unloaded.held);
                self.unloaded.windows += u64::from(held > 1 && !closure);
            }
            _ => {}
        }
    }

    fn finish(&mut self, last: &Line, sheet: &mut Sheet) {
        self.anew(sheet);
        self.drawn_once(sheet);
        self.unloaded.judge(sheet);
        self.epochs(sheet, last);
    }
}

#[cfg(test)]
mod tests;
