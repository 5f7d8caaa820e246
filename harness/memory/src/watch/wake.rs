//! Events that wake the watcher before its next sample is due: a step, a signal, the end of a child.

use std::io;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use procfs::FromRead;
use procfs::process::Status;
use signal_hook::consts::signal::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
use signal_hook::iterator::{Handle, Signals};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// A step was seen. [`LastStep`] has its number.
    Step,
    /// A signal arrived that the command must get.
    Signal(i32),
    /// A child ended.
    Child,
}

/// The last step that was seen. Only the stream that first showed a step counts: a step printed on both streams is one
/// step.
#[derive(Clone, Debug, Default)]
pub struct LastStep(Arc<Mutex<Option<(usize, u64)>>>);

impl LastStep {
    /// Notes a step seen on `stream`. Returns whether it counts.
    pub fn note(&self, stream: usize, step: u64) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = last.is_none_or(|(first, _)| first == stream);
        if counts {
            *last = Some((stream, step));
        }
        counts
    }

    /// The step.
    pub fn get(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|(_, step)| step)
    }
}

/// Catches signals until it is dropped.
#[derive(Debug)]
pub struct Caught(Handle);

impl Caught {
    /// Catches the signals to forward, and SIGCHLD. Signals that this process ignores (`nohup`) stay ignored, also by
    /// the command.
    pub fn send_to(wake: SyncSender<Wake>) -> io::Result<Self> {
        let ignored = Status::from_file("/proc/self/status").map_or(0, |status| status.sigign);
        let all = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTSTP, SIGCHLD];
        let mut signals = Signals::new(all.into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0))?;
        let handle = signals.handle();
        std::thread::spawn(move || {
            for signal in signals.forever() {
                let what = if signal == SIGCHLD { Wake::Child } else { Wake::Signal(signal) };
                if wake.send(what).is_err() {
                    break;
                }
            }
        });
        Ok(Self(handle))
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        self.0.close();
    }
}
