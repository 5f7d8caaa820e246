//! One training at a time in a process.
//!
//! burn-autodiff 0.21 ends every backward pass with a sweep over the graphs of all threads. The sweep frees a step that
//! another thread has built and not yet used, and that thread's gradient is then missing or wrong, without an error
//! (burn#5573). Training threads therefore take turns. A turn lasts from the first forward pass to the last backward pass.

use parking_lot::{ReentrantMutex, ReentrantMutexGuard};

static TRAINING: ReentrantMutex<()> = ReentrantMutex::new(());

/// The right of this thread to build graphs and to run backward passes.
///
/// A thread that has a turn may take another: `Reference` takes one, and so does each `Training`. A panic ends the turn and
/// leaves nothing behind for the next, so there is no poisoning.
pub struct Turn(#[expect(dead_code, reason = "held until it is dropped")] ReentrantMutexGuard<'static, ()>);

impl Turn {
    /// Waits until no other thread of the process trains.
    pub fn take() -> Self {
        Self(TRAINING.lock())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_with_a_turn_may_take_another_and_other_threads_may_not() {
        let outer = Turn::take();
        drop(Turn::take());
        let is_free = || thread::scope(|scope| scope.spawn(|| TRAINING.try_lock().is_some()).join().unwrap());
        assert!(!is_free(), "the outer turn is not over");
        drop(outer);
    }

    #[test]
    fn a_training_that_panics_ends_its_turn() {
        let panicked = thread::spawn(|| {
            let _turn = Turn::take();
            panic!("planned");
        });
        assert!(panicked.join().is_err());
        drop(Turn::take());
    }
}
