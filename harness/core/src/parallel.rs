//! Work side by side: many things at hand, a fixed number of them in flight.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

/// How many processes run, or traces are read, at one time. Scenarios, their runs and their traces are all handed out side
/// by side; only what does the work takes a slot.
#[derive(Debug)]
pub struct Slots {
    jobs: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

/// One slot, until it is dropped.
#[derive(Debug)]
pub struct Slot<'a>(&'a Slots);

impl Slots {
    /// `jobs` slots; at least one.
    pub fn new(jobs: usize) -> Self {
        let jobs = jobs.max(1);
        Self { jobs, free: Mutex::new(jobs), freed: Condvar::new() }
    }

    /// Waits for a slot. Whoever holds one must not wait for another.
    pub fn take(&self) -> Slot<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Slot(self)
    }

    /// Does `work` on every item, as many side by side as there are slots; the results are in the order of the items.
    pub fn each<'a, T: Sync, R: Send>(&self, items: &'a [T], work: impl Fn(&'a T) -> R + Sync) -> Vec<R> {
        let next = AtomicUsize::new(0);
        let done: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
        thread::scope(|scope| {
            for _ in 0..self.jobs.min(items.len()) {
                scope.spawn(|| {
                    while let Some((at, item)) = at(items, &next) {
                        let result = work(item);
                        *done[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                    }
                });
            }
        });
        // A thread that panicked has unwound through the scope: every place is filled here.
        done.into_iter()
            .filter_map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner))
            .collect()
    }
}

fn at<'a, T>(items: &'a [T], next: &AtomicUsize) -> Option<(usize, &'a T)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    items.get(at).map(|item| (at, item))
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_items() {
        let items: Vec<u64> = (0..100).collect();
        assert_eq!(
            Slots::new(7).each(&items, |item| item * 2),
            items.iter().map(|item| item * 2).collect::<Vec<_>>()
        );
    }

    #[test]
    fn nested_work_never_holds_more_slots_than_there_are() {
        let slots = Slots::new(2);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        slots.each(&[0; 5], |_| {
            slots.each(&[0; 5], |_| {
                let _slot = slots.take();
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::yield_now();
                now.fetch_sub(1, Ordering::SeqCst);
            })
        });
        assert!(most.into_inner() <= 2);
    }
}
